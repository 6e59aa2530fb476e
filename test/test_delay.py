"""Compensation of delays: plans begin where the robot will be, and commands are those meant for when they are obeyed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_mpc.benchmark.closed_loop import ClosedLoop, run_episode
from diffusion_mpc.commands import held

SMALL = {"backend.threads": 1, "planner.num_samples": 8}
PERIOD = 0.02


def episode(task, state_delay=0.0, command_delay=0.0, duration=0.4, **more):
    delays = {"sim.state_delay": state_delay, "sim.command_delay": command_delay, "prediction.command_delay": command_delay}
    return run_episode({"task": task, **SMALL, **delays, **more}, trial=1, duration=duration)


@settings(max_examples=12, deadline=None)
@given(state_delay=st.integers(0, 4), command_delay=st.integers(0, 16))
def test_with_its_delays_known_the_robot_is_where_its_plans_begin(state_delay, command_delay):
    delayed = episode("cartpole", state_delay * PERIOD, command_delay * 0.005, duration=0.6)
    errors = delayed.prediction_error
    # A plan begins at one of the states only where the delay is a whole number of periods.
    expected = 30 - state_delay - command_delay // 4 if command_delay % 4 == 0 else 0
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

    fine, coarse, none = error(), error(**{"prediction.timestep": 0.02}), error(**{"prediction.enabled": False})
    assert fine < 0.01 * coarse
    assert coarse < none


def test_a_delayed_robot_gets_the_commands_of_one_that_is_not_delayed():
    # Until the first command is obeyed nothing drives the robot; then all that differs is the time by which the plans look ahead.
    first = episode("cartpole", command_delay=0.04, duration=0.1).controls[:, 0]
    assert (first[:2] == 0.0).all()
    assert (first[2:] != 0.0).all()


def test_a_plan_is_followed_from_the_time_at_which_it_is_obeyed():
    loop = ClosedLoop({"task": "cartpole", **SMALL, "sim.command_delay": 0.04, "prediction.command_delay": 0.04}, trial=0)
    plan = loop.plan()
    assert plan.start_time == pytest.approx(0.04)
    np.testing.assert_array_equal(loop.advance(), 0.0)
    loop.advance()
    np.testing.assert_array_equal(loop.advance(), plan.controls[0])


def commands(controller, begin, end):
    return [(round(time, 6), float(law(None, None)[0])) for time, law in controller.commands(begin, end)]


def test_what_was_sent_comes_before_what_is_planned_and_nothing_before_both():
    controller = ClosedLoop({"task": "cartpole", **SMALL}, trial=0).controller
    assert commands(controller, 0.0, 0.1) == [(0.0, 0.0)]
    controller.sent(0.03, held(np.array([1.0])))
    controller.sent(0.05, held(np.array([2.0])))
    assert commands(controller, 0.0, 0.1) == [(0.0, 0.0), (0.03, 1.0), (0.05, 2.0)]
    assert commands(controller, 0.0301, 0.045) == [(0.0301, 1.0)]
    assert commands(controller, 0.06, 0.1) == [(0.06, 2.0)]


def test_beyond_what_was_sent_the_plan_goes_on_in_its_own_steps():
    loop = ClosedLoop({"task": "cartpole", **SMALL}, trial=0)
    plan = loop.plan()
    loop.advance()
    found = commands(loop.controller, 0.0, 0.06)
    assert found == [(0.0, plan.controls[0, 0]), (0.02, plan.controls[1, 0]), (0.04, plan.controls[2, 0])]
