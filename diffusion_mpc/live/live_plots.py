"""Plots of the last seconds: cost by term, time of plans, velocity, effective sample size."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import viser

PERIOD = 0.2
"""Time (s) that one point of a plot stands for."""

REDRAWING = 0.4
"""Time between two drawings, s."""

COLORS = (
    "#2563eb", "#ea580c", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#ca8a04", "#db2777",
    "#4d7c0f", "#475569", "#9333ea", "#0d9488",
)  # fmt: skip

GREY = "#94a3b8"

COST = "cost per step, by term"
SMALL = 0.05
"""Cost below which all are drawn a thousand times as large."""


@dataclass(frozen=True)
class ShownPlan:
    """Figures of a plan.

    Attributes:
        terms: weighted mean cost per step of each cost term in the cheapest sample
        plan_time: time that the plan took, s
        deadline: time that it was allowed, s; infinite in lockstep
        ess: effective sample size
        samples: number of samples
        missed: number of late plans since activation
        label: search and backend, in words
        commanded: forward velocity that the plan tracks, m/s
        measured: forward velocity of the base, m/s; NaN: unknown
    """

    terms: Mapping[str, float]
    plan_time: float
    deadline: float
    ess: float
    samples: int
    missed: int
    label: str
    commanded: float
    measured: float


class LivePlots:
    """Plots in the current container of an interface; figures come in with every plan."""

    def __init__(
        self, gui: viser.GuiApi, terms: Sequence[str], history: float, moves: bool
    ) -> None:
        """Make the plots.

        Args:
            gui: interface of all pages
            terms: the task's cost terms
            history: time to look back, s
            moves: whether the robot follows a velocity
        """
        self._terms, self._history = tuple(terms), history
        self._rows: deque[tuple[float, ...]] = deque(maxlen=int(history / PERIOD) + 2)
        self._bin: list[tuple[float, ...]] = []
        self._bin_began = self._drawn = 0.0
        self._cost = self._plot(gui, COST, self._terms, height=230)
        self._speed = (
            self._plot(
                gui, "forward velocity [m/s]", ("measured", "commanded"), (COLORS[0], COLORS[1])
            )
            if moves
            else None
        )
        self._time = self._plot(
            gui, "time of a plan [ms]", ("budget", "plan"), (COLORS[3], COLORS[0])
        )
        self._ess = self._plot(
            gui, "effective sample size", ("effective", "samples"), (COLORS[2], GREY)
        )

    def _plot(
        self,
        gui: viser.GuiApi,
        title: str,
        labels: Sequence[str],
        colors: Sequence[str] = COLORS,
        height: int = 140,
    ) -> Any:  # noqa: ANN401  (a handle of viser, which is untyped to us)
        series: list[dict[str, Any]] = [{"label": "s"}]
        for i, label in enumerate(labels):
            series.append({"label": label, "stroke": colors[i % len(colors)], "width": 1.5})
        empty = tuple(np.zeros(1) for _ in series)
        axis = {"font": "11px sans-serif", "grid": {"stroke": "#e2e8f0", "width": 1}}
        return gui.add_uplot(
            empty,
            tuple(series),
            title=title,
            scales={"x": {"time": False, "range": (-self._history, 0.0)}},
            axes=({**axis, "size": 30}, {**axis, "size": 44}),
            legend={"show": True, "live": False},
            height=height,
        )

    def add(self, figures: ShownPlan, now: float) -> None:
        """Take the figures of a plan at a time (s, monotonic)."""
        if self._bin and now - self._bin_began >= PERIOD:
            self._close_bin()
        if not self._bin:
            self._bin_began = now
        self._bin.append(
            (
                now,
                figures.plan_time,
                figures.deadline,
                figures.ess,
                figures.samples,
                figures.measured,
                figures.commanded,
                *(figures.terms.get(term, math.nan) for term in self._terms),
            )
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
        when, plan, budget, ess, samples, measured, commanded = rows[:, :7].T
        when = when - now
        costs = rows[:, 7:]
        # uPlot writes few decimals.
        small = bool(np.nanmax(costs, initial=0.0) < SMALL)
        title = f"{COST} [1/1000]" if small else COST
        if self._cost.title != title:
            self._cost.title = title
        self._cost.data = (when, *(costs * (1e3 if small else 1.0)).T)
        self._ess.data = (when, ess, samples)
        # In lockstep there is no budget, and uPlot draws nothing at all beside a line of NaN: what
        # stands for it lies below the plan's line.
        budget = np.where(np.isfinite(budget), budget.clip(0.0), plan)
        self._time.data = (when, 1e3 * budget, 1e3 * plan)
        if self._speed is not None and np.isfinite(measured).all():
            self._speed.data = (when, measured, commanded)
