"""Report of a run: figures, plot, video, tables, and a page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_mpc.arguments import write_json
from diffusion_mpc.bags.run_record import read_record, task_of
from diffusion_mpc.evaluation.comparison import GroupComparison, RunGroup, compare_groups
from diffusion_mpc.evaluation.comparison_page import comparison_page
from diffusion_mpc.evaluation.evaluated_run import EvaluatedRun, evaluate_run
from diffusion_mpc.evaluation.report_page import run_page
from diffusion_mpc.evaluation.video import RendererUnavailableError, write_video
from diffusion_mpc.tasks import find_task


@dataclass(frozen=True)
class Report:
    """Files of an evaluation, and its figures.

    Attributes:
        bag: what was evaluated
        summary: the figures, as `metrics.summarise` returns them
        paths: files by what they are: "page", "plot", "video", "summary", and the
            tables of time series; those that were asked for
            and could be made
        problems: what could not be read or made, one line each
        evaluated: the run, with its time series
    """

    bag: Path
    summary: dict[str, Any]
    paths: dict[str, Path]
    problems: tuple[str, ...]
    evaluated: EvaluatedRun

    @property
    def failure(self) -> str:
        """Reason why the run's motion could not be evaluated, in one line; empty: it could."""
        if self.summary["duration_s"] is not None:
            return ""
        reason = f": {self.problems[0]}" if self.problems else ""
        return f"bag '{self.bag}' holds no state that can be evaluated{reason}"

    def table(self) -> str:
        """The headline figures and the problems, as lines of text."""
        return _lines(headline(self.summary)) + "".join(
            f"note: {problem}\n" for problem in self.problems
        )

    def text(self) -> str:
        """The table and the paths of the files."""
        files = [
            (LABELS[what], str(path)) for what, path in {"bag": self.bag, **self.paths}.items()
        ]
        return f"{self.table()}\n{_lines(files)}"


LABELS = {
    "bag": "Bag",
    "page": "Report",
    "plot": "Plot",
    "video": "Video",
    "summary": "Figures",
    "states": "States",
    "plans": "Plans",
    "commands": "Commands",
}


def write_report(
    bag: Path,
    task_name: str,
    folder: Path,
    video: bool = True,
    plot: bool = True,
    settle: float = 3.0,
    namespace: str | None = None,
    csv: bool = False,
) -> Report:
    """Evaluate a bag into a folder; files of an earlier evaluation in there are replaced.

    Args:
        bag: rosbag2 folder or .mcap file
        task_name: name of a task, or a Python file that defines one, in place of the run's, with
            its own model and weights; empty: what the bag says was run
        folder: where summary.json, plot.png, report.html, video.mp4 and tables go
        video: whether to render a video; where that is not possible, `problems` says why
        plot: whether to draw the plot and write the page that shows it
        settle: time from the first state on that the speeds leave out, s
        namespace: namespace of the robot; None: the bag holds only one
        csv: whether to write the time series, see `EvaluatedRun.write_csv`

    Raises:
        BagError: nothing in the bag can be used, or it does not say what was run, or it holds
            several robots
        TaskError: the task or its model cannot be used
        ValueError: a weight belongs to no term
        OSError: the folder cannot be written to
    """
    with task_of(bag, task_name, namespace) as (name, model, weights):
        record = None if task_name else read_record(bag, namespace)
        found = evaluate_run(bag, find_task(name)(model), weights, record, settle, namespace)
        problems = list(found.run.problems)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {"summary": folder / "summary.json"}
        write_json(found.summary, paths["summary"])
        if plot:
            # Here: a run that is not kept does without matplotlib, which takes seconds to load.
            from diffusion_mpc.evaluation.plot import write_plot

            write_plot(found.run, found.task, found.measured, folder / "plot.png")
            paths["plot"] = folder / "plot.png"
        if video:
            try:
                write_video(bag, name, folder / "video.mp4", model, namespace)
                paths["video"] = folder / "video.mp4"
            except RendererUnavailableError as error:
                problems.append(f"no video: {error}")
        if csv:
            for file in found.write_csv(folder):
                paths[file.stem] = file
        if plot:
            paths["page"] = folder / "report.html"
            paths["page"].write_text(
                run_page(found, headline(found.summary), problems, paths.get("video")),
                encoding="utf-8",
            )
    return Report(
        bag,
        found.summary,
        {what: paths[what] for what in LABELS if what in paths},
        tuple(problems),
        found,
    )


