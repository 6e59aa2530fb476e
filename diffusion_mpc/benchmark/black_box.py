"""`benchmark black-box`.

Model-Based Diffusion against other optimisers of functions, at the same number of evaluations.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from cyclopts.types import PositiveFloat, PositiveInt
from rich.table import Table
from scipy.stats import qmc

from diffusion_mpc.benchmark.benchmark import Report, RunsBenchmark
from diffusion_mpc.benchmark.figures import Row, difference, interval, number, panels, table, wins
from diffusion_mpc.evaluation.plot import COLOURS
from diffusion_mpc.intervals import compare_columns, estimate
from diffusion_mpc.names import Variant, require_known
from diffusion_mpc.optimize.functions import FUNCTIONS
from diffusion_mpc.optimize.reverse_diffusion import Settings, minimize
from diffusion_mpc.run_file import Figures, RunSpec
from diffusion_mpc.versions import versions

# The variant that `optimize` takes where nothing else is asked for.
OURS = f"mbd_{Settings().variant}"
BO_PACKAGE = "botorch"
BO_MISSING = "needs botorch: pip install botorch"
BO_SEEDS = 3
BO_BATCH = 8


Objective = Callable[[torch.Tensor], torch.Tensor]


class Evaluated:
    """A function on [-1, 1]^d that remembers the least value after each evaluation."""

    def __init__(self, objective: Objective) -> None:
        """Start at no evaluation."""
        self._objective = objective
        self._values: list[torch.Tensor] = []

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Values (n,) at points (n, d)."""
        values = self._objective(points)
        self._values.append(values)
        return values

    @property
    def count(self) -> int:
        """Number of evaluations so far."""
        return sum(len(values) for values in self._values)

    @property
    def best(self) -> torch.Tensor:
        """Least value (count,) up to each evaluation."""
        return torch.cat(self._values).cummin(0).values


def diffusion(objective: Evaluated, dim: int, seed: int, spec: RunSpec) -> None:
    """One reverse pass (2407.01573, Algorithm 1), of the variant in the method's name."""
    variant = cast(Variant, str(spec["method"]).removeprefix("mbd_"))
    minimize(
        objective,
        dim,
        Settings(spec["samples"], spec["levels"], spec["temperature"], variant, seed),
    )


def cma_es(objective: Evaluated, dim: int, seed: int, spec: RunSpec) -> None:
    """CMA-ES (Hansen, 1604.00772) with the defaults of the package `cma`.

    When it has converged, begun anew at a random point.

    It begins in the middle, where the code's variant of Model-Based Diffusion does, with a quarter
    of the domain as deviation. With "tpa", step sizes are adapted by two points on the line of the
    last step, which the package does by itself from 300 dimensions on.
    """
    import cma

    random = np.random.default_rng(seed)
    budget = evaluations(spec)
    while objective.count < budget:
        options = {"verbose": -9, "seed": int(random.integers(1, 2**31)), "bounds": [-1.0, 1.0]}
        if spec["method"] == "cma_es_tpa":
            options["AdaptSigma"] = cma.sigma_adaptation.CMAAdaptSigmaTPA
        start = random.uniform(-1.0, 1.0, dim) if objective.count else np.zeros(dim)
        strategy = cma.CMAEvolutionStrategy(start, 0.5, options)
        while objective.count < budget and not strategy.stop():
            points = strategy.ask()
            # The last generation is cut where the others end; it need not be told, for nothing is
            # asked after it.
            points = points[: budget - objective.count]
            values = objective(torch.as_tensor(np.array(points)))
            if len(points) == strategy.popsize:
                strategy.tell(points, values.tolist())


def random_search(objective: Evaluated, dim: int, seed: int, spec: RunSpec) -> None:
    """Uniform points."""
    generator = torch.Generator().manual_seed(seed)
    while (left := evaluations(spec) - objective.count) > 0:
        objective(
            2.0 * torch.rand((min(left, 256), dim), generator=generator, dtype=torch.float64) - 1.0
        )


