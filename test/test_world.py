"""Robots and surroundings beyond joints and motors: each runs, or one line says why it does not."""

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from worlds import REFUSED, WORLDS, write_world

from diffusion_mpc.bags.recorded_states import read_states
from diffusion_mpc.cli import main
from diffusion_mpc.command.command import (
    actuators,
    constant_control,
    safe_command,
    without_gains,
)
from diffusion_mpc.command.decode import decode
from diffusion_mpc.command.follower import require_carried
from diffusion_mpc.config import ObjectsConfig, OutputConfig, PlannerNodeConfig, load_parameters
from diffusion_mpc.estimation.actuator_states import ActuatorStates
from diffusion_mpc.estimation.checks import MessageRejectedError
from diffusion_mpc.estimation.delays import ControlRecord, HistoryBuffer
from diffusion_mpc.estimation.estimator import Estimator
from diffusion_mpc.evaluation.recorded_run import read_run
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.runtime.real_time import RealTimeSession
from diffusion_mpc.simulation.closed_loop import ClosedLoop, run_episode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import State, StateTensors

REMEMBERING = [
    "filter",
    "filterexact",
    "filtered servo",
    "integrator",
    "intvelocity",
    "muscle on a tendon",
    "delayed filter",
]
# The plant's own steps, so that estimate and prediction can be exact.
EXACT = {
    "sim.model.timestep": 0.005,
    "prediction.timestep": 0.005,
    "model.integrator": "implicitfast",
}


def load(file):
    return find_task(str(file))()


@pytest.mark.parametrize("kind", WORLDS)
def test_it_runs_in_closed_loop(tmp_path, kind):
    file = write_world(tmp_path, kind)
    episode = run_episode({"task": str(file)}, trial=0, duration=0.4)
    assert episode.plans == 20
    assert np.isfinite(episode.qpos).all()
    assert np.isfinite(episode.mean_cost)
    # Something was commanded, and something moves.
    assert np.ptp(episode.controls, axis=0).max() > 0.0
    assert np.ptp(episode.qpos, axis=0).max() > 1e-3


def start_session(file):
    _, values = load_parameters(PlannerNodeConfig, {"task": str(file)})
    output = Silent()
    return RealTimeSession(values, output, lambda: 0.0), output


