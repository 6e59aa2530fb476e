"""Gaussian knots around a mean."""

from __future__ import annotations

import torch


def sample_knots(mean: torch.Tensor, std: torch.Tensor, num_samples: int, generator: torch.Generator) -> torch.Tensor:
    """Knots around the mean, clipped to [-1, 1]; the first row is the mean itself, so that no plan gets worse by bad luck.

    Args:
        mean: (num_knots, nu)
        std: standard deviation, broadcast against (num_knots, nu)
        num_samples: number of rows
        generator: source of randomness

    Returns:
        (num_samples, num_knots, nu)
    """
    noise = torch.randn((num_samples, *mean.shape), generator=generator, dtype=mean.dtype, device=mean.device)
    noise[0] = 0.0
    return torch.addcmul(mean, noise, std).clamp_(-1.0, 1.0)
