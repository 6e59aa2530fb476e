"""`benchmark generative`.

The networks of learned policies on problems whose answers are known, and their time on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.figures import Row, interval, table
from diffusion_mpc.benchmark.network_latency import ACTUATORS, CONDITION, KNOTS, ROWS, latencies
from diffusion_mpc.benchmark.toy_bandit import REWARD_NOISES, bandit
from diffusion_mpc.benchmark.toy_distributions import NOISE, SIZES, UPPER, meet_modes, one_thread
from diffusion_mpc.benchmark.toy_maze import any_goal, one_goal
from diffusion_mpc.intervals import estimate
from diffusion_mpc.run_file import Figures
from diffusion_mpc.versions import versions

Part = Literal["modes", "bandit", "maze", "latency"]

PARTS: tuple[Part, ...] = ("modes", "bandit", "maze", "latency")


@dataclass(frozen=True, kw_only=True)
class Generative(Benchmark):
    """Judge generative networks on toy problems whose answers are known.

    modes: fractions of two modes; bandit: return of a bandit with two actions against the weight of
    guidance, and of advantage-weighted regression; maze: the same of a robot on its way to one
    goal, and, conditioned on the goal, to any; latency: time of 8 plans on one thread.

    example: diffusion-mpc benchmark generative --only modes --json generative.json

    Attributes:
        only: parts (default: all)
        seeds: trainings of each network, but one for the modes
        steps: gradient steps of a training
        rows: training rows
        samples: samples of each network
        episodes: episodes of each policy in the maze
        repetitions: calls that are timed, of each network and number of evaluations
    """

    only: tuple[Part, ...] = ()
    seeds: PositiveInt = 3
    steps: PositiveInt = 1000
    rows: PositiveInt = 20_000
    samples: PositiveInt = 4000
    episodes: PositiveInt = 200
    repetitions: PositiveInt = 50

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
            for body in (None, *SIZES):
                yield meet_modes(body, self.steps, self.samples, self.rows)
        elif part == "latency":
            yield latencies(self.repetitions)
        elif part == "maze":
            for seed, problem in product(range(self.seeds), (one_goal, any_goal)):
                yield problem(self.rows, self.steps, self.episodes, seed)
        else:
            for seed, noise in product(range(self.seeds), REWARD_NOISES):
                yield bandit(noise, self.rows, self.steps, self.samples, seed)

    def tables(self, report: Report) -> list[Table]:
        """A table of each part that has figures."""
        drawn = []
        for part in PARTS:
            rows = [row for row in report["rows"] if row["part"] == part]
            if rows:
                drawn += TABLES[part](rows)
        return drawn


def _estimates(rows: Sequence[Row], keys: Sequence[str]) -> list[Figures]:
    """Means of the other figures, with their intervals over the seeds, by the values of keys."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return [
        {**dict(zip(keys, values, strict=True)), **_means(found, {*keys, "part", "seed"})}
        for values, found in groups.items()
    ]


def _means(rows: Sequence[Row], without: Collection[str]) -> Figures:
    names = [name for name in rows[0] if name not in without]
    return {name: asdict(estimate([row[name] for row in rows])) for name in names}


def _with_interval(found: Row | None) -> str:
    return f"{found['mean']:.3f} {interval(found)}" if found else ""


def _modes_tables(rows: Sequence[Row]) -> list[Table]:
    def cells(row: Row) -> dict[str, str]:
        return {
            "body": row["body"],
            "sampler": row["sampler"],
            "evaluations": str(row["evaluations"]),
            f"upper mode (data: {UPPER:g})": f"{row['upper']:.3f}",
            "relative error": f"{row['error']:+.1%}",
            "between (0)": f"{row['between']:.4f}",
            f"noise ({NOISE:g})": f"{row['noise']:.3f}",
        }

    title = "two modes; exact: the best estimate in place of a network"
    return [table(title, rows, cells, ("body", "sampler"), section=lambda row: row["body"])]


