"""Report of a replay: both plans by term and in time, as JSON and as a page."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.arguments import write_json
from diffusion_mpc.evaluation.comparison import MINUS, told
from diffusion_mpc.evaluation.drawn_paths import drawn_paths
from diffusion_mpc.evaluation.panels import Panel, Series, beginning, fallen, largest_terms
from diffusion_mpc.evaluation.replay import ReplayedRun
from diffusion_mpc.evaluation.report_page import PAGES, Tile, embedded, plots, three
from diffusion_mpc.evaluation.video import RendererUnavailableError, write_video
from diffusion_mpc.intervals import Estimate, estimate
from diffusion_mpc.types import Array

PARTS = 10
"""Parts of a run whose means count as independent: plans that follow each other do not."""


@dataclass(frozen=True)
class ReplayReport:
    """Files of a replay, and its figures.

    Attributes:
        figures: what `replay_figures` returns
        paths: files by what they are
        problems: what could not be done as it was, one line each
    """

    figures: dict[str, Any]
    paths: dict[str, Path]
    problems: tuple[str, ...]

    def text(self) -> str:
        """The result in words, notes, and the paths of the files."""
        lines = [
            *self.figures["sentences"],
            *(f"note: {problem}" for problem in self.problems),
            "",
            *(f"{what.capitalize():<8} {path}" for what, path in self.paths.items()),
        ]
        return "".join(f"{line}\n" for line in lines)


def write_replay(result: ReplayedRun, folder: Path, video: bool) -> ReplayReport:
    """Write replay.json and replay.html, and replay.mp4 where it is asked for.

    Args:
        result: the replay
        folder: where they go; files of an earlier one in there are replaced
        video: whether to render robot, plan and best samples; where that is not possible,
            `problems` says why

    Raises:
        OSError: the folder cannot be written to
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures, problems = replay_figures(result), list(result.problems)
    paths = {"report": folder / "replay.html", "figures": folder / "replay.json"}
    write_json(figures, paths["figures"])
    if video:
        try:
            _write_video(result, folder / "replay.mp4")
            paths["video"] = folder / "replay.mp4"
        except RendererUnavailableError as error:
            problems.append(f"no video: {error}")
    paths["report"].write_text(_page(result, figures, problems, paths.get("video")), "utf-8")
    return ReplayReport(figures, paths, tuple(problems))


def _write_video(result: ReplayedRun, file: Path) -> None:
    """Video of the robot, the new plans and their best samples."""
    run, record = result.evaluated, result.evaluated.record
    assert record is not None, "a replay has the record of its run"
    with record.opened() as (name, model), tempfile.TemporaryDirectory() as scratch:
        paths = Path(scratch) / "paths.npz"
        drawn_paths(run.task, result.plans).save(paths)
        write_video(run.bag, name, file, model, result.namespace, paths)


def replay_figures(result: ReplayedRun) -> dict[str, Any]:
    """Figures of a replay.

    Returns:
        task, settings, plans, identical (plans equal to the last digit), largest_difference (of a
        control, as a fraction of its range; None where the plans have other rows), cost and terms
        (recorded, replayed and their difference with its 95 % interval), plan_ms and
        effective_sample_size (means, recorded and replayed), sentences (the result in words)
    """
    known = result.difference[np.isfinite(result.difference)]
    terms = {
        name: _pair(result.recorded_terms[:, i], result.terms[:, i])
        for i, name in enumerate(result.term_names)
    }
    recorded = result.evaluated.run.plans
    found = {
        "task": result.evaluated.task.name,
        "settings": dict(result.settings),
        "plans": len(result.stamps),
        "identical": result.identical,
        "largest_difference": float(known.max()) if len(known) else None,
        "cost": _pair(result.recorded_terms.sum(1), result.terms.sum(1)),
        "terms": terms,
        "plan_ms": [1e3 * float(each.mean()) for each in (recorded.plan_time, result.plan_time)],
        "effective_sample_size": [
            float(each.mean())
            for each in (recorded.effective_sample_size, result.effective_sample_size)
        ],
    }
    return {**found, "sentences": _sentences(found)}


def _pair(recorded: Array, replayed: Array) -> dict[str, Any]:
    parts = [part for part in np.array_split(replayed - recorded, PARTS) if len(part)]
    difference: Estimate = estimate([float(part.mean()) for part in parts])
    bounds = (difference.low, difference.high)
    return {
        "recorded": float(recorded.mean()),
        "replayed": float(replayed.mean()),
        "difference": float((replayed - recorded).mean()),
        "interval": [bound if math.isfinite(bound) else None for bound in bounds],
    }


def _sentences(found: dict[str, Any]) -> list[str]:
    count, identical, settings = found["plans"], found["identical"], found["settings"]
    sentences = []
    if settings:
        changes = ", ".join(f"{name} = {told(value)}" for name, value in settings.items())
        sentences.append(f"{count} plans from the recorded states with {changes}.")
        sentences.append(_cost_sentence(found["cost"]))
    elif identical == count:
        sentences.append(
            f"The recorded parameters give all {count} recorded plans back, to the last digit."
        )
    else:
        largest = found["largest_difference"]
        sentences.append(
            f"The recorded parameters give {identical} of {count} recorded plans back to the last "
            f"digit; the largest difference of a control is {three(100.0 * (largest or 0.0))} % of "
            "its range."
        )
        sentences.append(_cost_sentence(found["cost"]))
    return sentences


