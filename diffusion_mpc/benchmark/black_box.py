"""`benchmark black-box`: Model-Based Diffusion against other optimisers of functions, at the same number of evaluations."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc

from diffusion_mpc.benchmark.cells import Cell, Figures, Outcome, Study, among
from diffusion_mpc.benchmark.statistics import compare, estimate
from diffusion_mpc.config import ConfigError
from diffusion_mpc.planner.functions import FUNCTIONS
from diffusion_mpc.planner.optimize import Settings, minimize
from diffusion_mpc.versions import versions

IDENTITY = ("function", "dim", "method", "seed")
# The variant that `optimize` takes where nothing else is asked for.
OURS = f"mbd_{Settings().variant}"
BO_PACKAGE = "botorch"
BO_MISSING = "needs botorch: pip install botorch"
BO_SEEDS = 3
BO_BATCH = 8


@dataclass(frozen=True)
class Choice:
    """What to compare.

    Attributes:
        functions, dims, methods: names and dimensions
        seeds: seeds of each; GP Bayesian optimisation takes the first `BO_SEEDS`
        samples, levels: of Model-Based Diffusion; they decide the number of evaluations of all but Bayesian optimisation
        temperature: of Model-Based Diffusion
        bo_evaluations: most evaluations of Bayesian optimisation
        bo_seconds: time after which it begins no further batch, s
    """

    functions: Sequence[str] = tuple(FUNCTIONS)
    dims: Sequence[int] = (20, 100, 200, 400, 800)
    methods: Sequence[str] = ()
    seeds: Sequence[int] = tuple(range(8))
    samples: int = 64
    levels: int = 100
    temperature: float = 1.0
    bo_evaluations: int = 200
    bo_seconds: float = 300.0


Objective = Callable[[torch.Tensor], torch.Tensor]


class Evaluated:
    """A function on [-1, 1]^d that remembers the least value after each evaluation."""

    def __init__(self, objective: Objective) -> None:
        """Begin with no evaluation."""
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


def diffusion(objective: Evaluated, dim: int, seed: int, cell: Cell) -> None:
    """One reverse pass (Pan et al., 2407.01573, Algorithm 1), in the variant that the method's name ends with."""
    variant = str(cell["method"]).removeprefix("mbd_")
    minimize(objective, dim, Settings(cell["samples"], cell["levels"], cell["temperature"], variant, seed))


def cma_es(objective: Evaluated, dim: int, seed: int, cell: Cell) -> None:
    """CMA-ES (Hansen, 1604.00772) with the defaults of the package `cma`; when it has converged, begun anew at a random point.

    It begins in the middle, where the code's variant of Model-Based Diffusion does, with a quarter of the domain as deviation.
    With "tpa", step sizes are adapted by two points on the line of the last step, which the package does by itself from 300
    dimensions on.
    """
    import cma

    random = np.random.default_rng(seed)
    budget = evaluations(cell)
    while objective.count < budget:
        options = {"verbose": -9, "seed": int(random.integers(1, 2**31)), "bounds": [-1.0, 1.0]}
        if cell["method"] == "cma_es_tpa":
            options["AdaptSigma"] = cma.sigma_adaptation.CMAAdaptSigmaTPA
        start = random.uniform(-1.0, 1.0, dim) if objective.count else np.zeros(dim)
        strategy = cma.CMAEvolutionStrategy(start, 0.5, options)
        while objective.count < budget and not strategy.stop():
            points = strategy.ask()
            # The last generation is cut where the others end; it need not be told, for nothing is asked after it.
            points = points[: budget - objective.count]
            values = objective(torch.as_tensor(np.array(points)))
            if len(points) == strategy.popsize:
                strategy.tell(points, values.tolist())


def random_search(objective: Evaluated, dim: int, seed: int, cell: Cell) -> None:
    """Uniform points."""
    generator = torch.Generator().manual_seed(seed)
    while (left := evaluations(cell) - objective.count) > 0:
        objective(2.0 * torch.rand((min(left, 256), dim), generator=generator, dtype=torch.float64) - 1.0)


