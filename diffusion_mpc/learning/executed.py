"""What states and actions that were executed cost, step by step and from there on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import mujoco
import numpy as np

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.measured import trajectory
from diffusion_mpc.types import Array, Reference, State


def executed_costs(
    task: Task,
    model: mujoco.MjModel,
    weights: Mapping[str, float],
    states: Sequence[State],
    actions: Array,
    references: Sequence[Reference],
) -> tuple[Array, Array]:
    """Weighted cost (T,) of each step of a run, and whether the robot had failed (T,).

    Args:
        task: the task
        model: model of the robot
        weights: weight of every cost term
        states: T states
        actions: (T, nu) normalised, applied from each state on
        references: what was asked for at each
    """
    x = trajectory(
        model,
        np.array([s.qpos for s in states]),
        np.array([s.qvel for s in states]),
        task.action_centre + task.action_reach * actions,
    )
    cost, stamps = np.empty(len(states)), np.array([s.stamp for s in states])
    # Terms see one reference at a time: the rows of each are taken from its evaluation.
    for reference in {id(r): r for r in references}.values():
        here = np.array([r is reference for r in references])
        terms = task.costs(x, replace(reference, times=stamps).on(x.qpos))
        total = sum(weights[name] * value[0].numpy() for name, value in terms.items())
        cost[here] = np.asarray(total)[here]
    return cost, np.asarray(task.failed(x)[0].numpy())


def costs_to_go(cost: Array, discount: float, rate: float) -> Array:
    """Discounted cost (T,) from each step of a run on.

    A run ends, and the robot goes on: as in its last second, to the best of knowledge. Otherwise
    states near the end would look cheap.

    Args:
        cost: (T,) of each step
        discount: by step
        rate: steps per second
    """
    to_go = np.empty_like(cost)
    ahead = float(cost[-max(1, round(rate)) :].mean()) / (1.0 - discount)
    for i in reversed(range(len(cost))):
        ahead = to_go[i] = cost[i] + discount * ahead
    return to_go
