"""Distributions whose answers are known, for networks that learn them in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from diffusion_mpc.names import BodyName, ProcessName
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig, MovingAverage
from diffusion_mpc.policy.generative_processes import GenerativeProcess, Predictor, make_process
from diffusion_mpc.run_file import Figures

SIZES: dict[BodyName, tuple[int, int]] = {"mlp": (64, 2), "unet": (16, 2), "transformer": (32, 2)}
"""Width and depth of the small bodies."""

LEVELS = 100
SAMPLERS: dict[ProcessName, tuple[tuple[str, int, float], ...]] = {
    "ddpm": (("DDPM, ancestral", LEVELS, 1.0), ("DDIM", 10, 0.0)),
    "flow": (("flow", 10, 0.0), ("flow", 32, 0.0)),
}
"""Name, evaluations of the network and eta of the samplers of each process."""

PEAK = 4e-3
"""Largest learning rate."""

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
    """Denoiser of rows after one cycle of AdamW's learning rate, with averaged parameters.

    Args:
        config: see `DenoiserConfig`
        rows: sequences (n, length, channels) and conditions (n, condition)
        steps: gradient steps
        seed: of initial parameters, batches, levels and noise
        label: (n, label)
        weight: (n,) of the rows, which are drawn in proportion to it: the weighted loss, but with
            gradients that rare large weights do not make noisy
        batch: rows of a step
    """
    torch.manual_seed(seed)
    source = torch.Generator().manual_seed(seed)
    model = Denoiser(config)
    optimizer, average = torch.optim.AdamW(model.parameters(), PEAK), MovingAverage(model)
    # The fractions of modes are decided where little of the data is seen: a rate that falls to 0
    # averages the batches there.
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps + 1)
    for _ in range(steps):
        if weight is None:
            i = torch.randint(len(rows[0]), (batch,), generator=source)
        else:
            i = weight.multinomial(batch, replacement=True, generator=source)
        loss = model.loss(rows[0][i], rows[1][i], source, None if label is None else label[i])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rate.step()
        average.update(model)
    average.copy_to(model)
    return model.eval()


def bimodal(count: int, source: torch.Generator) -> Tensor:
    """Sequences (count, 4, 2) that are constant but for noise, in the modes' exact fractions."""
    upper = torch.arange(count)[:, None, None] < round(UPPER * count)
    return OFFSET * (2.0 * upper - 1.0) + NOISE * torch.randn(count, 4, 2, generator=source)


def best_estimate(process: GenerativeProcess) -> Predictor:
    """The answer that a network of samples would learn at best: the mean of the data behind x.

    Of the mixture of two normal distributions, so that its figures are the sampler's own errors.
    """

    def predict(x: Tensor, level: Tensor) -> Tensor:
        signal, sigma = (s[:, None, None] for s in process.scales(level))
        variance = sigma**2 + (signal * NOISE) ** 2
        difference = 2.0 * signal * OFFSET * x.sum((1, 2), keepdim=True) / variance
        upper = torch.sigmoid(difference + math.log(UPPER / (1.0 - UPPER)))
        centre = OFFSET * (2.0 * upper - 1.0)
        return centre + signal * NOISE**2 / variance * (x - signal * centre)

    return predict


def modes(found: Tensor) -> Figures:
    """Fractions of sequences at the upper mode and between the two, and the noise within modes.

    Between is where the mean of a sequence is nearer to 0 than to a mode; the upper mode's fraction
    is that of the sequences at a mode. The error is that of the rarer mode's fraction relative to
    the data's, which is the stricter of the two.
    """
    means = found.mean((1, 2))
    between = means.abs() < OFFSET / 2.0
    at = found[~between]
    centres = OFFSET * means[~between].sign()[:, None, None]
    upper = float((means[~between] > 0.0).float().mean())
    return {
        "upper": upper,
        "error": upper / UPPER - 1.0,
        "between": float(between.float().mean()),
        "noise": float((at - centres).square().mean().sqrt()),
    }


def meet_modes(
    body: BodyName | None, steps: int, samples: int, rows: int, seed: int = 0
) -> list[Figures]:
    """Figures of `modes` for each sampler with one body; None: with the best estimate."""
    source = torch.Generator().manual_seed(seed)
    data = bimodal(rows, source)
    condition = torch.zeros(samples, 1)
    found = []
    for name, samplers in SAMPLERS.items():
        if body is not None:
            width, depth = SIZES[body]
            config = DenoiserConfig(
                4, 2, 1, body=body, process=name, width=width, depth=depth, levels=LEVELS
            )
            model = fit(config, (data, torch.zeros(rows, 1)), steps, seed)
        process = make_process(name, "sample", LEVELS)
        for sampler, evaluations, eta in samplers:
            noise = torch.randn(samples, 4, 2, generator=source)
            with torch.inference_mode():
                made = (
                    process.sample(
                        best_estimate(process), noise, evaluations, eta=eta, generator=source
                    )
                    if body is None
                    else model.sample(condition, noise, evaluations, eta=eta, generator=source)
                )
            found.append(
                {
                    "part": "modes",
                    "body": body or "exact",
                    "sampler": sampler,
                    "evaluations": evaluations,
                    **modes(made),
                }
            )
    return found