@pytest.mark.parametrize("kind", REFUSED)
def test_one_line_says_what_is_not_supported(tmp_path, kind):
    xml, line = REFUSED[kind]
    file = write_world(tmp_path, kind, xml)
    with pytest.raises(TaskError) as caught:
        start_session(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(line)


class Silent:
    """Where plans and commands of a session go that is not started."""

    def __init__(self):
        self.told = []

    def inform(self, text):
        self.told.append(text)

    warn = error = inform


# What actuators remember


@pytest.mark.parametrize("kind", REMEMBERING)
def test_after_some_commands_the_estimated_activations_are_the_true_ones(tmp_path, kind):
    file = write_world(tmp_path, kind)
    loop = ClosedLoop({"task": str(file), **EXACT}, trial=0)
    estimated, true = [], []
    for _ in range(25):
        loop.plan()
        true.append(loop.state().act)
        estimated.append(loop.controller.actuator_states.estimate(loop.newest, None).act)
        loop.advance()
    assert np.ptp(true, axis=0).min() > 1e-3
    np.testing.assert_allclose(estimated, true, atol=1e-6)


def test_what_the_measured_state_says_of_activations_is_not_asked(tmp_path):
    file = write_world(tmp_path, "filter")
    loop = ClosedLoop({"task": str(file), **EXACT}, trial=0)
    for _ in range(5):
        loop.plan()
        loop.advance()
    blind = replace(loop.state(), act=np.zeros(0))
    found = loop.controller.actuator_states.estimate(blind, loop.controller.commands)
    np.testing.assert_allclose(found.act, loop.state().act, atol=1e-6)
    assert abs(found.act[0]) > 1e-3


@pytest.mark.parametrize("kind", ["delay", "delayed filter", "filter", "muscle on a tendon"])
def test_the_state_that_plans_begin_at_is_the_true_one_of_that_time(tmp_path, kind):
    file = write_world(tmp_path, kind)
    delays = {"sim.command_delay": 0.04, "prediction.command_delay": 0.04, "sim.state_delay": 0.02}
    episode = run_episode({"task": str(file), **EXACT, **delays}, trial=0, duration=0.8)
    assert len(episode.prediction_error) > 20
    assert np.ptp(episode.qvel) > 0.1
    np.testing.assert_allclose(episode.prediction_error, 0.0, atol=1e-6)


@pytest.mark.parametrize("timestep", [0.0025, 0.005])
def test_rollouts_of_a_delayed_actuator_begin_with_the_controls_on_their_way(tmp_path, timestep):
    task = load(write_world(tmp_path, "delay"))
    model = task.compile(timestep=timestep, integrator="implicitfast")
    plant = mujoco.MjData(model)
    random = np.random.default_rng(3)
    controls = random.uniform(-1.0, 1.0, (20, 1))
    record = ControlRecord(np.array([0.03]), None, np.zeros(1))
    per = round(0.01 / timestep)
    plant = task.initial_data(model)
    for control in controls[:10]:
        record.give(plant.time, control)
        for _ in range(per):
            plant.ctrl[:] = control
            mujoco.mj_step(model, plant)
    start = np.array(plant.qpos), np.array(plant.qvel), np.zeros(0)
    history = HistoryBuffer(model, np.zeros(1)).at(record.past(plant.time))
    backend = CpuBackend([model], threads=1)
    tensors = StateTensors(*map(torch.from_numpy, (*start, history)))
    batch = backend.rollout(tensors, torch.from_numpy(controls[10:])[None], 0.01)
    true = []
    for control in controls[10:]:
        for _ in range(per):
            plant.ctrl[:] = control
            mujoco.mj_step(model, plant)
        true.append(plant.qpos.copy())
    np.testing.assert_allclose(batch.qpos[0].numpy(), true, atol=1e-9)


def test_plans_begin_with_the_controls_on_their_way(tmp_path):
    file = write_world(tmp_path, "delay")
    loop = ClosedLoop({"task": str(file), **EXACT, "model.timestep": 0.005}, trial=0)
    for control in (0.9, -0.8, 0.7):
        loop.controller.current = None
        loop.plan()
        # As if a plan had said so.
        loop.controller.current = replace(
            loop.controller.current, controls=np.full((6, 1), control)
        )
        loop.advance()
    loop.plan()
    backend, objective = loop.controller.backend, loop.controller.objective
    start = objective.pose(loop.controller.start, loop.reference).start
    controls = torch.full((1, 5, 1), 0.4, dtype=torch.float64)
    path = backend.rollout(start, controls, 0.02).qpos[0].numpy().copy()
    true = []
    for _ in range(5):
        loop.plant.step(lambda qpos, qvel: np.array([0.4]), 0.02)
        true.append(loop.plant.data.qpos.copy())
    np.testing.assert_allclose(path, true, atol=1e-9)


def test_a_delay_is_as_long_at_any_time_step(tmp_path):
    task = load(write_world(tmp_path, "delay"))
    for timestep in (0.001, 0.002, 0.01):
        model = task.compile(timestep=timestep)
        data = task.initial_data(model)
        for _ in range(round(0.05 / timestep)):
            data.ctrl[:] = 1.0
            mujoco.mj_step(model, data)
            if data.actuator_force[0] > 0.5:
                break
        assert data.time - timestep == pytest.approx(0.03)


def test_a_replaced_controller_goes_on_from_the_activations(tmp_path):
    file = write_world(tmp_path, "filter")
    loop = ClosedLoop({"task": str(file), **EXACT}, trial=0)
    for _ in range(5):
        loop.plan()
        loop.advance()
    after = Controller(loop.task, loop.config, loop.weights)
    after.take_over(loop.controller)
    loop.controller = after
    loop.plan()
    found = after.actuator_states.estimate(loop.newest, None)
    np.testing.assert_allclose(found.act, loop.state().act, atol=1e-6)


def test_where_time_begins_anew_the_robot_has_stood_still_before(tmp_path):
    controller = ClosedLoop({"task": str(write_world(tmp_path, "intvelocity"))}, 0).controller
    states = controller.actuator_states
    moving = lambda begin, end: [(begin, constant_control(np.ones(1)))]  # noqa: E731
    at = lambda stamp, q: State(stamp, np.array([q]), np.zeros(1))  # noqa: E731
    assert states.estimate(at(5.0, 0.2), moving).act[0] == pytest.approx(0.2)
    assert states.estimate(at(5.1, 0.2), moving).act[0] == pytest.approx(0.3)
    assert states.estimate(at(1.0, 0.4), moving).act[0] == pytest.approx(0.4)


def test_a_start_says_what_is_estimated(tmp_path):
    _, output = start_session(write_world(tmp_path, "delayed filter"))
    assert output.told == [
        "no message carries the activations of m and the delayed controls of m: estimated from the "
        "commands sent"
    ]
    motors = load(write_world(tmp_path / "motors", "equality"))
    assert ActuatorStates(motors, motors.model).describe() == ""


# Commands


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("filter", [("shoulder", "effort", 2.0)]),
        ("filtered servo", [("shoulder", "position", 1.0)]),
        ("integrator", [("m", "control", 1.0)]),
        ("intvelocity", [("shoulder", "velocity", 1.0)]),
        ("muscle on a tendon", [("m", "control", 1.0)]),
        ("site actuator", [("m", "control", 1.0)]),
        ("two actuators on a joint", [("p", "control", 1.0), ("v", "control", 1.0)]),
        ("damper", [("m", "control", 1.0), ("d", "control", 1.0)]),
    ],
)
def test_actuators_are_commanded_by_their_joint_where_it_is_theirs_alone(tmp_path, kind, expected):
    found = actuators(load(write_world(tmp_path, kind)).model)
    assert [(a.label, a.field, a.scale) for a in found] == expected


