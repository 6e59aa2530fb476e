"""Page that shows groups of runs side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.evaluation.comparison import (
    GroupComparison,
    Row,
    RunGroup,
    change_text,
    common_weights,
    costs_at,
    told,
)
from diffusion_mpc.evaluation.evaluated_run import EvaluatedRun
from diffusion_mpc.evaluation.panels import REST, Panel, Series, beginning, largest_terms
from diffusion_mpc.evaluation.report_page import PAGES, embedded, planner_text, plots, three
from diffusion_mpc.intervals import student_t
from diffusion_mpc.types import Array

SECTIONS = {
    "cost": "Cost",
    "term": "Cost by term",
    "behaviour": "Behaviour",
    "search": "Search",
    "timing": "Timing, which depends on the machine",
}
"""Headings of the table of quantities by their kind."""

BINS = 240
"""Parts of the time axis over which the runs of a group are averaged."""

WIDE = 140.0
"""Width of a drawn interval, in pixels."""


def comparison_page(
    groups: Sequence[RunGroup],
    comparison: GroupComparison,
    videos: Sequence[Path | None],
    problems: Sequence[str],
) -> str:
    """HTML of a comparison.

    Args:
        groups: the runs
        comparison: result of `compare_groups`
        videos: a video for each group; None: there is none
        problems: what could not be read or made
    """
    first, reach = groups[0].runs[0], _reach(comparison.rows)
    planners = {planner_text(run.summary) for group in groups for run in group.runs}
    machines = {run.summary["machine"] for group in groups for run in group.runs} - {None}
    films = [
        (group.name, embedded(video))
        for group, video in zip(groups, videos, strict=True)
        if video is not None
    ]
    return PAGES.get_template("comparison.html.jinja").render(
        title=f"{first.task.name}: {' and '.join(group.name for group in groups)}",
        task=first.task.name,
        planner=planners.pop() if len(planners) == 1 else "",
        facts=[
            " and ".join(f"{name}: {_runs(count)}" for name, count in comparison.groups),
            *sorted(machines),
        ],
        names=[group.name for group in groups],
        verdicts=[
            (each[0], each[1:], _mark(comparison, i)) for i, each in enumerate(comparison.sentences)
        ],
        parameters=[
            (name, [told(value) for value in values])
            for name, values in comparison.parameters.items()
        ],
        varied=[
            (name, ", ".join(dict.fromkeys(told(value) for value in values)))
            for name, values in comparison.varied.items()
        ],
        sections=_sections(comparison.rows, reach),
        reach=f"±{reach:.0f} %",
        bars=_bars(groups),
        runs=[
            (
                group.name,
                str(run.bag),
                three(sum(costs_at(run, common_weights(groups)).values())),
                three(run.summary["mean_speed"]),
                run.summary["falls"],
            )
            for group in groups
            for run in group.runs
        ],
        films=films,
        data=plots(mean_panels(groups), []),
        problems=problems,
    )


def mean_panels(groups: Sequence[RunGroup]) -> list[Panel]:
    """Means of the groups over time, each with its 95 % band."""
    weights, every = common_weights(groups), [run for group in groups for run in group.runs]

    def cost(run: EvaluatedRun) -> tuple[Array, Array]:
        norms = run.measured.norms
        weighted = [weights[name] * norm for name, norm in norms.items()]
        total = np.sum(weighted, axis=0) if norms else np.zeros(0)
        return run.run.states.stamps[: len(total)], total

    def velocity(run: EvaluatedRun) -> tuple[Array, Array]:
        assert run.measured.velocity is not None
        return run.run.states.stamps, run.measured.velocity[:, 0]

    def plan_time(run: EvaluatedRun) -> tuple[Array, Array]:
        return run.run.plans.stamps, 1e3 * run.run.plans.plan_time

    def samples(run: EvaluatedRun) -> tuple[Array, Array]:
        return run.run.plans.stamps, run.run.plans.effective_sample_size

    found = [Panel("Cost", "at common weights", _means(groups, cost), zero=True, height=230)]
    walking = groups[0].runs[0].task.reference == "cmd_vel"
    if walking and all(run.measured.velocity is not None for run in every):
        lines = _means(groups, velocity)
        asked = every[0]
        time = asked.run.states.stamps - beginning(asked.run)
        command = Series("commanded", time, asked.measured.reference[:, 0], "dashed", "ink")
        found.append(Panel("Forward velocity", "m/s", [*lines, command], height=190))
    for name in every[0].measured.goal_errors:
        what, unit = name.rsplit("_", 1)

        def error(run: EvaluatedRun, name: str = name) -> tuple[Array, Array]:
            return run.run.states.stamps, run.measured.goal_errors.get(name, np.zeros(0))

        title = f"Goal, {what.replace('_', ' ')} off"
        found.append(Panel(title, unit, _means(groups, error), zero=True))
    found.append(Panel("Plan time", "ms", _means(groups, plan_time), zero=True, height=150))
    found.append(
        Panel("Effective sample size", "samples", _means(groups, samples), zero=True, height=130)
    )
    return [panel for panel in found if panel.series]


def _means(
    groups: Sequence[RunGroup], series: Callable[[EvaluatedRun], tuple[Array, Array]]
) -> list[Series]:
    """Mean of a series over the runs of each group, averaged over parts of the time."""
    ends = [
        float(stamps[-1] - beginning(run.run))
        for group in groups
        for run in group.runs
        if len(stamps := series(run)[1]) and len(stamps := series(run)[0])
    ]
    if not ends:
        return []
    edges = np.linspace(0.0, max(min(ends), 1e-6), BINS + 1)
    found = []
    for number, group in enumerate(groups):
        rows = [_binned(series(run), beginning(run.run), edges) for run in group.runs]
        values = np.array([row for row in rows if row is not None])
        if not len(values):
            continue
        mean, low, high = values.mean(axis=0), None, None
        if len(values) > 1:
            error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
            half = student_t(len(values) - 1) * error
            low, high = mean - half, mean + half
            if values.min() >= 0.0:
                low = low.clip(min=0.0)
        name = f"{group.name}, mean of {len(values)}" if len(values) > 1 else group.name
        middle = (edges[:-1] + edges[1:]) / 2
        found.append(Series(name, middle, mean, "line", number, low, high))
    return found


def _binned(series: tuple[Array, Array], start: float, edges: Array) -> Array | None:
    stamps, values = series[0] - start, series[1]
    if not len(values):
        return None
    place = np.digitize(stamps, edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    counts = np.bincount(place[inside], minlength=len(edges) - 1)
    sums = np.bincount(place[inside], weights=values[inside], minlength=len(edges) - 1)
    # A part without a value has the one between its neighbours.
    known, middle = counts > 0, (edges[:-1] + edges[1:]) / 2
    return np.interp(middle, middle[known], sums[known] / counts[known])


def _reach(rows: Sequence[Row]) -> float:
    """Largest relative difference of a cost that is drawn, %."""
    bounds = [
        abs(100.0 * (bound - 1.0))
        for row in rows
        for difference in row.differences
        if difference is not None and row.kind in ("cost", "term")
        for bound in (difference.ratio_low, difference.ratio_high)
        if math.isfinite(bound)
    ]
    return min(max([*bounds, 5.0]), 100.0)


def _sections(rows: Sequence[Row], reach: float) -> list[tuple[str, list[dict[str, Any]]]]:
    """Table of the quantities: heading, and the rows below it."""
    found = []
    for kind, heading in SECTIONS.items():
        chosen = [_cells(row, reach) for row in rows if row.kind == kind]
        if chosen:
            found.append((heading, chosen))
    return found


def _cells(row: Row, reach: float) -> dict[str, Any]:
    values = []
    for each in row.estimates:
        half = "" if each is None or math.isnan(each.low) else f" ± {three(each.high - each.mean)}"
        values.append("–" if each is None else f"{three(each.mean)}{half}")
    changes = []
    for difference in row.differences:
        if difference is None:
            changes.append({"text": "–", "shown": False, "marks": None})
            continue
        marks = None
        ratios = (difference.ratio_low, difference.ratio, difference.ratio_high)
        if row.kind in ("cost", "term") and all(math.isfinite(ratio) for ratio in ratios):
            marks = [
                round(WIDE / 2 * (1.0 + max(min(100.0 * (ratio - 1.0) / reach, 1.0), -1.0)), 1)
                for ratio in ratios
            ]
        text = change_text(row, difference)
        changes.append({"text": text, "shown": difference.shown, "marks": marks})
    name = f"{row.name}, {row.unit}" if row.unit else row.name
    return {"name": name, "values": values, "changes": changes, "strong": row.kind == "cost"}


def _bars(groups: Sequence[RunGroup]) -> dict[str, Any]:
    """Mean cost of each group as a bar of its terms."""
    weights = common_weights(groups)
    costs = [
        {
            name: float(np.mean(values))
            for name in weights
            if (values := [c[name] for run in group.runs if (c := costs_at(run, weights))])
        }
        for group in groups
    ]
    means = {name: max(abs(each.get(name, 0.0)) for each in costs) for name in weights}
    chosen = largest_terms(means)
    rewards = max((-sum(min(v, 0.0) for v in each.values()) for each in costs), default=0.0)
    longest = max((sum(max(v, 0.0) for v in each.values()) for each in costs), default=0.0)
    if not rewards + longest > 0.0:
        return {"rows": [], "keys": []}
    rows = []
    for group, each in zip(groups, costs, strict=True):
        parts = [(name, str(i), each.get(name, 0.0)) for i, name in enumerate(chosen)]
        parts.append(("others", REST, sum(v for n, v in each.items() if n not in chosen)))
        # Rewards, which are negative costs, reach to the left of zero.
        left = [part for part in reversed(parts) if part[2] < 0.0]
        right = [part for part in parts if part[2] >= 0.0]
        widths = [
            (name.replace("_", " "), colour, _width(abs(value), rewards + longest), three(value))
            for name, colour, value in left + right
        ]
        indent = _width(rewards + sum(value for _, _, value in left), rewards + longest)
        rows.append((group.name, indent, widths, three(sum(each.values()))))
    keys = [(name.replace("_", " "), str(i)) for i, name in enumerate(chosen)]
    keys += [("others", REST)] if len(weights) > len(chosen) else []
    return {"rows": rows, "keys": keys, "zero": _width(rewards, rewards + longest)}


def _width(part: float, whole: float) -> float:
    return round(100.0 * part / whole, 3)


def _mark(comparison: GroupComparison, number: int) -> str:
    cost = next((row for row in comparison.rows if row.kind == "cost"), None)
    difference = cost.differences[number] if cost is not None else None
    return "" if difference is not None and difference.shown else "none"


def _runs(count: int) -> str:
    return f"{count} runs" if count > 1 else "one run"
