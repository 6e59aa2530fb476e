"""Means with confidence intervals, paired comparisons, and differences of two groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % confidence interval; NaN bounds where there are fewer than two values."""

    mean: float
    low: float
    high: float
    count: int


def student_t(freedom: float, comparisons: int = 1) -> float:
    """Half of an interval of Student's t, in standard errors.

    Args:
        freedom: degrees of freedom
        comparisons: number of intervals that are to hold all at once (Bonferroni)
    """
    # Of scipy.special: scipy.stats takes seconds to load, and every command would wait for it.
    return float(stdtrit(freedom, 1.0 - (1.0 - CONFIDENCE) / (2 * comparisons)))


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent values, with the interval of Student's t.

    Raises:
        ValueError: there are no values
    """
    count = len(values)
    if not count:
        raise ValueError("no values to estimate a mean from")
    mean = float(np.mean(values))
    half = student_t(count - 1) * _standard_error(values) if count > 1 else math.nan
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


@dataclass(frozen=True)
class GroupDifference:
    """Difference of the means of two independent groups, the second less the first.

    Bounds are NaN where a group has fewer than two values.

    Attributes:
        mean: difference of the means
        low, high: its confidence interval
        ratio: mean of the second over that of the first; NaN where the first is not positive
        ratio_low, ratio_high: its confidence interval; infinite where the first mean may be 0
        counts: number of values in each group
    """

    mean: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    counts: tuple[int, int]

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0

    @property
    def change(self) -> tuple[tuple[float, float, float], bool]:
        """Low bound, mean and high bound, and whether they are per cent, see `change`."""
        return change(
            (self.ratio_low, self.ratio, self.ratio_high), (self.low, self.mean, self.high)
        )


def group_difference(
    first: Sequence[float], second: Sequence[float], comparisons: int = 1
) -> GroupDifference:
    """Difference of two groups, by Welch's t; that of the ratio by Fieller's theorem.

    With the same degrees of freedom both say the same of whether there is a difference.

    Args:
        first: independent values of one group
        second: those of the other
        comparisons: number of differences whose intervals are to hold all at once (Bonferroni)

    Raises:
        ValueError: a group has no values
    """
    if not len(first) or not len(second):
        raise ValueError("no values to compare")
    a, b, n, m = float(np.mean(first)), float(np.mean(second)), len(first), len(second)
    half, low, high = math.nan, math.nan, math.nan
    ratio = b / a if a > 0.0 else math.nan
    if n > 1 and m > 1:
        u, v = _standard_error(first) ** 2, _standard_error(second) ** 2
        freedom = (u + v) ** 2 / (u**2 / (n - 1) + v**2 / (m - 1)) if u + v > 0.0 else n + m - 2
        wide = student_t(freedom, comparisons)
        half = wide * math.sqrt(u + v)
        low, high = _ratio_interval(a, b, u, v, wide) if a > 0.0 else (math.nan, math.nan)
    return GroupDifference(b - a, b - a - half, b - a + half, ratio, low, high, (n, m))


def change(
    ratio: tuple[float, float, float], difference: tuple[float, float, float]
) -> tuple[tuple[float, float, float], bool]:
    """Change of a cost: in per cent where ratios say it, else in the unit of the cost.

    They do not of rewards, which are negative costs, nor where the first mean may be 0.

    Args:
        ratio: low bound, mean and high bound of the second over the first
        difference: the same of the second less the first

    Returns:
        low bound, mean and high bound of the change, and whether they are per cent
    """
    low, mean, high = ratio
    if 0.0 <= mean < math.inf and math.isfinite(low) == math.isfinite(difference[0]):
        return (100.0 * (low - 1.0), 100.0 * (mean - 1.0), 100.0 * (high - 1.0)), True
    return difference, False


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Ratio of the mean of the second to that of the first, with Fieller's interval for pairs.

    It leaves 1 out where the interval of the paired difference leaves 0 out.

    Args:
        first: positive on average; entry i of both comes from the same trial
        second: as many

    Raises:
        ValueError: not as many values in both, or none
    """
    if len(first) != len(second) or not len(first):
        raise ValueError("no pairs of values to compare")
    a, b, n = float(np.mean(first)), float(np.mean(second)), len(first)
    if a <= 0.0 or n < 2:
        return Estimate(b / a if a > 0.0 else math.nan, math.nan, math.nan, n)
    covariance = np.cov(first, second) / n
    wide = student_t(n - 1)
    (u, c), (_, v) = covariance.tolist()
    return Estimate(b / a, *_ratio_interval(a, b, u, v, wide, c), n)


def _ratio_interval(
    a: float, b: float, u: float, v: float, wide: float, c: float = 0.0
) -> tuple[float, float]:
    """Fieller's interval of b / a.

    `u` and `v` are the squared standard errors of a and b, `c` is their covariance.
    """
    g = wide**2 * u / a**2
    if g >= 1.0:
        return -math.inf, math.inf
    ratio, h = b / a, wide**2 * c / a**2
    half = wide / a * math.sqrt(max(v * (1.0 - g) + ratio**2 * u - 2.0 * ratio * c + h * c, 0.0))
    return (ratio - h - half) / (1.0 - g), (ratio - h + half) / (1.0 - g)


def compare_columns(costs: pd.DataFrame, first: str, second: str) -> dict[str, Any] | None:
    """Paired comparison of two columns over the rows (trials) that both have, ready for JSON.

    None where they are the same column, or have no row in common.
    """
    if first == second or first not in costs:
        return None
    pairs = costs[[first, second]].dropna()
    return None if pairs.empty else asdict(compare(pairs[first].tolist(), pairs[second].tolist()))