def test_a_servo_with_a_gear_is_sent_the_position_of_its_joint():
    xml = WORLDS["second free body"].replace(
        "<motor name='m' joint='shoulder' gear='2'", "<position name='m' joint='shoulder' gear='2'"
    )
    driven = actuators(mujoco.MjModel.from_xml_string(xml))
    held = safe_command("hold", driven, np.full(8, 0.3), 1.0, 1.0)
    assert held.control[0] == pytest.approx(0.6)
    assert held.control[0] * driven[0].scale == pytest.approx(0.3)


def test_gains_are_for_joints_driven_by_effort(tmp_path):
    assert load(write_world(tmp_path, "filter")).effort_joints() == ["shoulder"]
    for kind in ("damper", "two actuators on a joint", "drone", "integrator"):
        assert load(write_world(tmp_path / kind, kind)).effort_joints() == []


def test_the_safe_command_of_what_drives_no_joint_is_its_control_at_rest(tmp_path):
    task = load(write_world(tmp_path, "drone"))
    driven = actuators(task.model, task.action_centre)
    for kind in ("zero", "hold", "damping"):
        command = safe_command(kind, driven, np.zeros(7), 20.0, 2.0)
        np.testing.assert_allclose(command.control, 2.45)
        np.testing.assert_array_equal(command.applied(driven, np.zeros(7), np.ones(6)), 2.45)


def test_a_trajectory_cannot_carry_them(tmp_path):
    driven = actuators(load(write_world(tmp_path, "site actuator")).model)
    require_carried(driven, "joint_command")
    with pytest.raises(TaskError) as caught:
        require_carried(driven, "joint_trajectory")
    assert str(caught.value) == (
        "output.type is joint_trajectory, which carries joints only, and no joint stands for "
        "actuator 'm'; set output.type to joint_command or float64_multi_array"
    )


