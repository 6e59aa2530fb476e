"""Time series of a run, in panels over one time axis: as a page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from diffusion_mpc.evaluation.feet import Feet
from diffusion_mpc.evaluation.metrics import Measured
from diffusion_mpc.evaluation.recorded_run import Flags, RecordedPlans, RecordedRun
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array

BUCKETS = 2500
"""A series with more than twice as many points is thinned out to the extremes of as many parts."""

TERMS = 7
"""Cost terms with a colour of their own; the smaller ones are summed up."""

REST = "rest"
"""Colour of what is summed up."""

Style = Literal["line", "step", "dashed", "dots", "area"]


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
        name: as the legend has it
        time: (N,) s from the beginning of the run
        values: (N,); NaN leaves a gap
        style: how it is drawn; an area lies on those before it
        colour: number of its colour, `REST`, or "ink"
        low, high: (N,) bounds of a band round it; None: there is none
    """

    name: str
    time: Array
    values: Array
    style: Style = "line"
    colour: int | str = 0
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True)
class Panel:
    """Series over time with a common unit.

    Attributes:
        title: what is shown
        unit: of the values
        series: the lines
        rows: instead of lines, intervals (begin, end) in s by the name of a row
        zero: whether the axis begins at 0
        note: what a reader should know
        height: in pixels of the page
    """

    title: str
    unit: str
    series: Sequence[Series] = ()
    rows: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    zero: bool = False
    note: str = ""
    height: int = 190

    def content(self) -> dict[str, Any]:
        """The panel as JSON, thinned out."""
        return {
            "title": self.title,
            "unit": self.unit,
            "zero": self.zero,
            "note": self.note,
            "height": self.height,
            "series": [_content(series) for series in self.series],
            "rows": [
                {"name": name, "spans": [[round(a, 3), round(b, 3)] for a, b in spans]}
                for name, spans in self.rows.items()
            ],
        }


def panels(run: RecordedRun, task: Task, measured: Measured, feet: Feet | None) -> list[Panel]:
    """All panels that a bag has messages for.

    Args:
        run: recorded run
        task: task that was run
        measured: result of `metrics.measure`
        feet: result of `measure_feet`
    """
    start = beginning(run)
    time, plans = run.states.stamps - start, run.plans
    found = [*_tracking(time, run, task, measured), _cost(time, start, plans, measured)]
    planned = plans.stamps - start
    if len(plans.stamps):
        found += [_plan_time(planned, plans), _latency(start, run)]
        size = f" of {plans.num_samples} samples" if plans.num_samples else ""
        ess = Series("effective samples", planned, plans.effective_sample_size, "line", 0)
        found.append(Panel(f"Effective sample size{size}", "samples", [ess], zero=True, height=130))
        noise = Series("noise σ", planned, plans.noise, "line", 2)
        found.append(
            Panel("Noise of the last denoising step", "of reach", [noise], zero=True, height=130)
        )
        found += _policy(planned, plans)
    if feet is not None:
        found += _feet(time, feet)
    return [panel for panel in found if panel.series or panel.rows]


def beginning(run: RecordedRun) -> float:
    """Time that a page's axis begins at, s."""
    stamps = [each[0] for each in (run.states.stamps, run.plans.stamps) if len(each)]
    return float(min(stamps, default=0.0))


def fallen(run: RecordedRun, measured: Measured) -> list[tuple[float, float]]:
    """Intervals (begin, end) in s in which the robot had failed."""
    return _spans(run.states.stamps - beginning(run), measured.failed)


def largest_terms(means: Mapping[str, float]) -> list[str]:
    """Cost terms that are shown on their own, the largest first."""
    return sorted(means, key=lambda name: -abs(means[name]))[:TERMS]


