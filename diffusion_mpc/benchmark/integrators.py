"""`benchmark integrators`.

Integrator and time step of the planning model, judged in closed loop with a robot that is simulated
in fine steps whatever the planner does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.benchmark.algorithm_trials import plant
from diffusion_mpc.benchmark.benchmark import Report, RunsBenchmark
from diffusion_mpc.benchmark.figures import Row, difference, interval, number, table
from diffusion_mpc.config import PlannerNodeConfig, Value, load_parameters, split_sim
from diffusion_mpc.intervals import compare_columns, estimate
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.simulation.closed_loop import run_episode
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.versions import versions

OWN_STEP = ("euler", "implicitfast", "discrete")
"""Integrators at the task's own time step."""

HALF_STEP = ("implicitfast", "discrete")
"""Integrators at half of it."""


@dataclass(frozen=True, kw_only=True)
class Integrators(RunsBenchmark):
    """Compare integrators and time steps of the planning model in closed loop.

    The integrators run at the time step of the task and at half of it. The number of rollouts is
    the task's, so that half the step costs twice the time.

    example: diffusion-mpc benchmark integrators --tasks quadruped --json integrators.json

    Attributes:
        tasks: tasks (default: all that MuJoCo moves)
        seeds: trials of each; a trial decides initial state, reference and the planner's seed
        duration: simulated time of a trial, s (default: the task's own)
    """

    name: ClassVar = "integrators"
    identity: ClassVar = ("task", "model", "trial")

    tasks: tuple[str, ...] = ()
    seeds: PositiveInt = 8
    duration: float | None = None

    def runs(self) -> list[RunSpec]:
        """All runs, trial by trial.

        Raises:
            TaskError: there is no such task
        """
        tasks = {name: find_task(name) for name in self.tasks or available_tasks()}
        common = {
            name: {
                "task": name,
                "duration": task.trial_duration if self.duration is None else self.duration,
                "plant": plant(name),
                "versions": versions(),
            }
            for name, task in tasks.items()
            if task.dynamics is None
        }
        return [
            {
                **given,
                "model": model,
                "parameters": {"task": name, **split_sim(tasks[name].demo)[0], **changed},
                "trial": trial,
            }
            for name, given in common.items()
            for trial in range(self.seeds)
            for model, changed in planning_models(name).items()
        ]

    @staticmethod
    def measure(spec: RunSpec) -> Figures:
        """One run in closed loop."""
        settings = {**spec["parameters"], "planner.seed": spec["trial"], "backend.threads": 1}
        episode = run_episode(settings, spec["trial"], spec["duration"])
        return {
            "mean_cost": episode.mean_cost,
            "falls": episode.falls,
            "succeeded": episode.succeeded,
            "speed": episode.speed,
        }

    def summarise(self, runs: pd.DataFrame) -> Report:
        """Means over the trials.

        Returns:
            rows, one for each task and planning model: mean cost with its 95 % interval (low,
            high), the paired difference to the task's own planning model, falls, successes, mean
            speed, and whether it is the task's own
        """
        return {
            "rows": [
                row
                for name, found in runs.groupby("task", sort=False)
                for row in _rows(name, found)
            ]
        }

    def tables(self, report: Report) -> list[Table]:
        """Costs of each task on each planning model."""
        title = "mean cost in closed loop; lower is better"
        return [table(title, report["rows"], _cells, left=("task", "planning model"), wrap=True)]


def planning_models(task: str) -> dict[str, dict[str, Value]]:
    """Parameters of the planning models of a task that are compared, by name."""
    step = _own(task)[1]
    return {
        _name(integrator, timestep): {"model.integrator": integrator, "model.timestep": timestep}
        for integrators, timestep in ((OWN_STEP, step), (HALF_STEP, 0.5 * step))
        for integrator in integrators
    }


def _own(task: str) -> tuple[str, float]:
    """Integrator and time step (s) that a task has by default."""
    _, values = load_parameters(PlannerNodeConfig, {"task": task})
    return str(values["model.integrator"]), float(values["model.timestep"])


def _name(integrator: str, timestep: float) -> str:
    return f"{integrator} {1e3 * timestep:g} ms"


def _rows(task: str, runs: pd.DataFrame) -> list[Figures]:
    own = _name(*_own(task))
    costs = runs.pivot(index="trial", columns="model", values="mean_cost")
    return [
        {
            **_row(model, found),
            "task": task,
            "own": model == own,
            "less_own": compare_columns(costs, model, own) if own in costs else None,
        }
        for model, found in runs.groupby("model", sort=False)
    ]


def _row(model: str, runs: pd.DataFrame) -> Figures:
    cost = estimate(runs["mean_cost"].tolist())
    speeds = runs["speed"].dropna()
    return {
        "model": model,
        "trials": cost.count,
        "mean_cost": cost.mean,
        "low": cost.low,
        "high": cost.high,
        "falls": int(runs["falls"].sum()),
        "succeeded": int(runs["succeeded"].sum()),
        "speed": float(speeds.mean()) if len(speeds) else None,
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "task": row["task"],
        "planning model": f"{row['model']} (default)" if row["own"] else row["model"],
        "trials": str(row["trials"]),
        "cost": number(row["mean_cost"]),
        "95 % interval": interval(row),
        "less the default": difference(row["less_own"]) or "–",
        "falls": str(row["falls"]),
        "succeeded": str(row["succeeded"]),
        "m/s": "–" if row["speed"] is None else f"{row['speed']:.2f}",
    }
