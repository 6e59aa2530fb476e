"""Observations: the same wherever a robot is and faces, in single and double precision."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_mpc.rotations import yaw_to_quaternion
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.measured import observe, trajectory
from diffusion_mpc.types import Reference, State

TASKS = sorted(available_tasks())
FLOATING = [name for name in TASKS if find_task(name).base is not None]
MADE = {name: find_task(name)() for name in TASKS}


def some_state(task, seed, stamp=3.7):
    """A state well off the nominal pose, in motion."""
    random, data = np.random.default_rng(seed), task.initial_data(task.model)
    mujoco.mj_integratePos(task.model, data.qpos, random.normal(0.0, 0.3, task.model.nv), 1.0)
    return State(stamp, data.qpos.copy(), random.normal(0.0, 1.0, task.model.nv))


def some_reference(seed):
    random = np.random.default_rng((seed, 1))
    pose = np.array([*random.normal(0.0, 1.0, 3), *yaw_to_quaternion(random.uniform(-3.0, 3.0))])
    return Reference(velocity=random.normal(0.0, 1.0, 3), pose=pose)


def product(first, second):
    found = np.zeros(4)
    mujoco.mju_mulQuat(found, first, second)
    return found


def moved(qpos, qvel, q, v, shift, yaw):
    """A free body's place and velocity, moved and turned about the world's origin."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    qpos, qvel = qpos.copy(), qvel.copy()
    qpos[q : q + 3] = turn @ qpos[q : q + 3] + np.array([*shift, 0.0])
    qpos[q + 3 : q + 7] = product(yaw_to_quaternion(yaw), qpos[q + 3 : q + 7])
    qvel[v : v + 3] = turn @ qvel[v : v + 3]
    return qpos, qvel


def moved_goal(reference, shift, yaw):
    pose, _ = moved(reference.pose, np.zeros(6), 0, 0, shift, yaw)
    return replace(reference, pose=pose)


class AntWithBall(find_task("ant")):
    """The ant goes to a goal, beside a free ball."""

    name = "ant_with_ball"
    reference = "goal_pose"

    def prepare(self, spec):
        body = spec.worldbody.add_body(name="ball", pos=[1.0, 0.5, 0.3])
        body.add_freejoint()
        body.add_geom(size=[0.1, 0.1, 0.1])
        # Keyframes do not know of it.
        key = spec.key("home")
        key.qpos = [*key.qpos, 1.0, 0.5, 0.3, 1.0, 0.0, 0.0, 0.0]


BALL = AntWithBall()


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from([*FLOATING, "ant_with_ball"]),
    seed=st.integers(0, 1000),
    shift=st.tuples(*[st.floats(-100.0, 100.0)] * 2),
    yaw=st.floats(-10.0, 10.0),
)
def test_a_floating_base_observes_the_same_wherever_it_is_and_faces(name, seed, shift, yaw):
    task = BALL if name == "ant_with_ball" else MADE[name]
    state, reference = some_state(task, seed), some_reference(seed)
    qpos, qvel = state.qpos, state.qvel
    for q, v in [task.observed.base, *task.observed.bodies]:
        qpos, qvel = moved(qpos, qvel, q, v, shift, yaw)
    there = replace(state, qpos=qpos, qvel=qvel)
    before = observe(task, task.model, state, reference)
    after = observe(task, task.model, there, moved_goal(reference, shift, yaw))
    np.testing.assert_allclose(after, before, atol=1e-9)
    # It is no constant: another state and another reference are seen.
    other = observe(task, task.model, some_state(task, seed + 1), reference)
    assert np.abs(other - before).max() > 1e-3
    asked = observe(task, task.model, state, some_reference(seed + 1))
    assert task.reference == "none" or np.abs(asked - before).max() > 1e-3


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    shift=st.tuples(*[st.floats(-1.0, 1.0)] * 2),
    yaw=st.floats(-10.0, 10.0),
)
def test_pusht_observes_the_same_when_disc_t_and_goal_are_moved_and_turned(seed, shift, yaw):
    task = MADE["pusht"]
    state, reference = some_state(task, seed), some_reference(seed)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn, qpos, qvel = np.array([[cos, -sin], [sin, cos]]), state.qpos.copy(), state.qvel.copy()
    for part in (slice(0, 2), slice(3, 5)):
        qpos[part], qvel[part] = turn @ qpos[part] + shift, turn @ qvel[part]
    qpos[2] += yaw
    there = replace(state, qpos=qpos, qvel=qvel)
    before = observe(task, task.model, state, reference)
    after = observe(task, task.model, there, moved_goal(reference, shift, yaw))
    # The last two are the angle of the T, which actions along the world's axes depend on.
    np.testing.assert_allclose(after[:-2], before[:-2], atol=1e-9)
    np.testing.assert_allclose(turn @ before[-2:], after[-2:], atol=1e-9)


