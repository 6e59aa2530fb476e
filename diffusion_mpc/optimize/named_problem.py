"""`diffusion-mpc optimize`.

One reverse pass on a function or a task, with a progress bar and a table of what came out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from diffusion_mpc.bags.demonstrations import read_demonstration
from diffusion_mpc.config import PlannerNodeConfig, build, cost_weights, load_parameters
from diffusion_mpc.estimation.reference import parameter_reference
from diffusion_mpc.optimize.functions import FUNCTIONS
from diffusion_mpc.optimize.reverse_diffusion import (
    DiffusionLevel,
    OnLevel,
    Result,
    Settings,
    minimize,
)
from diffusion_mpc.optimize.trajectory import TrajectoryProblem, optimize_trajectory
from diffusion_mpc.planner.demonstration import Guide
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import initial_state


def run_optimize(name: str, dim: int, settings: Settings, demo: str = "") -> dict[str, Any]:
    """Optimise, show how it goes and what came out; Ctrl-C ends the pass early with what it has.

    Args:
        name: name of a function, or of a task, whose trajectory from its initial state is optimised
        dim: dimension of the function; a task has its own
        settings: parameters of the pass
        demo: CSV file or bag with a demonstration of the task; empty: none

    Returns:
        the figures, ready for JSON

    Raises:
        ValueError: there is neither a function nor a task of that name, the dimension is below 1,
            or the demonstration is of no use
    """
    if dim < 1:
        raise ValueError(f"--dim {dim}: a function has at least one dimension")
    if demo and name in FUNCTIONS:
        raise ValueError(f"--demo {demo}: a function has no demonstration; give a task")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[cost]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"optimizing {name}", total=settings.levels - 1, cost="")

        def on_level(level: DiffusionLevel) -> None:
            progress.update(
                bar, advance=1, cost=f"sigma {level.sigma:.3f}  cost {level.best_cost:.4g}"
            )

        result, points = (
            _function(name, dim, settings, on_level)
            if name in FUNCTIONS
            else _task(name, settings, demo, on_level)
        )
    Console().print(_table(name, result))
    return {
        "problem": name,
        "dim": len(result.best.point),
        "variant": settings.variant,
        "samples": settings.samples,
        "levels": settings.levels,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "demonstration": demo,
        "complete": result.complete,
        "evaluations": result.evaluations,
        "best_cost": result.best.cost,
        "final_cost": result.final.cost,
        "best": points,
        "mode_costs": [mode.cost for mode in result.modes],
        "history": [level.__dict__ for level in result.history],
    }


def _function(name: str, dim: int, settings: Settings, on_level: OnLevel) -> tuple[Result, Any]:
    """A function's result, and its best point in the function's own domain."""
    function = FUNCTIONS[name]
    result = minimize(function.normalised, dim, settings, on_level=on_level)
    return result, function.scale(result.best.point).tolist()


def _task(name: str, settings: Settings, demo: str, on_level: OnLevel) -> tuple[Result, Any]:
    """Result of a task from its initial state and demo reference, and its best controls."""
    task_class = find_task(name)
    _, values = load_parameters(
        PlannerNodeConfig, {"task": name, **task_class.demo, "planner.demonstration": demo}
    )
    config = build(PlannerNodeConfig, values)
    task = task_class(config.model.file)
    backend = make_backend(config.backend, config.model, config.robust, task)
    state = initial_state(task, backend.model)
    reference = parameter_reference(config)
    objective = Objective(task, backend, config.planner, cost_weights(values), config.robust)
    guide = Guide(objective, config.planner, read_demonstration(demo, task)) if demo else None
    posed = objective.pose(state, reference)
    if guide is not None:
        posed = replace(posed, demonstration=guide.ahead(0, posed))
    problem = TrajectoryProblem(objective, posed)
    result = optimize_trajectory(problem, settings, on_level)
    return result, problem.controls(result.best.point).tolist()


def _table(name: str, result: Result) -> Table:
    title = f"{name}: {result.evaluations} evaluations" + (
        "" if result.complete else ", ended early"
    )
    table = Table("", "cost", "distance from the best", title=title)
    rows = {
        "best": result.best,
        "final estimate": result.final,
        **{f"mode {i + 1}": mode for i, mode in enumerate(result.modes)},
    }
    for label, candidate in rows.items():
        distance = float((candidate.point - result.best.point).square().mean().sqrt())
        table.add_row(label, f"{candidate.cost:.6g}", f"{distance:.3f}")
    return table
