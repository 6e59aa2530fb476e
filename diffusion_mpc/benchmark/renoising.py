"""`benchmark renoising`.

MBD's noise where a plan is no longer good, and the gain over the schedule alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.benchmark.algorithm_trials import parameters, plant
from diffusion_mpc.benchmark.benchmark import Report, RunsBenchmark
from diffusion_mpc.benchmark.figures import Row, difference, interval, number, panels, table
from diffusion_mpc.config import PlannerNodeConfig, Value, load_parameters
from diffusion_mpc.evaluation.plot import COLOURS
from diffusion_mpc.intervals import compare_columns, estimate
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.simulation.closed_loop import ClosedLoop
from diffusion_mpc.tasks.measured import trajectory
from diffusion_mpc.versions import versions

SCHEDULE = "schedule alone"
MOMENT, DURATION = 2.0, 4.0
"""When it happens, and when the run ends, s."""

BLIND = 0.3
"""Time without a new plan, s: most of the ant's horizon."""

KICK = 1.5
"""Change of the base's velocity by a push, m/s."""

FIXED: Mapping[str, Value] = {"planner.scale_rate": 0.0, "planner.shape_rate": 0.0}
NOISES: Mapping[str, Mapping[str, Value]] = {"follows the samples": {}, SCHEDULE: FIXED}


def _new_goal(loop: ClosedLoop, random: np.random.Generator) -> None:
    loop.reference = loop.task.trial_reference(loop.reference, random)


def _turn_back(loop: ClosedLoop, random: np.random.Generator) -> None:
    loop.reference = replace(loop.reference, velocity=-loop.reference.velocity)


def _push(loop: ClosedLoop, random: np.random.Generator) -> None:
    angle = random.uniform(-np.pi, np.pi)
    loop.plant.data.qvel[:2] += KICK * np.array([np.cos(angle), np.sin(angle)])


def _blind(loop: ClosedLoop, random: np.random.Generator) -> None:
    """Nothing changes but the age of the plan, see `measure`."""


Happen = Callable[[ClosedLoop, np.random.Generator], None]
EVENTS: Mapping[str, tuple[str, Happen]] = {
    "another goal": ("arm", _new_goal),
    "opposite command": ("ant", _turn_back),
    "push": ("ant", _push),
    "old plan": ("ant", _blind),
}


