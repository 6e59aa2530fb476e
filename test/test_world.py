"""Robots and surroundings beyond joints and motors: each runs, or one line says why it does not."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from worlds import REFUSED, WORLDS, write_world

from diffusion_mpc.command.command import (
    actuators,
    constant_control,
    safe_command,
    without_gains,
)
from diffusion_mpc.command.decode import decode
from diffusion_mpc.command.follower import require_carried
from diffusion_mpc.config import PlannerNodeConfig, load_parameters
from diffusion_mpc.estimation.actuator_states import ActuatorStates
from diffusion_mpc.estimation.delays import ControlRecord, HistoryBuffer
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
    message = encode(kind, [(0.0, without_gains(control))], driven, 1.0, 0.5)
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
