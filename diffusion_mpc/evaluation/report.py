"""What `diffusion-mpc evaluate` leaves behind: figures, plot, film, and a page that shows them."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_mpc.evaluation.bag import read_run
from diffusion_mpc.evaluation.metrics import figures, measure
from diffusion_mpc.evaluation.plot import write_plot
from diffusion_mpc.evaluation.video import RendererUnavailableError, write_video
from diffusion_mpc.tasks import find_task


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        bag: what was evaluated
        summary: the figures, as `metrics.summarise` returns them
        paths: files by what they are: "page", "plot", "video", "summary"; those that were asked for and could be made
        problems: what could not be read or made, one line each
    """

    bag: Path
    summary: dict[str, Any]
    paths: dict[str, Path]
    problems: tuple[str, ...]

    def table(self) -> str:
        """The headline figures and what went wrong, as lines of text."""
        return _lines(headline(self.summary)) + "".join(f"note: {problem}\n" for problem in self.problems)

    def text(self) -> str:
        """As `table`, and where the files lie."""
        files = [(LABELS[what], str(path)) for what, path in {"bag": self.bag, **self.paths}.items()]
        return f"{self.table()}\n{_lines(files)}"


LABELS = {"bag": "Bag", "page": "Report", "plot": "Plot", "video": "Video", "summary": "Figures"}


def write_report(
    bag: Path,
    task_name: str,
    folder: Path,
    video: bool = True,
    plot: bool = True,
    settle: float = 3.0,
    weights: Mapping[str, float] | None = None,
    model_path: str = "",
) -> Report:
    """Evaluate a bag into a folder; files of an earlier evaluation in there are replaced.

    Args:
        bag: rosbag2 folder or .mcap file
        task_name: name of the task that was run, or a Python file that defines one
        folder: where summary.json, plot.png, report.html and video.mp4 go
        video: whether to render a video; where that is not possible, `problems` says why
        plot: whether to draw the plot and write the page that shows it
        settle: time from the first state on that the speeds leave out, s
        weights: weights of cost terms that differ from the task's own
        model_path: MJCF file in place of the task's own

    Raises:
        BagError: nothing in the bag can be used
        TaskError: the task or its model cannot be used
        ValueError: a weight belongs to no term
        OSError: the folder cannot be written to
    """
    task = find_task(task_name)(model_path)
    run = read_run(bag, task)
    measured = measure(run, task, weights)
    summary = figures(run, task, measured, settle)
    problems = list(run.problems)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"summary": folder / "summary.json"}
    paths["summary"].write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if plot:
        write_plot(run, task, measured, folder / "plot.png")
        paths["plot"] = folder / "plot.png"
    if video:
        try:
            write_video(bag, task_name, folder / "video.mp4", model_path)
            paths["video"] = folder / "video.mp4"
        except RendererUnavailableError as error:
            problems.append(f"no video: {error}")
    if plot:
        paths["page"] = folder / "report.html"
        paths["page"].write_text(_page(bag, summary, problems, "video" in paths), encoding="utf-8")
    return Report(bag, summary, {what: paths[what] for what in LABELS if what in paths}, tuple(problems))


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that people look at first, as (label, value with unit) in reading order."""
    s = summary
    plan, latency, miss = s["plan_ms"], s["state_to_command_ms"], s["deadline_miss_ratio"]
    rows = [
        ("Duration", _value(s["duration_s"], "s")),
        ("Planner", f"{s['algorithm']} on {s['backend']}" if s["algorithm"] else "–"),
        ("Search", f"{s['num_samples']} samples × {s['horizon_steps']} steps × {s['iterations']} iterations"),
        ("Plans", f"{s['plans']} at {_value(s['plan_rate_hz'], 'Hz')}"),
        ("Plan time, p50 / p99 / max", _value([plan["p50"], plan["p99"], plan["max"]], "ms")),
        ("State to command, p50 / p99", _value([latency["p50"], latency["p99"]], "ms")),
        ("Deadlines missed", _value(None if miss is None else 100.0 * miss, "%")),
        ("Mean cost", _value(s["mean_cost"])),
        ("Falls", str(s["falls"])),
    ]
    if s["mean_speed"] is not None:
        rows.append(("Speed, commanded / measured", _value([s["command_speed"], s["mean_speed"]], "m/s")))
    for name, error in s["goal_errors"].items():
        what, unit = name.rsplit("_", 1)
        rows.append((f"Goal, {what} off at the end", _value(error, unit)))
    return [row for row in rows if row[0] != "Search" or s["algorithm"]]


def _value(values: float | Sequence[float | None] | None, unit: str = "") -> str:
    several = values if isinstance(values, Sequence) else [values]
    texts = ["–" if v is None else f"{v:#.3g}".rstrip(".") if abs(v) < 1000 else f"{v:.0f}" for v in several]
    return " / ".join(texts) + (f" {unit}" if unit and any(v is not None for v in several) else "")


def _lines(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>\n" for name, value in rows)
    return f"<table>\n{cells}</table>"


def _page(bag: Path, summary: Mapping[str, Any], problems: Sequence[str], video: bool) -> str:
    film = '<video src="video.mp4" controls autoplay loop muted playsinline></video>' if video else ""
    named = "".join(f"<li>{html.escape(problem)}</li>\n" for problem in problems)
    return PAGE.format(
        title=html.escape(f"{summary['task']}: evaluation of a run"),
        bag=html.escape(str(bag)),
        style=STYLE,
        headline=_table(headline(summary)),
        film=film,
        problems=f"<h2>What could not be read or made</h2>\n<ul>\n{named}</ul>" if problems else "",
        terms=_table([(name.replace("_", " "), _value(cost)) for name, cost in summary["term_costs"].items()]),
        topics=_table([(topic, str(count)) for topic, count in summary["topics"].items()]),
    )


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="soft">{bag}</p>
<div class="top">
{headline}
{film}
</div>
{problems}
<img src="plot.png" alt="velocity, plan time and cost over time">
<div class="top">
<section><h2>Mean cost by term</h2>
{terms}</section>
<section><h2>Messages in the bag</h2>
{topics}</section>
</div>
<p>All figures: <a href="summary.json">summary.json</a></p>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
.soft, th { opacity: .68; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0; }
.soft { margin: .2rem 0 1.2rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; font-weight: 600; margin: 1.6rem 0 .4rem; }
.top { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 400; text-align: left; padding-right: 2rem; }
td { text-align: right; }
video { flex: 1 1 24rem; min-width: 0; max-width: 40rem; border-radius: 6px; }
img { width: 100%; margin-top: 1.6rem; border-radius: 6px; }
"""
