import shutil
import subprocess
import sys
import types
from pathlib import Path

import mujoco
import numpy as np
import pytest

from diffusion_mpc.bringup.description import Options, processes
from diffusion_mpc.config import PlannerNodeConfig, build, load_parameters
from diffusion_mpc.names import ActuatorKind
from diffusion_mpc.simulation.closed_loop import run_episode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task, TaskError
from diffusion_mpc.tasks.model_file import ModelFile, read_spec

INERTIAL = (
    '<inertial><mass value="{}"/><inertia ixx=".02" iyy=".02" izz=".02" ixy="0" ixz="0" iyz="0"/>'
    "</inertial>"
)
TRUNK = INERTIAL.format(4)
LIMB = INERTIAL.format(1)

HOPPER = f"""
<robot name="hopper">
  <link name="trunk">{TRUNK}
    <collision><geometry><box size="0.3 0.3 0.1"/></geometry></collision>
    <visual><geometry><mesh filename="package://nowhere/looks.dae"/></geometry></visual>
  </link>
  <link name="leg">{LIMB}
    <collision><origin xyz="0 0 -0.4"/><geometry><sphere radius="0.05"/></geometry></collision>
  </link>
  <link name="wheel">{LIMB}</link>
  <link name="imu"/>
  <link name="finger">{LIMB}</link>
  <joint name="hip" type="revolute"><parent link="trunk"/><child link="leg"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="20" velocity="3"/></joint>
  <joint name="spin" type="continuous"><parent link="trunk"/><child link="wheel"/>
    <axis xyz="0 0 1"/><limit effort="2" velocity="8"/></joint>
  <joint name="grip" type="revolute"><parent link="trunk"/><child link="finger"/>
    <axis xyz="1 0 0"/><limit lower="-2" upper="2" effort="5" velocity="3"/>
    <mimic joint="hip" multiplier="-1.5" offset="0.1"/></joint>
  <joint name="fixed" type="fixed"><parent link="leg"/><child link="imu"/></joint>
</robot>
"""

ARM = f"""
<robot name="arm">
  <link name="world"/>
  <link name="base">{TRUNK}
    <collision><geometry><sphere radius="0.1"/></geometry></collision></link>
  <link name="upper">{LIMB}
    <collision><origin xyz="0 0 0.1"/><geometry><sphere radius="0.1"/></geometry></collision></link>
  <joint name="mount" type="fixed"><parent link="world"/><child link="base"/></joint>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/>
    <axis xyz="0 1 0"/><limit lower="0.5" upper="2" effort="40" velocity="2"/></joint>
</robot>
"""


