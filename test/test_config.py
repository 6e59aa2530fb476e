"""Parameters: one description, checked everywhere."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from diffusion_mpc.benchmark.quality import Quality
from diffusion_mpc.benchmark.tune import SPACES, Tune
from diffusion_mpc.bringup.description import (
    ARGUMENTS,
    ROBOT_ARGUMENTS,
    Options,
    processes,
    robot_processes,
)
from diffusion_mpc.cli import main
from diffusion_mpc.config import (
    ConfigError,
    JointGains,
    PlannerNodeConfig,
    SimConfig,
    build,
    cost_weights,
    load_parameters,
    parameters,
    reference_yaml,
    split_sim,
)
from diffusion_mpc.config.renamed import GAINS, RENAMED
from diffusion_mpc.names import ActuatorKind, Capture, FusionName, ObjectType, OutputType, hint
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.spline import DEGREES
from diffusion_mpc.rollout import BACKENDS
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.model_file import INTEGRATORS

CONFIG = Path(__file__).parents[1] / "config"


def load(**given):
    return load_parameters(PlannerNodeConfig, given)[1]


def test_defaults_of_the_task_come_before_those_of_the_package():
    assert load(task="cartpole")["planner.horizon_steps"] == 50
    assert load(**{"task": "cartpole", "planner.horizon_steps": 30})["planner.horizon_steps"] == 30


def test_every_cost_term_is_a_live_parameter():
    known, values = load_parameters(PlannerNodeConfig, {"task": "ant", "cost.upright": 3.0})
    assert known["cost.upright"].live
    assert set(cost_weights(values)) == set(find_task("ant").cost_terms())
    assert cost_weights(values)["upright"] == 3.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"planer.rate": 50.0}, "unknown parameter 'planer.rate'; did you mean 'planner.rate'?"),
        ({"cost.uprigt": 1.0}, "unknown parameter 'cost.uprigt'; did you mean 'cost.upright'?"),
        ({"planner.rate": 0.0}, "planner.rate: 0.0 is not between 1 and 500 Hz"),
        ({"planner.rate": float("nan")}, "planner.rate: nan is not between 1 and 500 Hz"),
        ({"planner.num_samples": 1.5}, "planner.num_samples: 1.5 is not of type int"),
        ({"planner.num_samples": True}, "planner.num_samples: True is not of type int"),
        ({"safe_command": "brake"}, "safe_command: 'brake' is not one of zero, hold, damping"),
        ({"lockstep": "yes"}, "lockstep: 'yes' is not of type bool"),
    ],
)
def test_bad_values_are_refused_with_what_to_change(given, message):
    with pytest.raises(ConfigError) as caught:
        load(task="ant", **given)
    assert str(caught.value) == message


def test_a_whole_number_is_fine_for_a_float():
    assert load(**{"task": "ant", "planner.rate": 100})["planner.rate"] == 100.0


def test_values_become_nested_config_objects():
    config = build(PlannerNodeConfig, load(**{"task": "ant", "planner.rate": 100.0}))
    assert config.planner.rate == 100.0
    assert config.model.integrator == "implicitfast"


def test_the_shipped_file_holds_every_parameter_as_it_is_described():
    """Written by `diffusion-mpc tasks ant --yaml`; other tasks' are printed."""
    (path,) = CONFIG.glob("*.yaml")
    assert path.read_text() == reference_yaml(path.stem)
    content = yaml.safe_load(path.read_text())
    assert (
        content["/**/planner"]["ros__parameters"].keys()
        == parameters(PlannerNodeConfig, find_task(path.stem)).keys()
    )


def test_the_parameters_of_a_task_are_printed_as_a_file_that_can_be_read(capsys, tmp_path):
    assert main(["tasks", "ant", "--yaml"]) == 0
    assert capsys.readouterr().out == (CONFIG / "ant.yaml").read_text()
    assert main(["tasks", "cartpole", "--yaml"]) == 0
    (tmp_path / "p.yaml").write_text(capsys.readouterr().out)
    started = by_name(Options("cartpole", params_file=str(tmp_path / "p.yaml")))
    assert started["planner"].parameters["planner.horizon_steps"] == 50
    assert main(["tasks", "--yaml"]) == 1
    assert (
        capsys.readouterr().err
        == "error: --yaml needs the name of a task: diffusion-mpc tasks NAME --yaml\n"
    )


# Names


OLD = {
    "planner.mirrored": (False, "parameter 'planner.mirrored' is now 'planner.antithetic'"),
    "planner.success_share": (
        0.1,
        "parameter 'planner.success_share' is now 'planner.success_fraction'",
    ),
    "planner.elite_share": (0.1, "parameter 'planner.elite_share' is now 'planner.elite_fraction'"),
    "output.takeover": (0.5, "parameter 'output.takeover' is now 'output.blend_time'"),
    "output.kp": (
        "20",
        "parameter 'output.kp' is no more; gains are parameters of each joint: gains.slider.p",
    ),
    "output.kd": (
        "2",
        "parameter 'output.kd' is no more; gains are parameters of each joint: gains.slider.d",
    ),
}


