"""Parameters that planners are built of, over real DDS.

The planner before goes on until its successor takes over.
"""

import time

import numpy as np
import pytest

pytestmark = pytest.mark.ros

SETTINGS = {
    "task": "cartpole",
    "planner.num_samples": 8,
    "planner.horizon_steps": 10,
    "planner.num_knots": 3,
}
PERIOD, MAX_PLAN_AGE = 0.02, 0.3


@pytest.fixture
def bring_up(tmp_path, monkeypatch):
    """Starts one planner node that controls a robot; returns both."""
    from robot import Robot

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.node_processes import Process, Running

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    made = []

    def start(**settings):
        parameters = {
            **SETTINGS,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        running = Running([Process("planner", parameters)], tmp_path)
        made.append(running.stop)
        robot = Robot()
        made.append(robot.close)
        robot.start()
        robot.spin_until(lambda: len(robot.commands) > 20, "commands")
        return running, robot

    yield start
    for close in reversed(made):
        close()


def test_a_rebuilt_planner_takes_over_without_a_gap_in_the_commands(bring_up):
    _, robot = bring_up()
    robot.commands.clear()
    rebuilt = {
        "planner__horizon_steps": 20,
        "planner__num_knots": 6,
        "model__timestep": 0.01,
        "planner__algorithm": "cem",
    }
    assert robot.set_parameters(**rebuilt, planner__num_samples=16) == (True, "")
    robot.spin_until(
        lambda: robot.stats and robot.stats[-1].horizon_steps == 20, "plans of the new planner"
    )
    assert (robot.stats[-1].algorithm, robot.stats[-1].num_samples) == ("cem", 16)
    robot.spin(0.5)
    sent = np.array([when for when, _ in robot.commands])
    assert np.diff(sent).max() < MAX_PLAN_AGE
    assert not any(command.safe for _, command in robot.commands)
    # What may change live still does.
    assert robot.set_parameters(planner__num_samples=12) == (True, "")
    robot.spin_until(lambda: robot.stats[-1].num_samples == 12, "plans with 12 samples")
    assert robot.stats[-1].horizon_steps == 20


def test_of_changes_that_come_one_after_the_other_the_last_one_stands(bring_up):
    _, robot = bring_up()
    for horizon in (12, 14, 16, 18):
        assert robot.set_parameters(planner__horizon_steps=horizon) == (True, "")
    robot.spin_until(
        lambda: robot.stats and robot.stats[-1].horizon_steps == 18, "plans of the last planner"
    )
    robot.stats.clear()
    robot.spin(0.5)
    assert {stats.horizon_steps for stats in robot.stats} == {18}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"planner__num_samples": 16, "planner__num_knots": 50},
            "planner.num_knots is 50; planner.spline quadratic over planner.horizon_steps 10 needs",
        ),
        (
            {"planner__num_samples": 4, "planner__algorithm": "cma_es"},
            "planner.num_samples is 4; planner.algorithm cma_es needs 6 at least",
        ),
        (
            {"planner__num_samples": 16, "model__timestep": 0.015},
            "planner.control_dt of 0.02 s is not a multiple of model.timestep of 0.015 s",
        ),
        (
            {"planner__num_samples": 16, "backend__name": "function"},
            "task 'cartpole' has no dynamics of its own",
        ),
        (
            {"planner__horizon_steps": 20, "gains__pole__p": 1.0},
            "unknown parameter 'gains.pole.p'; did you mean 'gains.slider.p'?",
        ),
        (
            {"planner__num_samples": 16, "planner__rate": 25.0},
            "planner.rate is read when the node is configured; first `ros2 life",
        ),
        ({"planner__num_samples": 16, "task": "ant"}, "Trying to set a read-only parameter: task"),
    ],
    ids=["knots", "samples", "time step", "backend", "another one", "configured", "at the start"],
)
def test_a_set_that_cannot_be_built_is_refused_as_a_whole(bring_up, values, reason):
    _, robot = bring_up()
    successful, said = robot.set_parameters(**values)
    assert not successful
    assert reason in said
    robot.stats.clear()
    robot.spin(0.5)
    assert {(stats.num_samples, stats.horizon_steps) for stats in robot.stats} == {(8, 10)}
    assert not robot.commands[-1][1].safe


