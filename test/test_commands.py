"""Commands: limits, safe commands, timing and the watchdog, without ROS."""

import math
import time

import numpy as np
import pytest

from diffusion_mpc.command.command import (
    Actuator,
    CommandLimiter,
    actuators,
    safe_command,
    without_gains,
)
from diffusion_mpc.command.follower import Follower
from diffusion_mpc.command.watchdog import Timeouts, Watchdog
from diffusion_mpc.config import OutputConfig
from diffusion_mpc.runtime.loops import CommandLoop, Lead, Mailbox, Pacer
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import State

LIMITS = Timeouts(state=0.1, plan=0.3)


ARM = """<mujoco><worldbody><body><joint name='shoulder'/><geom size='.1'/>
<body pos='0 0 1'><joint name='elbow'/><geom size='.1'/>
</body></body></worldbody><actuator><motor name='m' joint='shoulder' gear='50' ctrlrange='-1 1'/>
<position name='p' joint='elbow' kp='30' ctrlrange='-2 2'/></actuator></mujoco>"""


@pytest.fixture
def arm():
    import mujoco

    return actuators(mujoco.MjModel.from_xml_string(ARM))


def test_motors_take_efforts_and_servos_positions(arm):
    assert [(a.joint, a.field, a.scale) for a in arm] == [
        ("shoulder", "effort", 50.0),
        ("elbow", "position", 1.0),
    ]


def limited(limiter, controls, times, rate_limit):
    return [
        float(u[0])
        for u in limiter.limit([np.array([u]) for u in controls], np.array(times), rate_limit)
    ]


def test_commands_are_kept_within_the_control_range_and_counted():
    limiter = CommandLimiter(np.array([-1.0]), np.array([1.0]))
    assert limited(limiter, [0.5], [0.0], rate_limit=0.0) == [0.5]
    assert limited(limiter, [3.0], [0.02], rate_limit=0.0) == [1.0]
    assert limiter.clamped == 1


def test_the_safe_command_of_a_servo_is_within_its_range():
    servo = [Actuator("servo", "hinge", "position", 1.0, qpos=0, qvel=0)]
    follower = Follower(servo, np.array([-1.0]), np.array([1.0]), OutputConfig(), {})
    # Pushed beyond what it may be commanded to.
    assert follower.safe("hold", np.array([1.3]), 20.0, 2.0).control.tolist() == [1.0]
    assert follower.safe("hold", np.array([0.3]), 20.0, 2.0).control.tolist() == [0.3]


def test_the_watchdog_tells_how_long_control_will_last():
    watchdog = Watchdog()
    assert watchdog.remaining(5.0, LIMITS) == math.inf
    watchdog.state_arrived(5.0, age=0.02, timeouts=LIMITS)
    assert watchdog.remaining(5.01, LIMITS) == pytest.approx(0.07, abs=1e-3)
    watchdog.plan_arrived(5.01, until_start=-0.25)
    assert watchdog.remaining(5.01, LIMITS) == pytest.approx(0.05, abs=1e-3)
    assert watchdog.lost(5.01 + watchdog.remaining(5.01, LIMITS), LIMITS)
    watchdog.plan_failed("device lost")
    assert watchdog.remaining(5.01, LIMITS) == 0.0


def test_commands_change_no_faster_than_the_rate_limit():
    limiter = CommandLimiter(np.array([-1.0]), np.array([1.0]))
    # 5 control ranges of 2 per second, for 20 ms
    assert limited(limiter, [0.0, 1.0, 1.0], [0.0, 0.02, 0.04], rate_limit=5.0) == pytest.approx(
        [0.0, 0.2, 0.4]
    )
    # only the first of them was sent
    assert limited(limiter, [1.0], [0.02], rate_limit=5.0) == pytest.approx([0.2])
    limiter.reset()
    assert limited(limiter, [1.0], [0.04], rate_limit=5.0) == [1.0]


