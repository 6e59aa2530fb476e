"""Sessions without ROS: states in, commands out, in lockstep and in real time."""

import math
import threading
import time

import numpy as np
import pytest

from diffusion_mpc.config import PlannerNodeConfig, load_parameters
from diffusion_mpc.runtime.health import Level
from diffusion_mpc.runtime.lockstep import LockstepSession
from diffusion_mpc.runtime.pace import Pace
from diffusion_mpc.runtime.real_time import RealTimeSession

SIZES = {
    "task": "cartpole",
    "planner.num_samples": 8,
    "planner.horizon_steps": 10,
    "planner.num_knots": 3,
    "policy.checkpoint": "",
    "backend.threads": 1,
}
PATIENT = {"state_timeout": 5.0, "max_plan_age": 5.0}
JOINTS = ["slider", "pole"]


class Recorder:
    """An `Output` that keeps what it is given."""

    def __init__(self):
        self.commands, self.plans, self.texts = [], [], []
        self.listening = True
        self.changed = threading.Condition()

    def send_command(self, points, stamp, state_stamp):
        with self.changed:
            self.commands.append((time.monotonic(), points, stamp, state_stamp))
            self.changed.notify_all()

    def send_plan(self, plan, timing):
        with self.changed:
            self.plans.append((plan, timing))
            self.changed.notify_all()

    def is_heard(self):
        return self.listening

    def other_commanders(self):
        return []

    def all_listen(self):
        return self.listening

    def health_changed(self):
        pass

    def warn(self, text):
        self.texts.append(text)

    inform = error = warn

    def wait(self, condition, what, timeout=20.0):
        with self.changed:
            assert self.changed.wait_for(condition, timeout), f"no {what} within {timeout} s"

    def wait_for_control(self):
        """Until a command of a plan goes out.

        The first ones, before there is a plan, are safe commands.
        """
        count = len(self.commands)
        self.wait(
            lambda: len(self.commands) > count and self.commands[-1][3] is not None,
            "command of a plan",
        )


@pytest.fixture
def begin():
    """Starts sessions; returns each with its output."""
    made = []

    def start(kind, **settings):
        given = {**SIZES, **{name.replace("__", "."): value for name, value in settings.items()}}
        output = Recorder()
        session = kind(load_parameters(PlannerNodeConfig, given)[1], output, time.monotonic)
        made.append(session)
        session.start()
        return session, output

    yield start
    for session in made:
        session.stop()
        session.close()


def measure(session, stamp, position=0.0):
    """The message of a state."""
    session.on_state(
        "joint_states",
        stamp,
        lambda: session.estimator.update_joints(stamp, JOINTS, [position, np.pi], [0.0, 0.0]),
    )


class Measuring:
    """States at 100 Hz until the block ends."""

    def __init__(self, session):
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(session,))

    def run(self, session):
        while not self.stopping.wait(0.01):
            measure(session, time.monotonic())

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        self.stopping.set()
        self.thread.join()


# In lockstep


def test_in_lockstep_every_state_is_answered_once_by_a_command_due_after_the_lead(begin):
    session, output = begin(LockstepSession, lockstep_lead=0.02)
    for number in range(3):
        measure(session, 5.0 + 0.02 * number)
        output.wait(lambda number=number: len(output.commands) == number + 1, "answer")
    # However long a plan takes, it is not late.
    assert {(timing.allowed, timing.missed) for _, timing in output.plans} == {(math.inf, False)}
    assert [(round(stamp, 9), round(state, 9)) for _, _, stamp, state in output.commands] == [
        (5.02, 5.0),
        (5.04, 5.02),
        (5.06, 5.04),
    ]
    assert [timing.missed for _, timing in output.plans] == [False] * 3
    assert session.report()[:2] == (Level.OK, "following the plan")


