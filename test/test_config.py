"""Parameters: one description, checked everywhere."""

from pathlib import Path

import pytest
import yaml

from diffusion_mpc.config import (
    ConfigError,
    PlannerNodeConfig,
    SimConfig,
    build,
    cost_weights,
    load_parameters,
    parameters,
    to_yaml,
)
from diffusion_mpc.ros.bringup import ARGUMENTS, ROBOT_ARGUMENTS, Options, processes, robot_processes
from diffusion_mpc.tasks import find_task

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


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_files_hold_every_parameter_as_it_is_described(path):
    """Written by `python -m diffusion_mpc.config TASK > config/TASK.yaml`."""
    assert path.read_text() == to_yaml(path.stem)
    content = yaml.safe_load(path.read_text())
    assert content["/**/planner"]["ros__parameters"].keys() == parameters(PlannerNodeConfig, find_task(path.stem)).keys()


def by_name(options):
    return {process.name: process for process in processes(options)}


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
def test_in_lockstep_the_planner_is_told_the_delay_of_the_states_unless_the_user_says_otherwise(settings, lead):
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
    with pytest.raises(ConfigError, match=r"has a section '/\*\*/planer'; did you mean 'planner'\?"):
        processes(Options(params_file=str(path)))
    path.write_text("/amcl:\n  ros__parameters:\n    alpha: 0.2\n")
    assert by_name(Options(params_file=str(path)))


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
    assert by_name(Options(params_file=str(path), namespace="one"))["planner"].parameters["planner.rate"] == 25.0
    assert "planner.rate" not in by_name(Options(params_file=str(path), namespace="two"))["planner"].parameters


def test_parameters_of_the_simulation_are_its_own():
    assert "duration" in parameters(SimConfig)
    assert "planner.rate" not in parameters(SimConfig)
