"""`benchmark delay`.

Closed-loop cost against the delay of states and of commands, with and without compensation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.arguments import SetOption, parse_settings
from diffusion_mpc.benchmark.algorithm_trials import plant
from diffusion_mpc.benchmark.benchmark import Report, RunsBenchmark
from diffusion_mpc.benchmark.figures import Row, draw_costs, interval, number, panels, table
from diffusion_mpc.config import (
    SIM,
    PlannerNodeConfig,
    SimConfig,
    Value,
    load_parameters,
    split_sim,
)
from diffusion_mpc.intervals import estimate
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.simulation.closed_loop import run_episode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.versions import versions

Late = Literal["state", "command"]
STATE: Late = "state"
COMMAND: Late = "command"
IDLE = "idle"
CASE = ("task", "delayed", "delay", "compensated")
LEAD_IN = 0.1
"""Time for which the robot is left to itself before each trial, s.

Longer than the default delays.
"""
KEPT = (
    "task",
    "model.",
    "planner.",
    "robust.",
    "backend.name",
    "prediction.",
    "command.v",
    "command.yaw",
    "cost.",
)


@dataclass(frozen=True, kw_only=True)
class Delay(RunsBenchmark):
    """Measure the cost of late states and commands in closed loop, with and without compensation.

    example: diffusion-mpc benchmark delay --seeds 8 --json delay.json

    Attributes:
        task: task
        delays: delays, ms; no delay is measured in any case
        delayed: messages that are late, one kind after the other
        seeds: trials of each; a trial decides initial state, reference and the planner's seed
        duration: simulated time of a trial, s
        settings: parameter, sim.NAME for the robot's; can be repeated
    """

    name: ClassVar = "delay"
    identity: ClassVar = (*CASE, "trial")

    task: str = "ant"
    delays: tuple[float, ...] = (10.0, 20.0, 40.0, 60.0, 80.0)
    delayed: tuple[Late, ...] = (STATE, COMMAND)
    seeds: PositiveInt = 4
    duration: float = 4.0
    settings: SetOption = ()

    def runs(self) -> list[RunSpec]:
        """All runs, trial by trial."""
        planner, simulation = self._parameters()
        delays = [milliseconds / 1e3 for milliseconds in self.delays]
        common = {
            "duration": self.duration,
            "lead_in": max(LEAD_IN, *delays),
            "parameters": planner,
            "simulation": simulation,
            "plant": plant(self.task),
            "versions": versions(),
        }
        cases = [(IDLE, 0.0, False), (STATE, 0.0, True)]
        cases += [
            (late, delay, how)
            for late in self.delayed
            for delay in delays
            if delay > 0.0
            for how in (True, False)
        ]
        return [
            {**dict(zip(CASE, (self.task, *case), strict=True)), "trial": trial, **common}
            for trial in range(self.seeds)
            for case in cases
        ]

    def _parameters(self) -> tuple[dict[str, Value], dict[str, Value]]:
        """All of the planner's parameters, and the given ones of the simulation."""
        given = {**find_task(self.task).demo, **parse_settings(self.settings)}
        planned, simulated = split_sim(given)
        values, _ = _checked(PlannerNodeConfig, self.task, planned)
        _, simulation = _checked(SimConfig, self.task, simulated)
        planner = {
            name: value
            for name, value in values.items()
            if name.startswith(KEPT) and name != "planner.seed"
        }
        return planner, {f"{SIM}{name}": value for name, value in simulation.items()}

    @staticmethod
    def measure(spec: RunSpec) -> Figures:
        """One run in closed loop."""
        delayed, delay, compensated = spec["delayed"], spec["delay"], spec["compensated"]
        settings = (
            spec["parameters"]
            | spec["simulation"]
            | {"planner.seed": spec["trial"], "backend.threads": 1}
        )
        settings["prediction.enabled"] = compensated
        if delayed == STATE:
            settings["sim.state_delay"] = delay
        elif delayed == COMMAND:
            settings |= {
                "sim.command_delay": delay,
                "prediction.command_delay": delay if compensated else 0.0,
            }
        episode = run_episode(
            settings,
            spec["trial"],
            spec["duration"],
            planned=delayed != IDLE,
            lead_in=spec["lead_in"],
        )
        errors = (
            np.abs(episode.prediction_error).mean(axis=(0, 2))
            if len(episode.prediction_error)
            else (None, None)
        )
        return {
            "mean_cost": episode.mean_cost,
            "term_costs": {name: float(cost.mean()) for name, cost in episode.costs.items()},
            "speed": episode.speed,
            "falls": episode.falls,
            "position_error": errors[0],
            "velocity_error": errors[1],
        }

    def summarise(self, runs: pd.DataFrame) -> Report:
        """Means over the trials.

        Returns:
            rows, one for each kind of message delayed, delay and compensation: mean_cost with its
            95 % interval (low, high), speed (m/s, along the commanded direction), falls, mean
            absolute error of the state that plans begin at (position_error and velocity_error, m or
            rad and m/s or rad/s), and the fractions kept of the figures without delay: kept_cost of
            the gain in cost over a robot that is left to itself, kept_speed of the speed. None: not
            measured.
        """
        rows = [
            dict(zip(CASE, case, strict=True)) | _means(group)
            for case, group in runs.groupby(list(CASE), sort=False)
        ]
        best = next((row for row in rows if row["delayed"] == STATE and row["delay"] == 0.0), None)
        idle = next((row for row in rows if row["delayed"] == IDLE), None)
        for row in rows:
            row["kept_cost"] = row["kept_speed"] = None
            if best is not None and idle is not None and idle["mean_cost"] > best["mean_cost"]:
                row["kept_cost"] = (idle["mean_cost"] - row["mean_cost"]) / (
                    idle["mean_cost"] - best["mean_cost"]
                )
            if best is not None and best["speed"]:
                row["kept_speed"] = row["speed"] / best["speed"]
        return {"rows": rows}

    def tables(self, report: Report) -> list[Table]:
        """Cost of delays, and the fraction kept of the undelayed robot."""
        title = "closed loop with delays; lower cost is better"
        return [table(title, report["rows"], _cells, left=("late", "compensated"))]

    def write(self, report: Report) -> Path:
        """Draw mean cost with its 95 % interval against delay, a panel a kind of message."""
        rows, file = pd.DataFrame(report["rows"]), self.output / "delay.png"
        undelayed = rows[(rows["delay"] == 0.0) & rows["compensated"]]
        late = rows.loc[rows["delayed"] != IDLE, "delayed"].unique()
        with panels(len(late), file) as drawn:
            for kind, axes in zip(late, drawn, strict=True):
                for i, (label, compensated) in enumerate(
                    (("compensated", True), ("not compensated", False))
                ):
                    mine = rows[
                        (rows["delayed"] == kind)
                        & (rows["compensated"] == compensated)
                        & (rows["delay"] > 0.0)
                    ]
                    mine = pd.concat([undelayed, mine]).sort_values("delay")
                    draw_costs(axes, i, label, 1e3 * mine["delay"], mine)
                axes.set_ylim(bottom=0.0)
                axes.set_title(f"{self.task}: {kind}s are late", loc="left")
                axes.set_xlabel("delay, ms")
                axes.set_ylabel("mean closed-loop cost")
        return file


