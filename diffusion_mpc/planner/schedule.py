"""Noise of each denoising step, by diffusion level and by knot."""

from __future__ import annotations

import math

import numpy as np
import torch

from diffusion_mpc.types import Array

Scalar = float | torch.Tensor
"""A number on the host, or a tensor () on the device."""


def alpha_bars(levels: int, beta_first: float = 1e-4, beta_last: float = 1e-2) -> Array:
    """Signal fractions (levels,) with linear beta (2407.01573, eq. 3, A.5.2)."""
    return np.cumprod(1.0 - np.linspace(beta_first, beta_last, levels), dtype=np.float64)


def noise_levels(alpha_bar: Array) -> Array:
    """Standard deviation `sqrt(1 - alpha_bar_i)` at each level (2407.01573, authors' code)."""
    return np.sqrt(1.0 - alpha_bar)


def online_noise(step: int, steps: int, start: float, end: float) -> float:
    """Standard deviation at one of the few denoising steps of an online plan.

    A warm plan is re-noised to an intermediate level only, which receding-horizon MBD (2407.01573,
    Algorithm 3) leaves open. The levels between are spaced geometrically: equal ratios of noise
    narrow the search equally at each step.

    Args:
        step: denoising step, from 0
        steps: number of denoising steps
        start: standard deviation at the first step, in normalised actions
        end: standard deviation at the last step
    """
    if steps == 1 or start == 0.0 or end == 0.0:
        return start if step == 0 else end
    return start * math.exp(math.log(end / start) * step / (steps - 1))


def knot_profile(num_knots: int, growth: float) -> Array:
    """Noise by knot over its mean, (num_knots,), `growth`-fold at the end (2409.15610)."""
    profile: Array = growth ** np.linspace(0.0, 1.0, num_knots)
    return profile / profile.mean()


SCALES = 0.2, 1.5
"""Least and largest multiple of the schedule's noise.

A search that narrowed to nothing would never widen again.
"""

SHAPES = 0.3, 2.0
"""Least and largest noise of a knot and actuator, as a multiple of their mean."""


def rescale_noise(
    noise_scale: torch.Tensor,
    deviation: torch.Tensor,
    excess: torch.Tensor,
    scale_rate: Scalar,
    shape_rate: Scalar,
) -> torch.Tensor:
    """Noise of the next denoising step as a multiple of the schedule's, by knot and actuator.

    Its mean follows the success rule of evolution strategies (Rechenberg, 1973): where many samples
    beat the plan it is far from good, be it old, or the robot pushed, or the reference another, and
    the search widens; where none does, it narrows. Its shape follows the deviation of the samples
    that weigh, as in a diagonal CMA-ES (Ros and Hansen, 2008).

    Args:
        noise_scale: (num_knots, nu) the present multiple
        deviation: (num_knots, nu) weighted standard deviation of the samples round the mean that
            they were drawn from, as a multiple of the schedule's but for a common factor
        excess: () fraction of the samples that beat the mean, less the fraction that is asked for
        scale_rate: how fast the mean follows, in powers of e per step; 0: it stays
        shape_rate: fraction of the new shape that comes from this step; 0: it stays
    """
    scale = noise_scale.mean()
    shape = torch.lerp(
        noise_scale / scale, deviation / deviation.mean().clamp(min=1e-12), shape_rate
    ).clamp(*SHAPES)
    return shape * ((scale * (scale_rate * excess).exp()).clamp(*SCALES) / shape.mean())


def dial_noise(step: int, steps: int, num_knots: int, beta1: float, beta2: float) -> Array:
    """Noise of each knot at a step, `exp(-(N-i)/(b1 N) - (H-h)/(b2 H))`, (num_knots,).

    I runs from N to 1.

    DIAL (2409.15610, eq. 7) calls it a covariance; in its authors' code, as here, it is a standard
    deviation.
    """
    knots = np.arange(1, num_knots + 1)
    return np.exp(
        -step / (beta1 * steps) - (num_knots - knots) / (beta2 * num_knots), dtype=np.float64
    )
