"""Pages that show runs: one HTML file each, with all that they need inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from diffusion_mpc.evaluation.evaluated_run import EvaluatedRun
from diffusion_mpc.evaluation.panels import Panel, beginning, fallen, panels
from diffusion_mpc.evaluation.recorded_run import RecordedPlans

PAGES = Environment(
    loader=PackageLoader("diffusion_mpc.evaluation", "pages"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)

LARGEST_VIDEO = 48 * 2**20
"""Videos up to this size go into the page, bytes; it shows a larger one that lies beside it."""


@dataclass(frozen=True)
class Tile:
    """One figure in large print.

    Attributes:
        label: what it is
        value: for people
        unit: of the value
        detail: what to see it against
        mark: "good", "bad", or neither
    """

    label: str
    value: str
    unit: str = ""
    detail: str = ""
    mark: str = ""


def run_page(
    found: EvaluatedRun,
    headline: Sequence[tuple[str, str]],
    problems: Sequence[str],
    video: Path | None,
) -> str:
    """HTML of one run.

    Args:
        found: the run
        headline: its figures, as `report.headline`
        problems: what could not be read or made
        video: its video; None: there is none
    """
    summary, run = found.summary, found.run
    shown = panels(run, found.task, found.measured, found.feet)
    content = plots(shown, fallen(run, found.measured))
    if len(run.states.stamps):
        content["film"] = float(run.states.stamps[0]) - beginning(run)
    return PAGES.get_template("report.html.jinja").render(
        title=f"{summary['task']}: evaluation of a run",
        task=summary["task"],
        planner=planner_text(summary),
        facts=[str(found.bag), *filter(None, [summary["machine"]])],
        tiles=tiles(found),
        video=None if video is None else embedded(video),
        data=content,
        terms=term_rows(summary["term_costs"]),
        feet=summary["feet"],
        changed=[(name, said(new), said(old)) for name, (new, old) in found.changed().items()],
        headline=headline,
        topics=summary["topics"].items(),
        problems=problems,
    )


def plots(shown: Sequence[Panel], failures: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Panels and the times over which they go, as the page's script takes them.

    Args:
        shown: the panels
        failures: intervals (begin, end) in which the robot had failed, s
    """
    times = [series.time for panel in shown for series in panel.series if len(series.time)]
    begin = min((float(time.min()) for time in times), default=0.0)
    end = max((float(time.max()) for time in times), default=1.0)
    return {
        "panels": [panel.content() for panel in shown],
        "fallen": [[round(a, 3), round(b, 3)] for a, b in failures],
        "span": [begin, end if end > begin else begin + 1.0],
        "film": 0.0,
    }


def embedded(video: Path) -> str:
    """Address of a video in a page: its content, or its name where it is too large."""
    if video.stat().st_size > LARGEST_VIDEO:
        return video.name
    return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"


def planner_text(summary: Mapping[str, Any]) -> str:
    """Algorithm, backend and size of the search, for people."""
    if not summary["algorithm"]:
        return "no plans recorded"
    return (
        f"{summary['algorithm']} on {summary['backend']}, {summary['num_samples']} samples × "
        f"{summary['horizon_steps']} steps × {summary['iterations']} iterations"
    )


def tiles(found: EvaluatedRun) -> list[Tile]:
    """The six figures that people look at first."""
    s, plans = found.summary, found.run.plans
    made = [_task_tile(s)]
    if s["mean_cost"] is not None:
        terms = term_rows(s["term_costs"])
        detail = ", ".join(f"{name} {fraction}" for name, _, fraction in terms[:2])
        made.append(Tile("Mean cost", three(s["mean_cost"]), "", detail))
    if s["falls"] is not None:
        detail = f"in {three(s['duration_s'])} s"
        made.append(Tile("Falls", str(s["falls"]), "", detail, "bad" if s["falls"] else "good"))
    if s["plans"]:
        made += _plan_tiles(s, plans)
    latency = s["state_to_command_ms"]
    if latency["p99"]:
        detail = f"p50 {three(latency['p50'])} ms"
        made.append(Tile("State to command, p99", three(latency["p99"]), "ms", detail))
    elif plans.recorded:
        ess, size = s["effective_sample_size"], s["num_samples"]
        made.append(Tile("Effective samples", three(ess), "", f"mean, of {size}"))
    return made


def _plan_tiles(s: Mapping[str, Any], plans: RecordedPlans) -> list[Tile]:
    limits = plans.deadline[np.isfinite(plans.deadline)]
    budget = 1e3 * float(np.median(limits)) if len(limits) else None
    detail = f"p50 {three(s['plan_ms']['p50'])} ms"
    detail += "" if budget is None else f", budget {three(budget)} ms"
    over = budget is not None and s["plan_ms"]["p99"] > budget
    made = [Tile("Plan time, p99", three(s["plan_ms"]["p99"]), "ms", detail, over * "bad")]
    rate = f"{three(s['plan_rate_hz'])} Hz" if s["plan_rate_hz"] else "no rate"
    if budget is None:
        return [*made, Tile("Plans", str(s["plans"]), "", f"at {rate}, in lockstep")]
    missed = s["deadline_miss_ratio"]
    mark = "good" if missed == 0.0 else "bad" if missed > 0.01 else ""
    detail = f"of {s['plans']} plans at {rate}"
    return [*made, Tile("Deadlines missed", three(100.0 * missed), "%", detail, mark)]


def _task_tile(s: Mapping[str, Any]) -> Tile:
    if s["mean_speed"] is not None:
        asked = s["command_speed"]
        detail = f"along {three(asked)} m/s commanded"
        return Tile("Mean speed", three(s["mean_speed"]), "m/s", detail)
    if s["goal_errors"]:
        name, error = next(iter(s["goal_errors"].items()))
        what, unit = name.rsplit("_", 1)
        return Tile(f"Goal, {what.replace('_', ' ')} off", three(error), unit, "at the end")
    return Tile("Duration", three(s["duration_s"]), "s", "of the measured states")


def term_rows(costs: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Terms as (name, value, fraction of the sum), the largest first."""
    total = sum(costs.values())
    return [
        (name.replace("_", " "), three(cost), f"{100.0 * cost / total:.0f} %".replace(" ", ""))
        for name, cost in sorted(costs.items(), key=lambda item: -item[1])
        if total > 0.0
    ]


def three(value: float | None) -> str:
    """A figure to three digits, for people."""
    if value is None or not np.isfinite(value):
        return "–"
    if abs(value) >= 1000.0:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-3 else f"{value:.2g}"


def said(value: object) -> str:
    """The value of a parameter, for people."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"
