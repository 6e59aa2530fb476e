"""The rate that this machine reaches with a model, and the search that fits a period."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from diffusion_mpc.check.subject import Subject
from diffusion_mpc.rollout import RolloutBackend
from diffusion_mpc.rollout.backend import substeps
from diffusion_mpc.types import State

BUSY = 0.8
"""Fraction of a period that rollouts may take; the rest is for costs, updates and messages."""

SECONDS = 0.5
"""Time that the rollouts of each model are measured for, s."""


def rates(
    subject: Subject, backends: Sequence[RolloutBackend], start: State, controls: torch.Tensor
) -> list[float]:
    """Physics steps per second of each backend, from the median of interleaved rollouts.

    Args:
        subject: the robot
        backends: what to measure
        start: state that all rollouts start from
        controls: (samples, horizon, nu), as a plan has them
    """
    dt = subject.config.planner.control_dt
    taken: list[list[float]] = [[] for _ in backends]
    for backend in backends:
        backend.rollout(start.on(backend.dtype, backend.device), controls, dt)
    began = time.perf_counter()
    while len(taken[0]) < 3 or time.perf_counter() - began < SECONDS * len(backends):
        for times, backend in zip(taken, backends, strict=True):
            before = time.perf_counter()
            backend.rollout(start.on(backend.dtype, backend.device), controls, dt)
            times.append(time.perf_counter() - before)
    samples, horizon, _ = controls.shape
    return [
        samples * horizon * substeps(dt, backend.model.opt.timestep) / statistics.median(times)
        for times, backend in zip(taken, backends, strict=True)
    ]


def diverging(
    subject: Subject, backend: RolloutBackend, start: State, controls: torch.Tensor
) -> float:
    """Fraction of the rollouts of controls (samples, horizon, nu) that the simulator gives up."""
    batch = backend.rollout(
        start.on(backend.dtype, backend.device), controls, subject.config.planner.control_dt
    )
    return 0.0 if batch.invalid is None else float(batch.invalid.double().mean())


def fit(subject: Subject, backend: RolloutBackend, rate: float) -> dict[str, Any]:
    """The search that is configured, and those that fit the period at a rate, steps/s."""
    planner = subject.config.planner
    repeats = substeps(planner.control_dt, backend.model.opt.timestep)
    possible = BUSY * rate / planner.rate
    sample = planner.horizon_steps * repeats
    iterations = sorted({1, 2, 4, planner.iterations})
    return {
        "steps_per_s": rate,
        "period_s": 1.0 / planner.rate,
        "physics_steps_in_period": int(possible),
        "configured": {
            "num_samples": planner.num_samples,
            "horizon_steps": planner.horizon_steps,
            "iterations": planner.iterations,
            "physics_steps": planner.num_samples * sample * planner.iterations,
            "fits": planner.num_samples * sample * planner.iterations <= possible,
        },
        "fitting": [
            {
                "num_samples": int(possible / (sample * count)),
                "horizon_steps": planner.horizon_steps,
                "iterations": count,
            }
            for count in iterations
        ],
    }