def test_no_former_name_is_left_out():
    assert set(OLD) == {*RENAMED, *GAINS}
    assert set(RENAMED.values()) <= parameters(PlannerNodeConfig).keys()


@pytest.mark.parametrize(
    ("name", "value", "message"), [(name, *told) for name, told in OLD.items()], ids=OLD
)
def test_a_former_name_is_answered_with_the_new_one(tmp_path, capsys, name, value, message):
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"/**/planner": {"ros__parameters": {name: value}}}))
    for start in (
        lambda: load(task="cartpole", **{name: value}),
        lambda: processes(Options("cartpole", params_file=str(file))),
        lambda: robot_processes(Options("cartpole", params_file=str(file))),
        lambda: processes(Options("cartpole", settings={name: str(value)})),
    ):
        with pytest.raises(ConfigError) as caught:
            start()
        assert str(caught.value) == message
    assert main(["benchmark", "speed", "--tasks", "cartpole", "--set", f"{name}={value}"]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_former_names_in_tuned_parameters_are_answered_too(tmp_path):
    file = tmp_path / "tuned.yaml"
    file.write_text("cartpole: {mbd: {planner.success_share: 0.2}}")
    options = {"tasks": ("cartpole",), "algorithms": ("mbd",), "tuned": file, "output": tmp_path}
    for benchmark in (Quality(**options), Tune(**options)):
        with pytest.raises(
            ConfigError,
            match=r"^parameter 'planner.success_share' is now 'planner.success_fraction'$",
        ):
            benchmark.runs()


def test_names_are_within_reach_without_heavy_imports():
    heavy = {"torch", "mujoco", "numpy", "warp"}
    program = f"import sys, diffusion_mpc.names; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_robot_without_joints_driven_by_effort_is_told_so():
    with pytest.raises(
        ConfigError,
        match=r"^parameter 'output.kp' is no more; no joint of this robot is driven by effort$",
    ):
        load(task="humanoid_walk", **{"output.kp": "20"})


def test_every_joint_driven_by_effort_has_gains_of_its_own_that_change_live():
    known, values = load_parameters(
        PlannerNodeConfig, {"task": "ant", "gains.front_left_hip.p": 20.0}
    )
    joints = find_task("ant")().effort_joints()
    assert len(joints) == 8
    assert {name for name in known if name.startswith("gains.")} == {
        f"gains.{j}.{gain}" for j in joints for gain in "pd"
    }
    assert all(known[name].live for name in known if name.startswith("gains."))
    assert build(PlannerNodeConfig, values).gains == {
        j: JointGains(p=20.0 if j == "front_left_hip" else 0.0) for j in joints
    }


def test_gains_are_those_of_the_joints_of_the_model_that_is_used(tmp_path):
    model = tmp_path / "other.xml"
    model.write_text(find_task("cartpole").model_path.read_text().replace('"slider"', '"rail.x"'))
    _, values = load_parameters(
        PlannerNodeConfig, {"task": "cartpole", "model.path": str(model), "gains.rail.x.d": 1.0}
    )
    assert build(PlannerNodeConfig, values).gains == {"rail.x": JointGains(d=1.0)}
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"model.path": str(model)}}}))
    started = by_name(Options("cartpole", params_file=str(file), settings={"gains.rail.x.d": "2"}))
    assert started["planner"].parameters["gains.rail.x.d"] == 2.0


def test_choices_are_those_of_the_registries_that_they_name():
    choices = {
        name: set(p.choices) for name, p in parameters(PlannerNodeConfig).items() if p.choices
    }
    assert choices.pop("planner.algorithm") == ALGORITHMS.keys() | {"policy"}
    assert ALGORITHMS.keys() == SPACES.keys()
    assert choices.pop("planner.spline") == DEGREES.keys()
    assert choices.pop("backend.name") == BACKENDS.keys() | {"auto"}
    assert choices.pop("backend.capture") == set(get_args(Capture))
    assert choices.pop("policy.fusion") == set(get_args(FusionName))
    assert (
        choices.pop("model.integrator")
        == INTEGRATORS.keys()
        == set(parameters(SimConfig)["model.integrator"].choices)
    )
    assert choices.pop("model.actuators") == set(get_args(ActuatorKind))
    assert choices.pop("output.type") == set(get_args(OutputType))
    types = set(get_args(ObjectType))
    assert choices.pop("objects.type") == types
    assert set(parameters(SimConfig)["object_type"].choices) == types
    assert choices.keys() == {"robust.aggregate", "safe_command", "input.twist_frame"}


