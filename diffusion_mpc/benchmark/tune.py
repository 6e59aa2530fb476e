"""`benchmark tune`: the same random search for every algorithm, so that none is compared at a worse setting than it could have.

Its trials are not those of `benchmark quality`, so nothing is tuned to what it is judged by.
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
from diffusion_mpc.config import Value
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.tasks import available_tasks

FIRST_TRIAL = 1000

# A tuple is a range to draw from log-uniformly, a list are choices. Each algorithm has all that it heeds.
Space = Mapping[str, tuple[float, float] | list[int]]
SHARED: Space = {"planner.iterations": [1, 2, 4], "planner.noise_start": (0.1, 1.0), "planner.noise_growth": (0.5, 3.0)}
TEMPERATURE: Space = {"planner.temperature": (0.01, 1.0)}
SPACES: dict[str, Space] = {
    "mbd": {**SHARED, **TEMPERATURE, "planner.noise_end": (0.05, 1.0)},
    "predictive_sampling": SHARED,
    "mppi": {**SHARED, **TEMPERATURE},
    "cem": {**SHARED, "planner.elite_share": (0.03, 0.5), "planner.noise_floor": (0.02, 0.5)},
    "dial": {
        "planner.iterations": [1, 2, 4],
        "planner.noise_start": (0.1, 1.0),
        **TEMPERATURE,
        "planner.dial_beta1": (0.3, 5.0),
        "planner.dial_beta2": (0.3, 5.0),
    },
    "cma_es": {"planner.iterations": [1, 2, 4], "planner.noise_start": (0.1, 1.0)},
}


def candidates(algorithm: str, count: int, seed: int) -> list[dict[str, Value]]:
    """As many settings, the first of them the defaults."""
    random = np.random.default_rng((seed, list(ALGORITHMS).index(algorithm)))
    drawn = [{name: _draw(space, random) for name, space in SPACES[algorithm].items()} for _ in range(count - 1)]
    return [{}, *drawn]


def _draw(space: tuple[float, float] | list[int], random: np.random.Generator) -> Value:
    if isinstance(space, list):
        return int(random.choice(space))
    low, high = space
    return float(f"{math.exp(random.uniform(math.log(low), math.log(high))):.3g}")


def run(choice: Choice, count: int, seed: int, folder: Path, processes: int) -> tuple[dict[str, Any], Outcome]:
    """Search, and write `tuned.yaml` into the folder.

    Args:
        choice: what to tune; its own tuned parameters are not used
        count: candidates of each algorithm on each task
        seed: of the candidates
        folder: where results are kept
        processes: number of processes; 0: one per core

    Returns:
        the figures: complete, errors, and rows with default and tuned cost of each algorithm on each task; and how it went

    Raises:
        ConfigError, TaskError: the choice names what there is not
    """
    todo: list[Cell] = []
    for task in choice.tasks or available_tasks():
        for algorithm in [among("algorithm", name, ALGORITHMS) for name in choice.algorithms or ALGORITHMS]:
            for number, candidate in enumerate(candidates(algorithm, count, seed)):
                tuned = {task: {algorithm: candidate}}
                here = cells(replace(choice, tasks=[task], algorithms=[algorithm], tuned=tuned))
                todo += [{**cell, "candidate": number, "given": candidate} for cell in here]
    todo.sort(key=lambda cell: cell["candidate"])
    outcome = run_cells(run_cell, todo, CellFile(folder / "tune.jsonl", (*IDENTITY, "candidate")), processes, "tuning")
    rows = _best(todo, outcome)
    tuned_parameters: dict[str, dict[str, Any]] = {}
    for row in rows:
        tuned_parameters.setdefault(row["task"], {})[row["algorithm"]] = row["parameters"]
    folder.mkdir(parents=True, exist_ok=True)
    heading = (
        f"# Best of {count} settings (seed {seed}) by mean closed-loop cost over trials {', '.join(map(str, choice.trials))}.\n"
    )
    (folder / "tuned.yaml").write_text(heading + yaml.safe_dump(tuned_parameters, sort_keys=True), encoding="utf-8")
    return {"complete": outcome.complete, "errors": list(outcome.errors), "rows": rows}, outcome


def _best(todo: Sequence[Cell], outcome: Outcome) -> list[dict[str, Any]]:
    """By task and algorithm, the candidate with the least mean cost among those that have all their trials."""
    costs: dict[tuple[str, str], dict[int, list[float]]] = {}
    given: dict[tuple[str, str, int], Mapping[str, Value]] = {}
    for cell, figures in zip(todo, outcome.figures, strict=True):
        key = cell["task"], cell["algorithm"]
        given[(*key, cell["candidate"])] = cell["given"]
        cost = math.nan if figures is None else figures["mean_cost"]
        costs.setdefault(key, {}).setdefault(cell["candidate"], []).append(cost)
    rows = []
    for (task, algorithm), by_candidate in costs.items():
        means = {number: float(np.mean(found)) for number, found in by_candidate.items() if np.isfinite(found).all()}
        if means:
            best = min(means, key=lambda number: means[number])
            parameters = dict(given[task, algorithm, best])
            row = {"task": task, "algorithm": algorithm, "candidates": len(means), "default_cost": means.get(0)}
            rows.append({**row, "tuned_cost": means[best], "parameters": parameters})
    return rows
