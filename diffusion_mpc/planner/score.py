"""From costs to weights, and from weighted samples to the score of the diffused plan distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


class NoFeasibleSampleError(RuntimeError):
    """Every sample of a batch has a NaN or infinite cost."""


@dataclass(frozen=True)
class Evaluation:
    """What a search knows of a batch of points.

    Attributes:
        costs: (samples,)
        violation: (samples,) by how much constraints are broken, 0: not at all; None: there are no constraints
        demo_costs: (samples,) cost that a point is granted for being near a demonstration, or None
    """

    costs: torch.Tensor
    violation: torch.Tensor | None = None
    demo_costs: torch.Tensor | None = None


def search_costs(found: Evaluation) -> torch.Tensor:
    """Costs (samples,) that weights are made of: constraints and demonstrations included.

    The paper's indicator of the constraints leaves no weight at all where nothing is feasible. Here infeasible samples rank behind
    the worst feasible one, by their violation. Demonstrations follow the max rule (2407.01573, eq. 11-13): the maximum of two
    unnormalised densities is the minimum of two costs, so standardising happens once, in `sample_weights`.
    """
    costs = found.costs
    if found.demo_costs is not None:
        costs = torch.minimum(costs, found.demo_costs).where(costs.isfinite(), torch.inf)
    if found.violation is None:
        return costs
    violation = found.violation
    feasible = (violation <= 0.0) & costs.isfinite()
    if bool(feasible.all()):
        return costs
    if not bool(feasible.any()):
        return violation.where(costs.isfinite(), torch.inf) if bool((violation > 0.0).any()) else costs
    low, high = costs[feasible].min(), costs[feasible].max()
    broken = (violation > 0.0) & costs.isfinite() & violation.isfinite()
    worst = violation[broken].max() if bool(broken.any()) else violation.new_tensor(1.0)
    # As far behind as the feasible ones are spread, so that the scale of the violation cannot drown the differences among them.
    behind = high + (high - low).clamp(min=1e-3) * (violation / worst)
    return torch.where(feasible, costs, behind.where(broken, torch.inf))


def sample_weights(costs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Weights `softmax(-(J - mean J) / (std J * temperature))` (2407.01573, eq. 10d, as the authors' code scales it).

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
    good = costs if bool(finite.all()) else costs[finite]
    if len(good) == 0:
        raise NoFeasibleSampleError(f"all {len(costs)} samples have a NaN or infinite cost")
    std = good.std(correction=0)
    # Softmax does not see the mean.
    scaled = costs * (-1.0 / (temperature * std.where(std >= 1e-4, 1.0)))
    return torch.softmax(scaled if good is costs else scaled.where(finite, -torch.inf), dim=0)


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
    """Monte-Carlo estimate of the clean plan, `Ybar = sum_n w_n Y0_n` (2407.01573, eq. 9b and 10d).

    Args:
        weights: (samples,)
        knots: (samples, num_knots, nu)
    """
    return torch.tensordot(weights, knots, dims=1)


def score(noisy: torch.Tensor, clean: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Score of the diffused distribution at `noisy`, `-(Y_i - sqrt(abar_i) Ybar) / (1 - abar_i)` (2407.01573, eq. 9b)."""
    return (alpha_bar**0.5 * clean - noisy) / (1.0 - alpha_bar)


def score_ascent(noisy: torch.Tensor, clean: torch.Tensor, alpha: float, alpha_bar: float) -> torch.Tensor:
    """One Monte-Carlo score ascent step, `Y_{i-1} = (Y_i + (1 - abar_i) score) / sqrt(alpha_i)` (2407.01573, eq. 6).

    With the score inserted this is `sqrt(abar_{i-1}) Ybar` exactly: the step forgets `Y_i`. Online planning therefore carries Ybar.
    """
    return (noisy + (1.0 - alpha_bar) * score(noisy, clean, alpha_bar)) / alpha**0.5


def reverse_sde(noisy: torch.Tensor, clean: torch.Tensor, alpha: float, alpha_bar: float, noise: torch.Tensor) -> torch.Tensor:
    """One step of the reverse SDE, `(Y_i + (1 - alpha_i)/2 score) / sqrt(alpha_i) + sqrt(1 - alpha_i) z` (2407.01573, section 3).

    For comparison: it draws a sample of the plan distribution where score ascent climbs to its peak, and in the hundred levels that
    planning has time for it stays far from any minimum. `noise` is z, standard normal.
    """
    return (noisy + 0.5 * (1.0 - alpha) * score(noisy, clean, alpha_bar)) / alpha**0.5 + (1.0 - alpha) ** 0.5 * noise


def success_share(costs: torch.Tensor) -> torch.Tensor:
    """Share () of the samples that are cheaper than the first one; those that cost the same count as half of one.

    NaN counts as dearer than anything.
    """
    costs = costs.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    others, first = costs[1:], costs[0]
    return 0.5 * ((others < first).to(costs.dtype).mean() + (others <= first).to(costs.dtype).mean())


def effective_sample_size(weights: torch.Tensor) -> float:
    """`1 / sum w^2`: 1 when one sample decides, the number of samples when all weigh the same."""
    return 1.0 / float(torch.dot(weights, weights))