def test_safe_commands_by_hand(arm):
    qpos, qvel = np.array([0.4, -0.3]), np.array([2.0, 1.0])
    zero = safe_command("zero", arm, qpos, kp=20.0, kd=2.0)
    np.testing.assert_array_equal(zero.control, [0.0, -0.3])  # the servo stays where it is
    np.testing.assert_array_equal(zero.applied(arm, qpos, qvel), [0.0, -0.3])
    damping = safe_command("damping", arm, qpos, kp=20.0, kd=2.0)
    np.testing.assert_allclose(damping.applied(arm, qpos, qvel), [-2.0 * 2.0 / 50.0, -0.3])
    hold = safe_command("hold", arm, qpos, kp=20.0, kd=2.0)
    moved = qpos + np.array([0.1, 0.0])
    np.testing.assert_allclose(
        hold.applied(arm, moved, qvel), [(-20.0 * 0.1 - 2.0 * 2.0) / 50.0, -0.3]
    )


@pytest.mark.parametrize("kind", ["zero", "damping", "hold"])
def test_the_safe_command_of_a_velocity_servo_is_standstill(kind):
    driven = actuators(find_task("arm")().model)
    assert {a.field for a in driven} == {"velocity"}
    command = safe_command(kind, driven, np.linspace(-1.0, 1.0, 6), kp=20.0, kd=2.0)
    np.testing.assert_array_equal(command.control, np.zeros(6))
    # Gains of the planner's on top would fight the servo's own.
    np.testing.assert_array_equal([command.kp, command.kd], np.zeros((2, 6)))


def test_a_plain_command_is_applied_as_it_is(arm):
    np.testing.assert_array_equal(
        without_gains(np.array([0.5, 1.0])).applied(arm, np.ones(2), np.ones(2)), [0.5, 1.0]
    )


def test_the_actuators_of_our_robots_are_commanded_by_effort():
    for name in ("ant", "cartpole"):
        assert {a.field for a in actuators(find_task(name)().model)} == {"effort"}


# Watchdog


def test_nothing_is_lost_before_the_first_state():
    assert Watchdog().lost(1e6, LIMITS) == ""


def test_a_state_is_lost_when_it_is_older_than_its_timeout():
    watchdog = Watchdog()
    watchdog.state_arrived(steady=10.0, age=0.03, timeouts=LIMITS)
    assert watchdog.lost(10.069, LIMITS) == ""
    assert watchdog.lost(10.071, LIMITS) == "state is 101 ms old, more than state_timeout of 100 ms"
    watchdog.state_arrived(steady=10.08, age=0.0, timeouts=LIMITS)
    assert watchdog.lost(10.09, LIMITS) == ""


@pytest.mark.parametrize("topic", ["state", "objects/cube"])
def test_after_a_loss_control_returns_only_once_measurements_have_been_fresh_for_a_while(topic):
    watchdog = Watchdog()
    limits = Timeouts(state=0.1, plan=0.3, object=0.1, recovery=0.2)
    watchdog.state_arrived(0.0, 0.0, limits)

    def lost(steady, age):
        watchdog.state_arrived(steady, age if topic == "state" else 0.0, limits)
        watchdog.object_arrived("objects/cube", steady, 0.0 if topic == "state" else age, limits)
        return watchdog.lost(steady, limits)

    # Ages that waver about the timeout: one loss, that lasts.
    assert not lost(0.0, 0.09)
    assert lost(0.02, 0.11).startswith(f"{topic} is 110 ms old, more than ")
    for i in range(1, 10):
        assert lost(0.02 + 0.04 * i, 0.07)
        assert lost(0.04 + 0.04 * i, 0.11)
    assert lost(0.42, 0.07) == f"{topic} was too old; it has to be fresh for 200 ms more"
    assert watchdog.remaining(0.42, limits) == 0.0
    for i in range(9):
        assert lost(0.44 + 0.02 * i, 0.07)
    assert not lost(0.63, 0.07)
    # A silence is a loss, too.
    assert lost(0.75, 0.0)
    assert lost(0.85, 0.0)
    assert lost(0.94, 0.0)
    assert not lost(0.96, 0.0)


def test_what_came_too_old_is_named():
    watchdog = Watchdog()
    watchdog.state_arrived(10.0, 0.105, LIMITS, oldest="odom")
    assert watchdog.lost(10.0, LIMITS) == "odom is 105 ms old, more than state_timeout of 100 ms"


def test_a_plan_is_lost_when_it_is_too_far_past_its_start():
    watchdog = Watchdog()
    watchdog.plan_arrived(steady=10.0, until_start=0.02)
    watchdog.state_arrived(steady=10.4, age=0.0, timeouts=LIMITS)
    assert watchdog.lost(10.31, LIMITS) == ""
    assert "more than max_plan_age" in watchdog.lost(10.33, LIMITS)


