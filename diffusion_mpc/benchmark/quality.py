"""`benchmark quality`: every algorithm on every task in closed loop, at exactly equal rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import mujoco
import numpy as np
import yaml

from diffusion_mpc.benchmark.cells import Cell, Figures, Outcome, Study, among
from diffusion_mpc.benchmark.closed_loop import run_episode
from diffusion_mpc.benchmark.statistics import compare, estimate, normalised, ranks
from diffusion_mpc.config import ConfigError, NodeConfig, Parameter, SimConfig, Value, load_parameters
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.versions import versions

OURS = "mbd"
IDENTITY = ("task", "algorithm", "rollouts", "trial")
TUNED = Path(__file__).with_name("tuned.yaml")

# The trial decides the one, and a robot that waits for its plans has no use for the others.
NOT_IN_LOCKSTEP = ("planner.seed", "planner.lead", "planner.time_budget")

Tuned = Mapping[str, Mapping[str, Mapping[str, Value]]]
"""Parameters by task ("all": every task) and algorithm."""


@dataclass(frozen=True)
class Choice:
    """What to compare.

    Attributes:
        tasks: names; empty: all
        algorithms: names; empty: all
        trials: trials of each; a trial decides initial state, reference and the planner's seed
        duration: simulated time of each, s; None: what the task says
        rollouts: rollouts in one plan, over all its iterations; empty: what the task's defaults make
        settings: planner parameters, as texts, over those of tasks and `tuned`
        tuned: tuned parameters
    """

    tasks: Sequence[str] = ()
    algorithms: Sequence[str] = ()
    trials: Sequence[int] = tuple(range(8))
    duration: float | None = None
    rollouts: Sequence[int] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    tuned: Tuned = field(default_factory=dict)


def read_tuned(path: Path) -> Tuned:
    """Tuned parameters from a YAML file: `task or "all": {algorithm: {parameter: value}}`.

    Raises:
        ConfigError: the file is missing or does not look like that
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for by_algorithm in found.values():
            for name, values in by_algorithm.items():
                among("algorithm", name, ALGORITHMS)
                dict(values)
    except OSError:
        raise ConfigError(f"file of tuned parameters '{path}' does not exist") from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"file of tuned parameters '{path}' cannot be read: {' '.join(str(error).split())}") from None
    return cast(Tuned, found)


def cells(choice: Choice) -> list[Cell]:
    """All cells of a choice, trial by trial, so that what is done when it is interrupted compares the same trials.

    Raises:
        ConfigError, TaskError: the choice names what there is not, or parameters that do not fit
    """
    algorithms = [among("algorithm", name, ALGORITHMS) for name in choice.algorithms or ALGORITHMS]
    rows = [row for task in choice.tasks or available_tasks() for row in _rows(task, algorithms, choice)]
    return [{**row, "trial": trial} for trial in choice.trials for row in rows]


def _rows(task: str, algorithms: Sequence[str], choice: Choice) -> list[dict[str, Any]]:
    kind = find_task(task)
    known, defaults = load_parameters(NodeConfig, {"task": task})
    budgets = choice.rollouts or [int(defaults["planner.num_samples"]) * int(defaults["planner.iterations"])]
    return [
        {
            "task": task,
            "algorithm": algorithm,
            "rollouts": budget,
            "duration": choice.duration if choice.duration is not None else kind.trial_duration,
            "parameters": parameters(task, algorithm, budget, choice.tuned, choice.settings, known),
            "plant": plant(task),
            "versions": versions(),
        }
        for budget in budgets
        for algorithm in algorithms
    ]