@dataclass(frozen=True, kw_only=True)
class Renoising(RunsBenchmark):
    """Show MBD's noise after a new goal, an opposite command, a push and an old plan, and its gain.

    example: diffusion-mpc benchmark renoising --seeds 8 --json renoising.json

    Attributes:
        seeds: trials of each; a trial decides initial state, reference, event and the planner's
            seed
    """

    name: ClassVar = "renoising"
    identity: ClassVar = ("event", "noise", "trial")

    seeds: PositiveInt = 8

    def runs(self) -> list[RunSpec]:
        """All runs, trial by trial."""
        runs = []
        for event, (task, _) in EVENTS.items():
            known, defaults = load_parameters(PlannerNodeConfig, {"task": task})
            budget = int(defaults["planner.num_samples"]) * int(defaults["planner.iterations"])
            for noise, changed in NOISES.items():
                texts = {name: str(value) for name, value in changed.items()}
                given = parameters(task, "mbd", budget, {}, texts, known)
                runs.append(
                    {"event": event, "noise": noise, "parameters": given, "plant": plant(task)}
                )
        return [
            {**run, "trial": trial, "versions": versions()}
            for trial in range(self.seeds)
            for run in runs
        ]

    @staticmethod
    def measure(spec: RunSpec) -> Figures:
        """One run in closed loop."""
        loop = ClosedLoop(
            dict(spec["parameters"]) | {"planner.seed": spec["trial"], "backend.threads": 1},
            spec["trial"],
        )
        _, happen = EVENTS[spec["event"]]
        rate = loop.config.planner.rate
        event, count, blind = (
            round(MOMENT * rate),
            round(DURATION * rate),
            round(BLIND * rate) * (happen is _blind),
        )
        noise, costs, last = list[float](), list[float](), 0.0
        for step in range(count):
            if step == event:
                happen(loop, np.random.default_rng((spec["trial"], 2)))
            plan = None if event <= step < event + blind else loop.plan()
            last = last if plan is None else plan.stats.noise
            state = loop.state()
            x = trajectory(
                loop.task.model, state.qpos[None], state.qvel[None], loop.advance()[None]
            )
            found = loop.task.costs(
                x, replace(loop.reference, times=np.array([state.stamp])).on(x.qpos)
            )
            noise.append(last)
            costs.append(
                sum(loop.weights[name] * float(cost[0, 0]) for name, cost in found.items())
            )
        return {
            "period": 1.0 / rate,
            "noise_level": noise,
            "costs": costs,
            "cost_after": float(np.mean(costs[event:])),
        }

    def summarise(self, runs: pd.DataFrame) -> Report:
        """Means over the trials.

        Returns:
            rows, one for each event and kind of noise: mean cost after the event with its 95 %
            interval (low, high), means over the trials by time (times, s after the event;
            noise_level, in normalised actions; costs), and the paired difference of the cost after
            the event to the noise of the schedule alone
        """
        return {
            "rows": [row for _, found in runs.groupby("event", sort=False) for row in _rows(found)]
        }

    def tables(self, report: Report) -> list[Table]:
        """Costs after each event, with noise that follows the samples and with the schedule's."""
        title = "mean cost in the two seconds after the event; lower is better"
        return [table(title, report["rows"], _cells, left=("event", "task", "noise"), wrap=True)]

    def write(self, report: Report) -> Path:
        """Draw noise, above, and cost, below, against the time since each event."""
        rows, file = pd.DataFrame(report["rows"]), self.output / "renoising.png"
        events = list(rows.groupby("event", sort=False))
        shown = [
            (event, found, *series)
            for series in (("noise_level", "noise"), ("costs", "cost"))
            for event, found in events
        ]
        with panels(len(shown), file, len(events)) as drawn:
            for (event, found, series, label), axes in zip(shown, drawn, strict=True):
                for row in found.to_dict("records"):
                    colour = COLOURS[list(NOISES).index(row["noise"])]
                    axes.plot(
                        row["times"], row[series], color=colour, linewidth=1.3, label=row["noise"]
                    )
                axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0.0)
                axes.set_xlim(-0.5, found["times"].iloc[-1][-1])
                axes.set_ylim(bottom=0.0)
                axes.set_title(f"{found['task'].iloc[0]}: {event}", loc="left")
                axes.set_xlabel("time since the event, s")
                axes.set_ylabel(label)
        return file


def _rows(runs: pd.DataFrame) -> list[Figures]:
    """Means of one event, for each kind of noise."""
    costs = runs.pivot(index="trial", columns="noise", values="cost_after")
    return [
        _row(found, compare_columns(costs, noise, SCHEDULE))
        for noise, found in runs.groupby("noise", sort=False)
    ]


def _row(runs: pd.DataFrame, versus: Figures | None) -> Figures:
    cost, first = estimate(runs["cost_after"].tolist()), runs.iloc[0]
    levels, costs = (np.mean(runs[name].tolist(), axis=0) for name in ("noise_level", "costs"))
    return {
        "event": first["event"],
        "task": EVENTS[first["event"]][0],
        "noise": first["noise"],
        "trials": cost.count,
        "mean_cost": cost.mean,
        "low": cost.low,
        "high": cost.high,
        "less_schedule": versus,
        "times": (np.arange(len(levels)) * first["period"] - MOMENT).tolist(),
        "noise_level": levels.tolist(),
        "costs": costs.tolist(),
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "event": row["event"],
        "task": row["task"],
        "noise": row["noise"],
        "trials": str(row["trials"]),
        "cost": number(row["mean_cost"]),
        "95 % interval": interval(row),
        "less the schedule alone": difference(row["less_schedule"]) or "–",
    }
