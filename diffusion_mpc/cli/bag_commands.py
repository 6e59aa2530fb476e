"""Commands for recorded bags."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from diffusion_mpc.arguments import CommandError, OutputFile, SetOption, parse_settings, write_json
from diffusion_mpc.names import ERROR


def evaluate(
    bags: tuple[Path, ...],
    /,
    *,
    task: str = "",
    namespace: str | None = None,
    output: Path | None = None,
    video: bool = False,
    csv: bool = False,
    json: OutputFile = None,
) -> int:
    """Write reports of recorded bags; several are compared.

    Each argument is a group: a bag, or a folder with bags in it, which count as repetitions.

    example: diffusion-mpc evaluate runs/20260101-120000/bag

    Args:
        bags: bag folder, .mcap file, or folder with several bags
        task: task to evaluate, with its own model and weights (default: the run's, from the bag)
        namespace: namespace of the robot, where a bag holds several
        output: folder for the reports (default: BAG_report beside each bag)
        video: render videos as well
        csv: write the time series as tables
        json: file to write the figures to
    """
    from diffusion_mpc.evaluation.groups import find_groups
    from diffusion_mpc.evaluation.report import report_folders, write_comparison, write_report

    groups = find_groups(bags)
    every = [bag for group in groups for bag in group.bags]
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    reports = {}
    for bag, folder in zip(every, report_folders(every, output), strict=True):
        reports[bag] = write_report(bag, task, folder, video=video, namespace=namespace, csv=csv)
        if len(every) == len(groups):
            sys.stdout.write(reports[bag].text())
    figures: Any = [report.summary for report in reports.values()]
    if len(every) == 1:
        (figures,) = figures
    else:
        compared = write_comparison(
            [(group.name, [reports[bag] for bag in group.bags]) for group in groups],
            output or bags[0].with_name(f"{bags[0].name}_comparison"),
        )
        sys.stdout.write(compared.text())
        figures = {"runs": figures, "comparison": compared.comparison.content()}
    write_json(figures, json)
    failures = [report.failure for report in reports.values() if report.failure]
    for failure in failures:
        sys.stderr.write(f"{ERROR}{failure}\n")
    return 1 if failures else 0


def replay(
    bag: Path,
    /,
    *,
    settings: SetOption = (),
    namespace: str | None = None,
    output: Path | None = None,
    video: bool = False,
    traces: int = 8,
    json: OutputFile = None,
) -> int:
    """Plan again from the states of a bag, with its parameters or others, and compare the plans.

    Of a bag that was recorded in lockstep on the CPU, its own parameters give the same plans.

    example: diffusion-mpc replay runs/20260101-120000/bag --set planner.num_samples=64 --video

    Args:
        bag: bag folder or .mcap file
        settings: planner parameter, NAME=VALUE; can be repeated
        namespace: namespace of the robot, where the bag holds several
        output: folder for the report (default: BAG_replay beside the bag)
        video: render robot, plan and best samples
        traces: number of the best samples in the video
        json: file to write the figures to
    """
    from rich.progress import track

    from diffusion_mpc.bags.run_record import read_record
    from diffusion_mpc.evaluation.replay import replay as plan_again
    from diffusion_mpc.evaluation.replay_report import write_replay

    record = read_record(bag, namespace)
    if record is None:
        raise CommandError(
            f"bag '{bag}' does not say what was run, so nothing can be planned again"
        )
    result = plan_again(
        bag,
        record,
        parse_settings(settings),
        traces if video else 0,
        namespace,
        lambda plans: track(plans, "planning", transient=True, disable=not sys.stdout.isatty()),
    )
    report = write_replay(result, output or bag.with_name(f"{bag.name}_replay"), video)
    sys.stdout.write(report.text())
    write_json(report.figures, json)
    return 0