@pytest.mark.parametrize("name", ["halfcheetah", "hopper", "walker2d"])
def test_planar_robots_observe_the_same_wherever_they_are(name):
    task, reference = MADE[name], Reference()
    state = some_state(task, 0)
    qpos = state.qpos.copy()
    qpos[task.model.joint("root_x").qposadr[0]] += 50.0
    there = replace(state, qpos=qpos)
    observed = [observe(task, task.model, s, reference) for s in (state, there)]
    np.testing.assert_allclose(*observed, atol=1e-12)


SIZES = {
    "ant": 29,
    "ant_wall": 29,
    "arm": 18,
    "arm_cube": 28,
    "car": 9,
    "cartpole": 5,
    "halfcheetah": 18,
    "hopper": 12,
    "humanoid_run": 50,
    "humanoid_standup": 50,
    "humanoid_track": 52,
    "humanoid_walk": 55,
    "pusht": 13,
    "quadruped": 39,
    "walker2d": 18,
}


@pytest.mark.parametrize("name", TASKS)
def test_size_and_precision(name):
    """A batch in single precision observes what a state in double precision does."""
    task, reference = MADE[name], some_reference(0)
    states = [some_state(task, seed) for seed in range(3)]
    wanted = [observe(task, task.model, state, reference) for state in states]
    size = len(wanted[0])
    assert size == SIZES[name]
    assert np.isfinite(wanted).all()
    qpos, qvel = (np.array([getattr(s, kind) for s in states]) for kind in ("qpos", "qvel"))
    ctrl = np.tile(task.action_centre, (3, 1))
    x = trajectory(task.model, qpos, qvel, ctrl, torch.float32)
    # A clock's time, which single precision knows to minutes only.
    clock = 1.7e9 + np.array([0.0, 0.25, 0.5])
    late = replace(reference, times=clock)
    found = task.observation(x, late.on(x.qpos))
    assert found.dtype == torch.float32
    assert found.shape == (1, 3, size)
    wanted = [
        observe(task, task.model, replace(state, stamp=stamp), reference)
        for state, stamp in zip(states, clock, strict=True)
    ]
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=2e-5)


def test_parts_by_hand():
    """The ant looks along y, tilted by nothing, and goes along y at 1 m/s."""
    task = MADE["ant"]
    data = task.initial_data(task.model)
    qpos, qvel = data.qpos.copy(), np.zeros(task.model.nv)
    qpos[:2], qpos[2], qpos[3:7] = (4.0, -7.0), 0.6, yaw_to_quaternion(np.pi / 2)
    qvel[1], qvel[5] = 1.0, 0.3
    reference = Reference(velocity=np.array([0.5, 0.1, -0.2]))
    found = observe(task, task.model, State(0.0, qpos, qvel), reference)
    start = [0.6, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.3]
    np.testing.assert_allclose(found, [*start, *[0.0] * 16, 0.5, 0.1, -0.2], atol=1e-12)


def test_a_task_of_ones_own_may_observe_something_else():
    class Sparse(find_task("cartpole")):
        name = "sparse"

        def observation(self, x, reference):
            return x.qpos[..., :1]

    task = Sparse()
    assert issubclass(Sparse, Task)
    np.testing.assert_array_equal(
        observe(task, task.model, State(0.0, np.array([0.5, 0.0]), np.zeros(2)), Reference()), [0.5]
    )
