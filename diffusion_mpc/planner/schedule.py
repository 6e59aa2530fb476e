"""How much noise each denoising step adds, by diffusion level and by knot."""

from __future__ import annotations

import math

import numpy as np

from diffusion_mpc.types import Array


def alpha_bars(levels: int, beta_first: float = 1e-4, beta_last: float = 1e-2) -> Array:
    """Signal shares of the forward process with a linear beta, (levels,), falling from almost 1 (2407.01573, eq. 3 and A.5.2)."""
    return np.cumprod(1.0 - np.linspace(beta_first, beta_last, levels), dtype=np.float64)


def noise_levels(alpha_bar: Array) -> Array:
    """Standard deviation `sqrt(1 - alpha_bar_i)` that samples have around the mean at each level (2407.01573, authors' code)."""
    return np.sqrt(1.0 - alpha_bar)


def online_noise(step: int, steps: int, start: float, end: float) -> float:
    """Standard deviation at one of the few denoising steps of an online plan.

    A warm plan is re-noised to an intermediate level only, which receding-horizon MBD (2407.01573, Algorithm 3) leaves open. The
    levels between are spaced geometrically: equal ratios of noise narrow the search equally at each step.

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
    """Noise of each knot relative to the mean over all knots, (num_knots,), `growth`-fold from first to last (DIAL, 2409.15610)."""
    profile: Array = growth ** np.linspace(0.0, 1.0, num_knots)
    return profile / profile.mean()


def dial_noise(step: int, steps: int, num_knots: int, beta1: float, beta2: float) -> Array:
    """Noise of each knot at a step, `exp(-(N-i)/(b1 N) - (H-h)/(b2 H))`, (num_knots,); i runs from N to 1.

    DIAL (2409.15610, eq. 7) calls it a covariance; in its authors' code, as here, it is a standard deviation.
    """
    knots = np.arange(1, num_knots + 1)
    return np.exp(-step / (beta1 * steps) - (num_knots - knots) / (beta2 * num_knots), dtype=np.float64)