@pytest.mark.ros
@pytest.mark.parametrize("kind", ["joint_command", "float64_multi_array"])
@pytest.mark.parametrize("model", ["damper", "muscle on a tendon", "drone", "filter"])
def test_commands_go_there_and_back_by_name(tmp_path, kind, model):
    from diffusion_mpc.ros.messages.joint_command import encode

    driven = actuators(load(write_world(tmp_path, model)).model)
    control = np.linspace(0.2, 0.7, len(driven))
    message = encode(OutputConfig(type=kind), [(0.0, without_gains(control))], driven, 1.0, 0.5)
    if kind == "joint_command":
        # By name, not by place.
        message.name = message.name[::-1]
        for field in ("position", "velocity", "effort", "control"):
            setattr(message, field, getattr(message, field)[::-1])
    ((_, command),) = decode(message, driven)
    np.testing.assert_allclose(command.control, control)


# Surroundings


def test_rollouts_see_mocap_bodies_where_the_keyframe_has_them(tmp_path):
    task = load(write_world(tmp_path, "mocap"))
    loop = ClosedLoop({"task": str(tmp_path / "world.py")}, trial=0)
    state = loop.state()
    backend = loop.controller.backend
    batch = backend.rollout(
        state.on(backend.dtype, backend.device), torch.zeros(2, 3, 1, dtype=torch.float64), 0.02
    )
    np.testing.assert_allclose(batch.sensor("goal").numpy(), np.tile([0.0, 1.0, 2.0], (2, 3, 1)))
    np.testing.assert_allclose(task.initial_data(task.model).mocap_pos[0], [0.0, 1.0, 2.0])


def test_rollouts_keep_equalities(tmp_path):
    episode = run_episode({"task": str(write_world(tmp_path, "equality"))}, trial=0, duration=0.4)
    assert np.ptp(episode.qpos[:, 0]) > 0.01
    assert abs(episode.qpos[:, 0] - episode.qpos[:, 1]).max() < 0.01
    backend = ClosedLoop({"task": str(tmp_path / "world.py")}, trial=0).controller.backend
    data = mujoco.MjData(backend.model)
    state = State(0.0, np.array(data.qpos), np.array(data.qvel))
    pushed = torch.ones(2, 10, 1, dtype=torch.float64)
    q = backend.rollout(state.on(backend.dtype, backend.device), pushed, 0.02).qpos[0, -1].numpy()
    assert abs(q[0]) > 0.05
    assert q[1] == pytest.approx(q[0], abs=0.02)


# Objects

CUBE = "objects/cube"
POSE = (np.array([0.6, 0.0, 0.05]), np.array([0.0, 0.0, 0.0, 1.0]))


@pytest.fixture
def beside_a_cube(tmp_path):
    """Estimator of an arm of one joint with a cube beside it."""
    return Estimator(load(write_world(tmp_path, "second free body")).model, None)


def joints(estimator, stamp):
    estimator.update_joints(stamp, ["shoulder"], [0.1], [0.2])


def slide(estimator, stamps, speed=1.0, topic=CUBE):
    """Poses of a cube that slides along y."""
    for stamp in stamps:
        estimator.update_object(topic, stamp, POSE[0] + [0.0, speed * stamp, 0.0], POSE[1])


def test_a_state_needs_the_pose_of_every_object_and_the_robot_sets_its_pace(beside_a_cube):
    assert beside_a_cube.waiting_for() == ["joint_states", CUBE]
    joints(beside_a_cube, 1.0)
    assert beside_a_cube.take() is None
    slide(beside_a_cube, [1.0])
    assert beside_a_cube.take() is None
    for stamp in (1.02, 1.04):
        joints(beside_a_cube, stamp)
        assert beside_a_cube.take().stamp == stamp
        assert beside_a_cube.take() is None


