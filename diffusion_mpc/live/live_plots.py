"""Plots of the last seconds: cost by term, time of plans, effective sample size, velocity."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import viser

PERIOD = 0.1
"""Time (s) that one point of a plot stands for."""

REDRAWING = 0.4
"""Time between two drawings, s."""

COLORS = (
    "#2563eb", "#ea580c", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#ca8a04", "#db2777",
    "#4d7c0f", "#475569", "#9333ea", "#0d9488",
)  # fmt: skip

GREY = "#94a3b8"


@dataclass(frozen=True)
class PlanFigures:
    """Figures of a plan.

    Attributes:
        terms: weighted mean cost per step of each cost term in the cheapest sample
        plan_time: time that the plan took, s
        deadline: time that it was allowed, s; infinite in lockstep
        ess: effective sample size
        samples: number of samples
        missed: number of late plans since activation
        label: search and backend, in words
    """

    terms: Mapping[str, float]
    plan_time: float
    deadline: float
    ess: float
    samples: int
    missed: int
    label: str


class LivePlots:
    """Plots in the current container of an interface; figures come in with every plan."""

    def __init__(self, gui: viser.GuiApi, terms: Sequence[str], history: float) -> None:
        """Make the plots.

        Args:
            gui: interface of all pages
            terms: the task's cost terms
            history: time to look back, s
        """
        self._terms, self._history = tuple(terms), history
        self._rows: deque[tuple[float, ...]] = deque(maxlen=int(history / PERIOD) + 2)
        self._bin: list[tuple[float, ...]] = []
        self._bin_began = self._drawn = 0.0
        self._cost = self._plot(gui, "cost per step, by term", self._terms, height=270)
        self._time = self._plot(
            gui, "time of a plan [ms]", ("plan", "budget"), colors=(COLORS[0], COLORS[3])
        )
        self._ess = self._plot(
            gui,
            "effective sample size",
            ("effective", "samples"),
            colors=(COLORS[2], GREY),
        )

    def _plot(
        self,
        gui: viser.GuiApi,
        title: str,
        labels: Sequence[str],
        height: int = 190,
        colors: Sequence[str] = COLORS,
    ) -> Any:  # noqa: ANN401  (a handle of viser, which is untyped to us)
        series: list[dict[str, Any]] = [{"label": "s"}]
        for i, label in enumerate(labels):
            series.append({"label": label, "stroke": colors[i % len(colors)], "width": 1.5})
        empty = tuple(np.zeros(1) for _ in series)
        axis = {"font": "11px sans-serif", "grid": {"stroke": "#e2e8f0", "width": 1}}
        return gui.add_uplot(
            empty,
            tuple(series),  # type: ignore[arg-type]
            title=title,
            scales={"x": {"time": False, "range": (-self._history, 0.0)}},
            axes=({**axis, "size": 28}, {**axis, "size": 44}),  # type: ignore[typeddict-item]
            legend={"show": True, "live": False},
            height=height,
        )

    def add(self, figures: PlanFigures, now: float) -> None:
        """Take the figures of a plan at a time (s, monotonic)."""
        if self._bin and now - self._bin_began >= PERIOD:
            self._close_bin()
        if not self._bin:
            self._bin_began = now
        costs = [figures.terms.get(term, np.nan) for term in self._terms]
        self._bin.append(
            (now, figures.plan_time, figures.deadline, figures.ess, figures.samples, *costs)
        )

    def _close_bin(self) -> None:
        rows = np.array(self._bin)
        mean = rows.mean(0)
        # The longest of the plans: that is the one that may have been late.
        mean[1] = rows[:, 1].max()
        self._rows.append(tuple(mean))
        self._bin.clear()

    def turn(self, now: float) -> None:
        """Draw at a time (s, monotonic), where it is due."""
        if not self._rows or now - self._drawn < REDRAWING:
            return
        self._drawn = now
        rows = np.array(self._rows, dtype=float)
        rows = rows[rows[:, 0] > now - self._history]
        if not len(rows):
            return
        when = rows[:, 0] - now
        budget = np.where(np.isfinite(rows[:, 2]), 1e3 * rows[:, 2], np.nan)
        self._cost.data = (when, *rows[:, 5:].T)
        self._time.data = (when, 1e3 * rows[:, 1], budget)
        self._ess.data = (when, rows[:, 3], rows[:, 4])


