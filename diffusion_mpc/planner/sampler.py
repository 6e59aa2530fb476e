"""Gaussian knots around a mean."""

from __future__ import annotations

import torch


def draw_noise(
    steps: int, num_samples: int, like: torch.Tensor, generator: torch.Generator, mirrored: bool = False
) -> torch.Tensor:
    """Standard normal noise of a whole search; the first row is zero, so that it stands for the mean itself.

    Drawn at once, before the search: what a search does afterwards depends on its inputs alone.

    Args:
        steps: number of denoising steps
        num_samples: number of rows
        like: (num_knots, nu) tensor that gives shape, type and device
        generator: source of randomness
        mirrored: draw noise in pairs of opposite sign, so that it averages to zero whatever the number of samples

    Returns:
        (steps, num_samples, num_knots, nu)
    """
    drawn = num_samples // 2 if mirrored else num_samples - 1
    noise = torch.randn((steps, drawn, *like.shape), generator=generator, dtype=like.dtype, device=like.device)
    parts = (noise.new_zeros((steps, 1, *like.shape)), noise, -noise[:, : num_samples - 1 - drawn])
    return torch.cat(parts if mirrored else parts[:2], dim=1)


def sample_knots(mean: torch.Tensor, std: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Knots (num_samples, num_knots, nu) around the mean, clipped to [-1, 1].

    Args:
        mean: (num_knots, nu)
        std: standard deviation, broadcast against (num_knots, nu)
        noise: (num_samples, num_knots, nu) standard normal; see `draw_noise`
    """
    return torch.addcmul(mean, noise, std).clamp_(-1.0, 1.0)