def test_in_lockstep_a_state_waits_for_the_object_of_the_same_stamp(tmp_path):
    model = load(write_world(tmp_path, "second free body")).model
    estimator = Estimator(model, None, together=True)
    slide(estimator, [1.0])
    joints(estimator, 1.0)
    assert estimator.take().stamp == 1.0
    joints(estimator, 1.02)
    assert estimator.take() is None
    slide(estimator, [1.02])
    assert estimator.take().stamp == 1.02
    assert estimator.consistent()


def test_an_object_is_moved_on_to_the_time_of_the_joints_for_so_long_at_most(beside_a_cube):
    slide(beside_a_cube, [0.0, 0.03, 0.06], speed=2.0)
    for stamp, y in [(0.05, 0.1), (0.06, 0.12), (0.08, 0.16), (0.56, 1.12), (3.0, 1.12)]:
        joints(beside_a_cube, stamp)
        state = beside_a_cube.state()
        np.testing.assert_allclose(state.qpos[1:4], POSE[0] + [0.0, y, 0.0], atol=1e-9)
        np.testing.assert_allclose(state.qvel[1:4], [0.0, 2.0, 0.0], atol=1e-9)


def test_velocities_of_poses_are_those_of_a_free_joint():
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='cube'><freejoint/><geom size='.1'/></body></worldbody>"
        "</mujoco>"
    )
    estimator, random = Estimator(model, None), np.random.default_rng(1)
    data = mujoco.MjData(model)
    data.qpos[3:], data.qvel[:] = random.normal(size=4), random.normal(size=6)
    mujoco.mj_normalizeQuat(model, data.qpos)
    qpos, velocity = data.qpos.copy(), data.qvel.copy()
    for stamp in (1.0, 1.02, 1.04):
        w, *xyz = qpos[3:]
        estimator.update_object(CUBE, stamp, qpos[:3], np.array([*xyz, w]))
        mujoco.mj_integratePos(model, qpos, velocity, 0.02)
    # There is no robot: the object sets the pace.
    state = estimator.take()
    assert estimator.take() is None
    np.testing.assert_allclose(state.qvel, velocity, atol=1e-9)


def test_velocities_are_filtered_and_begin_anew_after_a_gap_or_a_jump_back(beside_a_cube):
    beside_a_cube.motion = ObjectsConfig(filter_time=0.1, timeout=0.5)

    def speed():
        joints(beside_a_cube, 10.0)
        return beside_a_cube.state().qvel[2]

    slide(beside_a_cube, [1.0])
    assert speed() == 0.0
    slide(beside_a_cube, [1.05])
    assert speed() == pytest.approx(1.0)
    beside_a_cube.update_object(CUBE, 1.1, POSE[0] + [0.0, 1.05, 0.0], POSE[1])
    # It stands; the filter forgets.
    assert speed() == pytest.approx(np.exp(-0.05 / 0.1))
    slide(beside_a_cube, [2.0])
    assert speed() == 0.0
    slide(beside_a_cube, [2.05, 1.5])
    assert speed() == 0.0


def test_an_odometry_of_an_object_has_its_twist(beside_a_cube):
    joints(beside_a_cube, 1.0)
    turned = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])
    twist = (np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 3.0]))
    beside_a_cube.update_object(CUBE, 1.0, POSE[0], turned, twist)
    velocity = beside_a_cube.state().qvel[1:]
    # Linear in the world's frame, angular in the body's.
    np.testing.assert_allclose(velocity, [0.0, 1.0, 0.0, 0.0, 0.0, 3.0], atol=1e-9)


@pytest.mark.parametrize(
    ("position", "quaternion", "reason"),
    [
        ([np.nan, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], "objects/cube: NaN or infinite value"),
        ([0.0] * 3, [0.0] * 4, "objects/cube: quaternion of length 0; it must be 1"),
    ],
)
def test_a_bad_pose_is_rejected_and_changes_nothing(beside_a_cube, position, quaternion, reason):
    joints(beside_a_cube, 1.0)
    slide(beside_a_cube, [1.0])
    before = beside_a_cube.state()
    with pytest.raises(MessageRejectedError) as caught:
        beside_a_cube.update_object(CUBE, 1.1, np.array(position), np.array(quaternion))
    assert str(caught.value) == reason
    np.testing.assert_array_equal(beside_a_cube.state().qpos, before.qpos)


