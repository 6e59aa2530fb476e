"""Measured states as cost terms see trajectories, and their velocity as a command asks for it."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import torch

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.model_file import sensor_slices
from diffusion_mpc.types import Array, Reference, RolloutBatch, State


def trajectory(
    model: mujoco.MjModel,
    qpos: Array,
    qvel: Array,
    controls: Array,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    scratch: mujoco.MjData | None = None,
) -> RolloutBatch:
    """Trajectory (1, T, ...) of given states, with the sensors of the states themselves.

    Args:
        model: model that the states are of
        qpos: (T, nq)
        qvel: (T, nv)
        controls: (T, nu) in force at the states, in actuator units
        dtype: type of the trajectory
        device: where it lies
        scratch: of the model, to work in; None: a new one, which takes longer than a state
    """
    data = mujoco.MjData(model) if scratch is None else scratch
    sensors = np.empty((len(controls), model.nsensordata))
    for row, (position, velocity, control) in enumerate(zip(qpos, qvel, controls, strict=True)):
        # The solver's warm start must not carry anything from one state to the next.
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = position, velocity, control
        mujoco.mj_forward(model, data)
        sensors[row] = data.sensordata
    positions, velocities, ctrl, sensordata = (
        torch.from_numpy(array)[None].to(device, dtype) for array in (qpos, qvel, controls, sensors)
    )
    return RolloutBatch(positions, velocities, ctrl, sensordata, sensor_slices(model))


def observe(
    task: Task,
    model: mujoco.MjModel,
    state: State,
    reference: Reference,
    scratch: mujoco.MjData | None = None,
) -> Array:
    """Observation (obs,) of a measured state on a model of its task, see `Task.observation`.

    Args:
        task: the task
        model: a model of it
        state: measured state
        reference: what is asked for
        scratch: see `trajectory`
    """
    x = trajectory(
        model, state.qpos[None], state.qvel[None], task.action_centre[None], scratch=scratch
    )
    at_once = replace(reference, times=np.array([state.stamp]))
    return np.asarray(task.observation(x, at_once.on(x.qpos))[0, 0].numpy())


def has_failed(task: Task, model: mujoco.MjModel, state: State) -> bool:
    """Whether the robot has failed in a measured state on a model of its task, see `Task.failed`.

    With the actuators at the middle of their range, for no state tells what they are told.
    """
    x = trajectory(model, state.qpos[None], state.qvel[None], task.action_centre[None])
    return bool(task.failed(x)[0, 0])


def initial_state(task: Task, model: mujoco.MjModel) -> State:
    """State at time 0 in which a robot starts, on a model of its task."""
    data = task.initial_data(model)
    return State(0.0, np.array(data.qpos), np.array(data.qvel), np.array(data.act))


def rows_of(x: RolloutBatch, rows: slice | torch.Tensor) -> RolloutBatch:
    """Some time steps of trajectories."""
    return RolloutBatch(
        x.qpos[:, rows], x.qvel[:, rows], x.ctrl[:, rows], x.sensordata[:, rows], x.sensor_slices
    )


def base_place(task: Task) -> slice:
    """Place of the position (3,) of a floating base, m, in qpos."""
    q = int(task.model.jnt_qposadr[task.model.body(task.base).jntadr[0]])
    return slice(q, q + 3)


def heading_velocity(task: Task, qpos: Array, qvel: Array) -> Array | None:
    """Forward and lateral velocity, m/s, and yaw rate, rad/s, of the floating base, (T, 3).

    None for a fixed base.

    The heading frame is level, with the base's forward axis above its x axis. The yaw rate is about
    the base's own vertical axis.
    """
    if task.base is None:
        return None
    joint = int(task.model.body(task.base).jntadr[0])
    q, v = int(task.model.jnt_qposadr[joint]), int(task.model.jnt_dofadr[joint])
    w, x, y, z = qpos[:, q + 3 : q + 7].T
    forward = np.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)], axis=1)
    # Straight up or down, the base has no heading; its velocity counts as 0 there, as in the tasks.
    forward /= np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-6)
    vx, vy = qvel[:, v], qvel[:, v + 1]
    along = forward[:, 0] * vx + forward[:, 1] * vy
    across = forward[:, 0] * vy - forward[:, 1] * vx
    return np.stack([along, across, qvel[:, v + 5]], axis=1)
