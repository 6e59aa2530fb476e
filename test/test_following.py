"""From plans to commands, without ROS; and through the messages that carry them, with it."""

import itertools

import numpy as np
import pytest
from rollouts import roll_out

from diffusion_mpc.command.command import Command, actuators, without_gains
from diffusion_mpc.command.decode import CommandRejectedError, decode
from diffusion_mpc.command.follower import Follower, needs_planned_states
from diffusion_mpc.config import (
    JointGains,
    OutputConfig,
    PlannerNodeConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Plan, PlannedStates, PlanStats, Reference, State

# One joint of each kind: driven by effort, position and velocity.
MODEL = """<mujoco><worldbody><body><joint name='a'/><geom size='.1'/>
<body pos='0 0 1'><joint name='b'/><geom size='.1'/>
<body pos='0 0 1'><joint name='c'/><geom size='.1'/></body></body></body></worldbody><actuator>
<motor name='m' joint='a' gear='50' ctrlrange='-1 1'/>
<position name='p' joint='b' kp='30' ctrlrange='-2 2'/>
<velocity name='v' joint='c' kv='30' ctrlrange='-3 3'/></actuator></mujoco>"""
LIMITS = (np.array([-1.0, -2.0, -3.0]), np.array([1.0, 2.0, 3.0]))
START, DT = 10.0, 0.1


@pytest.fixture(scope="module")
def actuated():
    import mujoco

    return actuators(mujoco.MjModel.from_xml_string(MODEL))


@pytest.fixture
def plan():
    stats = PlanStats("none", 0.0, 0.0, {}, 1.0, 0.1, 0.0, 0.0, 1)
    controls = np.array([[0.1, 0.4, 1.0], [0.2, 0.5, 1.1], [0.3, 0.6, 1.2]])
    rows = np.arange(4.0)[:, None]
    states = PlannedStates(qpos=rows * [1.0, 2.0, 3.0], qvel=10.0 + rows * [1.0, 2.0, 3.0])
    return Plan(
        START, START, DT, controls, controls, np.zeros((3, 3)), stats, planned_states=states
    )


def follower(actuated, gains=None, **settings):
    return Follower(actuated, *LIMITS, OutputConfig(**settings), gains or {})


def test_a_plan_is_followed_by_time(actuated, plan):
    ((seconds, command),) = follower(actuated).points(plan, START + 0.15, 0.02, np.zeros(3))
    assert seconds == 0.0
    np.testing.assert_allclose(command.control, [0.2, 0.5, 1.1])
    assert not command.kp.any()
    assert not command.kd.any()


def test_gains_act_on_efforts_round_the_planned_motion_in_the_middle_of_the_period(actuated, plan):
    ((_, command),) = follower(actuated, gains={"a": JointGains(p=20.0, d=2.0)}).points(
        plan, START + 0.15, 0.02, np.zeros(3)
    )
    np.testing.assert_allclose(command.kp, [20.0, 0.0, 0.0])
    np.testing.assert_allclose(command.kd, [2.0, 0.0, 0.0])
    # 0.16 s after the start, 1.6 control steps; a servo's target is its control
    np.testing.assert_allclose(command.position, [1.6, 0.5, 4.8])
    np.testing.assert_allclose(command.velocity, [11.6, 13.2, 1.1])
    applied = command.applied(actuated, np.array([1.5, 0.0, 0.0]), np.array([11.0, 0.0, 0.0]))
    np.testing.assert_allclose(applied, [0.2 + (20.0 * 0.1 + 2.0 * 0.6) / 50.0, 0.5, 1.1])


def test_a_trajectory_holds_the_rest_of_the_horizon(actuated, plan):
    points = follower(actuated, type="joint_trajectory").points(
        plan, START + 0.05, 0.02, np.zeros(3)
    )
    assert [seconds for seconds, _ in points] == pytest.approx([0.0, 0.05, 0.15, 0.25])
    np.testing.assert_allclose([c.control[0] for _, c in points], [0.1, 0.2, 0.3, 0.3])
    np.testing.assert_allclose([c.position[0] for _, c in points], [0.5, 1.0, 2.0, 3.0])
    np.testing.assert_allclose([c.velocity[0] for _, c in points], [10.5, 11.0, 12.0, 13.0])


def test_control_is_taken_over_from_holding_the_measured_position(actuated, plan):
    taking, measured = follower(actuated, blend_time=0.2), np.array([9.0, 1.5, 9.0])

    def sent(time, qpos):
        return taking.points(plan, time, 0.02, qpos)[0][1].control

    np.testing.assert_allclose(sent(START, measured), [0.0, 1.5, 0.0])
    np.testing.assert_allclose(sent(START + 0.1, np.zeros(3)), [0.1, 1.0, 0.55])
    np.testing.assert_allclose(sent(START + 0.2, np.zeros(3)), [0.3, 0.6, 1.2])
    taking.reset()
    np.testing.assert_allclose(sent(START + 0.2, measured), [0.0, 1.5, 0.0])


def test_gains_of_one_joint_change_live_and_those_of_servos_are_their_own(actuated, plan):
    given = follower(actuated, gains={"a": JointGains(p=5.0)})
    assert given.points(plan, START, 0.02, np.zeros(3))[0][1].kp.tolist() == [5.0, 0.0, 0.0]
    given.configure(OutputConfig(), {"a": JointGains(p=7.0, d=1.0), "b": JointGains(p=3.0)})
    ((_, command),) = given.points(plan, START, 0.02, np.zeros(3))
    assert (command.kp.tolist(), command.kd.tolist()) == ([7.0, 0.0, 0.0], [1.0, 0.0, 0.0])


def test_only_gains_and_trajectories_need_the_planned_motion():
    assert not needs_planned_states(OutputConfig(), {})
    assert not needs_planned_states(OutputConfig(), {"a": JointGains()})
    assert needs_planned_states(OutputConfig(), {"a": JointGains(), "b": JointGains(d=1.0)})
    assert needs_planned_states(OutputConfig(type="joint_trajectory"), {})


def test_the_planned_motion_is_where_the_controls_lead():
    _, values = load_parameters(
        PlannerNodeConfig, {"task": "cartpole", "backend.threads": 1, "gains.slider.p": 1.0}
    )
    config, task = build(PlannerNodeConfig, values), find_task("cartpole")()
    controller = Controller(task, config, cost_weights(values))
    data = task.initial_data(controller.backend.model)
    plan = controller.plan(State(5.0, data.qpos.copy(), data.qvel.copy()), Reference(), 5.0)
    import torch

    batch = roll_out(
        controller.backend,
        State(5.0, data.qpos, data.qvel),
        torch.as_tensor(plan.controls)[None].to(controller.backend.dtype),
        plan.control_dt,
    )
    np.testing.assert_allclose(plan.planned_states.qpos[0], data.qpos)
    np.testing.assert_allclose(plan.planned_states.qpos[1:], batch.qpos[0], atol=1e-5)
    np.testing.assert_allclose(plan.planned_states.qvel[1:], batch.qvel[0], atol=1e-4)


# Messages


@pytest.fixture
def messages():
    pytest.importorskip("diffusion_mpc.msg", reason="needs the built messages")
    from diffusion_mpc.ros.messages import joint_command as commands

    return commands


COMMAND = Command(
    np.array([0.2, 0.5, 1.1]),
    np.array([20.0, 0, 0]),
    np.array([2.0, 0, 0]),
    np.array([1.6, 0.5, 4.8]),
    np.array([9.0, 8.0, 1.1]),
)


def output(kind="joint_trajectory", velocities=True, effort=True):
    return OutputConfig(type=kind, trajectory_velocities=velocities, trajectory_effort=effort)


@pytest.mark.ros
@pytest.mark.parametrize("kind", ["joint_command", "float64_multi_array", "joint_trajectory"])
def test_what_is_encoded_is_decoded(messages, actuated, kind):
    ((seconds, command),) = decode(
        messages.encode(output(kind), [(0.0, COMMAND)], actuated, 7.5, 7.4), actuated
    )
    assert seconds == 0.0
    np.testing.assert_allclose(command.control, COMMAND.control)
    if kind == "joint_command":
        for name in ("kp", "kd", "position", "velocity"):
            np.testing.assert_allclose(getattr(command, name), getattr(COMMAND, name))


@pytest.mark.ros
def test_a_trajectory_has_names_times_and_si_units_and_joints_may_come_in_any_order(
    messages, actuated, plan
):
    points = follower(actuated, type="joint_trajectory").points(plan, START, 0.02, np.zeros(3))
    message = messages.encode(output(), points, actuated, START, START)
    assert message.joint_names == ["a", "b", "c"]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (10, 0)
    assert [p.time_from_start.nanosec for p in message.points] == [
        0,
        100_000_000,
        200_000_000,
        300_000_000,
    ]
    np.testing.assert_allclose(message.points[1].effort, [0.2 * 50.0, 0.0, 0.0])
    np.testing.assert_allclose(message.points[1].positions, [1.0, 0.5, 3.0])
    np.testing.assert_allclose(message.points[1].velocities, [11.0, 12.0, 1.1])
    order = [2, 0, 1]
    message.joint_names = [message.joint_names[i] for i in order]
    for point in message.points:
        for field in ("positions", "velocities", "effort"):
            setattr(point, field, [getattr(point, field)[i] for i in order])
    for (seconds, command), (expected, sent) in zip(decode(message, actuated), points, strict=True):
        assert seconds == pytest.approx(expected)
        np.testing.assert_allclose(command.control, sent.control)


def refusal(message, now, effort_interface=False, nonzero_end=False, releases_before_4_22=False):
    """Why joint_trajectory_controller refuses a message.

    As its `validate_trajectory_msg` at its defaults, in the releases for Humble (2.54) to Kilted
    (5.17).
    """
    last = message.points[-1]
    stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
    times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
    count = len(message.joint_names)
    reasons = {
        "velocity at the end": not nonzero_end and any(last.velocities),
        "ends in the past": stamp > 0.0 and stamp + times[-1] < now,
        "order": any(b <= a for a, b in itertools.pairwise(times)),
        "length": any(
            len(p.positions) != count or len(p.velocities) not in (0, count) for p in message.points
        ),
        "effort": any(len(p.effort) for p in message.points)
        and (releases_before_4_22 or not effort_interface),
    }
    return [reason for reason, holds in reasons.items() if holds]


@pytest.mark.ros
def test_a_trajectory_is_one_that_the_released_controllers_accept(messages, actuated, plan):
    points = follower(actuated, type="joint_trajectory").points(plan, START, 0.02, np.zeros(3))

    def sent(**fields):
        return messages.encode(output(**fields), points, actuated, START, START)

    defaults = messages.encode(OutputConfig(type="joint_trajectory"), points, actuated, START, 1.0)
    assert refusal(defaults, START, releases_before_4_22=True) == []
    np.testing.assert_allclose(defaults.points[1].positions, [1.0, 0.5, 3.0])
    with_velocities = sent(effort=False)
    assert refusal(with_velocities, START) == ["velocity at the end"]
    assert refusal(with_velocities, START, nonzero_end=True) == []
    with_effort = sent(velocities=False)
    assert refusal(with_effort, START) == ["effort"]
    assert refusal(with_effort, START, effort_interface=True) == []
    safe = messages.encode(OutputConfig(type="joint_trajectory"), points[:1], actuated, START, None)
    assert refusal(safe, START + 1.0, releases_before_4_22=True) == []


@pytest.mark.ros
def test_a_simulated_robot_says_which_parameter_brings_the_efforts_that_it_needs(
    messages, actuated, plan
):
    points = follower(actuated, type="joint_trajectory").points(plan, START, 0.02, np.zeros(3))
    with pytest.raises(CommandRejectedError) as caught:
        decode(messages.encode(output(effort=False), points, actuated, START, START), actuated)
    assert str(caught.value) == (
        "joint_command: no values of effort; a planner sends them in a trajectory where "
        "output.trajectory_effort is true"
    )


@pytest.mark.ros
def test_a_safe_trajectory_has_no_stamp_and_applies_at_once(messages, actuated):
    message = messages.encode(output(), [(0.0, without_gains(np.zeros(3)))], actuated, 7.5, None)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)


@pytest.mark.ros
def test_bad_trajectories_are_rejected_with_a_reason(messages, actuated, plan):
    points = follower(actuated, type="joint_trajectory").points(plan, START, 0.02, np.zeros(3))

    def spoilt(spoil):
        message = messages.encode(output(), points, actuated, START, START)
        spoil(message)
        with pytest.raises(CommandRejectedError) as caught:
            decode(message, actuated)
        return str(caught.value)

    assert spoilt(lambda m: m.points.clear()) == "joint_command: a trajectory without points"
    assert spoilt(lambda m: m.points.reverse()).endswith("not in the order of time")
    assert (
        spoilt(lambda m: setattr(m, "joint_names", ["a", "b", "d"]))
        == "joint_command: joint 'c' is missing"
    )
    assert (
        spoilt(lambda m: setattr(m.points[1], "effort", [1.0]))
        == "joint_command: 1 values of effort for 3 names"
    )
    assert (
        spoilt(lambda m: setattr(m.points[1], "effort", [np.nan, 0, 0]))
        == "joint_command: NaN or infinite value"
    )