@pytest.mark.ros
def test_types_of_commands_are_those_of_the_messages():
    pytest.importorskip("diffusion_mpc.msg", reason="needs the built messages")
    from diffusion_mpc.ros.messages.joint_command import MESSAGES
    from diffusion_mpc.ros.messages.state import OBJECT_MESSAGES

    assert MESSAGES.keys() == set(get_args(OutputType))
    assert OBJECT_MESSAGES.keys() == set(get_args(ObjectType))


def test_the_backend_of_the_launch_files_may_be_any_of_the_parameters_or_none():
    (argument,) = (a for a in ARGUMENTS if a.name == "backend")
    assert argument in ROBOT_ARGUMENTS
    assert argument.choices == ("", *parameters(PlannerNodeConfig)["backend.name"].choices)
    options = Options.from_texts({"task": "cartpole", "backend": "auto"})
    assert by_name(options)["planner"].parameters["backend.name"] == "auto"


def test_values_of_the_simulation_are_those_whose_names_begin_so():
    assert split_sim({"planner.rate": 50, "sim.rate": 25, "simple": 1}) == (
        {"planner.rate": 50, "simple": 1},
        {"rate": 25},
    )


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("antt", ["ant", "arm"], "did you mean 'ant'?"),
        ("zebra", ["ant", "arm"], "there are: ant, arm"),
        ("zebra", [], "there are: none"),
        ("zebra", [f"x{i}" for i in range(100)] + ["bear"], "did you mean 'bear'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_or_with_all(name, known, told):
    assert hint(name, known) == told


def by_name(options):
    return {process.name: process for process in processes(options)}


def test_a_page_is_served_where_it_is_asked_for_and_others_go_on_without_it(tmp_path):
    path = tmp_path / "parameters.yaml"
    path.write_text("/**/viewer:\n  ros__parameters:\n    port: 8090\n")
    for describe, others in ((processes, {"planner", "sim"}), (robot_processes, {"planner"})):
        started = describe(Options.from_texts({"page": "true", "params_file": str(path)}))
        viewer = next(process for process in started if process.name == "viewer")
        assert viewer.helper
        assert viewer.parameters["port"] == 8090
        assert {process.name for process in started} - {"viewer"} == others
        assert {process.name for process in describe(Options())} == others


def test_bring_up_starts_planner_and_simulation_and_a_recorder_when_asked():
    assert list(by_name(Options())) == ["planner", "sim"]
    assert list(by_name(Options(record="bag"))) == ["recorder", "planner", "sim"]


def test_settings_reach_the_node_they_belong_to():
    nodes = by_name(Options(settings={"command.vx": "2", "sim.command_timeout": "0.5"}))
    assert nodes["planner"].parameters["command.vx"] == 2.0
    assert nodes["sim"].parameters["command_timeout"] == 0.5


def test_the_simulation_runs_at_the_planners_rate_wherever_that_is_set(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("/**/planner:\n  ros__parameters:\n    planner:\n      rate: 25.0\n")
    assert by_name(Options(params_file=str(path)))["sim"].parameters["rate"] == 25.0
    assert by_name(Options(settings={"planner.rate": "100"}))["sim"].parameters["rate"] == 100.0


@pytest.mark.parametrize(("settings", "lead"), [({}, 0.06), ({"lockstep_lead": "0.0"}, 0.0)])
def test_in_lockstep_the_planner_is_told_the_delay_of_the_states_unless_the_user_says_otherwise(
    settings, lead
):
    started = by_name(Options(lockstep=True, settings={"sim.state_delay": "0.05", **settings}))
    assert started["planner"].parameters["lockstep_lead"] == pytest.approx(lead)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"command.vxx": "1"}, "unknown parameter 'command.vxx'; did you mean 'command.vx'?"),
        ({"sim.durations": "1"}, "unknown parameter 'durations'; did you mean 'duration'?"),
        ({"planner.rate": "fast"}, "planner.rate: 'fast' is not of type float"),
        ({"planner.num_samples": "1"}, "planner.num_samples: 1 is not between 2 and 65536"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(settings, message):
    with pytest.raises(ConfigError) as caught:
        processes(Options(settings=settings))
    assert str(caught.value) == message


def test_a_section_whose_name_is_nearly_a_nodes_is_a_slip(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("/**/planer:\n  ros__parameters:\n    planner.rate: 25.0\n")
    with pytest.raises(
        ConfigError, match=r"has a section '/\*\*/planer'; did you mean 'planner'\?"
    ):
        processes(Options(params_file=str(path)))
    path.write_text("/amcl:\n  ros__parameters:\n    alpha: 0.2\n")
    assert by_name(Options(params_file=str(path)))


def test_a_section_for_all_nodes_gives_each_what_is_its_own(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    planner.rate: 25.0\n    command_timeout: 0.4\n"
        "    cost.upright: 2.0\n    robot_description: <robot/>\n    use_sim_time: true\n"
    )
    nodes = by_name(Options("cartpole", params_file=str(path)))
    assert nodes["planner"].parameters["planner.rate"] == 25.0
    assert nodes["planner"].parameters["cost.upright"] == 2.0
    assert "command_timeout" not in nodes["planner"].parameters
    assert nodes["sim"].parameters["command_timeout"] == 0.4
    assert not {"planner.rate", "robot_description"} & nodes["sim"].parameters.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "/**:\n  ros__parameters:\n    planner.rat: 25.0\n",
            "unknown parameter 'planner.rat'; did you mean 'planner.rate'?",
        ),
        (
            "/planner:\n  ros__parameters:\n    command_timeout: 0.4\n",
            "unknown parameter 'command_timeout'; did you mean 'command.timeout'?",
        ),
        (
            "/planner:\n  planner.rate: 25.0\n",
            "{file} has 'planner.rate' in '/planner' outside of ros__parameters; write it below "
            "ros__parameters, a key of the node",
        ),
        (
            "planner:\n",
            "{file} has 'planner' in '/' outside of ros__parameters; write it below "
            "ros__parameters, a key of the node",
        ),
        (
            "planner:\n  ros__parameters:\n",
            "{file} has no parameters below ros__parameters of '/planner'",
        ),
        (
            "planner:\n  ros__parameters:\n    planner: {rate: []}\n",
            "{file} has no value for 'planner.rate'; a list must not be empty",
        ),
        (
            "planner:\n  ros__parameters:\n    planner.rate:\n",
            "{file} has no value for 'planner.rate'",
        ),
        (
            "planner:\n  ros__parameters:\n    planner.rate: [1.0, 2.0]\n",
            "planner.rate: [1.0, 2.0] is not of type float",
        ),
        (
            "planner:\n  ros__parameters:\n    planner.rate: 1:30\n",
            "planner.rate: '1:30' is not of type float",
        ),
        (
            "planner:\n  ros__parameters:\n    planner.rate: 5.0\n    planner: {rate: 6.0}\n",
            "{file} has 'planner.rate' twice",
        ),
        (
            "planner:\n  ros__parameters:\n    planner.rate: 5.0\n    planner.rate: 6.0\n",
            "{file} is not valid YAML: 'planner.rate' stands there twice in ",
        ),
        (
            "planner:\n  ros__parameters:\n\tplanner.rate: 5.0\n",
            "{file} is not valid YAML: while scanning for the next token found character '\\t'",
        ),
    ],
)
def test_a_slip_in_a_parameter_file_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        processes(Options("cartpole", params_file=str(path)))
    said = str(caught.value)
    assert said.startswith(message.format(file=f"parameter file '{path}'"))
    assert "\n" not in said


