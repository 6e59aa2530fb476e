"""`benchmark renoising`: what MBD's noise does when a plan is no longer good, and what it gains over the schedule alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from diffusion_mpc.benchmark.cells import Cell, Figures, Outcome, Study
from diffusion_mpc.benchmark.closed_loop import ClosedLoop
from diffusion_mpc.benchmark.quality import parameters, plant
from diffusion_mpc.benchmark.statistics import compare, estimate
from diffusion_mpc.config import NodeConfig, Value, load_parameters
from diffusion_mpc.tasks.measured import trajectory
from diffusion_mpc.versions import versions

IDENTITY = ("event", "noise", "trial")
MOMENT, DURATION = 2.0, 4.0
"""When it happens, and when the run ends, s."""

BLIND = 0.3
"""Time without a new plan, s: most of the ant's horizon."""

KICK = 1.5
"""Change of the base's velocity by a push, m/s."""

FIXED: Mapping[str, Value] = {"planner.scale_rate": 0.0, "planner.shape_rate": 0.0}
NOISES: Mapping[str, Mapping[str, Value]] = {"follows the samples": {}, "schedule alone": FIXED}


def _new_goal(loop: ClosedLoop, random: np.random.Generator) -> None:
    loop.reference = loop.task.trial_reference(loop.reference, random)


def _turn_back(loop: ClosedLoop, random: np.random.Generator) -> None:
    loop.reference = replace(loop.reference, velocity=-loop.reference.velocity)


def _push(loop: ClosedLoop, random: np.random.Generator) -> None:
    angle = random.uniform(-np.pi, np.pi)
    loop.plant.data.qvel[:2] += KICK * np.array([np.cos(angle), np.sin(angle)])


def _blind(loop: ClosedLoop, random: np.random.Generator) -> None:
    """Nothing changes but the age of the plan, see `run_cell`."""


Happen = Callable[[ClosedLoop, np.random.Generator], None]
EVENTS: Mapping[str, tuple[str, Happen]] = {
    "another goal": ("arm", _new_goal),
    "opposite command": ("ant", _turn_back),
    "push": ("ant", _push),
    "old plan": ("ant", _blind),
}


@dataclass(frozen=True)
class Choice:
    """What to measure.

    Attributes:
        trials: trials of each; a trial decides initial state, reference, event and the planner's seed
    """

    trials: Sequence[int] = tuple(range(8))


def cells(choice: Choice) -> list[Cell]:
    """All cells of a choice, trial by trial."""
    rows = []
    for event, (task, _) in EVENTS.items():
        known, defaults = load_parameters(NodeConfig, {"task": task})
        budget = int(defaults["planner.num_samples"]) * int(defaults["planner.iterations"])
        for noise, changed in NOISES.items():
            texts = {name: str(value) for name, value in changed.items()}
            given = parameters(task, "mbd", budget, {}, texts, known)
            rows.append({"event": event, "noise": noise, "parameters": given, "plant": plant(task)})
    return [{**row, "trial": trial, "versions": versions()} for trial in choice.trials for row in rows]


def run_cell(cell: Cell) -> Figures:
    """One run in closed loop."""
    loop = ClosedLoop(dict(cell["parameters"]) | {"planner.seed": cell["trial"], "backend.threads": 1}, cell["trial"])
    _, happen = EVENTS[cell["event"]]
    rate = loop.config.planner.rate
    event, count, blind = round(MOMENT * rate), round(DURATION * rate), round(BLIND * rate) * (happen is _blind)
    noise, costs, last = list[float](), list[float](), 0.0
    for step in range(count):
        if step == event:
            happen(loop, np.random.default_rng((cell["trial"], 2)))
        plan = None if event <= step < event + blind else loop.plan()
        last = last if plan is None else plan.stats.noise
        state = loop.state()
        x = trajectory(loop.task.model, state.qpos[None], state.qvel[None], loop.advance()[None])
        found = loop.task.costs(x, replace(loop.reference, times=np.array([state.stamp])).on(x.qpos))
        noise.append(last)
        costs.append(sum(loop.weights[name] * float(cost[0, 0]) for name, cost in found.items()))
    return {"period": 1.0 / rate, "noise_level": noise, "costs": costs, "cost_after": float(np.mean(costs[event:]))}


def summarise(todo: Sequence[Cell], outcome: Outcome) -> dict[str, Any]:
    """Means over the trials.

    Returns:
        complete; errors; rows, one for each event and kind of noise: mean cost after the event with its 95 % interval (low, high),
        means over the trials by time (times, s after the event; noise_level, in normalised actions; costs), and the paired
        difference of the cost after the event to the noise of the schedule alone
    """
    found: dict[tuple[str, str], dict[int, Figures]] = {}
    for cell, figures in zip(todo, outcome.figures, strict=True):
        if figures is not None:
            found.setdefault((cell["event"], cell["noise"]), {})[cell["trial"]] = figures
    rows = []
    for (event, noise), by_trial in found.items():
        cost = estimate([figures["cost_after"] for figures in by_trial.values()])
        fixed = found.get((event, "schedule alone"), {})
        shared = sorted(set(by_trial) & set(fixed))
        pairs = [[by[trial]["cost_after"] for trial in shared] for by in (by_trial, fixed)]
        levels, costs = (np.mean([one[name] for one in by_trial.values()], axis=0) for name in ("noise_level", "costs"))
        less = asdict(compare(*pairs)) if noise != "schedule alone" and shared else None
        rows.append(
            {
                "event": event,
                "task": EVENTS[event][0],
                "noise": noise,
                "trials": cost.count,
                "mean_cost": cost.mean,
                "low": cost.low,
                "high": cost.high,
                "less_schedule": less,
                "times": (np.arange(len(levels)) * next(iter(by_trial.values()))["period"] - MOMENT).tolist(),
                "noise_level": levels.tolist(),
                "costs": costs.tolist(),
            }
        )
    return {"complete": outcome.complete, "errors": list(outcome.errors), "rows": rows}


STUDY = Study("renoising", IDENTITY, cells, run_cell, summarise)
