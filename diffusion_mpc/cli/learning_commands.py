"""Commands for data, networks and their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts.types import NonNegativeInt, PositiveInt

from diffusion_mpc.arguments import (
    OutputFile,
    SetOption,
    parse_settings,
    print_figures,
    write_json,
)
from diffusion_mpc.names import BodyName, CheckpointKind, PlanTarget, Prediction, ProcessName

if TYPE_CHECKING:
    from diffusion_mpc.learning.augment import AugmentOptions


def collect(
    task: str,
    /,
    *,
    output: Path | None = None,
    episodes: NonNegativeInt | None = None,
    duration: float | None = None,
    samples: int = 4,
    tails: int = 2,
    push: float = 0.4,
    delays: int = 2,
    policy: str = "",
    policy_fraction: float = 0.5,
    policy_time: float = 0.0,
    deployed: str = "",
    bags: tuple[Path, ...] = (),
    replan: Path | None = None,
    replan_fraction: float = 0.25,
    augment: Path | None = None,
    diffuser: Path | None = None,
    strength: float = 1.0,
    largest_error: float = 0.0,
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

    With --augment it enlarges such data without a robot: by trajectories that a model of them
    (`train --kind diffuser`) makes near a policy, each step of which is checked against MuJoCo.

    example: diffusion-mpc collect quadruped --episodes 64 --output runs/data/quadruped

    Args:
        task: name of the task, or a Python file that defines one
        output: folder for the data (default: runs/data/TASK; with --augment, the data's name and
            _synthetic)
        episodes: number of episodes (default: 64; none beside --bags), or of synthetic
            trajectories (default: 1024)
        duration: simulated time of an episode, s (default: 8; of a synthetic trajectory, that of
            those that the model was trained on, and others of a unet alone)
        samples: rows that a plan gives of its samples
        tails: rows that a plan gives of its later parts
        push: largest push, as a change of velocity in m/s
        delays: largest delay of states, in periods
        policy: checkpoint of an earlier round, or shipped:NAME, which controls in part of the
            episodes
        policy_fraction: fraction of the episodes in which it does
        policy_time: longest time for which it does before the planner takes its turn, s; 0: all of
            the episode. For a policy that would fall alone
        deployed: SAMPLESxSTEPS, such as 32x1, of a planner with the policy among its samples that
            controls in the policy's place: states that a robot in use is led to
        bags: recorded runs, or folders of them, whose states are planned from again
        replan: former data of the task, whose states are planned from again
        replan_fraction: fraction of their states
        augment: data of the task that are enlarged
        diffuser: model of their trajectories (default: DATA_diffuser/best.safetensors)
        strength: strength of the guidance of such trajectories to the policy of --policy, lambda of
            2404.06356; 0: as in the data
        largest_error: error of a step against MuJoCo, in standard deviations of what a step
            changes, from which on such a trajectory is cut off; 0: none is
        processes: worker processes; 0: one per core
        ray_address: work on a Ray cluster: its address, or auto for that on this machine
        seed: same seed, same data
        settings: planner parameter, or sim.NAME=VALUE; can be repeated
        json: file to write the figures to
    """
    from diffusion_mpc.learning.augment import AugmentOptions
    from diffusion_mpc.learning.collect import CollectOptions
    from diffusion_mpc.learning.collect import collect as run
    from diffusion_mpc.learning.teacher_episode import EpisodeOptions
    from diffusion_mpc.policy.checkpoint import SHIPPED

    given = parse_settings(settings)
    if policy:
        # By its whole path: the data say which policy controlled.
        shipped = policy.startswith(SHIPPED)
        given["policy.checkpoint"] = policy if shipped else str(Path(policy).resolve())
    if deployed and not policy:
        raise ValueError("--deployed is a planner with a policy; name one with --policy")
    if augment is not None:
        return _augment(
            task,
            output or augment.with_name(f"{augment.name}_synthetic"),
            given,
            AugmentOptions(
                augment,
                str(diffuser or augment.with_name(f"{augment.name}_diffuser") / "best.safetensors"),
                1024 if episodes is None else episodes,
                strength,
                duration or 0.0,
                largest_error,
                processes,
                ray_address,
                seed,
            ),
            json,
        )
    if diffuser is not None:
        raise ValueError("--diffuser is a model of the data of --augment; name those as well")
    rows, steps = _samples_and_steps(deployed) if deployed else (0, 0)
    course = EpisodeOptions(
        duration=8.0 if duration is None else duration,
        samples=samples,
        tails=tails,
        push=push,
        delays=delays,
        policy_fraction=policy_fraction if policy else 0.0,
        policy_time=policy_time if policy else 0.0,
        deployed_samples=rows,
        deployed_steps=steps,
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
    print_figures(figures)
    write_json(figures, json)
    return 0


def _augment(
    task: str, folder: Path, given: dict[str, str], options: AugmentOptions, json: Path | None
) -> int:
    from diffusion_mpc.learning.augment import augment

    figures = augment(task, folder, given, options)
    print_figures(figures)
    write_json(figures, json)
    return 0


def _samples_and_steps(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"--deployed '{text}' is not of the form SAMPLESxSTEPS, such as 32x1")
    return int(parts[0]), int(parts[1])


def train(
    data: tuple[Path, ...],
    /,
    *,
    output: Path | None = None,
    kind: CheckpointKind = "policy",
    body: BodyName = "mlp",
    process: ProcessName | None = None,
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
    history: PositiveInt = 2,
    horizon: PositiveInt = 32,
    target: PlanTarget = "planned",
    value: Path | None = None,
    threads: int = 1,
    seed: int = 0,
    json: OutputFile = None,
) -> int:
    """Train a network on data that `collect` wrote; the same command goes on after a kill.

    example: diffusion-mpc train runs/data/ant --epochs 50 --trials 4

    Args:
        data: folders of the data, the rounds of one task
        output: folder for checkpoints and logs (default: DATA_KIND beside the last of the data)
        kind: policy, optimality (plans under the label that they are better than their like),
            value, diffuser (executed trajectories, as a policy and for `collect --augment`)
        body: kind of network
        process: generative process (default: flow; of a diffuser ddpm, its only one)
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
        history: observations that a policy sees, 1 or 2: the one of a period before tells of what
            states do not, such as delays
        horizon: steps of a diffuser's trajectories
        target: plans that a policy learns: those that the teacher made, or those that give what was
            executed in the end, of which a plan is the first action only; the rest it changes again
        value: with --kind optimality --target executed, checkpoint of a value: what was executed is
            optimal where the run then cost less than the value of its state
        threads: threads on a CPU; small networks gain nothing from more, and lose much where other
            programs run
        seed: same seed, same data, same weights
        json: file to write the figures to
    """
    import torch

    from diffusion_mpc.learning.learners import NetworkOptions
    from diffusion_mpc.learning.train import Training, TrainOptions

    torch.set_num_threads(threads)
    chosen = process or ("ddpm" if kind == "diffuser" else "flow")
    network = NetworkOptions(body, chosen, prediction, width, depth)
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
        history=history,
        horizon=horizon,
        target=target,
        value="" if value is None else str(value),
    )
    figures = Training(data, output or data[-1].with_name(f"{data[-1].name}_{kind}"), options).run()
    if figures:
        print_figures(figures)
        write_json(figures, json)
    return 0


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
    print_figures(figures)
    write_json(figures, json)
    return 0


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
    print_figures(description)
    write_json(description, json)
    return 0
