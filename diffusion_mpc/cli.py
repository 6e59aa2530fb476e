"""The command line: `diffusion-mpc`, or `./dmpc` in a checkout."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from diffusion_mpc.benchmark.commands import add_benchmark
from diffusion_mpc.testing import GROUPS, run_all

EXAMPLES = {
    "demo": "diffusion-mpc demo",
    "sim": "diffusion-mpc sim ant --duration 30 --set command.vx=2.0 --json out.json",
    "evaluate": "diffusion-mpc evaluate runs/20260101-120000/bag",
    "optimize": "diffusion-mpc optimize ackley --dim 20 --samples 256 --json out.json",
    "benchmark": "diffusion-mpc benchmark speed",
    "tasks": "diffusion-mpc tasks",
    "test": "diffusion-mpc test faults",
}


class CommandError(Exception):
    """A command cannot do what it was asked to; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 where it did what it was asked to, 1 where it did not, 2 for a usage error."""
    parser = build_parser()
    options, extra = parser.parse_known_args(arguments)
    if extra and options.command is not test:
        parser.error(f"unrecognised argument '{extra[0]}'")
    options.extra = extra
    try:
        return int(options.command(options))
    except (CommandError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="diffusion-mpc", description="Online, diffusion-based model predictive control with ROS 2."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, function: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=f"example: {EXAMPLES[name]}")
        command.set_defaults(command=function)
        return command

    demo_command = add(
        "demo", demo, "Show the ant walking in simulation over ROS 2 for 20 s, then write bag, report, plot and video."
    )
    demo_command.add_argument("--no-video", action="store_true", help="do not render the video")
    demo_command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")

    sim_command = add("sim", sim, "Run a task in simulation: planner, simulated robot and recorder as nodes of their own.")
    sim_command.add_argument("task", help="name of the task, or a Python file that defines one")
    sim_command.add_argument("--duration", type=float, default=20.0, metavar="S", help="simulated time in s; 0: until Ctrl-C")
    sim_command.add_argument(
        "--lockstep", action="store_true", help="the simulation waits for every command: the same result every time"
    )
    sim_command.add_argument("--record", type=Path, metavar="DIR", help="new folder for bag, report and plot")
    sim_command.add_argument("--video", action="store_true", help="with --record: render a video as well")
    sim_command.add_argument("--viewer", action="store_true", help="open MuJoCo's viewer window")
    sim_command.add_argument("--params-file", type=Path, metavar="FILE", help="ROS parameter file for the nodes")
    sim_command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="planner parameter, or sim.NAME=VALUE; can be repeated",
    )
    sim_command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")

    evaluate_command = add("evaluate", evaluate, "Write report, plot and figures of recorded bags.")
    evaluate_command.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="bag folder or .mcap file")
    evaluate_command.add_argument("--task", default="ant", help="task the robot was doing (default: ant)")
    evaluate_command.add_argument("--output", type=Path, metavar="DIR", help="folder for the reports (default: beside each bag)")
    evaluate_command.add_argument("--video", action="store_true", help="render a video as well")
    evaluate_command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")

    optimize_command = add("optimize", optimize, "Minimise a function, or the cost of a task over one horizon, open loop.")
    optimize_command.add_argument("problem", help="ackley, rastrigin, levy, or a task: its name, or a Python file that defines one")
    optimize_command.add_argument("--dim", type=int, default=20, metavar="D", help="dimension of the function (default: 20)")
    optimize_command.add_argument("--samples", type=int, default=256, metavar="N", help="samples at each level (default: 256)")
    optimize_command.add_argument("--levels", type=int, default=100, metavar="L", help="noise levels (default: 100)")
    optimize_command.add_argument(
        "--temperature", type=float, metavar="T", help="of the weights (default: 1 for a function, 0.1 for a task)"
    )
    optimize_command.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same result (default: 0)")
    optimize_command.add_argument(
        "--variant",
        default="geometric",
        choices=("geometric", "code", "paper", "sde"),
        help="noise in equal ratios and mirrored samples (default), the authors' code, the paper, or the reverse SDE",
    )
    optimize_command.add_argument(
        "--demo", default="", metavar="FILE|BAG", help="demonstration of a task: positions over time, as CSV or as a recorded bag"
    )
    optimize_command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")

    add_benchmark(add("benchmark", benchmark, "Measure speed and quality, and compare with other algorithms."))

    tasks_command = add("tasks", tasks, "List the tasks.")
    tasks_command.add_argument("--json", type=Path, metavar="FILE", help="write the list to a file")

    add(
        "test",
        test,
        f"Run the tests and linters of a checkout, or a group of tests ({', '.join(GROUPS)}); more goes to pytest.",
    )
    return parser


def demo(options: argparse.Namespace) -> int:
    """The ant in simulation for 20 s, with everything written."""
    simulation = _simulation()
    folder = simulation.new_run_folder()
    summary = simulation.simulate("ant", duration=20.0, folder=folder, video=not options.no_video)
    return _done(summary, options.json)


def sim(options: argparse.Namespace) -> int:
    """Any task in simulation."""
    if options.video and options.record is None:
        raise CommandError("--video needs --record DIR, the folder to write the video to")
    settings = dict(_setting(text) for text in options.set)
    summary = _simulation().simulate(
        options.task,
        duration=options.duration,
        folder=options.record,
        video=options.video,
        lockstep=options.lockstep,
        headless=not options.viewer,
        params_file=str(options.params_file or ""),
        settings=settings,
    )
    return _done(summary, options.json)


def evaluate(options: argparse.Namespace) -> int:
    """Reports of recorded bags."""
    from diffusion_mpc.evaluation.report import write_report

    summaries = []
    for bag in options.bags:
        folder = (options.output or bag.parent) / (bag.stem if len(options.bags) > 1 else "")
        report = write_report(bag, options.task, folder, video=options.video)
        sys.stdout.write(report.text())
        summaries.append(report.summary)
    return _done(summaries if len(summaries) > 1 else summaries[0], options.json)


def optimize(options: argparse.Namespace) -> int:
    """One reverse pass on a function or a task."""
    from diffusion_mpc.planner.functions import FUNCTIONS
    from diffusion_mpc.planner.optimize import Settings
    from diffusion_mpc.planner.run import run_optimize

    o = options
    temperature = o.temperature if o.temperature is not None else 1.0 if o.problem in FUNCTIONS else 0.1
    settings = Settings(o.samples, o.levels, temperature, o.variant, o.seed)
    return _done(run_optimize(o.problem, o.dim, settings, o.demo), o.json)


def benchmark(options: argparse.Namespace) -> int:
    """One of the benchmarks; what is interrupted is written all the same, and the exit code says so."""
    figures, complete = options.benchmark(options)
    _done(figures, options.json)
    for error in figures.get("errors", []):
        sys.stderr.write(f"error: {error}\n")
    if not complete:
        sys.stderr.write("error: incomplete; run the same command again to go on\n")
    return 0 if complete else 1


def tasks(options: argparse.Namespace) -> int:
    """The tasks and what they are."""
    from rich.console import Console
    from rich.table import Table

    from diffusion_mpc.tasks import available_tasks

    table = Table("task", "what the robot does", "reference", "cost terms")
    found = available_tasks()
    for name, task in found.items():
        table.add_row(name, (task.__doc__ or "").splitlines()[0], task.reference, ", ".join(task.cost_terms()))
    Console().print(table)
    return _done(
        {name: {"reference": t.reference, "cost_terms": list(t.cost_terms())} for name, t in found.items()},
        options.json,
    )


def test(options: argparse.Namespace) -> int:
    """Tests and linters."""
    return run_all(options.extra)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set {text}: write NAME=VALUE")
    return name, value


def _simulation() -> ModuleType:
    if importlib.util.find_spec("rclpy") is None:
        raise CommandError("this needs ROS 2 (rclpy): use ./dmpc, or source a ROS 2 distribution")
    from diffusion_mpc.ros import simulate

    return simulate


def _done(figures: object, path: Path | None) -> int:
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
