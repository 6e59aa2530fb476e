"""Means with confidence intervals, and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, t

from diffusion_mpc.types import Array

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval; NaN bounds where there are fewer than two values."""

    mean: float
    low: float
    high: float
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent values, with the interval of Student's t.

    Raises:
        ValueError: there are no values
    """
    if not values:
        raise ValueError("no values to estimate a mean from")
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count)
    half = float(t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, count)


@dataclass(frozen=True)
class Comparison:
    """How much less (negative: less, so better) the first costs than the second, pair by pair.

    Attributes:
        difference: mean of first minus second, with its 95 % confidence interval
        wins: pairs in which the first costs less
    """

    difference: Estimate
    wins: int


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Paired comparison; entry i of both comes from the same trial.

    Raises:
        ValueError: not as many values in both, or none
    """
    pairs = list(zip(first, second, strict=True))
    return Comparison(estimate([a - b for a, b in pairs]), sum(a < b for a, b in pairs))


def normalised(costs: Array) -> Array:
    """Costs (tasks, algorithms) with the best algorithm of each task at 0 and the worst at 1; all 0 where they cost the same."""
    low, high = costs.min(axis=1, keepdims=True), costs.max(axis=1, keepdims=True)
    scaled: Array = (costs - low) / np.where(high > low, high - low, 1.0)
    return scaled


def ranks(costs: Array) -> Array:
    """Rank (tasks, algorithms) of each algorithm in each task, 1 the cheapest; equals share the mean of their ranks."""
    ranked: Array = rankdata(costs, axis=1)
    return ranked
