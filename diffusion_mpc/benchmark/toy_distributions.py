"""Distributions whose answers are known, for networks that learn them in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from diffusion_mpc.benchmark.runs import Figures
from diffusion_mpc.names import BodyName
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig, MovingAverage

SIZES: dict[BodyName, tuple[int, int]] = {"mlp": (64, 2), "unet": (16, 2), "transformer": (32, 2)}
"""Width and depth of the small bodies."""

UPPER, OFFSET, NOISE = 0.3, 0.6, 0.03
"""Bimodal target: fraction of the mode at +OFFSET, the other being at -OFFSET, and their noise."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch within."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    config: DenoiserConfig,
    rows: tuple[Tensor, Tensor],
    steps: int,
    seed: int,
    label: Tensor | None = None,
    weight: Tensor | None = None,
    batch: int = 256,
) -> Denoiser:
    """Denoiser of rows after so many steps of AdamW, with averaged parameters.

    Args:
        config: see `DenoiserConfig`
        rows: sequences (n, length, channels) and conditions (n, condition)
        steps: gradient steps
        seed: of initial parameters, batches, levels and noise
        label: (n, label)
        weight: (n,)
        batch: rows of a step
    """
    torch.manual_seed(seed)
    source = torch.Generator().manual_seed(seed)
    model = Denoiser(config)
    optimizer, average = torch.optim.AdamW(model.parameters(), 2e-3), MovingAverage(model)
    for _ in range(steps):
        i = torch.randint(len(rows[0]), (batch,), generator=source)
        loss = model.loss(
            rows[0][i],
            rows[1][i],
            source,
            None if label is None else label[i],
            None if weight is None else weight[i],
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
    average.copy_to(model)
    return model.eval()


def bimodal(count: int, source: torch.Generator) -> Tensor:
    """Sequences (count, 4, 2) that are constant but for noise, at one of two modes."""
    mode = 2.0 * (torch.rand(count, 1, 1, generator=source) < UPPER) - 1.0
    return OFFSET * mode + NOISE * torch.randn(count, 4, 2, generator=source)


def modes(found: Tensor) -> Figures:
    """Fractions of sequences at the upper mode and between the two, and the noise within modes.

    Between is where the mean of a sequence is nearer to 0 than to a mode; the upper mode's fraction
    is that of the sequences at a mode.
    """
    means = found.mean((1, 2))
    between = means.abs() < OFFSET / 2.0
    at = found[~between]
    centres = OFFSET * means[~between].sign()[:, None, None]
    return {
        "upper": float((means[~between] > 0.0).float().mean()),
        "between": float(between.float().mean()),
        "noise": float((at - centres).square().mean().sqrt()),
    }


def meet_modes(body: BodyName, steps: int, samples: int, seed: int = 0) -> list[Figures]:
    """Figures of `modes` for DDPM's ancestral sampling, DDIM and flow with one body."""
    source = torch.Generator().manual_seed(seed)
    data = bimodal(20_000, source)
    rows = []
    for process, samplers in (
        ("ddpm", (("DDPM, ancestral", 100, 1.0), ("DDIM", 10, 0.0))),
        ("flow", (("flow", 10, 0.0),)),
    ):
        width, depth = SIZES[body]
        config = DenoiserConfig(
            4,
            2,
            1,
            body=body,
            process="ddpm" if process == "ddpm" else "flow",
            width=width,
            depth=depth,
        )
        model = fit(config, (data, torch.zeros(len(data), 1)), steps, seed, batch=128)
        for name, evaluations, eta in samplers:
            noise = torch.randn(samples, 4, 2, generator=source)
            with torch.inference_mode():
                found = model.sample(
                    torch.zeros(samples, 1), noise, evaluations, eta=eta, generator=source
                )
            rows.append(
                {
                    "part": "modes",
                    "body": body,
                    "sampler": name,
                    "evaluations": evaluations,
                    **modes(found),
                }
            )
    return rows
