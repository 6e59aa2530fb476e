"""`benchmark quality`: every algorithm on every task in closed loop, at exactly equal rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from cyclopts.types import PositiveInt
from matplotlib.ticker import FixedLocator, NullLocator
from rich.table import Table

from diffusion_mpc.benchmark.algorithm_trials import TUNED, AlgorithmsBenchmark, read_tuned
from diffusion_mpc.benchmark.benchmark import Report
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
from diffusion_mpc.intervals import compare_columns, estimate
from diffusion_mpc.run_file import Figures, RunSpec

OURS = "mbd"


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
