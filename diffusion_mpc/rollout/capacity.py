"""Numbers of contacts and constraints that the worlds of a GPU simulation need memory for."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class Capacity:
    """Most contacts (all worlds share their sum) and constraints (of each) of one world."""

    contacts: int
    constraints: int


def probe(
    task: Task,
    model: mujoco.MjModel,
    pairs: NDArray[np.int_],
    trials: int = 32,
    duration: float = 0.5,
) -> Capacity:
    """Twice what random motion in C MuJoCo came to, and a few more.

    Each trial starts from the task's initial state, displaced by half a metre and radian (standard
    deviation) along every degree of freedom so that the robot also lies, dives and folds, and moves
    under random controls. Pairs of geoms that come near each other count as contacts: a GPU
    simulation lists them in the same memory before it looks closer.

    Args:
        task: task that the model belongs to
        model: planning model
        pairs: (pairs, 2) geoms that may collide
        trials: number of trials
        duration: simulated time of each, s
    """
    random = np.random.default_rng(0)
    contacts = constraints = 0
    # A model that diverges under random controls is nothing to warn about.
    mujoco.set_mju_user_warning(lambda text: None)
    for _ in range(trials):
        data = task.initial_data(model)
        mujoco.mj_integratePos(model, data.qpos, random.normal(0.0, 0.5, model.nv), 1.0)
        for step in range(max(1, round(duration / model.opt.timestep))):
            if step % 10 == 0:
                data.ctrl[:] = random.uniform(*task.ctrl_limits)
            mujoco.mj_step(model, data)
            contacts = max(contacts, int(data.ncon), near_pairs(model, data.geom_xpos, pairs))
            constraints = max(constraints, int(data.nefc))
    return Capacity(contacts=2 * contacts + 8, constraints=2 * constraints + 8)


def near_pairs(model: mujoco.MjModel, centres: Array, pairs: NDArray[np.int_]) -> int:
    """Number of pairs of geoms whose bounding spheres meet.

    Args:
        model: MuJoCo model
        centres: (ngeom, 3) positions of the geoms, m
        pairs: (pairs, 2) geoms
    """
    # Planes have no bounding sphere: they may be near anything.
    reach = np.where(model.geom_rbound > 0.0, model.geom_rbound + model.geom_margin, np.inf)
    first, second = pairs[:, 0], pairs[:, 1]
    return int(
        (
            np.linalg.norm(centres[first] - centres[second], axis=1) <= reach[first] + reach[second]
        ).sum()
    )