def _cost_sentence(cost: dict[str, Any]) -> str:
    base = cost["recorded"]
    if not base > 0.0:
        return f"They cost {three(cost['replayed'])} a step; the recorded ones cost nothing."
    percent = 100.0 * cost["difference"] / base
    low, high = (None if bound is None else 100.0 * bound / base for bound in cost["interval"])
    if low is None or high is None:
        return f"They cost {percent:+.1f} %, of too few plans for an interval."
    over = "over tenths of the run"
    if low <= 0.0 <= high:
        found = f"{percent:+.1f} %, 95 % interval {low:+.1f} to {high:+.1f} {over}"
        return f"No difference in what the plans cost shows: {found}.".replace("-", MINUS)
    word = "less" if percent < 0.0 else "more"
    near, far = sorted((abs(low), abs(high)))
    size = f"{abs(percent):.1f} % {word} than the recorded ones"
    return f"The new plans cost {size}, 95 % interval {near:.1f} to {far:.1f} {over}."


def replay_panels(result: ReplayedRun) -> list[Panel]:
    """Both plans over time."""
    run = result.evaluated.run
    start = beginning(run)
    time, recorded = result.stamps - start, run.plans.stamps - start
    change = result.terms - result.recorded_terms
    costs = [
        Series("recorded", time, result.recorded_terms.sum(1), "line", "ink"),
        Series("replayed", time, result.terms.sum(1), "line", 0),
    ]
    size = {name: float(np.abs(change[:, i]).mean()) for i, name in enumerate(result.term_names)}
    by_term = [
        Series(name.replace("_", " "), time, change[:, result.term_names.index(name)], "line", i)
        for i, name in enumerate(largest_terms(size))
        if size[name] > 0.0
    ]
    moved = 100.0 * result.difference
    times = [
        Series("recorded", recorded, 1e3 * run.plans.plan_time, "line", "ink"),
        Series("replayed", time, 1e3 * result.plan_time, "line", 0),
    ]
    samples = [
        Series("recorded", recorded, run.plans.effective_sample_size, "line", "ink"),
        Series("replayed", time, result.effective_sample_size, "line", 0),
    ]
    note = "of the plan, rolled out from the same state at the recorded weights"
    title = "Difference by term"
    found = [
        Panel("Cost of both plans", "a step", costs, zero=True, note=note, height=230),
        Panel(title, "replayed less recorded", by_term, height=190),
        Panel("Plan time", "ms", times, zero=True, note="on two machines, maybe", height=140),
        Panel("Effective sample size", "samples", samples, zero=True, height=130),
    ]
    if np.isfinite(moved).any():
        line = [Series("largest", time, moved, "line", 1)]
        found.insert(
            2, Panel("Difference of controls", "% of the range", line, zero=True, height=130)
        )
    return [panel for panel in found if panel.series]


def _page(
    result: ReplayedRun, figures: dict[str, Any], problems: list[str], video: Path | None
) -> str:
    cost, run = figures["cost"], result.evaluated
    percent = 100.0 * cost["difference"] / cost["recorded"] if cost["recorded"] else math.nan
    plan_ms, ess = figures["plan_ms"], figures["effective_sample_size"]
    tiles = [
        Tile("Plans", str(figures["plans"]), "", f"{figures['identical']} to the last digit"),
        Tile(
            "Cost of the plans", three(cost["replayed"]), "", f"recorded {three(cost['recorded'])}"
        ),
        Tile("Change of cost", f"{percent:+.1f}", "%", "of the recorded plans"),
        Tile("Plan time, mean", three(plan_ms[1]), "ms", f"recorded {three(plan_ms[0])} ms"),
        Tile("Effective samples", three(ess[1]), "", f"recorded {three(ess[0])}"),
        Tile("Duration", three(run.summary["duration_s"]), "s", f"{run.summary['falls']} falls"),
    ]
    terms = [
        (
            name.replace("_", " "),
            three(each["recorded"]),
            three(each["replayed"]),
            f"{each['difference']:+.3g}",
            "–" if None in each["interval"] else "{:+.2g} to {:+.2g}".format(*each["interval"]),
        )
        for name, each in {**figures["terms"], "sum": cost}.items()
    ]
    content = plots(replay_panels(result), fallen(run.run, run.measured))
    content["film"] = float(run.run.states.stamps[0]) - beginning(run.run)
    return PAGES.get_template("replay.html.jinja").render(
        title=f"{figures['task']}: plans made again",
        task=figures["task"],
        facts=[str(run.bag), *filter(None, [run.summary["machine"]])],
        sentences=figures["sentences"],
        settings=[
            (name, told(run.parameters.get(name)), told(value))
            for name, value in result.settings.items()
        ],
        tiles=tiles,
        terms=terms,
        video=None if video is None else embedded(video),
        data=content,
        problems=problems,
    )
