"""Means with confidence intervals, and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import sem, t

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
    count = len(values)
    if not count:
        raise ValueError("no values to estimate a mean from")
    mean = float(np.mean(values))
    # Not `t.interval`: that has no interval for values that are all equal.
    half = float(t.ppf(0.5 + CONFIDENCE / 2, count - 1) * sem(values)) if count > 1 else math.nan
    return Estimate(mean, mean - half, mean + half, count)


@dataclass(frozen=True)
class Comparison:
    """Paired difference of costs: negative where the first one is better.

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


def compare_columns(costs: pd.DataFrame, first: str, second: str) -> dict[str, Any] | None:
    """Paired comparison of two columns over the rows (trials) that both have, ready for JSON.

    None where they are the same column, or have no row in common.
    """
    if first == second or first not in costs:
        return None
    pairs = costs[[first, second]].dropna()
    return None if pairs.empty else asdict(compare(pairs[first].tolist(), pairs[second].tolist()))
