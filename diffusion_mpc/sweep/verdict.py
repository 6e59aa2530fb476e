"""Outcome of a sweep in words, and the setting that it recommends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_mpc.config import Value
from diffusion_mpc.intervals import Estimate, change, compare, paired_ratio
from diffusion_mpc.sweep.study import Study

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a sweep.

    Attributes:
        sentence: for people
        better: whether fresh trials show that the best setting is better than the defaults
        settings: recommended values of the parameters that were varied
        ratio: cost of the best over that of the defaults, on fresh trials; NaN where costs are
            negative (rewards); None: none were run
        difference: cost of the best less that of the defaults, in pairs; None: none were run
    """

    sentence: str
    better: bool
    settings: Mapping[str, Value]
    ratio: Estimate | None = None
    difference: Estimate | None = None


def verdict(study: Study) -> Verdict:
    """Judge the best setting by its fresh trials."""
    best, defaults = study.best, study.defaults.settings
    tried = f"{len(study.configurations)} settings"
    ours, theirs = study.confirmation
    if not study.finished:
        leader = f"setting {best.number} leads" if best.number else "the defaults lead"
        return Verdict(f"Not at its end: {leader} after {tried}.", False, defaults)
    if best.number == 0:
        return Verdict(f"The defaults stand: none of {tried} is better.", False, defaults)
    problem = next((score.problem for score in ours if score.problem), "")
    if problem:
        return Verdict(
            f"The defaults stand: setting {best.number}, the best of {tried}, {problem}.",
            False,
            defaults,
        )
    if problem := next((score.problem for score in theirs if score.problem), ""):
        return Verdict(
            f"Setting {best.number} replaces the defaults, which cannot be run: {problem}.",
            True,
            best.settings,
        )
    falls = [sum(score.falls > 0 for score in scores) for scores in (ours, theirs)]
    costs = [[score.cost for score in scores] for scores in (ours, theirs)]
    ratio, difference = paired_ratio(costs[1], costs[0]), compare(*costs).difference
    said = f"{_saving(ratio, difference)}, {ratio.count} fresh trials each"
    if falls[0] > falls[1]:
        fell = f"it falls in {falls[0]} of {ratio.count} fresh trials, they in {falls[1]}"
        sentence = f"The defaults stand: setting {best.number} {said}, but {fell}."
        return Verdict(sentence, False, defaults, ratio, difference)
    if difference.high < 0.0:
        sentence = f"Setting {best.number} {said}."
        return Verdict(sentence, True, best.settings, ratio, difference)
    sentence = f"The defaults stand: setting {best.number}, the best of {tried}, {said}."
    return Verdict(sentence, False, defaults, ratio, difference)


def _saving(ratio: Estimate, difference: Estimate) -> str:
    """Saving in words: in per cent of a positive cost, else in the unit of costs."""
    (low, middle, high), percent = change_of(ratio, difference)
    write, unit = (number, " %") if percent else ("{:.3g}".format, "")
    said = f"costs {write(abs(middle))}{unit} {'less' if middle <= 0.0 else 'more'}"
    said += " than the defaults"
    if not math.isfinite(difference.low):
        return said
    if middle <= 0.0:
        low, high = -high, -low
    bounds = (f"{MINUS if value < 0.0 else ''}{write(abs(value))}" for value in (low, high))
    return f"{said}, 95 % interval {' to '.join(bounds)}"


def change_of(ratio: Estimate, difference: Estimate) -> tuple[tuple[float, float, float], bool]:
    """Change of the cost with its bounds, and whether it is per cent, see `intervals.change`."""
    return change(
        (ratio.low, ratio.mean, ratio.high), (difference.low, difference.mean, difference.high)
    )


def number(value: float) -> str:
    """Per cent, to one digit below ten."""
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}"
