"""`diffusion-mpc benchmark`: its options, and what they start."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

EXAMPLES = {
    "speed": "diffusion-mpc benchmark speed --json speed.json",
    "quality": "diffusion-mpc benchmark quality --tasks cartpole ant --seeds 8 --json quality.json",
    "tune": "diffusion-mpc benchmark tune --tasks cartpole --candidates 12 --output runs/tune",
    "delay": "diffusion-mpc benchmark delay --seeds 8 --json delay.json",
    "renoising": "diffusion-mpc benchmark renoising --seeds 8 --json renoising.json",
    "black-box": "diffusion-mpc benchmark black-box --dims 20 100 --json black_box.json",
    "soak": "diffusion-mpc benchmark soak --duration 1800 --json soak.json",
}
TEXTS = {
    "speed": "Time whole plans against mujoco.rollout of the same batches alone.",
    "quality": "Compare the algorithms on the tasks in closed loop, at exactly equal rollouts.",
    "tune": "Search parameters for each algorithm with an equal budget, for `quality` to use.",
    "delay": "Measure what delays of states and commands cost in closed loop, with and without compensation.",
    "renoising": "Show how MBD's noise answers a new goal, an opposite command, a push and an old plan, and what that gains.",
    "black-box": "Compare Model-Based Diffusion with other optimisers of functions, at equal evaluations.",
    "soak": "Run planner and simulation in real time, for long: late plans, delays, and the planner's memory.",
}


def add_benchmark(command: argparse.ArgumentParser) -> None:
    """Add the benchmarks and their options to the parser of `benchmark`."""
    benchmarks = command.add_subparsers(title="benchmarks", required=True, metavar="BENCHMARK")

    def add(name: str, function: Callable[[argparse.Namespace], tuple[Figures, bool]]) -> argparse.ArgumentParser:
        parser = benchmarks.add_parser(name, help=TEXTS[name], description=TEXTS[name], epilog=f"example: {EXAMPLES[name]}")
        parser.set_defaults(benchmark=function)
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
        return parser

    _speed_options(add("speed", speed))
    quality_command = add("quality", quality)
    _closed_loop_options(quality_command, seeds=8)
    quality_command.add_argument(
        "--rollouts", nargs="+", type=_positive, default=[], metavar="N", help="rollouts in a plan (default: the task's own)"
    )
    quality_command.add_argument("--tuned", type=Path, metavar="FILE", help="tuned parameters (default: those of the package)")
    quality_command.add_argument("--untuned", action="store_true", help="every algorithm at the task's defaults")
    _kept(quality_command)
    tune_command = add("tune", tune)
    _closed_loop_options(tune_command, seeds=2)
    tune_command.add_argument(
        "--candidates", type=_positive, default=12, metavar="N", help="settings tried for each algorithm (default: 12)"
    )
    tune_command.add_argument("--tuned", type=Path, metavar="FILE", help="tuned.yaml of an earlier search, to go on from")
    tune_command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the search (default: 0)")
    _kept(tune_command)
    _delay_options(add("delay", delay))
    renoising_command = add("renoising", renoising)
    renoising_command.add_argument("--seeds", type=_positive, default=8, metavar="N", help="trials of each (default: 8)")
    _kept(renoising_command)
    _black_box_options(add("black-box", black_box))
    soak_command = add("soak", soak)
    soak_command.add_argument("--task", default="ant", metavar="TASK", help="task (default: ant)")
    soak_command.add_argument("--duration", type=float, default=1800.0, metavar="S", help="time to run, s (default: 1800)")
    soak_command.add_argument(
        "--trace", type=Path, metavar="FILE", help="write what nodes do when, for ui.perfetto.dev; say what goes with late plans"
    )
    _set(soak_command)


def _speed_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks (default: ant 64 x 20 x 2 and cartpole 32 x 25 x 1)")
    for option, what in (("samples", "samples"), ("horizon", "control steps"), ("iterations", "denoising steps")):
        parser.add_argument(f"--{option}", nargs="+", type=_positive, metavar="N", help=f"{what}, one case for each number")
    parser.add_argument("--backend", choices=("cpu", "warp"), help="rollout backend (default: the task's own)")
    parser.add_argument("--capture", nargs="+", choices=("plan", "step", "none"), help="CUDA graphs of warp, one case for each")
    parser.add_argument("--stages", action="store_true", help="time every stage of a plan alone, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw physics steps/s against samples into a PNG")
    parser.add_argument("--plans", type=_positive, default=200, metavar="N", help="plans that are timed (default: 200)")
    parser.add_argument("--warm-up", type=int, default=20, metavar="N", help="plans before (default: 20)")
    _set(parser)


def _closed_loop_options(parser: argparse.ArgumentParser, seeds: int) -> None:
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="tasks (default: all)")
    parser.add_argument("--algorithms", nargs="+", default=[], metavar="NAME", help="algorithms (default: all)")
    parser.add_argument("--seeds", type=_positive, default=seeds, metavar="N", help=f"trials of each (default: {seeds})")
    parser.add_argument("--duration", type=float, metavar="S", help="simulated time of a trial, s (default: the task's own)")
    _set(parser)


def _delay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="ant", metavar="TASK", help="task (default: ant)")
    parser.add_argument(
        "--delays", nargs="+", type=float, default=[10, 20, 40, 60, 80], metavar="MS", help="delays, ms (default: 10 20 40 60 80)"
    )
    parser.add_argument(
        "--delayed", nargs="+", choices=("state", "command"), default=["state", "command"], help="what is late (default: both)"
    )
    parser.add_argument("--seeds", type=_positive, default=4, metavar="N", help="trials of each (default: 4)")
    parser.add_argument("--duration", type=float, default=4.0, metavar="S", help="simulated time of a trial, s (default: 4)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="parameter, sim.NAME for the robot's")
    _kept(parser)


def _black_box_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--functions", nargs="+", metavar="NAME", help="ackley, rastrigin, levy (default: all)")
    parser.add_argument("--dims", nargs="+", type=int, metavar="D", help="dimensions (default: 20 100 200 400 800)")
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="methods (default: all)")
    parser.add_argument("--seeds", type=_positive, default=8, metavar="N", help="seeds of each (default: 8; gp_bo: 3 at most)")
    parser.add_argument("--samples", type=_positive, metavar="N", help="samples of mbd at each level (default: 64)")
    parser.add_argument("--levels", type=_positive, metavar="L", help="noise levels of mbd (default: 100)")
    parser.add_argument("--temperature", type=float, metavar="T", help="of mbd's weights")
    parser.add_argument("--bo-evaluations", type=_positive, metavar="N", help="most evaluations of gp_bo (default: 200)")
    parser.add_argument("--bo-seconds", type=float, metavar="S", help="time after which gp_bo ends (default: 300)")
    _kept(parser)


def _set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="planner parameter; can be repeated")


def _kept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/benchmark"),
        metavar="DIR",
        help="where results are kept; what is there is not run again (default: runs/benchmark)",
    )
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="processes (default: one per core)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def speed(options: argparse.Namespace) -> tuple[Figures, bool]:
    """Times of plans."""
    from itertools import product

    from rich.console import Console
    from rich.progress import Progress

    from diffusion_mpc.benchmark import stages
    from diffusion_mpc.benchmark.speed import DEFAULT_CASES, Case, check, run_case
    from diffusion_mpc.benchmark.tables import speed_table, stages_table

    chosen = {"num_samples": options.samples, "horizon_steps": options.horizon, "iterations": options.iterations}
    axes = [[(f"planner.{name}", str(n)) for n in numbers] for name, numbers in chosen.items() if numbers]
    axes += [[("backend.capture", mode) for mode in options.capture]] if options.capture else []
    axes += [[("backend.name", options.backend)]] if options.backend else []
    own = [Case(task, {}) for task in options.tasks] if options.tasks else DEFAULT_CASES
    cases = [Case(case.task, {**case.settings, **settings(options), **dict(sizes)}) for case in own for sizes in product(*axes)]
    check(cases)
    if options.stages:
        stages.check(cases)
    rows: list[dict[str, Any]] = []
    complete = True
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("speed", total=len(cases) * (options.plans + options.warm_up))
        try:
            for case in cases:
                progress.update(bar, description=f"speed: {case.task}")
                rows.append(run_case(case, options.plans, options.warm_up, lambda: progress.advance(bar)))
                complete = rows[-1].pop("complete")
                if not complete:
                    break
                if options.stages:
                    rows[-1]["stages"] = stages.time_stages(case)
        except KeyboardInterrupt:
            complete = False
    _show(speed_table(rows), *(stages_table(row) for row in rows if "stages" in row))
    if options.plot and rows:
        from diffusion_mpc.benchmark.plots import plot_speed

        plot_speed(rows, options.plot)
        sys.stdout.write(f"Plot     {options.plot}\n")
    return {"complete": complete, "rows": rows}, complete


def quality(options: argparse.Namespace) -> tuple[Figures, bool]:
    """The comparison in closed loop."""
    from diffusion_mpc.benchmark.plots import plot_quality
    from diffusion_mpc.benchmark.quality import STUDY, TUNED, Choice, read_tuned
    from diffusion_mpc.benchmark.tables import quality_tables

    choice = Choice(
        tasks=options.tasks,
        algorithms=options.algorithms,
        trials=range(options.seeds),
        duration=options.duration,
        rollouts=options.rollouts,
        settings=settings(options),
        tuned={} if options.untuned else read_tuned(options.tuned or TUNED),
    )
    figures, outcome = STUDY.run(choice, options.output, options.processes)
    _show(*quality_tables(figures))
    if figures["rows"]:
        plot_quality(figures["rows"], options.output / "quality.png")
        sys.stdout.write(f"Plot     {options.output / 'quality.png'}\n")
    return figures, outcome.complete


def tune(options: argparse.Namespace) -> tuple[Figures, bool]:
    """The search for parameters."""
    from diffusion_mpc.benchmark.quality import Choice, read_tuned
    from diffusion_mpc.benchmark.tables import tune_table
    from diffusion_mpc.benchmark.tune import FIRST_TRIAL, run

    choice = Choice(
        tasks=options.tasks,
        algorithms=options.algorithms,
        trials=range(FIRST_TRIAL, FIRST_TRIAL + options.seeds),
        duration=options.duration,
        settings=settings(options),
        tuned=read_tuned(options.tuned) if options.tuned else {},
    )
    figures, outcome = run(choice, options.candidates, options.seed, options.output, options.processes)
    _show(tune_table(figures))
    sys.stdout.write(f"Tuned    {options.output / 'tuned.yaml'}\n")
    return figures, outcome.complete


def delay(options: argparse.Namespace) -> tuple[Figures, bool]:
    """What delays cost."""
    from diffusion_mpc.benchmark.delay import STUDY, Choice
    from diffusion_mpc.benchmark.plots import plot_delay
    from diffusion_mpc.benchmark.tables import delay_table

    choice = Choice(
        task=options.task,
        delays=[milliseconds / 1e3 for milliseconds in options.delays],
        delayed=options.delayed,
        trials=range(options.seeds),
        duration=options.duration,
        settings=settings(options),
    )
    figures, outcome = STUDY.run(choice, options.output, options.processes)
    _show(delay_table(figures["rows"]))
    if figures["rows"]:
        plot_delay(figures["rows"], options.output / "delay.png")
        sys.stdout.write(f"Plot     {options.output / 'delay.png'}\n")
    return figures, outcome.complete


def renoising(options: argparse.Namespace) -> tuple[Figures, bool]:
    """Noise when a plan is no longer good."""
    from diffusion_mpc.benchmark.plots import plot_renoising
    from diffusion_mpc.benchmark.renoising import STUDY, Choice
    from diffusion_mpc.benchmark.tables import renoising_table

    figures, outcome = STUDY.run(Choice(range(options.seeds)), options.output, options.processes)
    _show(renoising_table(figures["rows"]))
    if figures["rows"]:
        plot_renoising(figures["rows"], options.output / "renoising.png")
        sys.stdout.write(f"Plot     {options.output / 'renoising.png'}\n")
    return figures, outcome.complete


def black_box(options: argparse.Namespace) -> tuple[Figures, bool]:
    """The comparison on functions."""
    from diffusion_mpc.benchmark.black_box import STUDY, Choice, missing
    from diffusion_mpc.benchmark.plots import plot_black_box
    from diffusion_mpc.benchmark.tables import black_box_table

    names = ("functions", "dims", "methods", "samples", "levels", "temperature", "bo_evaluations", "bo_seconds")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    choice = Choice(seeds=range(options.seeds), **given)
    figures, outcome = STUDY.run(choice, options.output, options.processes)
    figures["missing"] = missing(choice)
    _show(black_box_table(figures))
    if figures["rows"]:
        plot_black_box(figures["rows"], options.output / "black_box.png")
        sys.stdout.write(f"Plot     {options.output / 'black_box.png'}\n")
    return figures, outcome.complete


def soak(options: argparse.Namespace) -> tuple[Figures, bool]:
    """The long run."""
    from importlib.util import find_spec

    from rich.console import Console
    from rich.progress import Progress

    from diffusion_mpc.benchmark.lateness import lateness_table
    from diffusion_mpc.benchmark.tables import soak_table

    if find_spec("rclpy") is None:
        raise ValueError("benchmark soak needs ROS 2 (rclpy): use ./dmpc, or source a ROS 2 distribution")
    from diffusion_mpc.ros.soak import soak as run

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"soak: {options.task}", total=options.duration)
        figures = run(
            options.task, options.duration, settings(options), lambda passed: progress.update(bar, completed=passed), options.trace
        )
    _show(soak_table(figures), *([lateness_table(figures["lateness"])] if options.trace else []))
    return figures, figures["complete"]


def _show(*tables: Any) -> None:  # noqa: ANN401  (rich is imported only where a benchmark runs)
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 160
    for table in tables:
        console.print(table)


def settings(options: argparse.Namespace) -> dict[str, str]:
    """What `--set` says.

    Raises:
        ValueError: not of the form NAME=VALUE
    """
    found = {}
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: write NAME=VALUE")
        found[name] = value
    return found
