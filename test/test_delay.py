"""Compensation of delays.

Plans begin where the robot will be, and commands are those meant for when they are obeyed.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_mpc.cli import main
from diffusion_mpc.command.command import constant_control
from diffusion_mpc.simulation.closed_loop import ClosedLoop, run_episode

SMALL = {"backend.threads": 1, "planner.num_samples": 8}


def episode(task, state_delay=0.0, command_delay=0.0, duration=0.4, **more):
    delays = {
        "sim.state_delay": state_delay,
        "sim.command_delay": command_delay,
        "prediction.command_delay": command_delay,
    }
    return run_episode({"task": task, **SMALL, **delays, **more}, trial=1, duration=duration)


@settings(max_examples=12, deadline=None)
@given(state_delay=st.integers(0, 16), command_delay=st.integers(0, 16))
def test_with_its_delays_known_the_robot_is_where_its_plans_begin(state_delay, command_delay):
    errors = episode(
        "cartpole", state_delay * 0.005, command_delay * 0.005, duration=0.6
    ).prediction_error
    # The first state sets out at the beginning; plans begin at one of the states where commands
    # take whole periods.
    expected = 30 - math.ceil(state_delay / 4) - command_delay // 4 if command_delay % 4 == 0 else 0
    assert len(errors) == expected
    assert np.abs(errors).max(initial=0.0) < 1e-9


@pytest.mark.parametrize(("state_delay", "command_delay"), [(0.04, 0.0), (0.0, 0.04), (0.06, 0.02)])
def test_contacts_are_predicted_too(state_delay, command_delay):
    errors = episode("ant", state_delay, command_delay, duration=0.8).prediction_error
    assert len(errors) > 30
    # The solver of the simulation starts from its last solution, that of a prediction from nothing.
    assert np.abs(errors[:, 0]).max() < 1e-5
    assert np.abs(errors[:, 1]).max() < 1e-3


def test_a_coarse_prediction_is_worse_by_far_and_none_at_all_still_worse():
    def error(**more):
        return np.abs(episode("ant", 0.04, duration=0.8, **more).prediction_error[:, 1]).mean()

    fine, coarse, none = (
        error(),
        error(**{"prediction.timestep": 0.02}),
        error(**{"prediction.enabled": False}),
    )
    assert fine < 0.01 * coarse
    assert coarse < none


def test_a_delayed_robot_gets_the_commands_of_one_that_is_not_delayed():
    # Until the first command is obeyed nothing drives the robot; then all that differs is the time
    # by which the plans look ahead.
    first = episode("cartpole", command_delay=0.04, duration=0.1).controls[:, 0]
    assert (first[:2] == 0.0).all()
    assert (first[2:] != 0.0).all()


def test_a_plan_is_followed_from_the_time_at_which_it_is_obeyed():
    loop = ClosedLoop(
        {"task": "cartpole", **SMALL, "sim.command_delay": 0.04, "prediction.command_delay": 0.04},
        trial=0,
    )
    plan = loop.plan()
    assert plan.start_time == pytest.approx(0.04)
    np.testing.assert_array_equal(loop.advance(), 0.0)
    loop.advance()
    np.testing.assert_array_equal(loop.advance(), plan.controls[0])


def commands(controller, begin, end):
    return [
        (round(time, 6), float(law(None, None)[0])) for time, law in controller.commands(begin, end)
    ]


def test_what_was_sent_comes_before_what_is_planned_and_nothing_before_both():
    controller = ClosedLoop({"task": "cartpole", **SMALL}, trial=0).controller
    assert commands(controller, 0.0, 0.1) == [(0.0, 0.0)]
    controller.sent(0.03, constant_control(np.array([1.0])))
    controller.sent(0.05, constant_control(np.array([2.0])))
    assert commands(controller, 0.0, 0.1) == [(0.0, 0.0), (0.03, 1.0), (0.05, 2.0)]
    assert commands(controller, 0.0301, 0.045) == [(0.0301, 1.0)]
    assert commands(controller, 0.06, 0.1) == [(0.06, 2.0)]


def test_of_what_was_sent_all_is_known_that_a_state_may_ask_for_and_no_more():
    controller = ClosedLoop({"task": "cartpole", **SMALL, "state_timeout": 0.5}, trial=0).controller
    for second in range(10):
        controller.sent(float(second), constant_control(np.array([float(second)])))
    assert commands(controller, 7.6, 8.5) == [(7.6, 7.0), (8.0, 8.0)]
    assert commands(controller, 0.0, 9.5) == [(0.0, 0.0), (7.0, 7.0), (8.0, 8.0), (9.0, 9.0)]


def test_beyond_what_was_sent_the_plan_goes_on_in_its_own_steps():
    loop = ClosedLoop({"task": "cartpole", **SMALL}, trial=0)
    plan = loop.plan()
    loop.advance()
    found = commands(loop.controller, 0.0, 0.06)
    assert found == [
        (0.0, plan.controls[0, 0]),
        (0.02, plan.controls[1, 0]),
        (0.04, plan.controls[2, 0]),
    ]


def test_what_delays_cost_is_tabled_plotted_and_not_measured_twice(tmp_path, capsys):
    command = [
        "benchmark",
        "delay",
        "--task",
        "cartpole",
        "--delays",
        "30",
        "--seeds",
        "2",
        "--duration",
        "0.4",
        "--processes",
        "1",
    ]
    command += [
        "--set",
        "sim.mass_scale=1.1",
        "--output",
        str(tmp_path),
        "--json",
        str(tmp_path / "d.json"),
    ]
    assert main(command) == 0
    assert "closed loop with delays" in capsys.readouterr().out
    first, kept = (
        json.loads((tmp_path / "d.json").read_text()),
        (tmp_path / "delay.jsonl").read_text(),
    )
    assert first["complete"]
    rows = {(row["delayed"], row["delay"], row["compensated"]): row for row in first["rows"]}
    both = [(what, 0.03, how) for what in ("state", "command") for how in (True, False)]
    assert list(rows) == [("idle", 0.0, False), ("state", 0.0, True), *both]
    assert {row["trials"] for row in rows.values()} == {2}
    assert rows["state", 0.0, True]["velocity_error"] == 0.0
    assert (
        0.0
        < rows["state", 0.03, True]["velocity_error"]
        < 0.5 * rows["state", 0.03, False]["velocity_error"]
    )
    assert rows["state", 0.0, True]["kept_cost"] in (None, 1.0)
    assert (tmp_path / "delay.png").stat().st_size > 1000
    assert main(command) == 0
    assert (tmp_path / "delay.jsonl").read_text() == kept
    assert json.loads((tmp_path / "d.json").read_text()) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "sim.mass=2"], "unknown parameter 'mass'; did you mean 'mass_scale'?"),
        (["--delays", "600"], "state_delay: 0.6 is not between 0 and 0.5 s"),
        (
            ["--delays", "3"],
            "sim.state_delay 0.003 s is not a multiple of sim.model.timestep; change one of them",
        ),
    ],
    ids=["unknown parameter", "too long", "between two physics steps"],
)
def test_delays_that_cannot_be_measured_are_said_in_one_line(tmp_path, capsys, arguments, message):
    command = [
        "benchmark",
        "delay",
        "--task",
        "cartpole",
        "--seeds",
        "1",
        "--duration",
        "0.1",
        "--output",
        str(tmp_path),
    ]
    assert main([*command, "--processes", "1", *arguments]) == 1
    assert message in capsys.readouterr().err