def written(folder, text, name="robot.urdf"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def model_of(path, actuators: ActuatorKind = ""):
    return read_spec(path, actuators).compile()


def joint_of(model, actuator):
    return model.joint(model.actuator(actuator).trnid[0])


def test_a_free_robot_gets_floor_light_and_free_joint_and_stands_on_its_lowest_point(tmp_path):
    model = model_of(written(tmp_path, HOPPER))
    assert model.joint(0).type[0] == mujoco.mjtJoint.mjJNT_FREE
    assert model.body(model.jnt_bodyid[0]).name == "trunk"
    assert model.nlight == 1
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    np.testing.assert_allclose(data.qpos[2], 0.45)
    data.qpos[2] -= 1e-3
    mujoco.mj_forward(model, data)
    assert {model.geom(c.geom1).name for c in data.contact} == {"floor"}
    # Links that fixed joints connect stay, so that a task can name them.
    assert model.body("imu").id > 0


def test_a_robot_on_a_link_called_world_is_fixed_and_touches_neither_its_base_nor_the_floor(
    tmp_path,
):
    model = model_of(written(tmp_path, ARM), "motor")
    assert model.nq == 1
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    assert data.qpos[0] == 0.5
    mujoco.mj_forward(model, data)
    assert data.ncon == 0


def test_position_servos_reach_the_effort_limit_at_a_quarter_of_the_range(tmp_path):
    model = model_of(written(tmp_path, HOPPER), "position")
    hip = model.actuator("hip")
    assert hip.ctrlrange.tolist() == [-1, 1]
    assert hip.forcerange.tolist() == [-20, 20]
    np.testing.assert_allclose(hip.gainprm[0] * 0.25 * 2.0, 20.0)
    # Damping ratio 1: kv = 2 sqrt(kp * inertia of the joint, its rotor's among it).
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = 1.0 / model.dof_invweight0[model.joint("hip").dofadr[0]]
    np.testing.assert_allclose(-hip.biasprm[2], 2 * np.sqrt(hip.gainprm[0] * inertia), rtol=0.3)
    assert joint_of(model, "hip").armature[0] == pytest.approx(hip.gainprm[0] / 100.0**2)


def test_a_joint_without_end_gets_a_velocity_servo_and_one_that_mimics_gets_nothing(tmp_path):
    model = model_of(written(tmp_path, HOPPER), "position")
    assert {model.actuator(i).name for i in range(model.nu)} == {"hip", "spin"}
    spin = model.actuator("spin")
    assert spin.ctrlrange.tolist() == [-8, 8]
    assert spin.biasprm[1] == 0.0
    np.testing.assert_allclose(-spin.biasprm[2] * 0.25 * 8.0, 2.0)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    grip, hip = (data.qpos[model.joint(name).qposadr[0]] for name in ("grip", "hip"))
    assert grip == pytest.approx(0.1 - 1.5 * hip)


def test_motors_are_limited_by_the_effort(tmp_path):
    model = model_of(written(tmp_path, HOPPER), "motor")
    assert model.actuator("hip").ctrlrange.tolist() == [-20, 20]
    assert model.actuator("spin").ctrlrange.tolist() == [-2, 2]
    assert joint_of(model, "hip").armature[0] == 0.0


def test_actuators_are_added_to_an_mjcf_with_effort_limits_and_to_none_that_has_some(tmp_path):
    text = (
        "<mujoco><worldbody><body><joint name='j' range='-90 90' {}/><geom size='.1'/></body>"
        "</worldbody><actuator>{}</actuator></mujoco>"
    )
    with_limit = written(tmp_path, text.format("actuatorfrcrange='-3 3'", ""), "a.xml")
    assert model_of(with_limit, "position").actuator("j").forcerange.tolist() == [-3, 3]
    own = written(tmp_path, text.format("", "<motor joint='j' ctrlrange='-1 1'/>"), "b.xml")
    with pytest.raises(TaskError, match=r"has actuators of its own; leave model\.actuators empty"):
        model_of(own, "motor")
    none = written(tmp_path, text.format("", ""), "c.xml")
    with pytest.raises(TaskError, match="no joint with an effort limit"):
        model_of(none, "motor")
    with pytest.raises(TaskError, match="unknown kind of actuators 'torque'"):
        model_of(with_limit, "torque")


def write_mesh(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("v 0 0 0\nv .1 0 0\nv 0 .1 0\nv 0 0 .1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n")


def with_mesh(name, compiler=""):
    mesh = f'<mesh filename="{name}"/>'
    return HOPPER.replace('<box size="0.3 0.3 0.1"/>', mesh).replace(
        '<robot name="hopper">', f'<robot name="hopper">{compiler}'
    )


@pytest.mark.parametrize(
    ("name", "compiler", "place"),
    [
        ("meshes/m.obj", "", "descr/urdf/meshes/m.obj"),
        ("../meshes/m.obj", "", "descr/meshes/m.obj"),
        ("package://descr/meshes/m.obj", "", "descr/meshes/m.obj"),
        ("package://other/meshes/m.obj", "", "other/meshes/m.obj"),
        ("m.obj", '<mujoco><compiler meshdir="../meshes"/></mujoco>', "descr/meshes/m.obj"),
        (
            "meshes/m.obj",
            '<mujoco><compiler meshdir="meshes"/></mujoco>',
            "descr/urdf/meshes/m.obj",
        ),
    ],
)
def test_meshes_are_found_where_urdfs_say_that_they_are(tmp_path, name, compiler, place):
    write_mesh(tmp_path / place)
    model = model_of(written(tmp_path, with_mesh(name, compiler), "descr/urdf/robot.urdf"))
    assert model.nmesh == 1


def test_a_package_is_looked_for_among_the_installed_ones_first(tmp_path, monkeypatch):
    ament = pytest.importorskip("ament_index_python.packages", reason="needs ament")
    prefix = tmp_path / "prefix"
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "some_descr").write_text("")
    write_mesh(prefix / "share" / "some_descr" / "m.obj")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    assert ament.get_package_share_directory("some_descr")
    path = written(tmp_path, with_mesh("package://some_descr/m.obj"), "elsewhere/robot.urdf")
    assert model_of(path).nmesh == 1


@pytest.mark.parametrize(
    ("text", "file", "message"),
    [
        (with_mesh("m/a.stl"), "r.urdf", r"needs mesh 'm/a\.stl', which does not exist; put it"),
        (with_mesh("package://x/a.stl"), "r.urdf", r"mesh 'package://x/a\.stl'.*source the work"),
        (with_mesh("a.dae"), "r.urdf", r"'a\.dae', whose format MuJoCo does not read; convert"),
        (HOPPER.replace("<link", "<lin", 1), "r.urdf", "cannot be read: "),
        (HOPPER.replace('effort="20"', "").replace('effort="2"', ""), "r.urdf", "no joint with an"),
        (
            HOPPER.replace(
                '"hopper">', '"hopper" xmlns:xacro="http://ros.org/xacro"><xacro:arg name="a"/>'
            ),
            "r.urdf",
            "is a xacro; expand it first: xacro ",
        ),
        ("<sdf/>", "r.urdf", "is no URDF: it begins with <sdf>"),
        (
            "binary",
            "r.mjb",
            "is a compiled model .MJB., which cannot be changed any more; use the MJCF",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_says_what_to_do(tmp_path, text, file, message):
    write_mesh(tmp_path / "a.dae")
    with pytest.raises(TaskError, match=message) as failure:
        model_of(written(tmp_path, text, file), "motor")
    assert "\n" not in str(failure.value)


TASK = """
from diffusion_mpc.tasks.base import Task, cost

class Hop(Task):
    name = "hop"
    model_path = "robot.urdf"
    {actuators}
    base = "trunk"
    keyframe = "home"

    @cost(weight=1.0)
    def height(self, x, reference):
        "Height of the trunk."
        return x.qpos[..., 2] - 0.45
"""


def test_a_task_names_a_urdf_beside_it_and_runs_in_closed_loop(tmp_path):
    written(tmp_path, HOPPER)
    file = str(written(tmp_path, TASK.format(actuators='actuators = "position"'), "hop.py"))
    task = find_task(file)()
    assert task.action_centre.tolist() == [0.0, 0.0]
    assert task.effort_joints() == []
    episode = run_episode({"task": file, "planner.num_samples": 4}, 0, 0.1)
    assert episode.plans == 5
    assert np.isfinite(episode.mean_cost)


def test_actuators_are_a_parameter_of_planner_and_simulation(tmp_path):
    written(tmp_path, HOPPER)
    file = str(written(tmp_path, TASK.format(actuators=""), "hop.py"))
    with pytest.raises(TaskError, match=r"no actuators.*set model\.actuators to position or motor"):
        find_task(file)()
    _, values = load_parameters(PlannerNodeConfig, {"task": file, "model.actuators": "motor"})
    assert {name for name in values if name.startswith("gains.")} == {
        f"gains.{joint}.{gain}" for joint in ("hip", "spin") for gain in "pd"
    }
    config = build(PlannerNodeConfig, values)
    assert find_task(file)(config.model.file).effort_joints() == ["hip", "spin"]
    episode = run_episode({"task": file, "model.actuators": "motor"}, 0, 0.04)
    assert episode.controls.shape == (2, 2)
    with pytest.raises(ValueError, match="'servo' is not one of '', position, motor"):
        load_parameters(PlannerNodeConfig, {"task": file, "model.actuators": "servo"})


def test_the_simulated_robot_is_the_planners_unless_it_is_given_one_of_its_own(tmp_path):
    path = written(tmp_path, HOPPER)
    file = str(written(tmp_path, TASK.format(actuators=""), "hop.py"))
    settings = {"model.path": str(path), "model.actuators": "motor"}

    def sim(**more):
        options = Options(file, settings={**settings, **more})
        return next(p.parameters for p in processes(options) if p.name == "sim")

    assert sim()["model.path"] == str(path)
    assert sim()["model.actuators"] == "motor"
    other = str(written(tmp_path, HOPPER, "other.urdf"))
    own = sim(**{"sim.model.path": other})
    assert own["model.path"] == other
    assert own.get("model.actuators", "") == ""


SCENE = (
    "<mujoco><worldbody><body name='trunk'><joint name='j'/><geom size='.1'/></body></worldbody>"
    "<actuator><motor joint='j' ctrlrange='-1 1'/></actuator></mujoco>"
)


def test_a_robot_of_menagerie_is_found_in_a_checkout_its_scene_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    robot = written(tmp_path, SCENE, "acme_dog/dog.xml")
    assert ModelFile("menagerie:acme_dog").located() == robot
    scene = written(tmp_path, SCENE, "acme_dog/scene.xml")
    assert ModelFile("menagerie:acme_dog").located() == scene
    assert ModelFile("menagerie:acme_dog/dog.xml").located() == robot

    class Dog(Task):
        name = "dog"
        model_path = "menagerie:acme_dog"

    assert Dog().path == scene
    with pytest.raises(TaskError, match="no robot 'acme_dig'; did you mean 'acme_dog'"):
        ModelFile("menagerie:acme_dig").located()
    with pytest.raises(TaskError, match=r"cat\.xml' does not exist"):
        Dog("menagerie:acme_dog/cat.xml")
    shutil.rmtree(tmp_path / "acme_dog")
    written(tmp_path, SCENE, "acme_dog/first.xml")
    with pytest.raises(TaskError, match=r"write menagerie:acme_dog/FILE with one of first\.xml"):
        ModelFile("menagerie:acme_dog").located()


def test_without_a_checkout_the_message_says_how_to_get_the_robot(monkeypatch):
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", None)
    with pytest.raises(TaskError, match=r"set MENAGERIE_ROOT.*pip install.*prefetch acme_dog"):
        ModelFile("menagerie:acme_dog").located()


def test_the_package_is_asked_for_what_is_in_its_cache_and_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    folder = tmp_path / "models" / "acme_dog-0123"
    entry = types.SimpleNamespace(file="dog_v2.xml")
    robot = types.SimpleNamespace(entry=lambda: entry)

    class Cache:
        def is_cached(self, robot):
            return folder.is_dir()

        def model_path(self, robot):
            return folder

    package = types.ModuleType("mujoco_menagerie")
    package.names, package.get, package.Cache = lambda: ["acme_dog"], lambda name: robot, Cache
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", package)
    with pytest.raises(TaskError, match="no robot 'acme_dg'; did you mean 'acme_dog'"):
        ModelFile("menagerie:acme_dg").located()
    with pytest.raises(TaskError, match=r"not in the cache.*run: mujoco-menagerie prefetch acme"):
        ModelFile("menagerie:acme_dog").located()
    path = written(folder, SCENE, "dog_v2.xml")
    assert ModelFile("menagerie:acme_dog").located() == path


def test_the_real_package_has_the_functions_that_are_used():
    menagerie = pytest.importorskip("mujoco_menagerie", reason="an extra")
    robot = menagerie.get(menagerie.names()[0])
    assert not menagerie.Cache(dir=Path("/nonexistent")).is_cached(robot)
    assert robot.entry().file.endswith(".xml")


@pytest.mark.ros
@pytest.mark.slow
def test_a_urdf_runs_over_ros(tmp_path):
    pytest.importorskip("diffusion_mpc.msg", reason="needs the built messages")
    path = written(tmp_path, HOPPER)
    file = str(written(tmp_path, TASK.format(actuators=""), "hop.py"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "diffusion_mpc.cli", "sim", file, "--lockstep"),
            *(
                "--duration",
                "1",
                "--set",
                f"model.path={path}",
                "--set",
                "model.actuators=position",
            ),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "Mean cost" in done.stdout
