"""A bandit with two continuous actions and a known reward, improved by guidance or by regression.

Its data and rewards were fixed before the first result was seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_mpc.benchmark.toy_distributions import fit
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.optimality import advantage_weights, optimality
from diffusion_mpc.run_file import Figures

WEIGHTS = (0.0, 1.0, 1.5, 3.0, 5.0, 10.0, 20.0)
"""Weights of guidance."""

LIMITS = (None, 1.0)
"""Limits of `Denoiser.sample`."""

TEMPERATURES = (0.03, 0.1, 0.3, 1.0)
"""Temperatures of advantage-weighted regression."""

REWARD_NOISES = (0.0, 0.3)
"""Standard deviations of the rewards that are seen; what is reported is without noise."""

STEPS = 10
"""Evaluations of the network when sampling."""

BEST = (0.75, 0.5)


def behaviour(count: int, source: torch.Generator) -> Tensor:
    """Actions (count, 1, 2) of a mixture of four normal distributions."""
    signs = 2.0 * torch.randint(0, 2, (count, 1, 2), generator=source) - 1.0
    return 0.5 * signs + 0.2 * torch.randn(count, 1, 2, generator=source)


def reward(actions: Tensor) -> Tensor:
    """Reward (n,) of actions (n, 1, 2), at most 1: a bell beside one of the four means."""
    squared = (actions[:, 0] - torch.tensor(BEST)).square().sum(1)
    return (-squared / (2.0 * 0.4**2)).exp()


def returns(
    model: Denoiser,
    samples: int,
    seed: int,
    label: Tensor | None,
    guidance: float,
    limit: float | None,
) -> Figures:
    """Mean reward of sampled actions, and the fraction of them outside of [-1, 1]."""
    noise = torch.randn(samples, 1, 2, generator=torch.Generator().manual_seed(1000 + seed))
    with torch.inference_mode():
        found = model.sample(torch.zeros(samples, 1), noise, STEPS, label, guidance, limit)
    return {
        "mean_return": float(reward(found).mean()),
        "outside": float((found.abs() > 1.0).any(2).float().mean()),
    }


def bandit(reward_noise: float, rows: int, steps: int, samples: int, seed: int) -> list[Figures]:
    """Returns of the data, of guidance with each weight and limit, and of regression."""
    source = torch.Generator().manual_seed(seed)
    actions = behaviour(rows, source)
    seen = reward(actions) + reward_noise * torch.randn(rows, generator=source)
    advantage = seen - seen.mean()
    data = (actions, torch.zeros(rows, 1))
    common = {"part": "bandit", "reward_noise": reward_noise, "seed": seed}
    config = DenoiserConfig(1, 2, 1, label=1, width=64, depth=2, dropout=0.1)
    model = fit(config, data, steps, seed, optimality(advantage))
    label = torch.ones(samples, 1)
    better = reward(actions)[advantage > 0.0]
    found = [
        {"method": "data", "mean_return": float(reward(actions).mean())},
        {"method": "data with label 1", "mean_return": float(better.mean())},
    ]
    for limit in LIMITS:
        for w in WEIGHTS:
            figures = returns(model, samples, seed, label, w, limit)
            found.append({"method": "CFGRL", "limit": limit, "setting": w, **figures})
    config = DenoiserConfig(1, 2, 1, width=64, depth=2)
    for temperature in TEMPERATURES:
        weight = advantage_weights(advantage, temperature)
        model = fit(config, data, steps, seed, weight=weight)
        figures = returns(model, samples, seed, None, 1.0, 1.0)
        found.append({"method": "AWR", "limit": 1.0, "setting": temperature, **figures})
    return [{**common, **figures} for figures in found]