def test_numbers_and_truths_are_those_of_rcl(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "planner:\n  ros__parameters:\n    planner.temperature: 1e-1\n    planner.seed: 0x10\n"
        "    planner.antithetic: n\n    planner.rate: 5.\n    goal: {y: 0.5}\n"
    )
    found = by_name(Options("cartpole", params_file=str(path)))["planner"].parameters
    assert found["planner.temperature"] == 0.1
    assert (found["planner.seed"], found["planner.antithetic"]) == (16, False)
    assert found["planner.rate"] == 5.0
    # A key is a text whatever it looks like.
    assert found["goal.y"] == 0.5


def test_launch_arguments_are_the_options_of_bring_up():
    texts = {argument.name: argument.default for argument in ARGUMENTS}
    assert Options.from_texts(texts) == Options()


def test_a_robot_gets_a_planner_and_no_simulation_and_does_not_begin_to_move_by_itself():
    texts = {a.name: a.default for a in ROBOT_ARGUMENTS} | {"namespace": "robot1", "record": "bag"}
    recorder, planner = robot_processes(Options.from_texts(texts))
    assert (recorder.name, planner.name) == ("recorder", "planner")
    assert recorder.namespace == planner.namespace == "robot1"
    assert not planner.parameters.keys() & find_task("ant").demo.keys()
    assert "lockstep" not in planner.parameters


def test_a_section_of_a_namespace_counts_there_only(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("/one/planner:\n  ros__parameters:\n    planner.rate: 25.0\n")
    assert (
        by_name(Options(params_file=str(path), namespace="one"))["planner"].parameters[
            "planner.rate"
        ]
        == 25.0
    )
    assert (
        "planner.rate"
        not in by_name(Options(params_file=str(path), namespace="two"))["planner"].parameters
    )


def test_parameters_of_the_simulation_are_its_own():
    assert "duration" in parameters(SimConfig)
    assert "planner.rate" not in parameters(SimConfig)
