import json

import mujoco
import pytest

from diffusion_mpc.check import throughput
from diffusion_mpc.check.reductions import proposed
from diffusion_mpc.check.robot_check import check_robot
from diffusion_mpc.cli import main
from diffusion_mpc.tasks.base import TaskError

LEG = """
      <body name="{side}_foot" pos="0 {y} -0.6">
        <joint name="{side}_ankle" axis="0 1 0" range="-1 1" damping="1" armature="0.05"/>
        <geom type="capsule" size="0.02" fromto="-0.1 -0.03 0.02 0.1 -0.03 0.02"/>
        <geom type="capsule" size="0.02" fromto="-0.1 -0.02 0.02 0.1 -0.02 0.02"/>
        <geom type="capsule" size="0.02" fromto="-0.1 -0.01 0.02 0.1 -0.01 0.02"/>
        <geom type="capsule" size="0.02" fromto="-0.1 0 0.02 0.1 0 0.02"/>
        <geom type="capsule" size="0.02" fromto="-0.1 0.01 0.02 0.1 0.01 0.02"/>
        <geom type="capsule" size="0.02" fromto="-0.1 0.02 0.02 0.1 0.02 0.02"/>
        <geom type="capsule" size="0.02" fromto="-0.1 0.03 0.02 0.1 0.03 0.02"/>
      </body>
"""

BIPED = f"""
<mujoco model="biped">
  <compiler autolimits="true" angle="radian"/>
  <default><geom solref="0.04 1"/><joint solreflimit="0.04 1"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1"/>
    <body name="trunk" pos="0 0 0.6">
      <freejoint/>
      <geom type="box" size="0.05 0.1 0.05" mass="3" contype="0" conaffinity="0"/>
      {LEG.format(side="left", y=0.12)}
      {LEG.format(side="right", y=-0.12)}
    </body>
  </worldbody>
  <actuator>
    <position name="left" joint="left_ankle" ctrlrange="-1 1" kp="200" forcerange="-60 60"/>
    <position name="right" joint="right_ankle" ctrlrange="-1 1" kp="200" forcerange="-60 60"/>
  </actuator>
  <keyframe>
    <key name="home" qpos="0 0 0.6 1 0 0 0 0 0" ctrl="0 0"/>
  </keyframe>
</mujoco>
"""

TASK = """
from diffusion_mpc.tasks.base import Task, cost

class Stand(Task):
    name = "stand"
    model_path = "biped.xml"
    base = "trunk"
    keyframe = "home"
    {more}

    @cost(weight=2.0, unit="m")
    def height(self, x, reference):
        "Height of the trunk."
        return x.qpos[..., 2] - 0.5

    @cost(weight=1.0)
    def effort(self, x, reference):
        "Actions."
        {effort}
"""

CALM = "return self.normalise(x.ctrl)"


SITE = """
<mujoco>
  <compiler autolimits="true"/>
  <worldbody>
    <body name="drone"><freejoint/><geom size="0.1" mass="1"/><site name="rotor"/></body>
  </worldbody>
  <actuator><motor name="thrust" site="rotor" gear="0 0 1 0 0 0" ctrlrange="0 20"/></actuator>
</mujoco>
"""


def test_actuators_that_no_joint_stands_for_are_listed_by_their_own_name(tmp_path, capsys):
    assert main(["check", written(tmp_path, SITE, "drone.xml")]) == 0
    (row,) = check_robot(str(tmp_path / "drone.xml"))["actuators"]
    assert (row["name"], row["joint"], row["kind"]) == ("thrust", "", "by its control")
    assert "by its control" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch):
    monkeypatch.setattr(throughput, "SECONDS", 0.02)


def written(folder, text, name="biped.xml"):
    path = folder / name
    path.write_text(text)
    return str(path)


def task_file(folder, effort=CALM, more="", model=BIPED):
    written(folder, model)
    return written(folder, TASK.format(effort=effort, more=more), "stand.py")


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "SECONDS", 0.02)
        return check_robot(task_file(folder, more='action_scale = {"left": 0.2, "right": 0.3}'))