def gp_bo(objective: Evaluated, dim: int, seed: int, spec: RunSpec) -> None:
    """Bayesian optimisation with a Gaussian process.

    BoTorch's standard model and batches of q-LogEI (Ament et al., 2310.20708).
    """
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim.optimize import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    began = time.monotonic()
    torch.manual_seed(seed)
    first = qmc.Sobol(dim, rng=seed).random(min(32, spec["bo_evaluations"]))
    unit = torch.from_numpy(first)
    values = objective(2.0 * unit - 1.0)
    bounds = torch.stack((torch.zeros(dim), torch.ones(dim))).double()
    while (
        objective.count < spec["bo_evaluations"] and time.monotonic() - began < spec["bo_seconds"]
    ):
        model = SingleTaskGP(unit, -values[:, None], outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        batch = min(BO_BATCH, spec["bo_evaluations"] - objective.count)
        acquisition = qLogExpectedImprovement(model, best_f=-values.min())
        points, _ = optimize_acqf(
            acquisition, bounds, q=batch, num_restarts=2, raw_samples=64, options={"maxiter": 50}
        )
        unit, values = torch.cat((unit, points)), torch.cat((values, objective(2.0 * points - 1.0)))


METHODS: dict[str, Callable[[Evaluated, int, int, RunSpec], None]] = {
    "mbd_geometric": diffusion,
    "mbd_code": diffusion,
    "mbd_paper": diffusion,
    "cma_es": cma_es,
    "cma_es_tpa": cma_es,
    "random": random_search,
    "gp_bo": gp_bo,
}


def evaluations(spec: RunSpec) -> int:
    """Evaluations that a reverse pass makes: a step less than levels, and its final estimate."""
    return int(spec["samples"]) * (int(spec["levels"]) - 1) + 1


@dataclass(frozen=True, kw_only=True)
class BlackBox(RunsBenchmark):
    """Compare Model-Based Diffusion with other optimisers of functions, at equal evaluations.

    example: diffusion-mpc benchmark black-box --dims 20 100 --json black_box.json

    Attributes:
        functions: functions to minimise
        dims: dimensions
        methods: methods (default: all)
        seeds: seeds of each (gp_bo: 3 at most)
        samples: samples of mbd at each level; with the levels, the number of evaluations of all
            methods but gp_bo
        levels: noise levels of mbd
        temperature: temperature of mbd's weights
        bo_evaluations: most evaluations of gp_bo
        bo_seconds: time after which gp_bo begins no further batch, s
    """

    name: ClassVar = "black_box"
    identity: ClassVar = ("function", "dim", "method", "seed")

    functions: tuple[str, ...] = tuple(FUNCTIONS)
    dims: tuple[PositiveInt, ...] = (20, 100, 200, 400, 800)
    methods: tuple[str, ...] = ()
    seeds: PositiveInt = 8
    samples: PositiveInt = 64
    levels: PositiveInt = 100
    temperature: float = 1.0
    bo_evaluations: PositiveInt = 200
    bo_seconds: PositiveFloat = 300.0

    def runs(self) -> list[RunSpec]:
        """All runs, seed by seed."""
        for name in self.functions:
            require_known("function", name, FUNCTIONS)
        for name in self.methods:
            require_known("method", name, METHODS)
        Settings(self.samples, self.levels, self.temperature)
        return [
            {
                "function": function,
                "dim": dim,
                "method": method,
                "seed": seed,
                **self._settings(method),
            }
            for seed in range(self.seeds)
            for dim in self.dims
            for function in self.functions
            for method in self._runnable()
            if method != "gp_bo" or seed < BO_SEEDS
        ]

    def _runnable(self) -> list[str]:
        return [
            name
            for name in self.methods or METHODS
            if name != "gp_bo" or importlib.util.find_spec(BO_PACKAGE)
        ]

    def _settings(self, method: str) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if method == "gp_bo":
            settings = {
                "bo_evaluations": self.bo_evaluations,
                "bo_seconds": self.bo_seconds,
                **versions(BO_PACKAGE),
            }
        else:
            settings = {"samples": self.samples, "levels": self.levels}
        if method.startswith("cma_es"):
            settings |= versions("cma")
        return settings | ({"temperature": self.temperature} if method.startswith("mbd") else {})

    @staticmethod
    def measure(spec: RunSpec) -> Figures:
        """One optimisation.

        Its curve is thinned to about 100 numbers of evaluations in equal ratios.
        """
        objective = Evaluated(FUNCTIONS[spec["function"]].normalised)
        began = time.monotonic()
        METHODS[spec["method"]](objective, spec["dim"], spec["seed"], spec)
        count, best = objective.count, objective.best
        return {
            "best": float(best[-1]),
            "evaluations": count,
            "seconds": time.monotonic() - began,
            "curve": [[int(n), float(best[n - 1])] for n in _thinned(count)],
        }

    def summarise(self, runs: pd.DataFrame) -> Report:
        """Means over the seeds.

        Returns:
            rows, one for each function, dimension and method: mean over seeds of the least value
            (best), its 95 % interval (low, high), the paired difference "the default variant of
            Model-Based Diffusion less this one", the mean curve; and missing, chosen methods that
            need a package which is not there, with advice
        """
        rows = [row for _, found in runs.groupby(["function", "dim"]) for row in _rows(found)]
        missing = {
            name: BO_MISSING for name in self.methods or METHODS if name not in self._runnable()
        }
        return {"rows": rows, "missing": missing}

    def tables(self, report: Report) -> list[Table]:
        """Least values by function, dimension and method."""
        title = "least value found; lower is better, 0 is the minimum"
        for name, advice in report["missing"].items():
            title += f"\n{name} {advice}"
        return [
            table(
                title,
                report["rows"],
                _cells,
                left=("function", "method"),
                section=lambda row: (row["function"], row["dim"]),
            )
        ]

    def write(self, report: Report) -> Path:
        """Draw the least value so far against evaluations, a panel a function and dimension."""
        rows, file = pd.DataFrame(report["rows"]), self.output / "black_box.png"
        methods, cases, dims = (
            list(rows["method"].unique()),
            list(rows.groupby(["function", "dim"])),
            rows["dim"].nunique(),
        )
        with panels(len(cases), file, dims if dims > 1 else 3) as drawn:
            for ((function, dim), found), axes in zip(cases, drawn, strict=True):
                for method, curve in zip(found["method"], found["curve"], strict=True):
                    count, best = zip(*curve, strict=True)
                    axes.plot(
                        count,
                        best,
                        color=COLOURS[methods.index(method)],
                        linewidth=1.5,
                        label=method,
                    )
                axes.set_xscale("log")
                axes.set_yscale("log")
                axes.set_title(f"{function}, {dim} dimensions", loc="left")
                axes.set_xlabel("evaluations")
                axes.set_ylabel("least value so far")
        return file


def _thinned(count: int) -> np.ndarray:
    """About 100 numbers of evaluations up to `count`, in equal ratios."""
    return np.unique(np.geomspace(1, count, 100).round().astype(int))


def _rows(runs: pd.DataFrame) -> list[Figures]:
    """Means of the methods on one function of one dimension."""
    best = runs.pivot(index="seed", columns="method", values="best")
    return [
        _row(found, compare_columns(best, OURS, method))
        for method, found in runs.groupby("method", sort=False)
    ]


def _row(runs: pd.DataFrame, versus: Figures | None) -> Figures:
    best, first = estimate(runs["best"].tolist()), runs.iloc[0]
    # Runs that a time limit ended have unlike lengths: the mean curve goes as far as all do.
    at = _thinned(runs["evaluations"].min())
    curve = np.mean([_at(curve, at) for curve in runs["curve"]], axis=0)
    return {
        "function": first["function"],
        "dim": int(first["dim"]),
        "method": first["method"],
        "seeds": best.count,
        "evaluations": float(np.mean(runs["evaluations"])),
        "seconds": float(np.mean(runs["seconds"])),
        "best": best.mean,
        "low": best.low,
        "high": best.high,
        "mbd_less_this": versus,
        "curve": [[int(n), float(value)] for n, value in zip(at, curve, strict=True)],
    }


def _at(curve: Sequence[Sequence[float]], counts: np.ndarray) -> np.ndarray:
    """Least values at numbers of evaluations.

    Those of the last point of the curve that is not later.
    """
    known = np.array([point[0] for point in curve])
    return np.array([point[1] for point in curve])[np.searchsorted(known, counts, side="right") - 1]


def _cells(row: Row) -> dict[str, str]:
    return {
        "function": row["function"],
        "d": str(row["dim"]),
        "method": row["method"],
        "seeds": str(row["seeds"]),
        "evaluations": f"{row['evaluations']:.0f}",
        "s": f"{row['seconds']:.1f}",
        "value": number(row["best"]),
        "95 % interval": interval(row),
        "MBD less this": difference(row["mbd_less_this"]),
        "wins": wins(row["mbd_less_this"]),
    }