def test_a_robot_that_lies_on_its_back_is_not_reported_as_fine(begin):
    # A number on the screen that hides a failure is wrong: plans come on time all the while.
    session, output = begin(LockstepSession, task="hopper")
    joints = ["root_x", "root_z", "root_pitch", "hip", "knee", "ankle"]

    def measure_hopper(stamp, pitch):
        angles = [0.0, 1.25, pitch, 0.0, 0.0, 0.0]
        session.on_state(
            "joint_states",
            stamp,
            lambda: session.estimator.update_joints(stamp, joints, angles, [0.0] * 6),
        )
        output.wait(lambda: output.plans and output.plans[-1][0].stamp == stamp, "plan")

    measure_hopper(5.0, pitch=0.0)
    assert session.report()[:2] == (Level.OK, "following the plan")
    measure_hopper(5.02, pitch=2.0)
    level, text, _ = session.report()
    assert level == Level.WARN
    assert text == "the robot has fallen, or failed otherwise"
    measure_hopper(5.04, pitch=0.0)
    assert session.report()[0] == Level.OK


def test_in_lockstep_a_state_that_comes_again_gets_the_same_answer_and_no_new_plan(begin):
    session, output = begin(LockstepSession)
    for number in range(2):
        measure(session, 5.0)
        output.wait(lambda number=number: len(output.commands) == number + 1, "answer")
    (_, first, *_), (_, second, *_) = output.commands
    np.testing.assert_array_equal(first[0][1].control, second[0][1].control)
    assert len(output.plans) == 1


def test_in_lockstep_nobody_is_answered_before_all_listen(begin):
    session, output = begin(LockstepSession)
    output.listening = False
    measure(session, 5.0)
    time.sleep(0.3)
    assert not output.commands
    output.listening = True
    measure(session, 5.0)
    output.wait(lambda: output.commands, "answer")


def test_in_lockstep_the_same_states_give_the_same_commands(begin):
    found = []
    for _ in range(2):
        session, output = begin(LockstepSession)
        for number in range(5):
            measure(session, 0.02 * number, position=0.01 * number)
            output.wait(
                lambda number=number, output=output: len(output.commands) == number + 1, "answer"
            )
        found.append(np.array([points[0][1].control for _, points, *_ in output.commands]))
    np.testing.assert_array_equal(*found)


# In real time


def test_where_states_stop_the_safe_command_goes_out_and_control_returns_with_them(begin):
    session, output = begin(RealTimeSession, state_timeout=0.5, max_plan_age=5.0)
    with Measuring(session):
        output.wait_for_control()
    output.wait(lambda: output.commands[-1][3] is None, "safe command")
    level, text, _ = session.report()
    assert level == Level.ERROR
    assert "more than state_timeout of 500 ms" in text
    with Measuring(session):
        output.wait_for_control()


def test_a_planner_that_raises_is_an_error_with_its_text_and_control_returns(begin):
    session, output = begin(RealTimeSession, **PATIENT)
    with Measuring(session):
        output.wait_for_control()
        working = session.controller.planner.plan

        def broken(*arguments, **named):
            raise RuntimeError("device lost")

        session.controller.planner.plan = broken
        output.wait(lambda: output.commands[-1][3] is None, "safe command")
        assert session.report()[1].startswith(
            "safe command: planner raised RuntimeError: device lost; next try in"
        )
        session.controller.planner.plan = working
        output.wait_for_control()
    assert any(text.startswith("planner raised RuntimeError: device lost") for text in output.texts)


def test_a_stamp_that_jumps_back_forgets_the_plan(begin):
    session, output = begin(RealTimeSession, **PATIENT)
    with Measuring(session):
        output.wait(lambda: len(output.commands) > 5, "commands")
    measure(session, time.monotonic() - 1.0)
    output.wait(lambda: output.commands[-1][3] is None, "safe command")
    assert "the state's stamp jumped back; the plan is forgotten" in output.texts


def test_a_state_from_the_future_is_rejected_with_the_reason(begin):
    session, output = begin(RealTimeSession)
    measure(session, time.monotonic() + 3600.0)
    assert session.health.rejected == 1
    assert "s ahead of this node's clock; synchronise them, or set use_sim_time" in output.texts[-1]
    assert session.report()[0] == Level.WARN