def test_actuators_are_told_with_unit_limits_centre_and_scale(checked):
    left, right = checked["actuators"]
    assert (left["name"], left["joint"]) == ("left", "left_ankle")
    assert (left["kind"], left["unit"]) == ("position servo", "rad")
    assert (left["range"], left["centre"], left["scale"]) == ([-1, 1], 0.0, 0.2)
    assert (right["scale"], right["effort_limit"]) == (0.3, 60.0)
    assert [row["name"] for row in checked["joints"]] == ["", "left_ankle", "right_ankle"]
    assert checked["joints"][1]["range"] == [-1, 1]
    assert checked["joints"][1]["actuators"] == ["left"]


def test_the_pose_and_the_contacts_at_rest_are_those_of_the_model(checked):
    nominal = checked["nominal"]
    assert (nominal["keyframe"], nominal["base"]) == ("home", "trunk")
    assert (nominal["height_m"], nominal["tilt_deg"]) == (0.6, 0.0)
    contacts = sum(row["contacts"] for row in checked["contacts_at_rest"])
    assert contacts == 28
    # Elliptic or pyramidal, each contact has three or four rows.
    assert checked["constraint_rows_at_rest"] in (3 * contacts, 4 * contacts)


def test_costs_are_weighted_and_their_fractions_add_up(checked):
    height, effort = checked["costs"]
    assert height["keyframe"] == pytest.approx(2.0 * 0.1**2)
    assert effort["keyframe"] == effort["rest"] == 0.0
    assert effort["random"] > 0.0
    for where in ("keyframe", "rest", "random"):
        total = sum(row[f"{where}_fraction"] for row in checked["costs"])
        assert total == pytest.approx(1.0)


def test_each_integrator_is_compared_with_steps_of_a_millisecond(checked):
    rest = checked["rest"]
    assert rest["fine"]["stands"] is True
    assert rest["fine_timestep_s"] == 0.001
    assert [row["integrator"] for row in rest["integrators"]] == [
        "implicitfast",
        "euler",
        "discrete",
    ]
    own = next(row for row in rest["integrators"] if row["own"])
    assert own["integrator"] == "implicitfast"
    assert 0.0 < own["deviation"]["height_m"] < 0.02


def test_reductions_are_measured_and_the_feet_found(checked):
    reduction = checked["reduction"]
    assert sorted(reduction["feet"]) == ["left_foot", "right_foot"]
    assert {row["points"]: row["contacts"] for row in reduction["rows"]} == {
        None: 28,
        4: 8,
        2: 4,
        1: 2,
    }


def test_the_proposed_code_is_a_method_that_can_be_put_into_the_task(checked, tmp_path):
    if (code := checked["reduction"]["code"]) is None:
        pytest.skip("the machine was too busy to see a gain")
    imports, _, method = code.partition("\n\n")
    text = imports + "\n" + TASK.format(effort=CALM, more="").rstrip() + "\n\n" + method
    written(tmp_path, BIPED)
    again = check_robot(written(tmp_path, text, "stand.py"))
    assert sum(row["contacts"] for row in again["contacts_at_keyframe"]) < 28


def reductions(*rows):
    names = ("points", "gain", "stands", "rest", "plan")
    found = []
    for values in rows:
        row = dict(zip(names, values, strict=True))
        row["rest_deviation"] = {"rms": row.pop("rest")}
        found.append({**row, "plan_deviation_rms": row.pop("plan")})
    return found


def test_a_reduction_is_proposed_where_it_is_faster_and_as_accurate():
    full = (None, 1.0, True, 0.01, 0.02)
    rows = reductions(full, (4, 1.5, True, 0.01, 0.02), (1, 3.0, True, 0.01, 0.2))
    assert proposed(rows)["points"] == 4
    assert proposed(reductions(full, (4, 1.05, True, 0.01, 0.02))) is None
    assert proposed(reductions(full, (4, 2.0, False, 0.01, 0.02))) is None
    assert proposed(reductions(full, (4, 2.0, True, None, None))) is None


