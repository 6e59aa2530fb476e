"""`benchmark quality`: every algorithm on every task in closed loop, at exactly equal rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import mujoco
import numpy as np
import pandas as pd
import yaml
from cyclopts.types import PositiveInt
from matplotlib.ticker import FixedLocator, NullLocator
from rich.table import Table

from diffusion_mpc.arguments import SetOption, parse_settings
from diffusion_mpc.benchmark.benchmark import Report, RunsBenchmark
from diffusion_mpc.benchmark.figures import (
    Row,
    difference,
    draw_costs,
    interval,
    number,
    panels,
    table,
    wins,
)
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
from diffusion_mpc.intervals import compare_columns, estimate
from diffusion_mpc.names import require_known
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.simulation.closed_loop import NOT_IN_LOCKSTEP, run_episode
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.versions import versions

OURS = "mbd"
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


@dataclass(frozen=True, kw_only=True)
class Quality(AlgorithmsBenchmark):
    """Compare the algorithms on the tasks in closed loop, at exactly equal rollouts.

    example: diffusion-mpc benchmark quality --tasks cartpole ant --seeds 8 --json quality.json

    Attributes:
        rollouts: rollouts in a plan, over all its iterations (default: the task's own)
        tuned: tuned parameters (default: those of the package)
        untuned: every algorithm at the task's defaults
    """

    name: ClassVar = "quality"
    identity: ClassVar = ("task", "algorithm", "rollouts", "trial")

    rollouts: tuple[PositiveInt, ...] = ()
    tuned: Path | None = None
    untuned: bool = False

    def runs(self) -> list[RunSpec]:
        """All runs, trial by trial: those done before an interruption compare the same trials."""
        tuned = {} if self.untuned else read_tuned(self.tuned or TUNED)
        trials = range(self.seeds)
        runs = [
            run
            for task, algorithm in self.pairs()
            for rollouts in self.rollouts or (None,)
            for run in self.trials(task, algorithm, rollouts, trials, tuned)
        ]
        return sorted(runs, key=lambda run: int(run["trial"]))

    def summarise(self, runs: pd.DataFrame) -> Report:
        """The comparison as figures.

        Returns:
            rows, one for each task, number of rollouts and algorithm: the mean over trials of the
            mean closed-loop cost with its 95 % interval, succeeded (trials that fulfilled the
            task), falls, constraint violation, and the paired difference "MBD less this one";
            best_baselines, the same difference to the best of the others; summary, over the tasks,
            by algorithm: mean normalised cost, mean rank, tasks won
        """
        rows = [
            row
            for _, peers in runs.groupby(["task", "rollouts"], sort=False)
            for row in _rows(peers)
        ]
        return {"rows": rows, "best_baselines": _best_baselines(rows), "summary": overall(rows)}

    def tables(self, report: Report) -> list[Table]:
        """Costs by task and algorithm, the best of the others, and the summary over tasks."""
        rows = report["rows"]
        least = pd.DataFrame(rows).groupby(["task", "rollouts"])["mean_cost"].min() if rows else {}
        summary = sorted(report["summary"], key=lambda row: float(row["normalised_cost"]))
        tables = [
            table(
                "mean closed-loop cost; lower is better",
                rows,
                _cells,
                left=("task", "algorithm"),
                section=_problem,
                bold=lambda row: row["mean_cost"] == least[_problem(row)],
            ),
            table(
                "MBD against the best of the others, trial by trial",
                report["best_baselines"],
                _baseline_cells,
                left=("task", "best of the others", "better"),
            ),
            table(
                "over all tasks: 0 is the best algorithm of a task, 1 the worst",
                summary,
                _summary_cells,
                left=("algorithm",),
                wrap=True,
            ),
        ]
        return [tables[0], *(each for each in tables[1:] if each.row_count)]

    def write(self, report: Report) -> Path:
        """Draw mean cost with its 95 % interval against rollouts a plan, one panel a task."""
        rows, file = pd.DataFrame(report["rows"]), self.output / "quality.png"
        algorithms = list(rows["algorithm"].unique())
        with panels(rows["task"].nunique(), file) as drawn:
            for (task, peers), axes in zip(rows.groupby("task", sort=False), drawn, strict=True):
                for algorithm, mine in peers.sort_values("rollouts", kind="stable").groupby(
                    "algorithm", sort=False
                ):
                    i = algorithms.index(algorithm)
                    # A little apart, so that no interval hides another.
                    x = mine["rollouts"] * 1.03 ** (i - (len(algorithms) - 1) / 2)
                    draw_costs(axes, i, algorithm, x, mine)
                budgets = sorted(peers["rollouts"].unique())
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(FixedLocator(budgets))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.set_xticklabels([str(budget) for budget in budgets])
                axes.set_title(task, loc="left")
                axes.set_xlabel("rollouts in a plan")
                axes.set_ylabel("mean closed-loop cost")
        return file


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


def _rows(peers: pd.DataFrame) -> list[Figures]:
    """Means of the algorithms of one task and number of rollouts."""
    costs = peers.pivot(index="trial", columns="algorithm", values="mean_cost")
    return [
        _row(runs, compare_columns(costs, OURS, algorithm))
        for algorithm, runs in peers.groupby("algorithm", sort=False)
    ]


def _row(runs: pd.DataFrame, versus: Figures | None) -> Figures:
    cost = estimate(runs["mean_cost"].tolist())
    return {
        **runs.iloc[0][["task", "rollouts", "algorithm"]],
        "trials": cost.count,
        "mean_cost": cost.mean,
        "low": cost.low,
        "high": cost.high,
        "succeeded": int(runs["succeeded"].sum()),
        "falls": int(runs["falls"].sum()),
        "violation": float(np.mean(runs["violation"])),
        "total_rollouts": int(runs["total_rollouts"].sum()),
        "mbd_less_this": versus,
    }


def _problem(row: Row) -> tuple[str, int]:
    return row["task"], row["rollouts"]


def _best_baselines(rows: Sequence[Row]) -> list[Figures]:
    """MBD less the cheapest of the others, for each task and number of rollouts that both have."""
    others: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row["algorithm"] != OURS:
            others.setdefault(_problem(row), []).append(row)
    best = [min(group, key=lambda row: float(row["mean_cost"])) for group in others.values()]
    keys = ("task", "rollouts", "algorithm", "mbd_less_this")
    return [{key: row[key] for key in keys} for row in best if row["mbd_less_this"] is not None]


def overall(rows: Sequence[Row]) -> list[Figures]:
    """Summary by algorithm over all tasks and rollouts in which every algorithm has a row, or none.

    Normalised costs put the best algorithm of each of them at 0 and the worst at 1; all are 0 where
    they cost the same. Ranks begin at 1, the cheapest; equals have the mean of their ranks.
    """
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    if len(algorithms) < 2:
        return []
    costs = (
        pd.DataFrame(rows)
        .pivot(index=["task", "rollouts"], columns="algorithm", values="mean_cost")
        .dropna()[algorithms]
    )
    least = costs.min(axis=1)
    scaled = costs.sub(least, axis=0).div(costs.max(axis=1) - least, axis=0).fillna(0.0)
    ranks = costs.rank(axis=1)
    summary = pd.DataFrame(
        {"normalised_cost": scaled.mean(), "mean_rank": ranks.mean(), "won": (ranks == 1.0).sum()}
    )
    summary["comparisons"] = len(costs)
    return summary.rename_axis("algorithm").reset_index().to_dict("records") if len(costs) else []


def _cells(row: Row) -> dict[str, str]:
    return {
        "task": row["task"],
        "rollouts": str(row["rollouts"]),
        "algorithm": row["algorithm"],
        "trials": str(row["trials"]),
        "cost": number(row["mean_cost"]),
        "95 % interval": interval(row),
        "succeeded": f"{row['succeeded']}/{row['trials']}",
        "falls": str(row["falls"]),
        "violation": number(row["violation"]),
        "MBD less this": difference(row["mbd_less_this"]),
        "wins": wins(row["mbd_less_this"]),
    }


def _baseline_cells(row: Row) -> dict[str, str]:
    versus = row["mbd_less_this"]["difference"]
    return {
        "task": row["task"],
        "rollouts": str(row["rollouts"]),
        "best of the others": row["algorithm"],
        "MBD less this": difference(row["mbd_less_this"]),
        "wins": wins(row["mbd_less_this"]),
        "better": "MBD"
        if versus["high"] < 0.0
        else row["algorithm"]
        if versus["low"] > 0.0
        else "undecided",
    }


def _summary_cells(row: Row) -> dict[str, str]:
    return {
        "algorithm": row["algorithm"],
        "normalised cost": f"{row['normalised_cost']:.3f}",
        "mean rank": f"{row['mean_rank']:.2f}",
        "best in": f"{row['won']} of {row['comparisons']}",
    }
