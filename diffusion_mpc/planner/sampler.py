"""Gaussian knots around a mean."""

from __future__ import annotations

import torch


def sample_knots(
    mean: torch.Tensor, std: torch.Tensor, num_samples: int, generator: torch.Generator, mirrored: bool = False
) -> torch.Tensor:
    """Knots around the mean, clipped to [-1, 1]; the first row is the mean itself, so that no plan gets worse by bad luck.

    Args:
        mean: (num_knots, nu)
        std: standard deviation, broadcast against (num_knots, nu)
        num_samples: number of rows
        generator: source of randomness
        mirrored: draw noise in pairs of opposite sign, so that it averages to zero whatever the number of samples

    Returns:
        (num_samples, num_knots, nu)
    """
    drawn = num_samples // 2 if mirrored else num_samples - 1
    noise = torch.randn((drawn, *mean.shape), generator=generator, dtype=mean.dtype, device=mean.device)
    parts = (torch.zeros_like(mean)[None], noise, -noise[: num_samples - 1 - drawn])
    noise = torch.cat(parts if mirrored else parts[:2])
    return torch.addcmul(mean, noise, std).clamp_(-1.0, 1.0)