def _checked(
    config: type, task: str, given: Mapping[str, Value]
) -> tuple[dict[str, Value], dict[str, Value]]:
    """All parameters, and those given; texts become the values they stand for."""
    known, _ = load_parameters(config, {"task": task})
    typed = {
        name: known[name].parse(value) if isinstance(value, str) and name in known else value
        for name, value in given.items()
    }
    return load_parameters(config, {**typed, "task": task})[1], typed


def _means(runs: pd.DataFrame) -> dict[str, Any]:
    cost = estimate(runs["mean_cost"].tolist())
    figures = {
        "trials": cost.count,
        "mean_cost": cost.mean,
        "low": cost.low,
        "high": cost.high,
        "falls": int(runs["falls"].sum()),
    }
    return figures | {
        name: _mean(runs[name].dropna().tolist())
        for name in ("speed", "position_error", "velocity_error")
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _cells(row: Row) -> dict[str, str]:
    none, idle = row["delay"] == 0.0, row["delayed"] == IDLE
    errors = [row[name] for name in ("position_error", "velocity_error")]
    return {
        "late": "no commands" if idle else "–" if none else row["delayed"],
        "ms": f"{1e3 * row['delay']:g}",
        "compensated": "" if none else "yes" if row["compensated"] else "no",
        "trials": str(row["trials"]),
        "cost": number(row["mean_cost"]),
        "95 % interval": interval(row),
        "gain kept": "" if row["kept_cost"] is None else f"{row['kept_cost']:.0%}",
        "m/s": "" if row["speed"] is None else number(row["speed"]),
        "kept": "" if row["kept_speed"] is None else f"{row['kept_speed']:.0%}",
        "falls": str(row["falls"]),
        "state error": " ".join("" if error is None else f"{error:.1g}" for error in errors),
    }
