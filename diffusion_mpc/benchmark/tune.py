"""`benchmark tune`.

The same random search for every algorithm, so that none is compared at a worse setting than it
could have.

All candidates run the first trial, the best third of them the others, as in successive halving
(Jamieson and Talwalkar, 1502.07943). The trials are not those of `benchmark quality`, so nothing is
tuned to the trials that it is judged by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import yaml
from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.benchmark.algorithm_trials import AlgorithmsBenchmark, Tuned, read_tuned
from diffusion_mpc.benchmark.benchmark import Report, state
from diffusion_mpc.benchmark.figures import Row, number, table
from diffusion_mpc.config import PlannerNodeConfig, Value, check, load_parameters
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.run_file import RunSpec

FIRST_TRIAL = 1000

# For each algorithm all parameters that it uses: ranges to draw from log-uniformly, as multiples of
# the task's default, or lists.
Space = Mapping[str, tuple[float, float] | list[int]]
SHARED: Space = {"planner.iterations": [1, 2, 4], "planner.noise_start": (0.3, 2.0)}
PROFILE: Space = {"planner.noise_growth": (0.5, 3.0)}
TEMPERATURE: Space = {"planner.temperature": (0.3, 6.0)}
SPACES: dict[str, Space] = {
    "mbd": {
        **SHARED,
        **PROFILE,
        **TEMPERATURE,
        "planner.noise_end": (0.3, 2.0),
        "planner.success_fraction": (0.3, 3.0),
        "planner.scale_rate": (0.3, 3.0),
        "planner.shape_rate": (0.3, 3.0),
    },
    "predictive_sampling": {**SHARED, **PROFILE},
    "mppi": {**SHARED, **PROFILE, **TEMPERATURE},
    "cem": {
        **SHARED,
        **PROFILE,
        "planner.elite_fraction": (0.5, 4.0),
        "planner.noise_floor": (0.3, 6.0),
    },
    "dial": {
        **SHARED,
        **TEMPERATURE,
        "planner.dial_beta1": (0.5, 4.0),
        "planner.dial_beta2": (0.3, 4.0),
    },
    "cma_es": SHARED,
}

Pair = tuple[str, str]
"""Task and algorithm."""


@dataclass(frozen=True, kw_only=True)
class Tune(AlgorithmsBenchmark):
    """Search parameters for each algorithm with an equal budget, for `quality` to use.

    example: diffusion-mpc benchmark tune --tasks cartpole --candidates 12 --output runs/tune

    Attributes:
        candidates: settings tried for each algorithm
        tuned: tuned.yaml of an earlier search, to go on from
        seed: seed of the search
    """

    name: ClassVar = "tune"
    identity: ClassVar = ("task", "algorithm", "rollouts", "trial", "candidate")

    seeds: PositiveInt = 2
    candidates: PositiveInt = 12
    tuned: Path | None = None
    seed: int = 0

    def runs(self) -> list[RunSpec]:
        """The first trial of all candidates, candidate by candidate.

        Those done before an interruption compare as many of each.
        """
        earlier = self._earlier()
        return self._runs(
            {
                (task, name): dict(
                    enumerate(
                        candidates(
                            task, name, self.candidates, self.seed, earlier.get(task, {}).get(name)
                        )
                    )
                )
                for task, name in self.pairs()
            },
            trials=1,
        )

    def _earlier(self) -> Tuned:
        return read_tuned(self.tuned) if self.tuned else {}

    def _runs(
        self, entrants: Mapping[Pair, Mapping[int, Mapping[str, Value]]], trials: int
    ) -> list[RunSpec]:
        """Trials of candidates, which come by their numbers, by task and algorithm."""
        numbers = range(FIRST_TRIAL, FIRST_TRIAL + trials)
        runs = [
            {**run, "candidate": number, "given": candidate}
            for (task, algorithm), found in entrants.items()
            for number, candidate in found.items()
            for run in self.trials(task, algorithm, None, numbers, {task: {algorithm: candidate}})
        ]
        return sorted(runs, key=lambda run: int(run["candidate"]))

    def report(self) -> Report:
        """Search; complete, errors, and the rows of `summarise`."""
        outcome = self.run(self.runs(), "tuning")
        runs = outcome.frame()
        if outcome.complete and self.seeds > 1:
            outcome = self.run(self._runs(_best_third(runs), self.seeds), "tuning, the best third")
            runs = pd.concat([runs, outcome.frame()]).drop_duplicates(self.identity)
        return {**state(outcome), **self.summarise(runs)}

    def summarise(self, runs: pd.DataFrame) -> Report:
        """The best candidates.

        Returns:
            rows, one for each task and algorithm: the candidate with the least mean cost among
            those with the most trials: cost of the default and of the best in the first trial, mean
            cost of the best over all trials, its parameters
        """
        finite = runs[np.isfinite(runs["mean_cost"].astype(float))] if len(runs) else runs
        rows = [
            _row(pair, found) for pair, found in finite.groupby(["task", "algorithm"], sort=False)
        ]
        return {"rows": rows}

    def tables(self, report: Report) -> list[Table]:
        """Costs of the default and of the best candidate."""
        return [
            table("", report["rows"], _cells, left=("task", "algorithm", "parameters"), wrap=True)
        ]

    def write(self, report: Report) -> Path:
        """Write `tuned.yaml`.

        The best candidates, and of an earlier search those that were not searched for again.
        """
        tuned: dict[str, dict[str, Any]] = {
            task: dict(found) for task, found in self._earlier().items()
        }
        for row in report["rows"]:
            tuned.setdefault(row["task"], {})[row["algorithm"]] = row["parameters"]
        trials = ", ".join(str(FIRST_TRIAL + i) for i in range(self.seeds))
        heading = (
            f"# Best of {self.candidates} settings (seed {self.seed}) "
            f"by mean closed-loop cost over trials {trials}.\n"
        )
        file = self.output / "tuned.yaml"
        file.write_text(heading + yaml.safe_dump(tuned, sort_keys=True), encoding="utf-8")
        return file


def candidates(
    task: str, algorithm: str, count: int, seed: int, incumbent: Mapping[str, Value] | None = None
) -> list[dict[str, Value]]:
    """As many settings.

    The task's defaults first, then the best of an earlier search, where that is another.

    Raises:
        ConfigError: the earlier search names an unknown parameter, or a value that does not fit
    """
    known, defaults = load_parameters(PlannerNodeConfig, {"task": task})
    check(incumbent or {}, known)
    random = np.random.default_rng((seed, list[str](ALGORITHMS).index(algorithm)))

    def draw(name: str, space: tuple[float, float] | list[int]) -> Value:
        if isinstance(space, list):
            return int(random.choice(space))
        factor = math.exp(random.uniform(math.log(space[0]), math.log(space[1])))
        low, high = known[name].low, known[name].high
        return float(f"{min(max(factor * float(defaults[name]), low), high):.3g}")

    drawn = [
        {name: draw(name, space) for name, space in SPACES[algorithm].items()}
        for _ in range(count - 1)
    ]
    found = (
        [dict(incumbent)]
        if incumbent and any(defaults[name] != value for name, value in incumbent.items())
        else []
    )
    return [{}, *found, *drawn][:count]


def _best_third(runs: pd.DataFrame) -> dict[Pair, dict[int, Mapping[str, Value]]]:
    """Numbers of the cheapest third of the candidates of each task and algorithm, two at least."""
    best = {}
    for pair, found in runs.sort_values("mean_cost", kind="stable").groupby(
        ["task", "algorithm"], sort=False
    ):
        third = found.head(max(2, math.ceil(len(found) / 3)))
        best[pair] = dict(zip(third["candidate"].tolist(), third["given"], strict=True))
    return best


def _row(pair: Pair, runs: pd.DataFrame) -> dict[str, Any]:
    first = runs[runs["trial"] == FIRST_TRIAL].set_index("candidate")["mean_cost"]
    by_candidate = runs.groupby("candidate")
    trials = by_candidate.size()
    means = by_candidate["mean_cost"].mean()[trials == trials.max()]
    best = int(means.idxmin())
    return {
        "task": pair[0],
        "algorithm": pair[1],
        "candidates": len(first),
        "default_cost": first.get(0),
        "first_cost": first[best],
        "tuned_cost": means[best],
        "parameters": _in_full(pair, runs.loc[runs["candidate"] == best, "given"].iloc[0]),
    }


def _in_full(pair: Pair, candidate: Mapping[str, Value]) -> dict[str, Value]:
    """A candidate with the defaults that it was run with, in case another default changes it."""
    task, algorithm = pair
    _, defaults = load_parameters(PlannerNodeConfig, {"task": task})
    return {**{name: defaults[name] for name in SPACES[algorithm]}, **candidate}


def _cells(row: Row) -> dict[str, str]:
    chosen = ", ".join(
        f"{name.removeprefix('planner.')} {value:g}" for name, value in row["parameters"].items()
    )
    return {
        "task": row["task"],
        "algorithm": row["algorithm"],
        "candidates": str(row["candidates"]),
        "default (first trial)": "–"
        if row["default_cost"] is None
        else number(row["default_cost"]),
        "best (first trial)": number(row["first_cost"]),
        "best (all trials)": number(row["tuned_cost"]),
        "parameters": chosen or "defaults",
    }