def test_what_is_read_when_the_node_is_configured_changes_between_cleaning_up_and_configuring(
    bring_up,
):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    def change(transition):
        assert robot.call(
            "planner/change_state", ChangeState.Request(transition=Transition(id=transition))
        ).success

    _, robot = bring_up()
    change(Transition.TRANSITION_DEACTIVATE)
    change(Transition.TRANSITION_CLEANUP)
    assert robot.set_parameters(planner__rate=25.0, planner__horizon_steps=12) == (True, "")
    change(Transition.TRANSITION_CONFIGURE)
    change(Transition.TRANSITION_ACTIVATE)
    robot.stats.clear()
    robot.spin_until(lambda: len(robot.stats) > 3, "plans")
    assert robot.stats[-1].horizon_steps == 12
    begun = time.monotonic()
    robot.stats.clear()
    robot.spin(1.0)
    assert len(robot.stats) / (time.monotonic() - begun) == pytest.approx(25.0, rel=0.2)


def test_the_parameters_of_a_running_node_are_a_parameter_file_for_the_next(bring_up, tmp_path):
    import yaml
    from rcl_interfaces.srv import GetParameters, ListParameters
    from rclpy.parameter import parameter_value_to_python

    from diffusion_mpc.bringup.description import Options, processes

    _, robot = bring_up(gains__slider__p=3.0)
    assert robot.set_parameters(planner__horizon_steps=12, planner__temperature=0.07) == (True, "")
    names = robot.ask(
        ListParameters, "planner/list_parameters", ListParameters.Request()
    ).result.names
    found = robot.ask(
        GetParameters, "planner/get_parameters", GetParameters.Request(names=names)
    ).values
    # As `ros2 param dump` writes it.
    dump = {}
    for name, value in zip(names, found, strict=True):
        *groups, last = name.split(".")
        section = dump
        for group in groups:
            section = section.setdefault(group, {})
        section[last] = parameter_value_to_python(value)
    path = tmp_path / "planner.yaml"
    path.write_text(yaml.dump({"/planner": {"ros__parameters": dump}}))
    planner = next(
        p for p in processes(Options("cartpole", params_file=str(path))) if p.name == "planner"
    ).parameters
    assert {name: planner[name] for name in SETTINGS if name != "planner.horizon_steps"} == {
        name: value for name, value in SETTINGS.items() if name != "planner.horizon_steps"
    }
    assert (
        planner["planner.horizon_steps"],
        planner["planner.temperature"],
        planner["gains.slider.p"],
    ) == (12, 0.07, 3.0)


def test_auto_is_measured_at_the_start_and_not_while_the_node_controls(bring_up):
    _, robot = bring_up(backend__name="auto")
    robot.spin_until(lambda: robot.stats, "plans")
    assert robot.stats[-1].backend in ("cpu", "warp")
    # What is rebuilt later stays where it is.
    chosen = robot.stats[-1].backend
    assert robot.set_parameters(planner__horizon_steps=20) == (True, "")
    robot.spin_until(lambda: robot.stats[-1].horizon_steps == 20, "plans of the new planner")
    assert robot.stats[-1].backend == chosen


def test_auto_is_refused_where_another_was_named_at_the_start(bring_up):
    _, robot = bring_up()
    changed, reason = robot.set_parameters(backend__name="auto")
    assert not changed
    assert "auto is measured when the node is configured" in reason


TOUCHY = """
from diffusion_mpc.tasks.cartpole import Cartpole


class Touchy(Cartpole):
    name = "touchy"

    def costs(self, batch, reference):
        if batch.qpos.shape[1] == 13:
            raise RuntimeError("thirteen steps")
        return super().costs(batch, reference)
"""


def test_a_new_planner_that_cannot_plan_never_takes_over_and_the_diagnostics_say_why(
    bring_up, tmp_path
):
    task = tmp_path / "touchy.py"
    task.write_text(TOUCHY)
    _, robot = bring_up(task=str(task))
    robot.diagnostics.clear()
    assert robot.set_parameters(planner__horizon_steps=13) == (True, "")
    robot.spin_until(
        lambda: robot.diagnostics and robot.diagnostics[-1].level == b"\x01", "a warning"
    )
    assert (
        robot.diagnostics[-1].message
        == "the previous planner goes on, for the new one failed: RuntimeError: thirteen steps"
    )
    robot.commands.clear()
    robot.spin(0.5)
    assert robot.stats[-1].horizon_steps == 10
    assert robot.commands
    assert not any(command.safe for _, command in robot.commands)
    assert robot.set_parameters(planner__horizon_steps=14) == (True, "")
    robot.spin_until(lambda: robot.stats[-1].horizon_steps == 14, "plans of another planner")
    robot.spin_until(lambda: robot.diagnostics[-1].level == b"\x00", "OK")
