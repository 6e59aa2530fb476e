"""`benchmark tune`: the same random search for every algorithm, so that none is compared at a worse setting than it could have.

All candidates run the first trial, the best third of them the others, as in successive halving (Jamieson and Talwalkar,
1502.07943). The trials are not those of `benchmark quality`, so nothing is tuned to what it is judged by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from diffusion_mpc.benchmark.cells import Cell, CellFile, Outcome, among, run_cells
from diffusion_mpc.benchmark.quality import IDENTITY, Choice, cells, run_cell
from diffusion_mpc.config import NodeConfig, Value, load_parameters
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.tasks import available_tasks

FIRST_TRIAL = 1000

# Ranges to draw from log-uniformly, as multiples of the task's default, or choices. Each algorithm has all that it heeds.
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
        "planner.success_share": (0.3, 3.0),
        "planner.scale_rate": (0.3, 3.0),
        "planner.shape_rate": (0.3, 3.0),
    },
    "predictive_sampling": {**SHARED, **PROFILE},
    "mppi": {**SHARED, **PROFILE, **TEMPERATURE},
    "cem": {**SHARED, **PROFILE, "planner.elite_share": (0.5, 4.0), "planner.noise_floor": (0.3, 6.0)},
    "dial": {**SHARED, **TEMPERATURE, "planner.dial_beta1": (0.5, 4.0), "planner.dial_beta2": (0.3, 4.0)},
    "cma_es": SHARED,
}


Pair = tuple[str, str]
"""Task and algorithm."""

Entrants = Mapping[Pair, Mapping[int, dict[str, Value]]]
"""Candidates by their number, by task and algorithm."""


def candidates(
    task: str, algorithm: str, count: int, seed: int, incumbent: Mapping[str, Value] | None = None
) -> list[dict[str, Value]]:
    """As many settings, the first of them the task's defaults, the second the best of an earlier search, where that is another."""
    known, defaults = load_parameters(NodeConfig, {"task": task})
    random = np.random.default_rng((seed, list(ALGORITHMS).index(algorithm)))

    def draw(name: str, space: tuple[float, float] | list[int]) -> Value:
        if isinstance(space, list):
            return int(random.choice(space))
        factor = math.exp(random.uniform(math.log(space[0]), math.log(space[1])))
        low, high = known[name].low, known[name].high
        return float(f"{min(max(factor * float(defaults[name]), low), high):.3g}")

    drawn = [{name: draw(name, space) for name, space in SPACES[algorithm].items()} for _ in range(count - 1)]
    found = [dict(incumbent)] if incumbent and any(defaults[name] != value for name, value in incumbent.items()) else []
    return [{}, *found, *drawn][:count]


def run(choice: Choice, count: int, seed: int, folder: Path, processes: int) -> tuple[dict[str, Any], Outcome]:
    """Search, and write `tuned.yaml` into the folder: what was found, and of an earlier search what was not searched for again.

    Args:
        choice: what to tune; its own tuned parameters are where an earlier search ended
        count: candidates of each algorithm on each task
        seed: of the candidates
        folder: where results are kept
        processes: number of processes; 0: one per core

    Returns:
        the figures: complete, errors, and rows of each algorithm on each task: cost of the default and of the best in the first
        trial, mean cost of the best over all trials, its parameters; and how it went

    Raises:
        ConfigError, TaskError: the choice names what there is not
    """
    entrants = {
        (task, algorithm): dict(enumerate(candidates(task, algorithm, count, seed, choice.tuned.get(task, {}).get(algorithm))))
        for task in choice.tasks or available_tasks()
        for algorithm in [among("algorithm", name, ALGORITHMS) for name in choice.algorithms or ALGORITHMS]
    }
    file = CellFile(folder / "tune.jsonl", (*IDENTITY, "candidate"))
    first = _cells(replace(choice, trials=choice.trials[:1]), entrants)
    outcome = run_cells(run_cell, first, file, processes, "tuning")
    if outcome.complete and len(choice.trials) > 1:
        costs = _mean_costs(first, outcome)
        left = {key: _best_third(found, costs[key]) for key, found in entrants.items()}
        second = _cells(choice, left)
        outcome = run_cells(run_cell, second, file, processes, "tuning, the best third")
        rows = _rows(second, outcome, costs)
    else:
        rows = _rows(first, outcome, _mean_costs(first, outcome))
    tuned_parameters: dict[str, dict[str, Any]] = {task: dict(found) for task, found in choice.tuned.items()}
    for row in rows:
        tuned_parameters.setdefault(row["task"], {})[row["algorithm"]] = row["parameters"]
    folder.mkdir(parents=True, exist_ok=True)
    heading = (
        f"# Best of {count} settings (seed {seed}) by mean closed-loop cost over trials {', '.join(map(str, choice.trials))}.\n"
    )
    (folder / "tuned.yaml").write_text(heading + yaml.safe_dump(tuned_parameters, sort_keys=True), encoding="utf-8")
    return {"complete": outcome.complete, "errors": list(outcome.errors), "rows": rows}, outcome


