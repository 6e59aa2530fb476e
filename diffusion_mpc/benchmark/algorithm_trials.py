"""Trials of algorithms on tasks in closed loop, at exactly equal rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mujoco
import numpy as np
import yaml
from cyclopts.types import PositiveInt

from diffusion_mpc.arguments import SetOption, parse_settings
from diffusion_mpc.benchmark.benchmark import RunsBenchmark
from diffusion_mpc.config import (
    ConfigError,
    Parameter,
    PlannerNodeConfig,
    SimConfig,
    Value,
    build,
    load_parameters,
    split_sim,
)
from diffusion_mpc.names import require_known
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.simulation.closed_loop import NOT_IN_LOCKSTEP, run_episode
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.versions import versions

TUNED = Path(__file__).with_name("tuned.yaml")

Tuned = Mapping[str, Mapping[str, Mapping[str, Value]]]
"""Parameters by task ("all": every task) and algorithm."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmsBenchmark(RunsBenchmark):
    """A benchmark whose runs are trials of algorithms on tasks in closed loop.

    Attributes:
        tasks: tasks (default: all)
        algorithms: algorithms (default: all)
        seeds: trials of each; a trial decides initial state, reference and the planner's seed
        duration: simulated time of a trial, s (default: the task's own)
        settings: planner parameter; can be repeated
    """

    tasks: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    seeds: PositiveInt = 8
    duration: float | None = None
    settings: SetOption = ()

    def pairs(self) -> list[tuple[str, str]]:
        """Task and algorithm of all comparisons.

        Raises:
            ConfigError: there is no such algorithm
        """
        algorithms = [
            require_known("algorithm", name, ALGORITHMS, ConfigError)
            for name in self.algorithms or ALGORITHMS
        ]
        return [
            (task, algorithm)
            for task in self.tasks or available_tasks()
            for algorithm in algorithms
        ]

    def trials(
        self, task: str, algorithm: str, rollouts: int | None, trials: Sequence[int], tuned: Tuned
    ) -> list[RunSpec]:
        """Trials of an algorithm on a task.

        Args:
            task: name of the task
            algorithm: name of the algorithm
            rollouts: rollouts in one plan, over all its iterations; None: those of the task's
                defaults
            trials: numbers of the trials
            tuned: tuned parameters; settings come before them

        Raises:
            ConfigError, TaskError: there is no such task, or parameters do not fit
        """
        kind = find_task(task)
        known, defaults = load_parameters(PlannerNodeConfig, {"task": task})
        budget = rollouts or int(defaults["planner.num_samples"]) * int(
            defaults["planner.iterations"]
        )
        common = {
            "task": task,
            "algorithm": algorithm,
            "rollouts": budget,
            "duration": self.duration if self.duration is not None else kind.trial_duration,
            "parameters": parameters(
                task, algorithm, budget, tuned, parse_settings(self.settings), known
            ),
            "plant": plant(task),
            "versions": versions(),
        }
        return [{**common, "trial": trial} for trial in trials]

    @staticmethod
    def measure(spec: RunSpec) -> Figures:
        """One run in closed loop."""
        settings = dict(spec["parameters"]) | {"planner.seed": spec["trial"], "backend.threads": 1}
        episode = run_episode(settings, spec["trial"], spec["duration"])
        return {
            "mean_cost": episode.mean_cost,
            "term_costs": {name: float(cost.mean()) for name, cost in episode.costs.items()},
            "succeeded": episode.succeeded,
            "falls": episode.falls,
            "failed_fraction": float(episode.failed.mean()),
            "violation": episode.violation,
            "plans": episode.plans,
            "total_rollouts": episode.rollouts,
        }


def read_tuned(path: Path) -> Tuned:
    """Tuned parameters from a YAML file: `task or "all": {algorithm: {parameter: value}}`.

    Raises:
        ConfigError: the file is missing or does not look like that
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for by_algorithm in found.values():
            for name, values in by_algorithm.items():
                require_known("algorithm", name, ALGORITHMS)
                dict(values)
    except OSError:
        raise ConfigError(f"file of tuned parameters '{path}' does not exist") from None
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"file of tuned parameters '{path}' cannot be read: {' '.join(str(error).split())}"
        ) from None
    return cast(Tuned, found)


def parameters(
    task: str,
    algorithm: str,
    budget: int,
    tuned: Tuned,
    settings: Mapping[str, str],
    known: Mapping[str, Parameter],
) -> dict[str, Value]:
    """All planner parameters that a result depends on, with the samples that make the budget.

    Args:
        task: name of the task
        algorithm: name of the algorithm
        budget: rollouts in one plan
        tuned: tuned parameters; those of the task come before those for all
        settings: parameters, as texts, that come before tuned ones
        known: descriptions of the task's parameters

    Raises:
        ConfigError: a parameter is unknown or does not fit, or the budget is no multiple of the
            iterations
    """
    kind = find_task(task)
    given, _ = split_sim(kind.demo)
    for scope in ("all", task):
        given |= tuned.get(scope, {}).get(algorithm, {})
    for name, text in settings.items():
        given[name] = known[name].parse(text) if name in known else text
    # All algorithms from their own samples.
    given |= {"task": task, "planner.algorithm": algorithm, "policy.checkpoint": ""}
    _, values = load_parameters(PlannerNodeConfig, given)
    iterations = int(values["planner.iterations"])
    if budget % iterations:
        raise ConfigError(
            f"{budget} rollouts are no multiple of the {iterations} iterations that "
            f"'{algorithm}' makes of '{task}'"
        )
    values["planner.num_samples"] = known["planner.num_samples"].check(budget // iterations)
    kept = (
        "task",
        "model.",
        "planner.",
        "robust.",
        "policy.checkpoint",
        "backend.name",
        "command.v",
        "command.yaw",
        "goal.",
        "cost.",
    )
    return {
        name: value
        for name, value in values.items()
        if name.startswith(kept) and name not in NOT_IN_LOCKSTEP
    }


def plant(task: str) -> dict[str, Value]:
    """Identity of the simulated robot: its options, and a digest of its model."""
    _, values = load_parameters(SimConfig, {"task": task})
    model = find_task(task)(build(SimConfig, values).model.file).model
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    digest = hashlib.sha256(buffer.tobytes()).hexdigest()[:12]
    return {f"sim.{name}": value for name, value in values.items() if name.startswith("model.")} | {
        "robot": digest
    }