def parameters(
    task: str, algorithm: str, budget: int, tuned: Tuned, settings: Mapping[str, str], known: Mapping[str, Parameter]
) -> dict[str, Value]:
    """All of a planner's parameters that a result depends on, with as many samples as make the budget.

    Args:
        task: name of the task
        algorithm: name of the algorithm
        budget: rollouts in one plan
        tuned: tuned parameters; those of the task come before those for all
        settings: parameters, as texts, that come before tuned ones
        known: descriptions of the task's parameters

    Raises:
        ConfigError: a parameter is unknown or does not fit, or the budget is no multiple of the iterations
    """
    kind = find_task(task)
    given: dict[str, Value] = {name: value for name, value in kind.demo.items() if not name.startswith("sim.")}
    for scope in ("all", task):
        given |= tuned.get(scope, {}).get(algorithm, {})
    for name, text in settings.items():
        given[name] = known[name].parse(text) if name in known else text
    given |= {"task": task, "planner.algorithm": algorithm}
    _, values = load_parameters(NodeConfig, given)
    iterations = int(values["planner.iterations"])
    if budget % iterations:
        raise ConfigError(f"{budget} rollouts are no multiple of the {iterations} iterations that '{algorithm}' makes of '{task}'")
    values["planner.num_samples"] = known["planner.num_samples"].check(budget // iterations)
    kept = ("task", "model.", "planner.", "robust.", "backend.name", "command.v", "command.yaw", "goal.", "cost.")
    return {name: value for name, value in values.items() if name.startswith(kept) and name not in NOT_IN_LOCKSTEP}


def plant(task: str) -> dict[str, Value]:
    """What the simulated robot is: its options, and a digest of its model."""
    _, values = load_parameters(SimConfig, {"task": task})
    model = find_task(task)(str(values["model.path"])).model
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    digest = hashlib.sha256(buffer.tobytes()).hexdigest()[:12]
    return {f"sim.{name}": value for name, value in values.items() if name.startswith("model.")} | {"robot": digest}


def run_cell(cell: Cell) -> Figures:
    """One run in closed loop."""
    settings = dict(cell["parameters"]) | {"planner.seed": cell["trial"], "backend.threads": 1}
    episode = run_episode(settings, cell["trial"], cell["duration"])
    return {
        "mean_cost": episode.mean_cost,
        "term_costs": {name: float(cost.mean()) for name, cost in episode.costs.items()},
        "succeeded": episode.succeeded,
        "falls": episode.falls,
        "failed_share": float(episode.failed.mean()),
        "violation": episode.violation,
        "plans": episode.plans,
        "rollouts": episode.rollouts,
    }


def summarise(todo: Sequence[Cell], outcome: Outcome) -> dict[str, Any]:
    """The comparison as figures.

    Returns:
        complete; errors; rows, one for each task, number of rollouts and algorithm: the mean over trials of the mean closed-loop
        cost with its 95 % interval, succeeded (trials that did what the task asks for), falls, constraint violation, and the paired
        difference "MBD less this one"; best_baselines, the same difference to the best of the others; summary, over the tasks, by
        algorithm: mean normalised cost, mean rank, tasks won
    """
    done: dict[tuple[str, int], dict[str, dict[int, Figures]]] = {}
    for cell, figures in zip(todo, outcome.figures, strict=True):
        if figures is not None:
            by_trial = done.setdefault((cell["task"], cell["rollouts"]), {}).setdefault(cell["algorithm"], {})
            by_trial[cell["trial"]] = figures
    rows = [row for (task, budget), found in done.items() for row in _summarise_task(task, budget, found)]
    best = [min(others, key=lambda row: row["mean_cost"]) for others in _baselines(rows) if others]
    keys = ("task", "rollouts", "algorithm", "mbd_less_this")
    return {
        "complete": outcome.complete,
        "errors": list(outcome.errors),
        "rows": rows,
        "best_baselines": [{key: row[key] for key in keys} for row in best if row["mbd_less_this"] is not None],
        "summary": _overall(rows),
    }


def _summarise_task(task: str, budget: int, found: Mapping[str, Mapping[int, Figures]]) -> list[dict[str, Any]]:
    rows = []
    for algorithm, by_trial in found.items():
        cost = estimate([figures["mean_cost"] for figures in by_trial.values()])
        shared = sorted(set(by_trial) & set(found.get(OURS, {})))
        versus = None
        if algorithm != OURS and shared:
            pairs = [[found[name][trial]["mean_cost"] for trial in shared] for name in (OURS, algorithm)]
            versus = asdict(compare(*pairs))
        rows.append(
            {
                "task": task,
                "rollouts": budget,
                "algorithm": algorithm,
                "trials": cost.count,
                "mean_cost": cost.mean,
                "low": cost.low,
                "high": cost.high,
                "succeeded": sum(figures["succeeded"] for figures in by_trial.values()),
                "falls": sum(figures["falls"] for figures in by_trial.values()),
                "violation": float(np.mean([figures["violation"] for figures in by_trial.values()])),
                "total_rollouts": sum(figures["rollouts"] for figures in by_trial.values()),
                "mbd_less_this": versus,
            }
        )
    return rows


def _by_task(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["rollouts"]), []).append(row)
    return found


def _baselines(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    return [[row for row in group if row["algorithm"] != OURS] for group in _by_task(rows).values()]


def _overall(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over the tasks and numbers of rollouts in which every algorithm has results."""
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    whole = [group for group in _by_task(rows).values() if len(group) == len(algorithms)]
    if not whole or len(algorithms) < 2:
        return []
    costs = np.array([[next(r["mean_cost"] for r in group if r["algorithm"] == name) for name in algorithms] for group in whole])
    scaled, ranked = normalised(costs).mean(0), ranks(costs)
    return [
        {
            "algorithm": name,
            "normalised_cost": float(scaled[i]),
            "mean_rank": float(ranked[:, i].mean()),
            "won": int((ranked[:, i] == 1.0).sum()),
            "comparisons": len(whole),
        }
        for i, name in enumerate(algorithms)
    ]


STUDY = Study("quality", IDENTITY, cells, run_cell, summarise)