def _tracking(time: Array, run: RecordedRun, task: Task, measured: Measured) -> list[Panel]:
    if measured.velocity is not None and task.reference == "cmd_vel":
        parts = (("forward", "lateral"), ("yaw rate",))
        titles = (("Velocity, heading frame", "m/s"), ("Yaw rate", "rad/s"))
        found, column = [], 0
        for names, (title, unit) in zip(parts, titles, strict=True):
            series = []
            for name in names:
                asked, colour = measured.reference[:, column], column
                series += [
                    Series(name, time, measured.velocity[:, column], "line", colour),
                    Series(f"{name}, commanded", time, asked, "dashed", colour),
                ]
                column += 1
            found.append(Panel(title, unit, series, height=190 if len(names) > 1 else 130))
        return found
    if measured.goal_errors:
        by_unit: dict[str, list[Series]] = {}
        for number, (name, error) in enumerate(measured.goal_errors.items()):
            what, unit = name.rsplit("_", 1)
            line = Series(what.replace("_", " "), time, error, "line", number)
            by_unit.setdefault(unit, []).append(line)
        return [
            Panel("Distance from the goal", unit, series, zero=True)
            for unit, series in by_unit.items()
        ]
    return _joints(time, run, task)


def _joints(time: Array, run: RecordedRun, task: Task) -> list[Panel]:
    """Hinges and slides; a free joint's numbers have no common unit."""
    model = task.model
    found = []
    for kind, unit, title in ((3, "rad", "Joint angles"), (2, "m", "Positions of slides")):
        chosen = [i for i in range(model.njnt) if model.jnt_type[i] == kind][:8]
        series = [
            Series(
                model.joint(i).name, time, run.states.qpos[:, model.jnt_qposadr[i]], "line", number
            )
            for number, i in enumerate(chosen)
        ]
        found.append(Panel(title, unit, series))
    return found


def _cost(time: Array, start: float, plans: RecordedPlans, measured: Measured) -> Panel:
    expected = Series("expected by the plan", plans.stamps - start, plans.cost, "line", "ink")
    title, unit = "Cost by term", "weighted cost"
    if measured.norms:
        stack = stacked(time, measured.costs)
        lines = [*stack, expected] if len(plans.stamps) else stack
        note = "at the measured states; the line is the mean over the plan's horizon"
        return Panel(title, unit, lines, zero=True, note=note, height=240)
    terms = dict(zip(plans.term_names, plans.term_costs.T, strict=True))
    note = "mean over the horizon of the plan's cheapest sample"
    return Panel(title, unit, stacked(plans.stamps - start, terms), zero=True, note=note)


def stacked(time: Array, costs: Mapping[str, Array]) -> list[Series]:
    """Areas of the cost terms: the largest at the bottom, where they are easiest to read."""
    names = largest_terms({name: float(cost.mean()) for name, cost in costs.items() if len(cost)})
    found = [
        Series(name.replace("_", " "), time, costs[name], "area", number)
        for number, name in enumerate(names)
    ]
    others = [cost for name, cost in costs.items() if name not in names]
    if others and found:
        rest = np.sum(others, axis=0)
        found.append(Series(f"{len(others)} others", time, rest, "area", REST))
    return found


def _plan_time(time: Array, plans: RecordedPlans) -> Panel:
    series = [Series("planning", time, 1e3 * plans.plan_time, "line", 0)]
    note = "in lockstep nothing waits, and there is no budget"
    if (limited := np.isfinite(plans.deadline)).any():
        budget = 1e3 * np.where(limited, plans.deadline, np.nan)
        series.append(Series("budget", time, budget, "step", "ink"))
        note = ""
    if (late := plans.missed).any():
        label = f"missed, {late.sum()} of {len(late)}"
        series.append(Series(label, time[late], 1e3 * plans.plan_time[late], "dots", 1))
    return Panel("Plan time against its budget", "ms", series, zero=True, note=note)


