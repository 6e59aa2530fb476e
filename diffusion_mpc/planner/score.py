"""Weights of costs, and the score of the diffused plan distribution from weighted samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diffusion_mpc.tasks.cost import constant
from diffusion_mpc.types import Array


class NoFeasibleSampleError(RuntimeError):
    """Every sample of a batch has a NaN or infinite cost."""


@dataclass(frozen=True)
class Evaluation:
    """Costs of a batch of points, and whatever else weights depend on.

    Attributes:
        costs: (samples,)
        violation: (samples,) by how much constraints are broken, 0: not at all; None: there are no
            constraints
        demo_costs: (samples,) cost that a point is granted for being near a demonstration, or None
    """

    costs: torch.Tensor
    violation: torch.Tensor | None = None
    demo_costs: torch.Tensor | None = None


def search_costs(found: Evaluation) -> torch.Tensor:
    """Costs (samples,) that weights are made of, constraints and demonstrations included.

    Infinite where they are not finite.

    The paper's indicator of the constraints leaves no weight at all where nothing is feasible. Here
    infeasible samples rank behind the worst feasible one, by their violation. Demonstrations follow
    the max rule (2407.01573, eq. 11-13): the maximum of two unnormalised densities is the minimum
    of two costs, so standardising happens once, in `sample_weights`.
    """
    costs, violation = (
        found.costs.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf),
        found.violation,
    )
    if found.demo_costs is None and violation is None:
        return costs
    finite = costs < torch.inf
    if found.demo_costs is not None:
        costs = torch.minimum(costs, found.demo_costs).where(finite, torch.inf)
    if violation is None:
        return costs
    feasible = (violation <= 0.0) & finite
    broken = (violation > 0.0) & finite & violation.isfinite()
    low, high = costs.where(feasible, torch.inf).amin(), costs.where(feasible, -torch.inf).amax()
    # As far behind as the feasible ones are spread, so that the scale of the violation cannot drown
    # the differences among them.
    behind = high + (high - low).clamp(min=1e-3) * (violation / violation.where(broken, 0.0).amax())
    ranked = torch.where(feasible, costs, behind.where(broken, torch.inf))
    return torch.where(feasible.any(), ranked, violation.where(broken, torch.inf))


def sample_weights(costs: torch.Tensor, temperature: float | torch.Tensor) -> torch.Tensor:
    """Weights `softmax(-(J - mean J) / (std J * temperature))` (2407.01573, eq. 10d).

    A standard deviation of 1e-4 or less counts as 1, so that equal costs give equal weights.
    Samples of infinite cost weigh nothing and do not touch the statistics.

    Args:
        costs: (samples,) finite or positive infinite, as `search_costs` returns them
        temperature: small values follow the best samples only

    Returns:
        (samples,) non-negative, sum 1; all NaN where no cost is finite, see `require_finite`
    """
    # As few operations as possible: between two rollouts each takes several microseconds.
    bad = costs == torch.inf
    count = len(costs) - bad.sum()
    below = costs.masked_fill(bad, 0.0).sum() / count - costs
    off = below.masked_fill(bad, 0.0)
    std = torch.threshold((torch.dot(off, off) / count).sqrt(), 1e-4, 1.0)
    return torch.softmax(below / (std * temperature), dim=0)


def require_finite(weights: torch.Tensor) -> None:
    """Check that some sample weighs anything.

    This waits for the device; a search does it once, at its end.

    Raises:
        NoFeasibleSampleError: none does
    """
    if not bool(weights[0].isfinite()):
        raise NoFeasibleSampleError(f"all {len(weights)} samples have a NaN or infinite cost")


def elite_weights(costs: torch.Tensor, count: int) -> torch.Tensor:
    """Equal weights (samples,) of the `count` cheapest samples, zero for the others.

    See `ranked_weights`.
    """
    return ranked_weights(costs, (1.0,) * count)


def ranked_weights(costs: torch.Tensor, by_rank: tuple[float, ...]) -> torch.Tensor:
    """Weights that depend on the order of the costs only.

    Args:
        costs: (samples,) finite or positive infinite, as `search_costs` returns them
        by_rank: weights of the cheapest sample, the second, ...; what would fall to infinite costs
            is left out

    Returns:
        (samples,) non-negative, sum 1; all NaN where no cost is finite, see `require_finite`
    """
    weights_by_rank = constant(by_rank[: len(costs)], costs.dtype, costs.device)
    # Stable: among equals the first wins, which is the mean itself.
    cheapest = costs.argsort(stable=True)[: len(weights_by_rank)]
    weights = (
        torch.zeros_like(costs)
        .scatter(0, cheapest, weights_by_rank)
        .masked_fill_(costs == torch.inf, 0.0)
    )
    return weights / weights.sum()


def weighted_mean(weights: torch.Tensor, knots: torch.Tensor) -> torch.Tensor:
    """Monte-Carlo estimate of the clean plan, `Ybar = sum_n w_n Y0_n` (2407.01573, eq. 9b and 10d).

    Args:
        weights: (samples,)
        knots: (samples, num_knots, nu)
    """
    return torch.mv(knots.flatten(1).t(), weights).view(knots.shape[1:])


def score(noisy: torch.Tensor, clean: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Score at `noisy`, `-(Y_i - sqrt(abar_i) Ybar) / (1 - abar_i)` (2407.01573, eq. 9b)."""
    return (alpha_bar**0.5 * clean - noisy) / (1.0 - alpha_bar)


def score_ascent(
    noisy: torch.Tensor, clean: torch.Tensor, alpha: float, alpha_bar: float
) -> torch.Tensor:
    """Score ascent, `Y_{i-1} = (Y_i + (1 - abar_i) score) / sqrt(alpha_i)` (2407.01573, eq. 6).

    With the score inserted this is `sqrt(abar_{i-1}) Ybar` exactly: the step forgets `Y_i`. Online
    planning therefore carries Ybar.
    """
    return (noisy + (1.0 - alpha_bar) * score(noisy, clean, alpha_bar)) / alpha**0.5


def reverse_sde(
    noisy: torch.Tensor, clean: torch.Tensor, alpha: float, alpha_bar: float, noise: torch.Tensor
) -> torch.Tensor:
    """One step of the reverse SDE (2407.01573, section 3).

    For comparison: it draws a sample of the plan distribution where score ascent climbs to its
    peak, and in the hundred levels that planning has time for it stays far from any minimum.
    `noise` is z, standard normal.
    """
    return (noisy + 0.5 * (1.0 - alpha) * score(noisy, clean, alpha_bar)) / alpha**0.5 + (
        1.0 - alpha
    ) ** 0.5 * noise


def success_rate(costs: torch.Tensor) -> torch.Tensor:
    """Fraction () of the samples that are cheaper than the first one.

    Those that cost the same count as half of one.

    Args:
        costs: (samples,) finite or positive infinite, as `search_costs` returns them
    """
    return torch.heaviside(costs[0] - costs[1:], constant((0.5,), costs.dtype, costs.device)).mean()


def effective_sample_size(weights: Array) -> float:
    """`1 / sum w^2`: 1 when one sample decides, the number of samples when all weigh the same."""
    return 1.0 / float(weights @ weights)