@dataclass(frozen=True)
class ComparisonReport:
    """Files of a comparison.

    Attributes:
        comparison: the comparison
        paths: files by what they are, as `Report.paths`
    """

    comparison: GroupComparison
    paths: dict[str, Path]

    def text(self) -> str:
        """The differences in words, and the paths of the files."""
        said = "".join(f"{' '.join(each)}\n" for each in self.comparison.sentences)
        return f"{said}\n{_lines([(LABELS[what], str(path)) for what, path in self.paths.items()])}"


def write_comparison(
    groups: Sequence[tuple[str, Sequence[Report]]], folder: Path
) -> ComparisonReport:
    """Compare groups of evaluated runs into a folder: comparison.json and comparison.html.

    Args:
        groups: names, and the reports of the runs
        folder: where the files go

    Raises:
        ValueError: the runs are of different tasks
        OSError: the folder cannot be written to
    """
    runs = [RunGroup(name, tuple(each.evaluated for each in reports)) for name, reports in groups]
    comparison = compare_groups(runs)
    videos = [
        next((each.paths["video"] for each in reports if "video" in each.paths), None)
        for _, reports in groups
    ]
    problems = [
        f"{each.bag}: {problem}"
        for _, reports in groups
        for each in reports
        for problem in each.problems
    ]
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"page": folder / "comparison.html", "summary": folder / "comparison.json"}
    write_json(comparison.content(), paths["summary"])
    paths["page"].write_text(comparison_page(runs, comparison, videos, problems), encoding="utf-8")
    return ComparisonReport(comparison, paths)


def report_folders(bags: Sequence[Path], output: Path | None) -> list[Path]:
    """A folder for the report of each bag, none of them twice.

    Args:
        bags: bag folders or .mcap files
        output: where they go; that of a single bag is this one; None: beside each bag
    """
    whole = [bag.resolve() for bag in bags]
    if output is None:
        return [bag.with_name(f"{bag.name}_report") for bag in whole]
    if len(bags) == 1:
        return [output]
    depth = next(
        (n for n in range(1, 99) if len({b.parts[-n:] for b in whole}) == len(set(whole))), 99
    )
    return [output / "_".join(bag.relative_to(bag.anchor).parts[-depth:]) for bag in whole]


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that people look at first, as (label, value with unit) in reading order."""
    s = summary
    plan, latency, miss = s["plan_ms"], s["state_to_command_ms"], s["deadline_miss_ratio"]
    rows = [
        ("Duration", _value(s["duration_s"], "s")),
        ("Planner", f"{s['algorithm']} on {s['backend']}" if s["algorithm"] else "–"),
        (
            "Search",
            f"{s['num_samples']} samples × {s['horizon_steps']} steps × {s['iterations']} "
            "iterations",
        ),
        ("Plans", f"{_count(s['plans'])} at {_value(s['plan_rate_hz'], 'Hz')}"),
        ("Plan time, p50 / p99 / max", _value([plan["p50"], plan["p99"], plan["max"]], "ms")),
        *_policy(s["policy"]),
        ("State to command, p50 / p99", _value([latency["p50"], latency["p99"]], "ms")),
        ("Deadlines missed", _value(None if miss is None else 100.0 * miss, "%")),
        ("Mean cost", _value(s["mean_cost"])),
        ("Falls", _count(s["falls"])),
    ]
    if s["mean_speed"] is not None:
        rows.append(
            ("Speed, commanded / measured", _value([s["command_speed"], s["mean_speed"]], "m/s"))
        )
    for name, error in s["goal_errors"].items():
        what, unit = name.rsplit("_", 1)
        rows.append((f"Goal, {what} off at the end", _value(error, unit)))
    return [row for row in rows if row[0] != "Search" or s["algorithm"]]


def _policy(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    text = f"{found['rows']:.3g} samples, {found['weight']:.0%} of the weight, in "
    text += _value([found["ms"]["p50"], found["ms"]["p99"]], "ms")
    if found["proposed"] < 1.0:
        text += f"; in {found['proposed']:.1%} of the plans"
    rows = [("Policy, p50 / p99", text)]
    if len(weights := found["guidance"]) > 1:
        plans = " / ".join(str(under["plans"]) for under in weights.values())
        costs = _value([under["cost"] for under in weights.values()])
        rows.append((f"Guidance {' / '.join(weights)}", f"{plans} plans, expected cost {costs}"))
    return rows


def _value(values: float | Sequence[float | None] | None, unit: str = "") -> str:
    several = values if isinstance(values, Sequence) else [values]
    texts = [
        "–" if v is None else f"{v:#.3g}".rstrip(".") if abs(v) < 1000 else f"{v:.0f}"
        for v in several
    ]
    return " / ".join(texts) + (f" {unit}" if unit and any(v is not None for v in several) else "")


def _count(number: int | None) -> str:
    return "–" if number is None else str(number)


def _lines(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows)