def test_a_robot_that_falls_is_compared_under_plans_and_one_that_diverges_keeps_most_contacts():
    falls = (None, 1.0, False, 0.01, 0.02)
    assert proposed(reductions(falls, (2, 2.0, False, 0.5, 0.02)))["points"] == 2
    wild = (None, 1.0, False, 0.01, None)
    rows = reductions(wild, (4, 1.5, False, 0.1, None), (1, 3.0, False, 0.1, None))
    assert proposed(rows)["points"] == 4


def test_the_search_that_fits_the_period_follows_from_the_rate(checked):
    speed = checked["speed"]
    assert speed["physics_steps_in_period"] == int(0.8 * speed["steps_per_s"] * speed["period_s"])
    for row in speed["fitting"]:
        used = row["num_samples"] * row["horizon_steps"] * row["iterations"]
        assert used <= speed["physics_steps_in_period"]
    assert speed["configured"]["physics_steps"] == 32 * 20 * 4


def test_a_sound_model_gets_no_suggestions_but_about_speed(tmp_path, checked):
    # At this step, discrete is nearer to the fine model, and said to be.
    assert any("model.integrator to discrete" in line for line in checked["suggestions"])
    file = task_file(tmp_path, more='defaults = {"model.integrator": "discrete"}')
    lines = check_robot(file)["suggestions"]
    assert [line for line in lines if "a period of" not in line] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('<key name="home" qpos="0 0 0.6 1 0 0 0 0 0" ctrl="0 0"/>', ""), "there is no keyframe"),
        (('name="left" joint', "joint"), "actuator '0' has no name"),
        (('solref="0.04 1"', 'solref="0.02 1"'), "set solref='0.04 1'"),
        (('solreflimit="0.04 1"', 'solreflimit="0.02 1"'), "set solreflimit='0.04 1'"),
        (("0 0 0.6 1 0 0 0 0 0", "0 0 0.7 1 0 0 0 0 0"), "move the base by -0.100 m"),
        (("0 0 0.6 1 0 0 0 0 0", "0 0 0.58 1 0 0 0 0 0"), "20 mm inside each other"),
        (('kp="200" forcerange="-60 60"', 'kp="1e6"'), "of random plans diverge"),
        (('ctrl="0 0"', 'ctrl="0.9 0.9"'), "at its rest command the robot falls"),
        (('<geom name="floor" type="plane" size="0 0 1"/>', ""), "there is no floor"),
        (("0 0.12 -0.6", "0 -0.1 -0.6"), "the robot touches itself"),
        (
            ('<position name="left" joint="left_ankle" ctrlrange="-1 1" kp="200" forcerange="-60 '
             '60"/>', ""),
            "no actuator drives 'left_ankle'",
        ),
        (('armature="0.05"', 'armature="0"'), "too fast for model.timestep"),
    ],
)  # fmt: skip
def test_what_is_missing_in_a_bare_model_is_said_in_words(tmp_path, change, words):
    text = BIPED.replace(*change)
    assert text != BIPED
    if 'ctrlrange="-1 1" kp="200" forcerange' in change[0]:
        text = text.replace('ctrl="0 0"', 'ctrl="0"')
    if "armature" in change[0]:
        text = text.replace('kp="200"', 'kp="2000"')
    lines = check_robot(written(tmp_path, text))["suggestions"]
    assert any(words in line for line in lines), lines


