"""`benchmark warm-start`: the planner with and without learned networks, by samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from cyclopts.types import PositiveInt
from matplotlib.ticker import NullLocator
from rich.table import Table

from diffusion_mpc.arguments import SetOption, parse_settings
from diffusion_mpc.benchmark.benchmark import Report, RunsBenchmark
from diffusion_mpc.benchmark.case import Case
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
    PlannerNodeConfig,
    SimConfig,
    Value,
    load_parameters,
    split_sim,
)
from diffusion_mpc.intervals import compare_columns, estimate
from diffusion_mpc.policy.checkpoint import locate, read_description
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.simulation.closed_loop import run_episode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.versions import versions

CONDITIONS: Mapping[str, Mapping[str, Value]] = {
    "as trained": {},
    "mass +30 %": {"sim.mass_scale": 1.3},
    "20 ms later": {"sim.state_delay": 0.02},
}
"""Simulated robots by name, with the settings in which they differ."""


@dataclass(frozen=True, kw_only=True)
class WarmStart(RunsBenchmark):
    """Compare the planner alone with a policy's plans among its samples, in closed loop.

    All in lockstep, trial by trial: planner, policy alone, planner + policy, and with --value
    planner + value and all of them.

    example: diffusion-mpc benchmark warm-start --task quadruped --samples 11 22

    Attributes:
        task: name of the task, or its file
        policy: checkpoint of a policy (default: the task's own; none where there is a value alone)
        value: checkpoint of a value
        bad: checkpoint that is to do no harm, as a further row; can be repeated
        samples: samples of a denoising step (default: the task's own)
        guidance: weights of the policy's label, each a row (default: policy.guidance)
        conditions: simulated robots: "as trained", "mass +30 %", "20 ms later"
        seeds: trials of each
        duration: simulated time of a trial, s (default: the task's own)
        settings: planner parameter; can be repeated
    """

    name: ClassVar = "warm_start"
    identity: ClassVar = ("task", "kind", "samples", "condition", "trial")

    task: str = "quadruped"
    policy: Path | None = None
    value: Path | None = None
    bad: tuple[Path, ...] = ()
    samples: tuple[PositiveInt, ...] = ()
    guidance: tuple[float, ...] = ()
    conditions: tuple[str, ...] = ("as trained",)
    seeds: PositiveInt = 8
    duration: float | None = None
    settings: SetOption = ()

    def runs(self) -> list[RunSpec]:
        """All runs, trial by trial.

        Raises:
            ConfigError, TaskError, CheckpointError: an option names something unknown
        """
        kind = find_task(self.task)
        case = Case(self.task, parse_settings(self.settings))
        own = case.all_parameters()
        policy = str(self.policy or own["policy.checkpoint"])
        if not policy and self.value is None:
            raise ConfigError(
                f"task '{self.task}' has no policy of its own; name one with --policy, or a value "
                "with --value"
            )
        policies = [locate(policy)] if policy else []
        files = [*policies, *([] if self.value is None else [self.value]), *self.bad]
        for file in files:
            read_description(file)
        # A network that was trained anew has other results under the same name.
        digests = {str(file): sha256(file.read_bytes()).hexdigest()[:12] for file in files}
        runs = list[RunSpec]()
        for trial in range(self.seeds):
            for condition in self.conditions:
                if condition not in CONDITIONS:
                    raise ConfigError(
                        f"there is no condition '{condition}'; there are {', '.join(CONDITIONS)}"
                    )
                for samples, name, networks in self._kinds(policy, int(own["planner.num_samples"])):
                    # A network is only where the row says so, whatever the task's own are.
                    settings = {**case.parameters(), "policy.checkpoint": "", **networks}
                    runs.append(
                        {
                            "task": self.task,
                            "kind": name,
                            "samples": samples,
                            "condition": condition,
                            "parameters": _checked(settings),
                            "robot": _simulated(self.task, {**kind.demo, **CONDITIONS[condition]}),
                            "networks": digests,
                            "duration": self.duration or kind.trial_duration,
                            "versions": versions(),
                            "trial": trial,
                        }
                    )
        return runs

    def _kinds(self, policy: str, own: int) -> list[tuple[int, str, dict[str, Value]]]:
        """Samples, name, and settings of all that is compared."""
        with_policy: dict[str, Value] = {"policy.checkpoint": policy}
        with_value: dict[str, Value] = {"value.checkpoint": str(self.value or "")}
        named: list[tuple[str, dict[str, Value]]] = [("planner", {})]
        for weight in (self.guidance or (None,)) if policy else ():
            label = "" if weight is None else f", guidance {weight:g}"
            guided: dict[str, Value] = {} if weight is None else {"policy.guidance": weight}
            named.append((f"planner + policy{label}", {**with_policy, **guided}))
        if self.value is not None:
            named.append(("planner + value", with_value))
            if policy:
                named.append(("all", {**with_policy, **with_value}))
        named += [
            (f"planner + bad policy {i}", {"policy.checkpoint": str(file)})
            for i, file in enumerate(self.bad, 1)
        ]
        alone: dict[str, Value] = {**with_policy, "planner.algorithm": "policy"}
        return [
            *(
                (samples, name, {**networks, "planner.num_samples": samples})
                for samples in self.samples or (own,)
                for name, networks in named
            ),
            *([(1, "policy", alone)] if policy else []),
        ]

    @staticmethod
    def measure(spec: RunSpec) -> Figures:
        """One run in closed loop."""
        settings = {
            **spec["parameters"],
            **spec["robot"],
            "planner.seed": spec["trial"],
            "backend.threads": 1,
        }
        episode = run_episode(settings, spec["trial"], spec["duration"])
        return {
            "mean_cost": episode.mean_cost,
            "falls": episode.falls,
            "succeeded": episode.succeeded,
            "speed": episode.speed,
            "failed_fraction": float(episode.failed.mean()),
        }

    def summarise(self, runs: pd.DataFrame) -> Report:
        """The comparison as figures.

        Returns:
            rows, one for each condition, number of samples and kind: the mean over trials of the
            mean closed-loop cost with its 95 % interval, falls, mean speed, and the paired
            difference "this less the planner alone" at the same samples
        """
        rows = []
        for condition, robots in runs.groupby("condition", sort=False):
            for samples, peers in robots.groupby("samples", sort=True):
                costs = peers.pivot(index="trial", columns="kind", values="mean_cost")
                rows += [
                    _row(str(condition), int(samples), str(kind), mine, costs)
                    for kind, mine in peers.groupby("kind", sort=False)
                ]
        return {"task": self.task, "rows": rows}

    def tables(self, report: Report) -> list[Table]:
        """Costs by condition, samples and kind."""
        return [
            table(
                f"{report['task']}: mean closed-loop cost; lower is better",
                report["rows"],
                _cells,
                left=("condition", "controller"),
                section=lambda row: (row["condition"], row["samples"]),
                wrap=True,
            )
        ]

    def write(self, report: Report) -> Path:
        """Draw mean cost with its 95 % interval against samples, one panel a condition."""
        rows, file = pd.DataFrame(report["rows"]), self.output / f"{self.name}.png"
        kinds = list(rows["kind"].unique())
        with panels(rows["condition"].nunique(), file) as drawn:
            for (condition, found), axes in zip(
                rows.groupby("condition", sort=False), drawn, strict=True
            ):
                for kind, mine in found.groupby("kind", sort=False):
                    i = kinds.index(kind)
                    draw_costs(axes, i, kind, mine["samples"] * 1.03 ** (i - len(kinds) / 2), mine)
                axes.set_xscale("log")
                axes.xaxis.set_minor_locator(NullLocator())
                axes.set_title(f"{report['task']}, {condition}", loc="left")
                axes.set_xlabel("samples of a denoising step")
                axes.set_ylabel("mean closed-loop cost")
        return file


def _checked(settings: Mapping[str, object]) -> dict[str, Value]:
    """Parameters of a run that differ from the task's defaults, as values.

    Raises:
        ConfigError: one is unknown or does not fit
    """
    _, values = load_parameters(PlannerNodeConfig, settings)
    return {name: values[name] for name in settings if name in values}


def _simulated(task: str, settings: Mapping[str, Value]) -> dict[str, Value]:
    simulated = split_sim(settings)[1]
    load_parameters(SimConfig, {"task": task, **simulated})
    return {f"sim.{name}": value for name, value in simulated.items()}


def _row(
    condition: str, samples: int, kind: str, runs: pd.DataFrame, costs: pd.DataFrame
) -> Figures:
    cost = estimate(runs["mean_cost"].tolist())
    speeds: Sequence[float] = runs["speed"].dropna().tolist()
    return {
        "condition": condition,
        "samples": samples,
        "kind": kind,
        "trials": cost.count,
        "mean_cost": cost.mean,
        "low": cost.low,
        "high": cost.high,
        "falls": int(runs["falls"].sum()),
        "failed_fraction": float(runs["failed_fraction"].mean()),
        "speed": float(np.mean(speeds)) if speeds else None,
        "less_planner": compare_columns(costs, kind, "planner") if "planner" in costs else None,
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "condition": row["condition"],
        "samples": str(row["samples"]),
        "controller": row["kind"],
        "trials": str(row["trials"]),
        "cost": number(row["mean_cost"]),
        "95 % interval": interval(row),
        "falls": str(row["falls"]),
        "fallen": f"{row['failed_fraction']:.1%}",
        "speed": "–" if row["speed"] is None else f"{row['speed']:.2f}",
        "less the planner": difference(row["less_planner"]),
        "wins": wins(row["less_planner"]),
    }
