"""A recorded run, evaluated: figures, time series, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diffusion_mpc.bags.run_record import RunRecord
from diffusion_mpc.config import PlannerNodeConfig, SimConfig, Value, parameters
from diffusion_mpc.evaluation.feet import Feet, measure_feet
from diffusion_mpc.evaluation.metrics import Measured, figures, measure
from diffusion_mpc.evaluation.panels import beginning
from diffusion_mpc.evaluation.recorded_run import RecordedRun, read_run
from diffusion_mpc.tasks.base import Task

UNTOLD = ("task", "lockstep", "autostart", "wait_for_subscribers", "model.path", "duration")
"""Parameters that say which run it is, and not how it was planned."""


@dataclass(frozen=True)
class EvaluatedRun:
    """A run and what it measures.

    Attributes:
        bag: where it was read from
        task: task that was run
        run: states, commands, plans
        measured: the task at the measured states
        feet: of a robot that walks; None: it does not, or there are no states
        summary: the figures, as `metrics.figures` returns them, and `feet`, `parameters`, `machine`
        record: what the bag says of its run; None: nothing
    """

    bag: Path
    task: Task
    run: RecordedRun
    measured: Measured
    feet: Feet | None
    summary: dict[str, Any]
    record: RunRecord | None

    @property
    def parameters(self) -> dict[str, Value]:
        """All parameters of planner and simulation, those of the simulation as `sim.NAME`."""
        return {} if self.record is None else self.record.parameters

    def changed(self) -> dict[str, tuple[Value, Value]]:
        """Parameters that are not the task's defaults, with their value and the default."""
        described = parameters(PlannerNodeConfig, type(self.task), self.task.file)
        simulated = parameters(SimConfig, type(self.task), self.task.file)
        described |= {f"sim.{name}": parameter for name, parameter in simulated.items()}
        return {
            name: (value, described[name].default)
            for name, value in self.parameters.items()
            if name in described
            and name.removeprefix("sim.") not in UNTOLD
            and value != described[name].default
        }

    def write_csv(self, folder: Path) -> list[Path]:
        """Write the time series, one file for each clock: states, plans, commands.

        Args:
            folder: where states.csv, plans.csv and commands.csv go; those without rows are left out
        """
        written = []
        for name, columns in self.columns().items():
            if len(next(iter(columns.values()))):
                written.append(folder / f"{name}.csv")
                pd.DataFrame(columns).to_csv(written[-1], index=False)
        return written

    def columns(self) -> dict[str, dict[str, Any]]:
        """Columns of each file of `write_csv`; `time` is in s from the beginning of the run."""
        start, states, plans = beginning(self.run), self.run.states, self.run.plans
        commands, model, measured = self.run.commands, self.task.model, self.measured
        found: dict[str, dict[str, Any]] = {}
        found["states"] = {
            "time": states.stamps - start,
            **{f"qpos[{i}]": column for i, column in enumerate(states.qpos.T)},
            **{f"qvel[{i}]": column for i, column in enumerate(states.qvel.T)},
            **_velocities("velocity", measured.velocity),
            **_velocities("command", measured.reference),
            **{f"cost.{name}": cost for name, cost in measured.costs.items()},
            **{f"goal.{name}": error for name, error in measured.goal_errors.items()},
            "failed": measured.failed,
        }
        if self.feet is not None:
            for i, name in enumerate(self.feet.names):
                found["states"][f"clearance.{name}"] = self.feet.clearance[:, i]
                found["states"][f"contact.{name}"] = self.feet.contact[:, i]
        fields = (
            *("plan_time", "deadline", "missed", "cost", "cost_mean", "noise"),
            *("effective_sample_size", "infeasible_fraction", "policy_rows", "policy_weight"),
            *("policy_time", "policy_cost", "planner_cost", "policy_guidance"),
        )
        found["plans"] = {
            "time": plans.stamps - start,
            **{field: getattr(plans, field) for field in fields},
            **{f"cost.{n}": plans.term_costs[:, i] for i, n in enumerate(plans.term_names)},
        }
        found["commands"] = {
            "time": commands.stamps - start,
            "state_time": commands.state_stamps - start,
            "safe": commands.safe,
            **{model.actuator(i).name: column for i, column in enumerate(commands.values.T)},
        }
        return found


def evaluate_run(
    bag: Path,
    task: Task,
    weights: Mapping[str, float],
    record: RunRecord | None,
    settle: float = 3.0,
    namespace: str | None = None,
) -> EvaluatedRun:
    """Read a bag as a run of a task, and evaluate it.

    Args:
        bag: rosbag2 folder or .mcap file
        task: task that was run
        weights: weights of cost terms that differ from the task's own
        record: what the bag says of its run
        settle: time from the first state on that the speeds leave out, s
        namespace: namespace of the robot; None: the bag holds only one

    Raises:
        BagError: see `read_run`
        ValueError: a weight belongs to no term
    """
    run = read_run(bag, task, namespace)
    measured = measure(run, task, weights)
    feet = measure_feet(run.states, task)
    summary = figures(run, task, measured, settle)
    summary["feet"] = None if feet is None else feet.figures(run.states.stamps)
    summary["machine"] = None if record is None else record.machine
    found = EvaluatedRun(bag, task, run, measured, feet, summary, record)
    summary["parameters"] = {name: value for name, (value, _) in found.changed().items()}
    return found


def _velocities(what: str, values: np.ndarray | None) -> dict[str, Any]:
    if values is None:
        return {}
    names = ("forward", "lateral", "yaw_rate")
    return {f"{what}.{name}": column for name, column in zip(names, values.T, strict=True)}