def _latency(start: float, run: RecordedRun) -> Panel:
    commands = run.commands
    answered = ~commands.safe & np.isfinite(commands.state_stamps)
    age = 1e3 * (commands.stamps - commands.state_stamps)
    series = []
    # In lockstep a command has the stamp of its state.
    if answered.any() and (age[answered] != 0.0).any():
        line = Series("state to command", commands.stamps[answered] - start, age[answered])
        series.append(line)
    if commands.safe.any():
        when = commands.stamps[commands.safe] - start
        label = f"safe commands, {len(when)}"
        series.append(Series(label, when, np.zeros(len(when)), "dots", 1))
    return Panel("State to command", "ms", series, zero=True, height=130)


def _policy(time: Array, plans: RecordedPlans) -> list[Panel]:
    given = plans.policy_rows > 0
    if not given.any():
        return []
    fraction = plans.policy_rows / max(plans.num_samples or 1, 1)
    parts = [
        Series("of the samples", time, 100.0 * fraction, "line", REST),
        Series("of the weight", time, 100.0 * np.where(given, plans.policy_weight, 0.0), "line", 3),
    ]
    # Bags of before have neither, which reads as 0.
    known = given & ((plans.policy_cost != 0.0) | (plans.planner_cost != 0.0))
    costs = [
        Series("best of the policy's", time, np.where(known, plans.policy_cost, np.nan), "line", 3),
        Series("best of the others", time, np.where(known, plans.planner_cost, np.nan), "line", 0),
    ]
    found = [Panel("The policy's part", "%", parts, zero=True, height=130)]
    if known.any():
        title = "Cost of samples, first denoising step"
        found.append(Panel(title, "weighted cost", costs, zero=True, height=130))
    if np.ptp(plans.policy_guidance[given]) > 0.0:
        weight = np.where(given, plans.policy_guidance, np.nan)
        changes = [Series("guidance", time, weight, "step", "ink")]
        found.append(Panel("Guidance, the weight of the policy's label", "", changes, height=130))
    return found


def _feet(time: Array, feet: Feet) -> list[Panel]:
    rows = {name: _spans(time, feet.contact[:, i]) for i, name in enumerate(feet.names)}
    lifts = [
        Series(name, time, 100.0 * feet.clearance[:, i], "line", i)
        for i, name in enumerate(feet.names)
    ]
    return [
        Panel("Feet on the ground", "", rows=rows, height=32 + 22 * len(rows)),
        Panel("Height of the feet", "cm", lifts, height=150),
    ]


def _spans(time: Array, flags: Flags) -> list[tuple[float, float]]:
    """Intervals (begin, end) in which the flags are set, each until the time of the next one."""
    edges = np.diff(np.concatenate([[0], flags.astype(int), [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    until = time[np.minimum(ends, len(time) - 1)] if len(time) else time
    return list(zip(time[begins].tolist(), until.tolist(), strict=True))


def _content(series: Series) -> dict[str, Any]:
    rows = _kept(series)
    values: Array = series.values[rows]
    if series.style == "area" and len(rows) < len(series.time):
        # Areas lie on each other: all of them have the same times.
        values = np.add.reduceat(series.values, rows) / np.diff([*rows, len(series.time)])
    bounds = {"low": series.low, "high": series.high}
    return {
        "name": series.name,
        "style": series.style,
        "colour": str(series.colour),
        "t": [round(value, 4) for value in series.time[rows].tolist()],
        "v": numbers(values),
        **{name: numbers(each[rows]) for name, each in bounds.items() if each is not None},
    }


def _kept(series: Series) -> list[int]:
    """Rows that are drawn: all, or the extremes of each part, or the beginning of each."""
    count = len(series.time)
    if count <= 2 * BUCKETS:
        return list(range(count))
    edges = np.linspace(0, count, BUCKETS + 1).astype(int)
    if series.style == "area":
        return edges[:-1].tolist()
    values = np.nan_to_num(series.values)
    kept: set[int] = {0, count - 1}
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[begin:end]
        kept |= {begin + int(part.argmin()), begin + int(part.argmax())}
    return sorted(kept)


def numbers(values: Array) -> list[float | None]:
    """Values to four digits, ready for JSON; None where they are not finite."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values.tolist()]
