"""A policy alone, in closed loop, while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.simulation.closed_loop import DivergedError, run_episode
from diffusion_mpc.tasks import find_task


def evaluate_policy(
    index: Mapping[str, Any], checkpoint: Path, trials: int, duration: float = 0.0
) -> dict[str, float]:
    """Mean cost and falls of a policy alone, in simulation.

    `cost`: mean over trials of the mean cost of a run; `falls`: sum over trials. A run whose
    simulation diverges counts as the worst of the others, ten-fold.

    Args:
        index: of the data that it was trained on
        checkpoint: the policy
        trials: number of runs, with other starts and references
        duration: of a run, s; 0: the task's
    """
    settings = {
        **index["parameters"],
        "planner.algorithm": "policy",
        "policy.checkpoint": str(checkpoint),
    }
    length = duration or find_task(str(settings["task"])).trial_duration
    costs, falls, diverged = list[float](), 0, 0
    for trial in range(trials):
        try:
            episode = run_episode(settings, trial, length)
        except DivergedError:
            diverged += 1
            continue
        costs.append(episode.mean_cost)
        falls += episode.falls
    costs += diverged * [10.0 * max(costs, default=1e6)]
    return {"cost": float(np.mean(costs)), "falls": falls + diverged}
