"""Time of sampling plans from networks on one thread."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import torch

from diffusion_mpc.names import BodyName
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.run_file import Figures

NETWORKS: dict[str, tuple[BodyName, int, int]] = {
    "mlp 2 x 128": ("mlp", 128, 2),
    "mlp 3 x 256": ("mlp", 256, 3),
    "unet 64, 128, 256": ("unet", 64, 3),
    "transformer 3 x 64": ("transformer", 64, 3),
}
"""Body, width and depth by name."""

EVALUATIONS = (1, 2, 5, 10)
"""Evaluations of the network in a sample."""

ROWS, KNOTS, ACTUATORS, CONDITION = 8, 6, 8, 60


def latencies(repetitions: int) -> list[Figures]:
    """Median and 99th percentile of a batch of plans, ms, interleaved call by call.

    And the median of the thread's own time, which does not count the waiting for a busy core.
    """
    models = {
        name: Denoiser(
            DenoiserConfig(KNOTS, ACTUATORS, CONDITION, body=body, width=width, depth=depth)
        ).eval()
        for name, (body, width, depth) in NETWORKS.items()
    }
    cases = list(product(models, EVALUATIONS))
    times: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
    condition, noise = torch.randn(ROWS, CONDITION), torch.randn(ROWS, KNOTS, ACTUATORS)
    with torch.inference_mode():
        for repetition in range(-1, repetitions):  # the one before 0 warms up
            for name, evaluations in cases:
                began, own = time.perf_counter(), time.thread_time()
                models[name].sample(condition, noise, evaluations)
                if repetition >= 0:
                    passed = time.perf_counter() - began, time.thread_time() - own
                    times[name, evaluations].append(passed)
    return [
        {
            "part": "latency",
            "network": name,
            "parameters": sum(p.numel() for p in models[name].parameters()),
            "evaluations": evaluations,
            "median": 1e3 * float(np.median(found, axis=0)[0]),
            "p99": 1e3 * float(np.percentile(found, 99, axis=0)[0]),
            "own": 1e3 * float(np.median(found, axis=0)[1]),
        }
        for (name, evaluations), found in times.items()
    ]
