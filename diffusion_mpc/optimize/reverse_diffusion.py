"""Model-Based Diffusion of any black-box function.

One reverse pass from noise to a minimum (Pan et al., 2407.01573, Algorithm 1).

Points lie in [-1, 1]^d; who has other bounds scales them. Open-loop trajectory optimisation
(`trajectory.py`) is the same pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from diffusion_mpc.names import Variant, require_known
from diffusion_mpc.planner.schedule import alpha_bars, noise_levels
from diffusion_mpc.planner.score import (
    Evaluation,
    effective_sample_size,
    require_finite,
    reverse_sde,
    sample_weights,
    score_ascent,
    search_costs,
    weighted_mean,
)
from diffusion_mpc.types import Array

VARIANTS = get_args(Variant)


@dataclass(frozen=True)
class Settings:
    """Parameters of a reverse pass.

    Attributes:
        samples: samples at each level
        levels: noise levels of the schedule; the pass has one step fewer
        temperature: temperature of the weights
        variant: "paper": samples `N(Y_i / sqrt(abar_{i-1}), (1/abar_{i-1} - 1) I)` and score
            ascent; "code": samples `N(Ybar, (1 - abar_i) I)` clipped to [-1, 1], from a start at 0,
            and score ascent, as the authors' code does; "geometric": as "code", but noise falls
            between the same ends in equal ratios, which gives every scale as many levels (a linear
            beta spends half of them above half of the first), and samples are antithetic about
            their centre, which keeps chance from moving the mean (Brockhoff et al., 2010); "sde":
            the paper's samples and the reverse SDE
        seed: same seed, same result on the CPU
        modes: number of modes to return
        mode_distance: least distance of two modes, root mean square over coordinates
    """

    samples: int = 64
    levels: int = 100
    temperature: float = 0.1
    variant: Variant = "geometric"
    seed: int = 0
    modes: int = 3
    mode_distance: float = 0.1

    def __post_init__(self) -> None:
        require_known("variant", self.variant, VARIANTS)
        if self.samples < 2 or self.levels < 2 or self.temperature <= 0.0:
            raise ValueError(
                "a reverse pass needs at least 2 samples, 2 levels and a temperature above 0"
            )


@dataclass(frozen=True)
class Candidate:
    """A point (d,), its cost, and by how much it breaks the constraints (0: not at all)."""

    point: torch.Tensor
    cost: float
    violation: float


@dataclass(frozen=True)
class DiffusionLevel:
    """One step of the pass.

    Its level, the noise of its samples, cheapest and mean cost among them, and their effective
    number.
    """

    level: int
    sigma: float
    best_cost: float
    mean_cost: float
    effective_sample_size: float


@dataclass(frozen=True)
class Result:
    """Outcome of a reverse pass.

    Attributes:
        best: cheapest feasible point that was evaluated; the one that violates least where none is
            feasible
        final: the estimate that the pass ended at
        history: one entry a step, from much noise to little
        modes: the best points that are apart from each other, best first
        evaluations: number of points evaluated
        complete: False where Ctrl-C ended the pass early
    """

    best: Candidate
    final: Candidate
    history: tuple[DiffusionLevel, ...]
    modes: tuple[Candidate, ...]
    evaluations: int
    complete: bool


Objective = Callable[[torch.Tensor], torch.Tensor]
OnLevel = Callable[[DiffusionLevel], None]


def minimize(
    objective: Objective,
    dim: int,
    settings: Settings,
    constraint: Objective | None = None,
    on_level: OnLevel | None = None,
) -> Result:
    """Minimise a black-box function over [-1, 1]^d (2407.01573, Algorithm 1).

    Args:
        objective: points (samples, d), float64, to costs (samples,)
        dim: d
        settings: parameters of the pass
        constraint: points (samples, d) to values (samples,) or (samples, k) that are to be 0 or
            less
        on_level: called after each step

    Raises:
        NoFeasibleSampleError: every cost of a level is NaN or infinite
    """

    def evaluate(points: torch.Tensor) -> Evaluation:
        costs = objective(points)
        if constraint is None:
            return Evaluation(costs)
        return Evaluation(costs, constraint(points).clamp(min=0.0).reshape(len(points), -1).sum(-1))

    return reverse_pass(evaluate, torch.zeros(dim, dtype=torch.float64), settings, on_level)


def reverse_pass(
    evaluate: Callable[[torch.Tensor], Evaluation],
    like: torch.Tensor,
    settings: Settings,
    on_level: OnLevel | None = None,
) -> Result:
    """Denoise from level N to 1: sample round the iterate, weigh, average, step.

    Ctrl-C ends it with what it has.

    Args:
        evaluate: points (samples, d) to what is known of them
        like: (d,) tensor that gives dimension, type and device
        settings: parameters of the pass
        on_level: called after each step

    Raises:
        NoFeasibleSampleError: every cost of a level is NaN or infinite
    """
    bars = _alpha_bars(settings).tolist()
    as_code = settings.variant in ("code", "geometric")
    generator = torch.Generator(like.device).manual_seed(settings.seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)

    noisy = torch.zeros_like(like) if as_code else normal(len(like))
    clean, history, archive = noisy / bars[-1] ** 0.5, list[DiffusionLevel](), list[Candidate]()
    complete = True
    try:
        for i in range(settings.levels - 1, 0, -1):
            centre, sigma = _samples_at(noisy, bars[i], bars[i - 1], settings.variant)
            noise = normal(settings.samples, len(like))
            if settings.variant == "geometric":
                half = settings.samples // 2
                noise[half : 2 * half] = -noise[:half]
            points = centre + sigma * noise
            if as_code:
                points = points.clamp(-1.0, 1.0)
            found = evaluate(points)
            weights = sample_weights(search_costs(found), settings.temperature)
            require_finite(weights)
            clean = weighted_mean(weights, points)
            alpha = bars[i] / bars[i - 1]
            if settings.variant == "sde":
                noisy = reverse_sde(noisy, clean, alpha, bars[i], normal(len(like)))
            else:
                noisy = score_ascent(noisy, clean, alpha, bars[i])
            archive += _cheapest(points, found, 4 * settings.modes)
            finite = found.costs[found.costs.isfinite()]
            history.append(
                DiffusionLevel(
                    i,
                    sigma,
                    float(finite.min()),
                    float(finite.mean()),
                    effective_sample_size(weights.cpu().numpy()),
                )
            )
            if on_level is not None:
                on_level(history[-1])
    except KeyboardInterrupt:
        if not archive:
            raise
        complete = False
    last = evaluate(clean[None])
    final = Candidate(clean, float(last.costs[0]), float(_violation(last)[0]))
    ranked = sorted(
        [c for c in [*archive, final] if math.isfinite(c.cost)], key=lambda c: (c.violation, c.cost)
    )
    return Result(
        best=ranked[0],
        final=final,
        history=tuple(history),
        modes=select_modes(ranked, settings.modes, settings.mode_distance),
        evaluations=settings.samples * len(history) + 1,
        complete=complete,
    )


def _alpha_bars(settings: Settings) -> Array:
    bars = alpha_bars(settings.levels)
    if settings.variant != "geometric":
        return bars
    sigmas = noise_levels(bars)
    geometric: Array = 1.0 - np.geomspace(sigmas[0], sigmas[-1], settings.levels) ** 2
    return geometric


def _samples_at(
    noisy: torch.Tensor, bar: float, bar_before: float, variant: Variant
) -> tuple[torch.Tensor, float]:
    """Mean (d,) and standard deviation of the samples at a level."""
    if variant in ("code", "geometric"):
        return noisy / bar**0.5, (1.0 - bar) ** 0.5
    return noisy / bar_before**0.5, (1.0 / bar_before - 1.0) ** 0.5


def _violation(found: Evaluation) -> torch.Tensor:
    return torch.zeros_like(found.costs) if found.violation is None else found.violation


def _cheapest(points: torch.Tensor, found: Evaluation, count: int) -> list[Candidate]:
    """The best few of a batch: by violation, then by cost."""
    costs, violation = found.costs.cpu(), _violation(found).cpu()
    order = sorted(
        range(len(costs)),
        key=lambda n: (float(violation[n]), float(costs[n].nan_to_num(nan=math.inf))),
    )
    return [
        Candidate(points[n].clone(), float(costs[n]), float(violation[n])) for n in order[:count]
    ]


def select_modes(ranked: list[Candidate], count: int, distance: float) -> tuple[Candidate, ...]:
    """Greedily the best candidates at least `distance` apart, root mean square over coordinates.

    `ranked` is best first.
    """
    modes: list[Candidate] = []
    for candidate in ranked:
        if len(modes) == count:
            break
        if all(
            float((candidate.point - other.point).square().mean().sqrt()) >= distance
            for other in modes
        ):
            modes.append(candidate)
    return tuple(modes)
