"""`benchmark generative`.

The networks of learned policies on problems whose answers are known, and their time on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import pandas as pd
from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.figures import Row, table
from diffusion_mpc.benchmark.network_latency import ACTUATORS, CONDITION, KNOTS, ROWS, latencies
from diffusion_mpc.benchmark.runs import Figures
from diffusion_mpc.benchmark.toy_bandit import REWARD_NOISES, bandit
from diffusion_mpc.benchmark.toy_distributions import NOISE, SIZES, UPPER, meet_modes, one_thread
from diffusion_mpc.versions import versions

Part = Literal["modes", "bandit", "latency"]

PARTS: tuple[Part, ...] = ("modes", "bandit", "latency")


@dataclass(frozen=True, kw_only=True)
class Generative(Benchmark):
    """Judge generative networks on toy problems whose answers are known.

    modes: fractions of two modes; bandit: return of a bandit with two actions against the weight of
    guidance, and of advantage-weighted regression; latency: time of 8 plans on one thread.

    example: diffusion-mpc benchmark generative --only modes --json generative.json

    Attributes:
        only: parts (default: all)
        seeds: trainings of each network, but one for the modes
        steps: gradient steps of a training
        rows: training rows of the bandit
        samples: samples of each network
        repetitions: calls that are timed, of each network and number of evaluations
    """

    only: tuple[Part, ...] = ()
    seeds: PositiveInt = 3
    steps: PositiveInt = 500
    rows: PositiveInt = 20_000
    samples: PositiveInt = 1000
    repetitions: PositiveInt = 100

    def report(self) -> Report:
        """Train and sample.

        Complete, rows (each of a part), and versions.
        """
        rows: list[Figures] = []
        complete = True
        with one_thread():
            try:
                for part in self.only or PARTS:
                    for found in self._runs(part):
                        rows += found
            except KeyboardInterrupt:
                complete = False
        return {"complete": complete, "rows": rows, "versions": versions()}

    def _runs(self, part: Part) -> Iterator[list[Figures]]:
        if part == "modes":
            for body in SIZES:
                yield meet_modes(body, self.steps, self.samples)
        elif part == "latency":
            yield latencies(self.repetitions)
        else:
            for seed, noise in product(range(self.seeds), REWARD_NOISES):
                yield bandit(noise, self.rows, self.steps, self.samples, seed)

    def tables(self, report: Report) -> list[Table]:
        """A table of each part that has figures."""
        drawn = []
        for part in PARTS:
            rows = [row for row in report["rows"] if row["part"] == part]
            if rows:
                drawn += TABLES[part](pd.DataFrame(rows))
        return drawn


def _range(values: pd.Series, digits: int = 3) -> str:
    """Mean, and least and largest of several."""
    mean = f"{values.mean():.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def _modes_tables(frame: pd.DataFrame) -> list[Table]:
    groups = [
        {"body": body, "sampler": sampler, "rows": found}
        for (body, sampler), found in frame.groupby(["body", "sampler"], sort=False)
    ]

    def cells(row: Row) -> dict[str, str]:
        found = row["rows"]
        return {
            "body": row["body"],
            "sampler": row["sampler"],
            "evaluations": str(found["evaluations"].iloc[0]),
            f"upper mode (data: {UPPER:g})": _range(found["upper"]),
            "between (0)": _range(found["between"]),
            f"noise ({NOISE:g})": _range(found["noise"]),
        }

    title = "two modes"
    return [table(title, groups, cells, ("body", "sampler"), section=lambda row: row["body"])]


def _bandit_tables(frame: pd.DataFrame) -> list[Table]:
    # pandas leaves rows out whose key is missing.
    frame = frame.assign(limit=frame["limit"].map("{:g}".format).replace("nan", "none"))
    frame = frame.assign(setting=frame["setting"].fillna(-1.0))

    def cells(row: Row) -> dict[str, str]:
        found = row["rows"]
        sampled = row["setting"] >= 0.0
        return {
            "noise of rewards": f"{row['reward_noise']:g}",
            "method": row["method"],
            "limit": row["limit"] if sampled else "",
            "w or temperature": f"{row['setting']:g}" if sampled else "",
            "mean return": _range(found["mean_return"]),
            "outside [-1, 1]": _range(found["outside"]) if sampled else "",
        }

    keys = ["reward_noise", "method", "limit", "setting"]
    groups = [
        {**dict(zip(keys, values, strict=True)), "rows": found}
        for values, found in frame.groupby(keys, sort=False)
    ]
    groups.sort(key=lambda row: row["reward_noise"])
    title = "bandit, best action 1; mean (least to largest) of the trainings"
    return [
        table(
            title,
            groups,
            cells,
            ("method",),
            section=lambda row: (row["reward_noise"], row["method"][:4], row["limit"]),
        )
    ]


def _latency_tables(frame: pd.DataFrame) -> list[Table]:
    def cells(row: Row) -> dict[str, str]:
        return {
            "network": row["network"],
            "parameters": str(row["parameters"]),
            "evaluations": str(row["evaluations"]),
            "median, ms": f"{row['median']:.2f}",
            "99 %, ms": f"{row['p99']:.2f}",
        }

    title = f"{ROWS} plans of {KNOTS} x {ACTUATORS} under a condition of {CONDITION}, one thread"
    rows = frame.to_dict("records")
    return [table(title, rows, cells, ("network",), section=lambda row: row["network"])]


TABLES: dict[Part, Callable[[pd.DataFrame], list[Table]]] = {
    "modes": _modes_tables,
    "bandit": _bandit_tables,
    "latency": _latency_tables,
}
