"""Outcome of a sweep in words, and the setting that it recommends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_mpc.config import Value
from diffusion_mpc.intervals import Estimate, paired_ratio
from diffusion_mpc.sweep.study import Study

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a sweep.

    Attributes:
        sentence: for people
        better: whether fresh trials show that the best setting is better than the defaults
        settings: recommended values of the parameters that were varied
        ratio: cost of the best over that of the defaults, on fresh trials; None: none were run
    """

    sentence: str
    better: bool
    settings: Mapping[str, Value]
    ratio: Estimate | None = None


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
    ratio = paired_ratio([score.cost for score in theirs], [score.cost for score in ours])
    said = f"{_change(ratio)}, {_interval(ratio)}{ratio.count} fresh trials each"
    if falls[0] > falls[1]:
        fell = f"it falls in {falls[0]} of {ratio.count} fresh trials, they in {falls[1]}"
        return Verdict(
            f"The defaults stand: setting {best.number} {said}, but {fell}.", False, defaults, ratio
        )
    if ratio.high < 1.0:
        return Verdict(f"Setting {best.number} {said}.", True, best.settings, ratio)
    return Verdict(
        f"The defaults stand: setting {best.number}, the best of {tried}, {said}.",
        False,
        defaults,
        ratio,
    )


def _change(ratio: Estimate) -> str:
    if not math.isfinite(ratio.mean):
        return "has costs that no ratio compares with those of the defaults"
    percent = 100.0 * (1.0 - ratio.mean)
    return (
        f"costs {number(abs(percent))} % {'less' if percent >= 0.0 else 'more'} than the defaults"
    )


def _interval(ratio: Estimate) -> str:
    if not (math.isfinite(ratio.low) and math.isfinite(ratio.high)):
        return ""
    saved = [100.0 * (1.0 - bound) for bound in (ratio.high, ratio.low)]
    if ratio.mean > 1.0:
        saved = [-saved[1], -saved[0]]
    low, high = (f"{MINUS if value < 0.0 else ''}{number(abs(value))}" for value in saved)
    return f"95 % interval {low} to {high}, "


def number(value: float) -> str:
    """Per cent, to one digit below ten."""
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}"