def gp_bo(objective: Evaluated, dim: int, seed: int, cell: Cell) -> None:
    """Bayesian optimisation with a Gaussian process: BoTorch's standard model and batches of q-LogEI (Ament et al., 2310.20708)."""
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim.optimize import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    began = time.monotonic()
    torch.manual_seed(seed)
    first = qmc.Sobol(dim, rng=seed).random(min(32, cell["bo_evaluations"]))
    unit = torch.from_numpy(first)
    values = objective(2.0 * unit - 1.0)
    bounds = torch.stack((torch.zeros(dim), torch.ones(dim))).double()
    while objective.count < cell["bo_evaluations"] and time.monotonic() - began < cell["bo_seconds"]:
        model = SingleTaskGP(unit, -values[:, None], outcome_transform=Standardize(1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        batch = min(BO_BATCH, cell["bo_evaluations"] - objective.count)
        acquisition = qLogExpectedImprovement(model, best_f=-values.min())
        points, _ = optimize_acqf(acquisition, bounds, q=batch, num_restarts=2, raw_samples=64, options={"maxiter": 50})
        unit, values = torch.cat((unit, points)), torch.cat((values, objective(2.0 * points - 1.0)))


METHODS: dict[str, Callable[[Evaluated, int, int, Cell], None]] = {
    "mbd_geometric": diffusion,
    "mbd_code": diffusion,
    "mbd_paper": diffusion,
    "cma_es": cma_es,
    "cma_es_tpa": cma_es,
    "random": random_search,
    "gp_bo": gp_bo,
}


def evaluations(cell: Cell) -> int:
    """Evaluations that a reverse pass makes: a step less than levels, and its final estimate."""
    return int(cell["samples"]) * (int(cell["levels"]) - 1) + 1


def cells(choice: Choice) -> list[Cell]:
    """All cells of a choice, seed by seed.

    Raises:
        ConfigError: there is no such function or method, or a dimension is below 1
    """
    for name in choice.functions:
        among("function", name, FUNCTIONS)
    for name in choice.methods:
        among("method", name, METHODS)
    if min(choice.dims) < 1:
        raise ConfigError(f"--dims {min(choice.dims)}: a function has at least one dimension")
    Settings(choice.samples, choice.levels, choice.temperature)
    return [
        {"function": function, "dim": dim, "method": method, "seed": seed, **_settings(method, choice)}
        for seed in choice.seeds
        for dim in choice.dims
        for function in choice.functions
        for method in _runnable(choice)
        if method != "gp_bo" or seed in choice.seeds[:BO_SEEDS]
    ]


def _runnable(choice: Choice) -> list[str]:
    return [name for name in choice.methods or METHODS if name != "gp_bo" or importlib.util.find_spec(BO_PACKAGE)]


def _settings(method: str, choice: Choice) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if method == "gp_bo":
        settings = {"bo_evaluations": choice.bo_evaluations, "bo_seconds": choice.bo_seconds, **versions(BO_PACKAGE)}
    else:
        settings = {"samples": choice.samples, "levels": choice.levels}
    if method.startswith("cma_es"):
        settings |= versions("cma")
    return settings | ({"temperature": choice.temperature} if method.startswith("mbd") else {})


def run_cell(cell: Cell) -> Figures:
    """One optimisation; its curve is thinned to about 100 numbers of evaluations in equal ratios."""
    objective = Evaluated(FUNCTIONS[cell["function"]].normalised)
    began = time.monotonic()
    METHODS[cell["method"]](objective, cell["dim"], cell["seed"], cell)
    count, best = objective.count, objective.best
    at = np.unique(np.geomspace(1, count, 100).round().astype(int))
    return {
        "best": float(best[-1]),
        "evaluations": count,
        "seconds": time.monotonic() - began,
        "curve": [[int(n), float(best[n - 1])] for n in at],
    }


def missing(choice: Choice) -> dict[str, str]:
    """Chosen methods that need a package which is not there, and what to do about it."""
    return {name: BO_MISSING for name in choice.methods or METHODS if name not in _runnable(choice)}


def summarise(todo: Sequence[Cell], outcome: Outcome) -> dict[str, Any]:
    """Means over the seeds.

    Returns:
        complete; errors; rows, one for each function, dimension and method: mean over seeds of the least value (best), its 95 %
        interval (low, high), the paired difference "the default variant of Model-Based Diffusion less this one", the mean curve
    """
    found: dict[tuple[str, int], dict[str, dict[int, Figures]]] = {}
    for cell, figures in zip(todo, outcome.figures, strict=True):
        if figures is not None:
            by_seed = found.setdefault((cell["function"], cell["dim"]), {}).setdefault(cell["method"], {})
            by_seed[cell["seed"]] = figures
    rows = [
        _row(function, dim, method, by_seed, methods.get(OURS, {}))
        for (function, dim), methods in sorted(found.items())
        for method, by_seed in methods.items()
    ]
    return {"complete": outcome.complete, "errors": list(outcome.errors), "rows": rows}


def _row(function: str, dim: int, method: str, by_seed: dict[int, Figures], ours: dict[int, Figures]) -> dict[str, Any]:
    best = estimate([figures["best"] for figures in by_seed.values()])
    shared = sorted(set(by_seed) & set(ours))
    versus = None
    if method != OURS and shared:
        versus = asdict(compare([ours[s]["best"] for s in shared], [by_seed[s]["best"] for s in shared]))
    # Runs that a time limit ended have unlike lengths: the mean curve goes as far as all do.
    length = min(figures["evaluations"] for figures in by_seed.values())
    at = np.unique(np.geomspace(1, length, 100).round().astype(int))
    curve = np.mean([_at(figures["curve"], at) for figures in by_seed.values()], axis=0)
    return {
        "function": function,
        "dim": dim,
        "method": method,
        "seeds": best.count,
        "evaluations": float(np.mean([figures["evaluations"] for figures in by_seed.values()])),
        "seconds": float(np.mean([figures["seconds"] for figures in by_seed.values()])),
        "best": best.mean,
        "low": best.low,
        "high": best.high,
        "mbd_less_this": versus,
        "curve": [[int(n), float(value)] for n, value in zip(at, curve, strict=True)],
    }


def _at(curve: Sequence[Sequence[float]], counts: np.ndarray) -> np.ndarray:
    """Least values at numbers of evaluations: those of the last point of the curve that is not later."""
    known = np.array([point[0] for point in curve])
    return np.array([point[1] for point in curve])[np.searchsorted(known, counts, side="right") - 1]


STUDY = Study("black_box", IDENTITY, cells, run_cell, summarise)
