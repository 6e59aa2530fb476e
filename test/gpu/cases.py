"""Plans on the Warp backend, at the sizes that a GPU is for or, in a rehearsal, at tiny ones."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warp as wp
from scale import Scale

from diffusion_mpc.benchmark import speed
from diffusion_mpc.benchmark.raw_rollout import RawRollout
from diffusion_mpc.config import Value
from diffusion_mpc.rollout.backend import substeps
from diffusion_mpc.simulation.closed_loop import ClosedLoop
from diffusion_mpc.types import Plan

RAW_REPEATS = 3
BINARIES = {".o", ".cubin", ".ptx"}


WARP = {"backend.name": "warp", "policy.checkpoint": ""}
"""The search itself, whether or not a policy ships with the task."""


def sized(
    scale: Scale, task: str, samples: int, horizon: int, iterations: int, **settings: str
) -> speed.Case:
    """A case of `speed`, on this backend."""
    sizes = {
        "num_samples": scale.samples(samples),
        "horizon_steps": scale.horizon(horizon),
        "iterations": iterations,
    }
    texts = {f"planner.{name}": str(value) for name, value in sizes.items()}
    return speed.Case(task, {**texts, **WARP, **settings})


def loop_settings(scale: Scale, task: str, samples: int, **settings: str) -> dict[str, Value]:
    """Parameters of a closed loop on this backend, with the task's own horizon and iterations."""
    sizes = {"planner.num_samples": str(scale.samples(samples))}
    if scale.rehearsal:
        sizes |= {"planner.horizon_steps": "8", "planner.iterations": "2"}
    return speed.Case(task, {**WARP, **sizes, **settings}).parameters()


def planned(loop: ClosedLoop) -> Plan:
    """The next plan of a loop."""
    plan = loop.plan()
    if plan is None:
        raise RuntimeError(f"{loop.task.name}: every sample was infeasible")
    return plan


def time_plans(scale: Scale, case: speed.Case, seconds: float = 5.0) -> dict[str, Any]:
    """A row as of `speed.row`, of 200 plans in closed loop, or of as many as fit.

    C MuJoCo beside it a few times only.

    `overflows` in it is the number of samples that found no room for their contacts.
    """
    # As in the planner node: torch's own threads would wait busily on the cores that rollouts need.
    torch.set_num_threads(1)
    loop = ClosedLoop(case.parameters(), 0)
    backend, config = loop.controller.backend, loop.config.planner
    for _ in range(scale.count(10)):
        planned(loop)
        loop.advance()
    times, began = list[float](), time.perf_counter()
    while len(times) < scale.count(200) and (
        len(times) < 3 or time.perf_counter() - began < seconds
    ):
        start = time.perf_counter()
        plan = planned(loop)
        times.append(time.perf_counter() - start)
        loop.advance()
    repeats = substeps(config.control_dt, backend.model.opt.timestep)
    controls = torch.from_numpy(plan.controls).expand(
        min(config.num_samples, speed.RAW_SAMPLES), -1, -1
    )
    raw = RawRollout([backend.model], loop.config.backend.threads)
    raw_times = [raw.time(loop.state(), controls, repeats) for _ in range(RAW_REPEATS)]
    steps = config.num_samples * config.horizon_steps * config.iterations * repeats
    raw_steps = controls.shape[0] * controls.shape[1] * repeats
    arrays = (
        np.array(times),
        np.full(len(times), steps),
        np.array(raw_times),
        np.full(RAW_REPEATS, raw_steps),
    )
    return speed.row(loop, *arrays) | {"overflows": backend.overflows}


def title(row: Mapping[str, Any]) -> str:
    """Task and sizes of a row."""
    return f"{row['model']} {row['num_samples']} x {row['horizon_steps']} x {row['iterations']}"


def kernel_modules() -> int:
    """Number of compiled kernel modules in Warp's cache."""
    wp.init()
    return sum(
        1 for path in Path(wp.config.kernel_cache_dir).glob("*/*") if path.suffix in BINARIES
    )
