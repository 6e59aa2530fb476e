"""Mirror images: the mirrored robot does the mirrored thing."""

import mujoco
import numpy as np
import pytest
import torch

from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.mirror import Mirror
from diffusion_mpc.types import State

SYMMETRIC = ("ant", "humanoid_walk", "quadruped")


def moved(task, seed):
    """A state near the nominal pose, high above the ground or on it."""
    random = np.random.default_rng(seed)
    data = task.initial_data(task.model)
    mujoco.mj_integratePos(task.model, data.qpos, random.normal(size=task.model.nv), 0.1)
    data.qvel[:] = random.normal(size=task.model.nv)
    return State(0.3, data.qpos.copy(), data.qvel.copy()), random


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_mirrored_robot_under_mirrored_actions_moves_as_the_mirror_image(name):
    task = find_task(name)()
    mirror = Mirror(task)
    state, random = moved(task, 1)
    actions = random.uniform(-1.0, 1.0, (10, task.model.nu))

    def end(start, actions):
        data = mujoco.MjData(task.model)
        data.qpos[:], data.qvel[:] = start.qpos, start.qvel
        for action in actions:
            data.ctrl[:] = task.action_centre + task.action_reach * action
            mujoco.mj_step(task.model, data, 5)
        return State(0.0, data.qpos.copy(), data.qvel.copy())

    here = mirror.state(end(state, actions))
    there = end(mirror.state(state), mirror.actions(actions))

    assert abs(there.qpos - state.qpos).max() > 0.05
    # The solver stops at a tolerance of its own.
    np.testing.assert_allclose(there.qpos, here.qpos, atol=2e-4)
    np.testing.assert_allclose(there.qvel, here.qvel, atol=2e-2)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_mirroring_twice_gives_back_what_was_there(name):
    task = find_task(name)()
    mirror = Mirror(task)
    state, random = moved(task, 2)
    twice = mirror.state(mirror.state(state))
    actions = random.uniform(-1.0, 1.0, (3, 4, task.model.nu)).astype(np.float32)
    seen = random.normal(size=(2, len(mirror.observations.order)))

    np.testing.assert_allclose(twice.qpos, state.qpos, atol=1e-12)
    np.testing.assert_allclose(twice.qvel, state.qvel, atol=1e-12)
    assert mirror.actions(actions).dtype == np.float32
    np.testing.assert_array_equal(mirror.actions(mirror.actions(actions)), actions)
    np.testing.assert_array_equal(mirror.observations(mirror.observations(seen)), seen)


def test_left_and_right_legs_change_places_and_sideways_changes_its_sign():
    task = find_task("quadruped")()
    mirror = Mirror(task)
    names = [task.model.actuator(i).name for i in range(task.model.nu)]
    action = np.zeros(task.model.nu)
    action[names.index("FL_hip")], action[names.index("RR_calf")] = 0.3, -0.7

    mirrored = dict(zip(names, mirror.actions(action).tolist(), strict=True))

    assert {name: value for name, value in mirrored.items() if value} == {
        "FR_hip": -0.3,
        "RL_calf": -0.7,
    }
    # Height stays, gravity's y and the lateral velocity change sign.
    assert mirror.observations.signs[:7].tolist() == [1, 1, -1, 1, 1, -1, 1]


def test_half_a_cycle_lies_between_a_trot_and_its_mirror_image_and_none_in_a_bound():
    task = find_task("quadruped")()
    gait = task.chosen_gait

    assert gait.mirror_time() == pytest.approx(0.5 / gait.cadence)
    times = torch.tensor([0.11], dtype=torch.float64)
    heights = gait.heights(times)[0]
    later = gait.heights(times + gait.mirror_time())[0]
    np.testing.assert_allclose(later[[1, 0, 3, 2]], heights, atol=1e-12)

    class Bound(type(task)):
        gait = "bound"

    assert Bound().chosen_gait.mirror_time() == 0.0


def test_a_robot_that_is_not_symmetric_is_refused_in_one_line():
    class Lopsided(find_task("ant")):
        sides = ("front", "rear")

    class Misnamed(find_task("ant")):
        sides = ("left", "top")

    for kind, reason in ((Lopsided, "mirror image"), (Misnamed, "on the other side")):
        with pytest.raises(TaskError, match=reason) as caught:
            Mirror(kind())
        assert "\n" not in str(caught.value)
