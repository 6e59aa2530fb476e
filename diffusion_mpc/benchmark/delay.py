"""`benchmark delay`: closed-loop cost against the delay of states and of commands, with and without compensation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffusion_mpc.benchmark.cells import Cell, Figures, Outcome, Study
from diffusion_mpc.benchmark.closed_loop import run_episode
from diffusion_mpc.benchmark.quality import plant
from diffusion_mpc.benchmark.statistics import estimate
from diffusion_mpc.config import NodeConfig, SimConfig, Value, load_parameters
from diffusion_mpc.tasks import find_task
from diffusion_mpc.versions import versions

IDENTITY = ("task", "delayed", "delay", "compensated", "trial")
STATE, COMMAND, IDLE = "state", "command", "idle"
LEAD_IN = 0.1
"""Time for which the robot is left to itself before each trial, s; longer than the default delays."""
KEPT = ("task", "model.", "planner.", "robust.", "backend.name", "prediction.", "command.v", "command.yaw", "cost.")


@dataclass(frozen=True)
class Choice:
    """What to measure.

    Attributes:
        task: name of the task
        delays: delays, s; without any delay is measured in any case
        delayed: what is delayed, "state" or "command", one after the other
        trials: trials of each; a trial decides initial state, reference and the planner's seed
        duration: simulated time of each, s
        settings: parameters as texts, those of the simulation with `sim.` before their names
    """

    task: str = "ant"
    delays: Sequence[float] = (0.01, 0.02, 0.04, 0.06, 0.08)
    delayed: Sequence[str] = (STATE, COMMAND)
    trials: Sequence[int] = tuple(range(4))
    duration: float = 4.0
    settings: Mapping[str, str] = field(default_factory=dict)


def cells(choice: Choice) -> list[Cell]:
    """All cells of a choice, trial by trial.

    Raises:
        ConfigError, TaskError: the choice names what there is not, or parameters that do not fit
    """
    planner, simulation = _parameters(choice)
    common = {
        "duration": choice.duration,
        "lead_in": max(LEAD_IN, *choice.delays),
        "parameters": planner,
        "simulation": simulation,
        "plant": plant(choice.task),
        "versions": versions(),
    }
    rows = [(IDLE, 0.0, False), (STATE, 0.0, True)]
    rows += [(what, delay, how) for what in choice.delayed for delay in choice.delays if delay > 0.0 for how in (True, False)]
    names = IDENTITY[1:4]
    return [
        {"task": choice.task, **dict(zip(names, row, strict=True)), "trial": trial, **common}
        for trial in choice.trials
        for row in rows
    ]


def _parameters(choice: Choice) -> tuple[dict[str, Value], dict[str, Value]]:
    """The planner's parameters that a result depends on, and those of the simulation that are given."""
    given = {**find_task(choice.task).demo, **choice.settings}
    simulated = {name.removeprefix("sim."): value for name, value in given.items() if name.startswith("sim.")}
    own = {name: value for name, value in given.items() if not name.startswith("sim.")}
    values, _ = _checked(NodeConfig, choice.task, own)
    _, simulation = _checked(SimConfig, choice.task, simulated)
    planner = {name: value for name, value in values.items() if name.startswith(KEPT) and name != "planner.seed"}
    return planner, {f"sim.{name}": value for name, value in simulation.items()}


def _checked(config: type, task: str, given: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """All parameters, and those given; texts become what they stand for."""
    known, _ = load_parameters(config, {"task": task})
    typed = {name: known[name].parse(value) if isinstance(value, str) and name in known else value for name, value in given.items()}
    return load_parameters(config, {**typed, "task": task})[1], typed


def run_cell(cell: Cell) -> Figures:
    """One run in closed loop."""
    what, delay, compensated = cell["delayed"], cell["delay"], cell["compensated"]
    settings = cell["parameters"] | cell["simulation"] | {"planner.seed": cell["trial"], "backend.threads": 1}
    settings["prediction.enabled"] = compensated
    if what == STATE:
        settings["sim.state_delay"] = delay
    elif what == COMMAND:
        settings |= {"sim.command_delay": delay, "prediction.command_delay": delay if compensated else 0.0}
    episode = run_episode(settings, cell["trial"], cell["duration"], planned=what != IDLE, lead_in=cell["lead_in"])
    errors = np.abs(episode.prediction_error).mean(axis=(0, 2)) if len(episode.prediction_error) else (None, None)
    return {
        "mean_cost": episode.mean_cost,
        "term_costs": {name: float(cost.mean()) for name, cost in episode.costs.items()},
        "speed": episode.speed,
        "falls": episode.falls,
        "position_error": errors[0],
        "velocity_error": errors[1],
    }


def summarise(todo: Sequence[Cell], outcome: Outcome) -> dict[str, Any]:
    """Means over the trials.

    Returns:
        complete; errors; rows, one for each thing delayed, delay and compensation: mean_cost with its 95 % interval (low, high),
        speed (m/s, along the commanded direction), falls, mean absolute error of the state that plans begin at (position_error and
        velocity_error, m or rad and m/s or rad/s), and of what there is without delay, what share is kept: kept_cost of the gain
        in cost over a robot that is left to itself, kept_speed of the speed. None stands for what was not measured.
    """
    found: dict[tuple[str, float, bool], list[Figures]] = {}
    for cell, figures in zip(todo, outcome.figures, strict=True):
        if figures is not None:
            found.setdefault((cell["delayed"], cell["delay"], cell["compensated"]), []).append(figures)
    rows = [
        {"task": todo[0]["task"], "delayed": what, "delay": delay, "compensated": how, **_means(figures)}
        for (what, delay, how), figures in found.items()
    ]
    best = next((row for row in rows if row["delayed"] == STATE and row["delay"] == 0.0), None)
    idle = next((row for row in rows if row["delayed"] == IDLE), None)
    for row in rows:
        row["kept_cost"] = row["kept_speed"] = None
        if best is not None and idle is not None and idle["mean_cost"] > best["mean_cost"]:
            row["kept_cost"] = (idle["mean_cost"] - row["mean_cost"]) / (idle["mean_cost"] - best["mean_cost"])
        if best is not None and best["speed"]:
            row["kept_speed"] = row["speed"] / best["speed"]
    return {"complete": outcome.complete, "errors": list(outcome.errors), "rows": rows}


def _means(figures: Sequence[Figures]) -> dict[str, Any]:
    cost = estimate([one["mean_cost"] for one in figures])
    means: dict[str, Any] = {}
    for name in ("speed", "position_error", "velocity_error"):
        values = [one[name] for one in figures if one[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    return {
        "trials": cost.count,
        "mean_cost": cost.mean,
        "low": cost.low,
        "high": cost.high,
        "falls": sum(one["falls"] for one in figures),
        **means,
    }


STUDY = Study("delay", IDENTITY, cells, run_cell, summarise)