def _cells(choice: Choice, entrants: Entrants) -> list[Cell]:
    """All trials of all candidates, candidate by candidate: what is done when it is interrupted compares as many of each."""
    todo: list[Cell] = []
    for (task, algorithm), found in entrants.items():
        for number, candidate in found.items():
            here = cells(replace(choice, tasks=[task], algorithms=[algorithm], tuned={task: {algorithm: candidate}}))
            todo += [{**cell, "candidate": number, "given": candidate} for cell in here]
    return sorted(todo, key=lambda cell: int(cell["candidate"]))


def _mean_costs(todo: Sequence[Cell], outcome: Outcome) -> dict[Pair, dict[int, float]]:
    """Mean cost of each candidate over its trials, by task and algorithm; infinite where one of them failed or is not done."""
    costs: dict[Pair, dict[int, list[float]]] = {}
    for cell, figures in zip(todo, outcome.figures, strict=True):
        cost = math.inf if figures is None or not math.isfinite(figures["mean_cost"]) else figures["mean_cost"]
        costs.setdefault((cell["task"], cell["algorithm"]), {}).setdefault(cell["candidate"], []).append(cost)
    return {pair: {number: float(np.mean(found)) for number, found in by.items()} for pair, by in costs.items()}


def _best_third(found: Mapping[int, dict[str, Value]], costs: Mapping[int, float]) -> dict[int, dict[str, Value]]:
    """The cheapest third of the candidates, two at least."""
    order = sorted(found, key=lambda number: costs[number])
    return {number: found[number] for number in order[: max(2, math.ceil(len(found) / 3))]}


def _rows(todo: Sequence[Cell], outcome: Outcome, first_costs: Mapping[Pair, Mapping[int, float]]) -> list[dict[str, Any]]:
    """By task and algorithm, the candidate with the least mean cost among those that have all their trials."""
    given = {(cell["task"], cell["algorithm"], cell["candidate"]): cell["given"] for cell in todo}
    rows = []
    for pair, means in _mean_costs(todo, outcome).items():
        best = min(means, key=lambda number: means[number])
        if math.isfinite(means[best]):
            first = first_costs[pair]
            default = first[0] if math.isfinite(first[0]) else None
            figures = {"candidates": len(first), "default_cost": default, "first_cost": first[best], "tuned_cost": means[best]}
            rows.append({"task": pair[0], "algorithm": pair[1], **figures, "parameters": _in_full(pair, given[*pair, best])})
    return rows


def _in_full(pair: Pair, candidate: Mapping[str, Value]) -> dict[str, Value]:
    """A candidate with the defaults that it was run with, lest another default changes it one day."""
    task, algorithm = pair
    _, defaults = load_parameters(NodeConfig, {"task": task})
    return {**{name: defaults[name] for name in SPACES[algorithm]}, **candidate}
