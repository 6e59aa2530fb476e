"""Property tests of the states that a model of trajectories sees."""

import mujoco
import numpy as np
import pytest

from diffusion_mpc.learning.relative_states import RelativeStates
from diffusion_mpc.tasks import find_task

TASKS = ("quadruped", "humanoid_walk", "pusht", "cartpole")


def trajectories(task, count=5, length=7):
    """Random states (count, length, nq + nv) around the initial one, anywhere and facing anyhow."""
    random, model = np.random.default_rng(0), task.model
    states = np.empty((count, length, model.nq + model.nv))
    start = task.initial_data(model)
    for row in states.reshape(-1, model.nq + model.nv):
        qpos = start.qpos.copy()
        mujoco.mj_integratePos(model, qpos, random.normal(0.0, 0.5, model.nv), 1.0)
        row[: model.nq], row[model.nq :] = qpos, random.normal(size=model.nv)
    return states


def moved(task, states, place, yaw):
    """The same trajectories elsewhere, turned about the vertical; by MuJoCo's own functions."""
    model, found = task.model, states.copy()
    q, v = task.observed.base
    about = np.array([np.cos(yaw / 2.0), 0.0, 0.0, np.sin(yaw / 2.0)])
    for row in found.reshape(-1, model.nq + model.nv):
        for begin in (q, model.nq + v):
            mujoco.mju_rotVecQuat(row[begin : begin + 3], row[begin : begin + 3].copy(), about)
        row[q : q + 2] += place
        mujoco.mju_mulQuat(row[q + 3 : q + 7], about, row[q + 3 : q + 7].copy())
    return found


@pytest.mark.parametrize("name", TASKS)
def test_states_come_back_from_their_numbers(name):
    task = find_task(name)()
    relative, states = RelativeStates(task), trajectories(task)

    encoded = relative.encode(states, states[:, 0])
    back = relative.decode(encoded, states[:, 0])

    assert encoded.shape == (5, 7, 2 * task.model.nv)
    nq = task.model.nq
    apart = np.zeros(task.model.nv)
    for a, b in zip(states.reshape(35, -1), back.reshape(35, -1), strict=True):
        # A quaternion and its negative are one rotation.
        mujoco.mj_differentiatePos(task.model, apart, 1.0, a[:nq], b[:nq])
        np.testing.assert_allclose(apart, 0.0, atol=1e-9)
        np.testing.assert_allclose(a[nq:], b[nq:], atol=1e-9)


@pytest.mark.parametrize("name", ["quadruped", "humanoid_walk"])
def test_numbers_are_the_same_wherever_the_robot_starts_and_faces(name):
    task = find_task(name)()
    relative, states = RelativeStates(task), trajectories(task)

    there = moved(task, states, (31.0, -7.0), 2.1)

    np.testing.assert_allclose(
        relative.encode(there, there[:, 0]), relative.encode(states, states[:, 0]), atol=1e-9
    )


@pytest.mark.parametrize("name", TASKS)
def test_numbers_differ_as_mujoco_says_where_the_heading_is_zero(name):
    task = find_task(name)()
    model, states = task.model, trajectories(task)
    if task.observed.base is not None:
        q, _ = task.observed.base
        states[:, 0, q : q + 2], states[:, 0, q + 3 : q + 7] = 0.0, (1.0, 0.0, 0.0, 0.0)

    encoded = RelativeStates(task).encode(states, states[:, 0])

    reference, apart = model.qpos0.copy(), np.zeros(model.nv)
    if task.observed.base is not None:
        reference[q : q + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    for state, numbers in zip(states.reshape(35, -1), encoded.reshape(35, -1), strict=True):
        mujoco.mj_differentiatePos(model, apart, 1.0, reference, state[: model.nq])
        np.testing.assert_allclose(numbers[: model.nv], apart, atol=1e-9)
        np.testing.assert_allclose(numbers[model.nv :], state[model.nq :], atol=1e-12)
