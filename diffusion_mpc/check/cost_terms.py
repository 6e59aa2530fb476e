"""Cost terms with their values: at the keyframe, after a rest, and under random plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from diffusion_mpc.check.rest import Motion
from diffusion_mpc.check.subject import Subject
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.rollout import RolloutBackend
from diffusion_mpc.tasks.measured import initial_state, trajectory
from diffusion_mpc.types import Array, RolloutBatch

TIME = 1.0
"""Time that the reference is taken for at a single state, s."""

PLANS = 64
"""Number of random plans."""


def random_controls(subject: Subject, objective: Objective, count: int) -> torch.Tensor:
    """Controls (count, horizon, nu) of plans as the first denoising step samples them."""
    generator = torch.Generator().manual_seed(subject.config.planner.seed)
    noise = torch.randn(
        (count, *objective.origin.shape), generator=generator, dtype=objective.origin.dtype
    )
    return objective.controls((subject.config.planner.noise_start * noise).clamp_(-1.0, 1.0))


def cost_rows(
    subject: Subject, backend: RolloutBackend, objective: Objective, resting: Motion
) -> list[dict[str, Any]]:
    """Weighted costs by term: at the keyframe, after the rest, and as a mean over random plans.

    Raises:
        TaskError: a term fails; the message names term, file and line
    """
    task = subject.task
    start = initial_state(task, backend.model)
    rest = (resting.data.qpos, resting.data.qvel)
    batch = backend.rollout(
        start.on(backend.dtype, backend.device),
        random_controls(subject, objective, PLANS),
        subject.config.planner.control_dt,
    )
    dt = subject.config.planner.control_dt
    times: Array = TIME + np.arange(1.0, batch.qpos.shape[1] + 1.0) * dt
    columns = {
        "keyframe": _costs(subject, _at(subject, start.qpos, start.qvel), np.array([TIME])),
        "rest": _costs(subject, _at(subject, *rest), np.array([TIME])),
        "random": _costs(subject, batch, times),
    }
    totals = {where: sum(costs.values()) for where, costs in columns.items()}
    rows = []
    for name, term in task.cost_terms().items():
        row: dict[str, Any] = {"term": name, "weight": subject.weights[name], "unit": term.unit}
        for where, costs in columns.items():
            total = totals[where]
            row[where] = costs[name]
            row[f"{where}_fraction"] = costs[name] / total if total else 0.0
        rows.append(row)
    return rows


def _at(subject: Subject, qpos: Array, qvel: Array) -> RolloutBatch:
    task = subject.task
    return trajectory(task.model, qpos[None], qvel[None], task.action_centre[None])


def _costs(subject: Subject, x: RolloutBatch, times: Array) -> Mapping[str, float]:
    """Weighted cost of each term, as a mean over samples that did not diverge, and the horizon."""
    reference = replace(subject.reference, times=times).on(x.qpos)
    good = torch.ones(len(x.qpos), dtype=torch.bool) if x.invalid is None else ~x.invalid
    means = {}
    for name, term in subject.task.cost_terms().items():
        value = term(subject.task, x, reference)
        means[name] = subject.weights[name] * float(value[good].mean()) if good.any() else np.nan
    return means
