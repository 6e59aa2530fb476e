"""The command line: `diffusion-mpc`, or `./dmpc` in a checkout.

cyclopts makes the parser from signatures and docstrings, for each benchmark from the fields of its
dataclass: every option, its default and its help are written once. Modules are imported by the
command that needs them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from diffusion_mpc.arguments import OutputFile, SetOption, parse_settings, write_json
from diffusion_mpc.names import (
    ERROR,
    ActuatorKind,
    BodyName,
    CheckpointKind,
    Prediction,
    ProcessName,
    SettingsSource,
    Variant,
)

SweptOption = Annotated[tuple[str, ...], Parameter(consume_multiple=False)]
TwoOrMore = Annotated[int, Parameter(validator=Number(gte=2))]

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended before it had begun its work, as shells have it."""


class CommandError(Exception):
    """A command cannot do what it was asked to; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    The exit code is 0 where it did what it was asked to, 1 where it did not, 2 for a usage error,
    130 where Ctrl-C ended it.
    """
    try:
        command = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        # A benchmark's class is its command: the parser makes the object, options and all.
        return int(command() if callable(command) else command or 0)
    except UnusedCliTokensError as error:
        sys.stderr.write(f"{ERROR}unrecognised argument '{(error.unused_tokens or [''])[0]}'\n")
        return 2
    except CycloptsError as error:
        sys.stderr.write(f"{ERROR}{error}\n")
        return 2
    except (CommandError, ValueError) as error:
        sys.stderr.write(f"{ERROR}{error}\n")
        return 1
    except OSError as error:
        # A folder that cannot be made, a disk that is full.
        where = f"'{error.filename}': " if error.filename else ""
        sys.stderr.write(f"{ERROR}{where}{error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def _shown(default: object) -> object:
    """Default value as it would be typed; None, which is not shown, where nothing would be."""
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or None
    return None if default is False else default


app = App(
    name="diffusion-mpc",
    help="Online, diffusion-based model predictive control with ROS 2.",
    version_flags=(),
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", consume_multiple=True, show_default=_shown),
)
app.command(
    "diffusion_mpc.benchmark.command_line:app",
    name="benchmark",
    help="Measure speed and quality, and compare with other algorithms.\n\n"
    "example: diffusion-mpc benchmark speed",
)


@app.command
def demo(*, page: bool = False, no_video: bool = False, json: OutputFile = None) -> int:
    """Show the ant walking in simulation over ROS 2 for 20 s; write bag, report, plot and video.

    example: diffusion-mpc demo

    Args:
        page: serve the live page, until Ctrl-C
        no_video: do not render the video
        json: file to write the figures to
    """
    simulation = _simulation()
    folder = simulation.new_run_folder()
    summary = simulation.simulate(
        "ant", duration=0.0 if page else 20.0, folder=folder, video=not no_video, page=page
    )
    write_json(summary, json)
    return 0


@app.command
def sim(
    task: str,
    /,
    *,
    duration: float | None = None,
    lockstep: bool = False,
    record: Path | None = None,
    video: bool = False,
    viewer: bool = False,
    page: bool = False,
    params_file: Path | None = None,
    settings: SetOption = (),
    json: OutputFile = None,
) -> int:
    """Run a task in simulation: planner, simulated robot and recorder as nodes of their own.

    example: diffusion-mpc sim ant --duration 30 --set command.vx=2.0 --json out.json

    Args:
        task: name of the task, or a Python file that defines one
        duration: simulated time in s; 0: until Ctrl-C (default: 20, with --page 0)
        lockstep: the simulation waits for every command: the same result every time
        record: new folder for bag, report and plot
        video: with --record: render a video as well
        viewer: open MuJoCo's viewer window
        page: serve the live page: the robot, sliders and plots in the browser
        params_file: ROS parameter file for the nodes
        settings: planner parameter, or sim.NAME=VALUE; can be repeated
        json: file to write the figures to
    """
    if video and record is None:
        raise CommandError("--video needs --record DIR, the folder to write the video to")
    texts = parse_settings(settings)
    summary = _simulation().simulate(
        task,
        duration=duration if duration is not None else 0.0 if page else 20.0,
        folder=record,
        video=video,
        lockstep=lockstep,
        headless=not viewer,
        page=page,
        params_file=str(params_file or ""),
        settings=texts,
    )
    write_json(summary, json)
    return 0


@app.command
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


@app.command
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


@app.command
def sweep(
    task: str,
    /,
    *,
    over: SweptOption = (),
    settings: SetOption = (),
    sampler: SettingsSource = "tpe",
    trials: PositiveInt | None = None,
    repeats: PositiveInt = 8,
    fresh: TwoOrMore = 8,
    generation: TwoOrMore = 8,
    duration: float | None = None,
    output: Path | None = None,
    processes: int = 0,
    ray_address: str = "",
    seed: int = 0,
    json: OutputFile = None,
) -> int:
    """Search parameters of a task in lockstep; the same command goes on after a kill.

    All settings run the same trials; those that are worse for sure are stopped early. In the end
    the best meets the defaults on fresh trials; best.yaml has what came of it, for launch files.
    Costs are at the weights of the defaults, whatever weights are tried.

    example: diffusion-mpc sweep cartpole --over planner.temperature=0.02..1.0:log --over
    planner.num_knots=3,5,8

    Args:
        task: name of the task, or a Python file that defines one
        over: parameter to vary, or sim.NAME: NAME=LOW..HIGH, NAME=LOW..HIGH:log (in equal ratios)
            or NAME=VALUE,VALUE; can be repeated
        settings: parameter that all settings have, or sim.NAME=VALUE; can be repeated
        sampler: tpe (Optuna: near those that were good), random, or grid (all combinations)
        trials: settings, the defaults among them (default: 64; all of a grid)
        repeats: episodes of a setting that is not stopped early
        fresh: further episodes of the best and of the defaults
        generation: settings that are asked for at a time; results depend on it, and not on the
            number of processes
        duration: simulated time of an episode, s (default: the task's own)
        output: folder for episodes and results (default: runs/sweeps/TASK)
        processes: worker processes; 0: one per core
        ray_address: work on a Ray cluster: its address, or auto for that on this machine
        seed: same seed, same study
        json: file to write the figures to
    """
    from diffusion_mpc.sweep.sweep_command import SweepOptions, report

    options = SweepOptions(
        over=over,
        settings=parse_settings(settings),
        sampler=sampler,
        trials=trials,
        repeats=repeats,
        fresh=fresh,
        generation=generation,
        duration=duration,
        seed=seed,
        processes=processes,
        ray_address=ray_address,
    )
    return report(task, output or Path("runs/sweeps") / Path(task).stem, options, json)


@app.command
def optimize(
    problem: str,
    /,
    *,
    dim: int = 20,
    samples: int = 256,
    levels: int = 100,
    temperature: float | None = None,
    seed: int = 0,
    variant: Variant = "geometric",
    demo: str = "",
    json: OutputFile = None,
) -> int:
    """Minimise a function, or the cost of a task over one horizon, open loop.

    example: diffusion-mpc optimize ackley --dim 20 --samples 256 --json out.json

    Args:
        problem: ackley, rastrigin, levy, or a task: its name, or a Python file that defines one
        dim: dimension of the function
        samples: samples at each level
        levels: noise levels
        temperature: temperature of the weights (default: 1 for a function, 0.1 for a task)
        seed: same seed, same result
        variant: noise in equal ratios and antithetic samples, the authors' code, the paper, or the
            reverse SDE
        demo: demonstration of a task: positions over time, as CSV or as a recorded bag
        json: file to write the figures to
    """
    from diffusion_mpc.optimize.functions import FUNCTIONS
    from diffusion_mpc.optimize.named_problem import run_optimize
    from diffusion_mpc.optimize.reverse_diffusion import Settings

    if temperature is None:
        temperature = 1.0 if problem in FUNCTIONS else 0.1
    write_json(
        run_optimize(problem, dim, Settings(samples, levels, temperature, variant, seed), demo),
        json,
    )
    return 0


@app.command
def tasks(name: str | None = None, /, *, yaml: bool = False, json: OutputFile = None) -> int:
    """List the tasks, or print all parameters of one.

    example: diffusion-mpc tasks cartpole --yaml

    Args:
        name: a task: its name, or a Python file that defines one (default: all)
        yaml: print a parameter file with all parameters of all nodes, explained and at their
            defaults for the task
        json: file to write the list to
    """
    from rich.console import Console
    from rich.table import Table

    from diffusion_mpc.config import reference_yaml
    from diffusion_mpc.tasks import available_tasks, find_task

    if yaml:
        if name is None:
            raise CommandError("--yaml needs the name of a task: diffusion-mpc tasks NAME --yaml")
        sys.stdout.write(reference_yaml(name))
        return 0
    table = Table("task", "what the robot does", "reference", "cost terms")
    found = available_tasks() if name is None else {name: find_task(name)}
    for name, task in found.items():
        table.add_row(
            name, (task.__doc__ or "").splitlines()[0], task.reference, ", ".join(task.cost_terms())
        )
    Console().print(table)
    write_json(
        {
            name: {"reference": t.reference, "cost_terms": list(t.cost_terms())}
            for name, t in found.items()
        },
        json,
    )
    return 0


@app.command
def collect(
    task: str,
    /,
    *,
    output: Path | None = None,
    episodes: int | None = None,
    duration: float = 8.0,
    samples: int = 4,
    tails: int = 2,
    push: float = 0.4,
    delays: int = 2,
    policy: str = "",
    policy_fraction: float = 0.5,
    policy_time: float = 0.0,
    bags: tuple[Path, ...] = (),
    replan: Path | None = None,
    replan_fraction: float = 0.25,
    processes: int = 0,
    ray_address: str = "",
    seed: int = 0,
    settings: SetOption = (),
    json: OutputFile = None,
) -> int:
    """Collect plans of a task to learn from; the same command goes on after a kill.

    The planner has a generous budget, four times the task's samples and twice its denoising steps
    where --set says nothing else; it controls the robot in lockstep, from random starts, under
    references that change, pushes, other masses and frictions, and late states.

    example: diffusion-mpc collect quadruped --episodes 64 --output runs/data/quadruped

    Args:
        task: name of the task, or a Python file that defines one
        output: folder for the data (default: runs/data/TASK)
        episodes: number of episodes (default: 64; none beside --bags)
        duration: simulated time of an episode, s
        samples: rows that a plan gives of its samples
        tails: rows that a plan gives of its later parts
        push: largest push, as a change of velocity in m/s
        delays: largest delay of states, in periods
        policy: checkpoint of an earlier round, or shipped:NAME, which controls in part of the
            episodes
        policy_fraction: fraction of the episodes in which it does
        policy_time: longest time for which it does before the planner takes its turn, s; 0: all of
            the episode. For a policy that would fall alone
        bags: recorded runs, or folders of them, whose states are planned from again
        replan: former data of the task, whose states are planned from again
        replan_fraction: fraction of their states
        processes: worker processes; 0: one per core
        ray_address: work on a Ray cluster: its address, or auto for that on this machine
        seed: same seed, same data
        settings: planner parameter, or sim.NAME=VALUE; can be repeated
        json: file to write the figures to
    """
    from diffusion_mpc.learning.collect import CollectOptions
    from diffusion_mpc.learning.collect import collect as run
    from diffusion_mpc.learning.teacher_episode import EpisodeOptions
    from diffusion_mpc.policy.checkpoint import SHIPPED

    given = parse_settings(settings)
    if policy:
        # By its whole path: the data say which policy controlled.
        shipped = policy.startswith(SHIPPED)
        given["policy.checkpoint"] = policy if shipped else str(Path(policy).resolve())
    course = EpisodeOptions(
        duration=duration,
        samples=samples,
        tails=tails,
        push=push,
        delays=delays,
        policy_fraction=policy_fraction if policy else 0.0,
        policy_time=policy_time if policy else 0.0,
        seed=seed,
    )
    folder = output or Path("runs/data") / Path(task).stem
    wanted = (0 if bags else 64) if episodes is None else episodes
    figures = run(
        task,
        folder,
        given,
        CollectOptions(wanted, processes, course, bags, replan, replan_fraction, ray_address),
    )
    _show(figures)
    write_json(figures, json)
    return 0


@app.command
def train(
    data: Path,
    /,
    *,
    output: Path | None = None,
    kind: CheckpointKind = "policy",
    body: BodyName = "mlp",
    process: ProcessName = "flow",
    prediction: Prediction = "sample",
    width: int = 256,
    depth: int = 3,
    epochs: int = 50,
    batch: int = 256,
    rate: float = 1e-3,
    trials: int = 0,
    evaluate_every: int = 10,
    duration: float = 0.0,
    mirror: bool = True,
    no_residual: bool = False,
    threads: int = 1,
    seed: int = 0,
    json: OutputFile = None,
) -> int:
    """Train a network on data that `collect` wrote; the same command goes on after a kill.

    example: diffusion-mpc train runs/data/ant --epochs 50 --trials 4

    Args:
        data: folder of the data
        output: folder for checkpoints and logs (default: DATA_KIND beside the data)
        kind: policy, optimality (plans under the label that they are better than their like), value
        body: kind of network
        process: generative process
        prediction: quantity that the network predicts; with sample, an untrained one leaves the
            previous plan as it is
        width: units of a hidden layer; of a unet, channels at the first resolution
        depth: hidden layers, blocks, or resolutions of a unet
        epochs: passes over the data
        batch: rows of a batch, over all processes
        rate: learning rate
        trials: runs of the policy alone in each closed-loop evaluation; 0: none
        evaluate_every: epochs between two closed-loop evaluations
        duration: simulated time of such a run, s (default: the task's)
        mirror: show mirror images of half of the rows, where the task says its sides
        no_residual: learn the plan from the observation alone, not what it adds to the previous
            plan: for robots whose plans differ from the previous one by chance only
        threads: threads on a CPU; small networks gain nothing from more, and lose much where other
            programs run
        seed: same seed, same data, same weights
        json: file to write the figures to
    """
    import torch

    from diffusion_mpc.learning.learners import NetworkOptions
    from diffusion_mpc.learning.train import Training, TrainOptions

    torch.set_num_threads(threads)
    network = NetworkOptions(body, process, prediction, width, depth)
    options = TrainOptions(
        kind,
        network,
        epochs,
        batch,
        rate,
        seed=seed,
        trials=trials,
        evaluate_every=evaluate_every,
        duration=duration,
        mirror=mirror,
        residual=not no_residual,
    )
    figures = Training(data, output or data.with_name(f"{data.name}_{kind}"), options).run()
    if figures:
        _show(figures)
        write_json(figures, json)
    return 0


@app.command
def export(data: Path, name: str, /, *, json: OutputFile = None) -> int:
    """Write data that `collect` wrote as a Minari dataset, for offline reinforcement learning.

    example: diffusion-mpc export runs/data/quadruped quadruped/teacher-v0

    Args:
        data: folder of the data
        name: name of the dataset, as Minari has it
        json: file to write the figures to
    """
    from diffusion_mpc.learning.minari_export import export_to_minari

    figures = export_to_minari(data, name)
    _show(figures)
    write_json(figures, json)
    return 0


@app.command
def policy(file: str, /, *, json: OutputFile = None) -> int:
    """Print what a checkpoint is: its task, model, network, training and figures.

    example: diffusion-mpc policy runs/data/ant_policy/best.safetensors

    Args:
        file: checkpoint, or shipped:NAME
        json: file to write the description to
    """
    from dataclasses import asdict

    from diffusion_mpc.policy.checkpoint import locate, read_description

    description = asdict(read_description(locate(file)))
    _show(description)
    write_json(description, json)
    return 0


@app.command
def check(
    file: str,
    /,
    *,
    actuators: ActuatorKind = "",
    mjcf: OutputFile = None,
    json: OutputFile = None,
) -> int:
    """Show what a robot needs before its first run: parts, rest, costs, speed, suggestions.

    example: diffusion-mpc check my_robot.urdf --actuators position

    Args:
        file: model (MJCF, URDF, menagerie:NAME), or a task: its name, or a Python file with one
        actuators: actuators to add to a model that has none (default: position for a bare URDF)
        mjcf: file to write the model to, as MJCF, with what was added to it
        json: file to write the figures to
    """
    from diffusion_mpc.check.check_tables import show
    from diffusion_mpc.check.robot_check import check_robot, write_mjcf

    figures = check_robot(file, actuators)
    show(figures)
    if mjcf is not None:
        write_mjcf(file, actuators, mjcf)
    write_json(figures, json)
    return 0


@app.command
def test(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run the tests and linters of a checkout, or a group of tests.

    example: diffusion-mpc test faults

    Args:
        arguments: a group (faults, fuzz, kernels, kills, network, parity, rehearsal), or anything
            for pytest
    """
    from diffusion_mpc.testing import run_all

    return run_all(arguments)


def _show(figures: Mapping[str, Any], indent: str = "") -> None:
    """Print figures by name, those within others below them."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            sys.stdout.write(f"{indent}{name}\n")
            _show(value, indent + "  ")
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            sys.stdout.write(f"{indent}{name.replace('_', ' '):<{26 - len(indent)}}{shown}\n")


def _simulation() -> ModuleType:
    if importlib.util.find_spec("rclpy") is None:
        raise CommandError("this needs ROS 2 (rclpy): use ./dmpc, or source a ROS 2 distribution")
    from diffusion_mpc.bringup import simulate

    return simulate


if __name__ == "__main__":
    raise SystemExit(main())