def test_a_fault_stands_until_a_plan_arrives():
    watchdog = Watchdog()
    watchdog.state_arrived(10.0, 0.0, timeouts=LIMITS)
    watchdog.plan_failed("device lost")
    assert watchdog.lost(10.01, LIMITS) == "device lost"
    watchdog.plan_arrived(10.02, 0.0)
    assert watchdog.lost(10.03, LIMITS) == ""


# Timing of plans


def test_the_grid_is_even_although_arrivals_jitter():
    pacer, jitter = Pacer(0.02), np.random.default_rng(0).uniform(-0.002, 0.002, 500)
    begins = np.array([pacer.next(0.02 * i + j, 0.02 * i + j) for i, j in enumerate(jitter)])
    steps = np.diff(begins)
    assert abs(steps - 0.02).max() <= 0.0002 + 1e-12
    assert abs(begins[-1] - 0.02 * 499) < 0.002


def test_the_grid_follows_a_lasting_shift_of_the_arrivals():
    pacer = Pacer(0.02)
    for i in range(300):
        shift = 0.0 if i < 100 else 0.005
        begin = pacer.next(0.02 * i + shift, 0.02 * i + shift)
    assert begin == pytest.approx(0.02 * 299 + 0.005, abs=2e-4)


def test_a_late_state_leaves_out_one_beat_and_the_next_is_on_time_again():
    pacer = Pacer(0.02)
    pacer.next(0.0, 0.0)
    assert pacer.next(0.02, 0.035) == pytest.approx(
        0.04
    )  # 15 of 20 ms are gone: planned for one beat later
    assert pacer.oldest(0.04) == pytest.approx(
        0.05
    )  # the state of 0.04 belonged to the beat left out
    assert pacer.next(0.06, 0.06) == pytest.approx(0.06, abs=1e-9)


def test_the_grid_begins_anew_when_time_jumps():
    pacer = Pacer(0.02)
    pacer.next(1000.0, 1000.0)
    assert pacer.oldest(1.0) == -math.inf
    assert pacer.next(1.0, 1.0) == 1.0


def test_a_plan_leads_its_command_by_the_time_that_plans_take():
    lead = Lead(0.02)
    assert lead.next(0.0) == 0.02  # nothing is known yet
    for _ in range(400):
        lead.note(0.012)
    assert lead.next(0.0) == pytest.approx(0.013)  # and a twentieth of a period to spare
    assert lead.next(0.018) == 0.018
    assert lead.next(0.5) == 0.02


def test_the_lead_grows_at_once_and_shrinks_slowly_and_what_no_lead_could_save_does_not_count():
    lead = Lead(0.02)
    for _ in range(400):
        lead.note(0.01)
    lead.note(0.021)
    assert lead.next(0.0) == pytest.approx(0.011)
    lead.note(0.017)
    assert lead.next(0.0) == pytest.approx(0.018)
    for _ in range(1999):
        lead.note(0.01)
    assert lead.next(0.0) == pytest.approx(0.018)
    lead.note(0.01)
    assert lead.next(0.0) == pytest.approx(0.0178)
    for _ in range(100):
        lead.note(0.01)
    assert lead.next(0.0) == pytest.approx(0.011)
    before = Lead(0.02)
    before.note(0.01)
    assert before.next(0.0) == pytest.approx(0.0198)


def test_the_mailbox_holds_only_the_newest_state():
    mailbox = Mailbox()
    assert mailbox.get(0, -math.inf, timeout=0.0) is None
    for i in range(3):
        mailbox.put(State(float(i), np.zeros(1), np.zeros(1)), time=float(i))
    newest = mailbox.get(0, -math.inf, timeout=0.0)
    assert newest.state.stamp == 2.0
    assert mailbox.get(newest.number, -math.inf, timeout=0.0) is None
    assert mailbox.get(0, after=2.0, timeout=0.0) is None


def test_control_that_is_lost_while_a_command_is_sent_is_answered_at_once():
    left, sent = [1.0], []

    def send(due):
        sent.append(time.monotonic())
        left[0] = 0.0  # too late for this command to notice

    loop = CommandLoop(send, lambda: None, lambda: left[0], time.monotonic, period=0.2)
    for _ in range(3):
        loop.turn()
    first, safe, next_safe = sent
    assert safe - first < 0.1
    assert next_safe - safe > 0.1  # from then on in their own time