def _bandit_tables(rows: Sequence[Row]) -> list[Table]:
    keys = ("reward_noise", "method", "limit", "setting")
    found = sorted(_estimates(rows, keys), key=lambda row: row["reward_noise"])

    def cells(row: Row) -> dict[str, str]:
        sampled = row["setting"] is not None
        limit = "none" if row["limit"] is None else f"{row['limit']:g}"
        return {
            "noise of rewards": f"{row['reward_noise']:g}",
            "method": row["method"],
            "limit": limit if sampled else "",
            "w or temperature": f"{row['setting']:g}" if sampled else "",
            "mean return": _with_interval(row["mean_return"]),
            "outside [-1, 1]": f"{row['outside']['mean']:.3f}" if sampled else "",
        }

    def section(row: Row) -> Hashable:
        return row["reward_noise"], row["method"][:4], row["limit"]

    title = "bandit, best action 1; mean [95 % interval] of the trainings"
    return [table(title, found, cells, ("method",), section=section), *_best_tables(found, rows)]


def _maze_tables(rows: Sequence[Row]) -> list[Table]:
    found = _estimates(rows, ("problem", "method", "setting"))

    def cells(row: Row) -> dict[str, str]:
        sampled = row["setting"] is not None
        return {
            "problem": row["problem"],
            "method": row["method"],
            "w or temperature": f"{row['setting']:g}" if sampled else "",
            "mean return": _with_interval(row["mean_return"]),
            "goal reached": _with_interval(row.get("success")),
            "wall touched": _with_interval(row.get("touched")),
        }

    def section(row: Row) -> Hashable:
        return row["problem"], row["method"]

    title = "maze; mean [95 % interval] of the trainings"
    left = ("problem", "method")
    return [table(title, found, cells, left, section=section), *_best_tables(found, rows)]


def _best_tables(found: Sequence[Row], rows: Sequence[Row]) -> list[Table]:
    """Guidance at its best weight against its rival, paired by seed.

    The rival is regression at its best temperature, or weight 1 where there is no regression.
    """

    def problem(row: Row) -> tuple[Any, ...]:
        return row.get("problem"), row.get("reward_noise")

    def best(candidates: Sequence[Row]) -> Row:
        return max(candidates, key=lambda row: row["mean_return"]["mean"])

    def by_seed(row: Row) -> list[float]:
        named = ("method", "setting", "limit")
        like = [r for r in rows if problem(r) == problem(row)]
        like = [r for r in like if all(r.get(key) == row.get(key) for key in named)]
        return [r["mean_return"] for r in sorted(like, key=lambda r: r["seed"])]

    compared = []
    guided = [row for row in found if row["method"] in ("CFGRL", "goal")]
    for kind in dict.fromkeys((*problem(row), row.get("limit")) for row in guided):
        mine = [row for row in guided if (*problem(row), row.get("limit")) == kind]
        regression = [r for r in found if r["method"] == "AWR" and problem(r) == kind[:2]]
        rival = best(regression) if regression else next(r for r in mine if r["setting"] == 1.0)
        winner = best(mine)
        gain = asdict(
            estimate([a - b for a, b in zip(by_seed(winner), by_seed(rival), strict=True)])
        )
        compared.append({"kind": kind, "winner": winner, "rival": rival, "gain": gain})

    def cells(row: Row) -> dict[str, str]:
        where, noise, limit = row["kind"]
        rival = "temperature" if row["rival"]["method"] == "AWR" else "w"
        return {
            "problem": where or f"rewards with noise {noise:g}",
            "limit": "none" if where is None and limit is None else f"{limit or 1.0:g}",
            "best w": f"{row['winner']['setting']:g}",
            "mean return": _with_interval(row["winner"]["mean_return"]),
            "rival": f"{row['rival']['method']}, {rival} {row['rival']['setting']:g}",
            "rival's return": _with_interval(row["rival"]["mean_return"]),
            "gain, paired": _with_interval(row["gain"]),
        }

    return [table("guidance at its best weight", compared, cells, ("problem", "rival"))]


def _latency_tables(rows: Sequence[Row]) -> list[Table]:
    def cells(row: Row) -> dict[str, str]:
        return {
            "network": row["network"],
            "parameters": str(row["parameters"]),
            "evaluations": str(row["evaluations"]),
            "median, ms": f"{row['median']:.2f}",
            "99 %, ms": f"{row['p99']:.2f}",
            "thread's own, ms": f"{row['own']:.2f}",
        }

    title = f"{ROWS} plans of {KNOTS} x {ACTUATORS} under a condition of {CONDITION}, one thread"
    return [table(title, rows, cells, ("network",), section=lambda row: row["network"])]


TABLES: dict[Part, Callable[[Sequence[Row]], list[Table]]] = {
    "modes": _modes_tables,
    "bandit": _bandit_tables,
    "maze": _maze_tables,
    "latency": _latency_tables,
}