def test_of_another_time_no_object_is_kept(beside_a_cube):
    joints(beside_a_cube, 100.0)
    slide(beside_a_cube, [100.0])
    joints(beside_a_cube, 1.0)
    assert beside_a_cube.waiting_for() == [CUBE]
    # One that came first in the new time stays.
    slide(beside_a_cube, [100.0])
    joints(beside_a_cube, 100.0)
    slide(beside_a_cube, [1.0])
    joints(beside_a_cube, 1.0)
    assert beside_a_cube.waiting_for() == []


def record(tmp_path, *options):
    """States in the bag of a simulation in lockstep, of a cube that falls."""
    xml = WORLDS["second free body"].replace("pos='.6 0 .05'", "pos='.6 0 .8'")
    file = write_world(tmp_path / "task", "second free body", xml)
    arguments = ["--lockstep", "--duration", "0.3", "--record", str(tmp_path / "run"), *options]
    assert main(["sim", str(file), *arguments]) == 0
    return read_states(tmp_path / "run" / "bag", load(file))


@pytest.mark.ros
@pytest.mark.slow
def test_a_simulated_object_is_measured_planned_with_and_recorded(tmp_path):
    states, again = (record(tmp_path / name) for name in ("first", "second"))
    height, speed = states.qpos[:, 3], states.qvel[:, 3]
    time = states.stamps - states.stamps[0]
    assert len(time) > 13
    np.testing.assert_allclose(height, 0.8 - 9.81 / 2 * time**2, atol=0.02)
    # The filter is late by its time constant, and a difference by half a period.
    late = speed[8:] + 9.81 * (time[8:] - 0.01)
    assert (late > 0.0).all()
    assert (late < 1.05 * 9.81 * 0.05).all()
    np.testing.assert_array_equal(states.qpos, again.qpos)
    np.testing.assert_array_equal(states.qvel, again.qvel)


@pytest.mark.ros
@pytest.mark.slow
def test_planner_and_simulation_agree_on_the_type_of_messages(tmp_path):
    states = record(tmp_path, "--set", "objects.type=odometry")
    time = states.stamps - states.stamps[0]
    assert len(time) > 13
    np.testing.assert_allclose(states.qvel[:, 3], -9.81 * time, atol=1e-6)


@pytest.mark.ros
@pytest.mark.slow
def test_planner_simulation_and_readers_of_bags_agree_on_a_prefix(tmp_path):
    states = record(tmp_path, "--set", "joint_prefix=left_")
    assert len(states.stamps) > 13
    # The motor obeys.
    assert abs(states.qvel[-1, 0]) > 0.0
    run = read_run(tmp_path / "run" / "bag", load(tmp_path / "task" / "world.py"))
    assert len(run.commands.values) > 13
    assert not run.problems


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drone", "muscle on a tendon", "delayed filter"])
def test_it_runs_as_nodes(tmp_path, kind):
    file = write_world(tmp_path, kind)
    figures = tmp_path / "figures.json"
    arguments = ["--lockstep", "--duration", "0.3", "--json", str(figures)]
    assert main(["sim", str(file), *arguments]) == 0
    assert json.loads(figures.read_text())["plans"] >= 14


@pytest.mark.ros
@pytest.mark.slow
def test_a_simulation_that_cannot_be_ends_with_one_line(tmp_path, capfd):
    xml, line = REFUSED["ball joint"]
    file = write_world(tmp_path, "ball joint", xml)
    assert main(["sim", str(file), "--lockstep", "--duration", "0.3"]) == 1
    told = capfd.readouterr().err
    assert line in told
    assert "Traceback" not in told
