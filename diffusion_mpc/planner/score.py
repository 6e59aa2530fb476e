"""From costs to weights, and from weighted samples to the score of the diffused plan distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class NoFeasibleSampleError(RuntimeError):
    """Every sample of a batch has a NaN or infinite cost."""


def sample_weights(costs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Weights `softmax(-(J - mean J) / (std J * temperature))` (MBD, 2407.01573, section 4.1 and authors' code).

    A standard deviation below 1e-4 counts as 1, so that equal costs give equal weights. Samples with NaN or infinite cost weigh
    nothing and do not touch the statistics.

    Args:
        costs: (samples,)
        temperature: small values follow the best samples only

    Returns:
        (samples,) non-negative, sum 1

    Raises:
        NoFeasibleSampleError: no cost is finite
    """
    finite = costs.isfinite()
    count = finite.sum()
    if int(count) == 0:
        raise NoFeasibleSampleError(f"all {len(costs)} samples have a NaN or infinite cost")
    good = costs.where(finite, 0.0)
    mean = good.sum() / count
    deviation = (good - mean).where(finite, 0.0)
    std = (deviation.square().sum() / count).sqrt()
    scaled = deviation / (temperature * std.where(std >= 1e-4, 1.0))
    return torch.softmax((-scaled).where(finite, -torch.inf), dim=0)


def elite_weights(costs: torch.Tensor, count: int) -> torch.Tensor:
    """Equal weights (samples,) of the `count` cheapest samples, zero for the others; see `ranked_weights`."""
    return ranked_weights(costs, [1.0] * count)


def ranked_weights(costs: torch.Tensor, by_rank: Sequence[float]) -> torch.Tensor:
    """Weights that depend on the order of the costs only.

    Args:
        costs: (samples,)
        by_rank: weights of the cheapest sample, the second, ...; what would fall to NaN or infinite costs is left out

    Returns:
        (samples,) non-negative, sum 1

    Raises:
        NoFeasibleSampleError: no cost is finite
    """
    finite = costs.isfinite()
    count = min(len(by_rank), int(finite.sum()))
    if count == 0:
        raise NoFeasibleSampleError(f"all {len(costs)} samples have a NaN or infinite cost")
    weights = torch.zeros_like(costs)
    # Stable: among equals the first wins, which is the mean itself.
    weights[costs.where(finite, torch.inf).argsort(stable=True)[:count]] = costs.new_tensor(by_rank[:count])
    return weights / weights.sum()


def weighted_mean(weights: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """Monte-Carlo estimate of the clean plan, `Ybar = sum_n w_n Y0_n` (2407.01573, eq. 9).

    Args:
        weights: (samples,)
        knots: (samples, num_knots, nu)
    """
    return torch.tensordot(weights, knots, dims=1)


def score(noisy: torch.Tensor, clean: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Score of the diffused distribution at `noisy`, `-(Y_i - sqrt(abar_i) Ybar) / (1 - abar_i)` (2407.01573, eq. 9)."""
    return (alpha_bar**0.5 * clean - noisy) / (1.0 - alpha_bar)


def score_ascent(noisy: torch.Tensor, clean: torch.Tensor, alpha: float, alpha_bar: float) -> torch.Tensor:
    """One Monte-Carlo score ascent step, `Y_{i-1} = (Y_i + (1 - abar_i) score) / sqrt(alpha_i)` (2407.01573, eq. 8).

    With the score inserted this is `sqrt(abar_{i-1}) Ybar` exactly: the step forgets `Y_i`. Online planning therefore carries Ybar.
    """
    return (noisy + (1.0 - alpha_bar) * score(noisy, clean, alpha_bar)) / alpha**0.5


def reverse_sde(noisy: torch.Tensor, clean: torch.Tensor, alpha: float, alpha_bar: float, noise: torch.Tensor) -> torch.Tensor:
    """One step of the reverse SDE, `(Y_i + (1 - alpha_i)/2 score) / sqrt(alpha_i) + sqrt(1 - alpha_i) z` (2407.01573, eq. 4).

    For comparison: it draws a sample of the plan distribution where score ascent climbs to its peak, and in the hundred levels that
    planning has time for it stays far from any minimum. `noise` is z, standard normal.
    """
    return (noisy + 0.5 * (1.0 - alpha) * score(noisy, clean, alpha_bar)) / alpha**0.5 + (1.0 - alpha) ** 0.5 * noise


def effective_sample_size(weights: torch.Tensor) -> float:
    """`1 / sum w^2`: 1 when one sample decides, the number of samples when all weigh the same."""
    return float(1.0 / weights.square().sum())