def test_a_bare_model_is_checked_without_costs_and_a_urdf_with_servos(tmp_path):
    figures = check_robot(written(tmp_path, BIPED))
    assert (figures["task"], figures["costs"]) == (None, [])
    inertial = (
        '<inertial><mass value="1"/>'
        '<inertia ixx=".1" iyy=".1" izz=".1" ixy="0" ixz="0" iyz="0"/></inertial>'
    )
    urdf = (
        f'<robot name="r"><link name="world"/><link name="a">{inertial}</link><link name="b">'
        f'{inertial}</link><joint name="m" type="fixed"><parent link="world"/><child link="a"/>'
        '</joint><joint name="j" type="revolute"><parent link="a"/><child link="b"/>'
        '<limit lower="-1" upper="1" effort="5" velocity="1"/></joint></robot>'
    )
    path = written(tmp_path, urdf, "r.urdf")
    assert check_robot(path)["actuators"][0]["kind"] == "position servo"
    assert any("actuators were added" in line for line in check_robot(path)["suggestions"])
    assert check_robot(path, "motor")["actuators"][0]["range"] == [-5, 5]
    copy = tmp_path / "copy.xml"
    assert main(["check", path, "--mjcf", str(copy)]) == 0
    model = mujoco.MjModel.from_xml_path(str(copy))
    assert model.geom("floor").id >= 0
    assert model.nu == model.nkey == 1


@pytest.mark.parametrize(
    ("effort", "words"),
    [
        ("return x.sensor('nothing')", r"cost term 'effort' fails: .* 'nothing'; .* \(.*, line"),
        ("return x.qpos[0]", r"cost term 'effort' returns shape \(.*; it has to be .*, line"),
        ("return x.ctrl / 0.0", r"cost term 'effort' returns NaN or infinity at rest.*, line"),
    ],
)
def test_a_term_that_fails_is_named_with_its_line(tmp_path, effort, words):
    with pytest.raises(TaskError, match=words):
        check_robot(task_file(tmp_path, effort=effort))


def test_terms_that_are_not_finite_or_always_zero_are_named(tmp_path):
    lines = check_robot(task_file(tmp_path, effort="return 0.0 * x.ctrl"))["suggestions"]
    assert "cost term 'effort' is 0 wherever it was looked at" in lines
    # At rest, where all are tried before, it is finite.
    effort = "return x.ctrl.where(x.ctrl == 0.0, float('inf'))"
    lines = check_robot(task_file(tmp_path, effort=effort))["suggestions"]
    assert "cost term 'effort' is not finite" in lines


def test_the_command_prints_tables_and_writes_the_figures(tmp_path, capsys):
    file = tmp_path / "c.json"
    assert main(["check", task_file(tmp_path), "--json", str(file)]) == 0
    text = capsys.readouterr().out
    for words in ("task 'stand'", "left_ankle", "position servo", "2 s at rest", "steps/s"):
        assert words in text
    figures = json.loads(file.read_text())
    assert figures["task"] == "stand"
    assert figures["speed"]["steps_per_s"] > 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.xml", None, "error: model file '{}' does not exist; set model.path to an MJCF"),
        ("broken.xml", "<mujoco><oops/></mujoco>", "error: model file '{}' cannot be read: "),
        ("bare.xml", "<mujoco/>", "error: model file '{}' has no actuators"),
        (
            "ball.xml",
            "<mujoco><worldbody><body><joint type='ball'/><geom size='.1'/></body><body>"
            "<joint name='j'/><geom size='.1'/></body></worldbody><actuator>"
            "<motor joint='j' ctrlrange='-1 1'/></actuator></mujoco>",
            "error: the joint of body 1, which has no name, is a ball joint, which joint_states",
        ),
        ("task.py", "import nothing_of_that_name", "error: task file '{}' cannot be read: Module"),
        ("antt", None, "error: unknown task 'antt'; did you mean 'ant'?"),
    ],
)
def test_whatever_is_wrong_with_a_file_ends_as_one_line(tmp_path, capsys, name, text, message):
    path = str(tmp_path / name) if "." in name else name
    if text is not None:
        written(tmp_path, text, name)
    assert main(["check", path]) == 1
    error = capsys.readouterr().err
    assert error.startswith(message.format(path))
    assert error.count("\n") == 1