def test_stopping_sends_the_safe_command_once_and_nothing_after_it(begin):
    session, output = begin(RealTimeSession, **PATIENT)
    with Measuring(session):
        output.wait(lambda: len(output.commands) > 5, "commands")
        assert session.stop()
    assert [state for *_, state in output.commands].count(None) == 1
    assert output.commands[-1][3] is None
    assert not session.stop()


# Replacing the controller


def test_a_replaced_controller_goes_on_from_the_plan_of_the_previous_one(begin):
    session, output = begin(RealTimeSession, **PATIENT)
    other = {"planner.num_samples": 16, "planner.horizon_steps": 20, "planner.num_knots": 6}
    with Measuring(session):
        output.wait(lambda: len(output.plans) > 5, "plans")
        previous = session.controller
        session.configure(load_parameters(PlannerNodeConfig, {**SIZES, **PATIENT, **other})[1])
        output.wait(lambda: len(output.plans[-1][0].controls) == 20, "plan of the new one")
    assert session.controller is not previous
    assert {plan.stats.warm_start for plan, _ in output.plans[1:]} == {"plan"}
    assert None not in [state for *_, state in output.commands]


def test_of_two_replacements_the_last_one_stays(begin):
    session, _ = begin(RealTimeSession, **PATIENT)
    for samples in (10, 12, 14):
        session.configure(
            load_parameters(
                PlannerNodeConfig, {**SIZES, **PATIENT, "planner.num_samples": samples}
            )[1]
        )
    deadline = time.monotonic() + 20.0
    while session.controller.config.planner.num_samples != 14 and time.monotonic() < deadline:
        time.sleep(0.01)
    session.close()
    assert session.controller.config.planner.num_samples == 14


def test_parameters_that_do_not_fit_change_nothing(begin):
    session, _ = begin(RealTimeSession)
    before, config = session.controller, session.config
    with pytest.raises(ValueError, match=r"planner\.num_knots is 50"):
        session.configure(load_parameters(PlannerNodeConfig, {**SIZES, "planner.num_knots": 50})[1])
    assert session.controller is before
    assert session.config is config


# Pace


def paced(plans_per_s, states_per_s, missed=False, iterations=4, seconds=20.0):
    """Figures after so many seconds of plans and states."""
    pace, times = Pace(), []
    times += [(i / plans_per_s, "plan") for i in range(int(seconds * plans_per_s))]
    times += [(i / states_per_s, "state") for i in range(int(seconds * states_per_s))]
    for now, kind in sorted(times):
        if kind == "plan":
            pace.plan(now, missed, iterations)
        else:
            pace.state(now)
    return pace.figures(seconds)


ADVICE = "; lower planner.num_samples, planner.horizon_steps, planner.iterations or planner.rate"


def test_plans_that_keep_up_with_the_rate_or_with_the_states_are_well():
    assert paced(50.0, 50.0).too_slow(50.0, 4) == ""
    assert paced(50.0, 50.0).slow_states(50.0) == ""
    # A camera's rate: every state is planned from.
    assert paced(20.0, 20.0).too_slow(50.0, 4) == ""
    assert paced(20.0, 20.0).slow_states(50.0) == "20 states a second, planner.rate is 50 Hz"


@pytest.mark.parametrize(
    ("figures", "short"),
    [
        ({"plans_per_s": 10.0, "states_per_s": 50.0}, "10 of 50 plans a second"),
        (
            {"plans_per_s": 50.0, "states_per_s": 50.0, "missed": True},
            "250 of 250 plans late",
        ),
        ({"plans_per_s": 50.0, "states_per_s": 200.0, "iterations": 1}, "1 of 4 denoising steps"),
    ],
)
def test_what_falls_short_is_told_with_the_figures_and_what_to_change(figures, short):
    assert paced(**figures).too_slow(50.0, 4) == f"too slow: {short}{ADVICE}"


def test_the_first_seconds_are_not_judged():
    assert paced(10.0, 50.0, missed=True, seconds=4.0) is None
