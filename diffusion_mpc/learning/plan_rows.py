"""Rows that a plan gives: itself, some of its samples, and its tails at the states it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_mpc.learning.dataset import Rows
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks.measured import observe
from diffusion_mpc.types import Array, Plan, Reference, State

PLAN, SAMPLE, TAIL, SYNTHETIC = 0, 1, 2, 3
"""Kinds of rows: a plan; one of its samples; its tail, at the state that it leads to; and a step of
a synthetic trajectory, see `learning/augment.py`.
"""

HISTORY = 2
"""Observations of a row."""

Tail = tuple[Array, Array, Array]
"""Observations (HISTORY, obs), previous knots and knots (num_knots, nu) of a plan's later part."""

TYPES = {
    "kind": np.uint8,
    "failed": np.uint8,
    "episode": np.int32,
    "step": np.int32,
    "state": np.float64,
    # A clock's: in single precision it is known to minutes only.
    "time": np.float64,
}
"""Types of the fields that are not in single precision."""


@dataclass(frozen=True)
class TaughtPlan:
    """A plan of the teacher, with what a row says of it.

    Attributes:
        plan: the plan
        start: state that it begins at
        reference: what it was to track
        observations: (HISTORY, obs) a period before, and at the start
        tails: see `Tail`
        cost: of its knots, as rolled out
    """

    plan: Plan
    start: State
    reference: Reference
    observations: Array
    tails: tuple[Tail, ...]
    cost: float

    @classmethod
    def of(
        cls, controller: Controller, reference: Reference, before: Array | None, tails: int
    ) -> TaughtPlan:
        """The newest plan of a controller.

        Args:
            controller: the teacher, which has planned
            reference: what the plan was to track
            before: (obs,) observation a period before; None: as at the start
            tails: number of tails
        """
        plan, start = controller.current, controller.start
        assert plan is not None, "the teacher has planned"
        assert start is not None, "the teacher has planned"
        seen = observe(controller.task, controller.backend.model, start, reference)
        objective = controller.objective
        problem = objective.pose(start, reference)
        knots = objective.origin.new_tensor(plan.knots)
        return cls(
            plan,
            start,
            reference,
            np.stack([seen if before is None else before, seen]),
            tails_of(controller, reference, tails),
            float(objective.evaluate(problem, knots[None]).costs[0]),
        )

    def rows(self, samples: int, common: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of the plan, of some of its samples from the best to the worst, and of its tails.

        Args:
            samples: number of samples
            common: fields that all of them have
        """
        plan, finite = self.plan, np.isfinite(self.plan.elite_costs)
        costs, elites, before = plan.elite_costs[finite], plan.elites[finite], plan.previous
        deviation = float(costs.std()) or 1.0
        count = min(samples, len(costs))
        chosen = np.linspace(0, len(costs) - 1, count).round().astype(int).tolist()
        made = [(PLAN, self.observations, before, plan.knots, self.cost)]
        made += [(SAMPLE, self.observations, before, elites[i], float(costs[i])) for i in chosen]
        made += [(TAIL, *tail, self.cost) for tail in self.tails]
        return [
            {
                "reference": np.concatenate([self.reference.velocity, self.reference.pose]),
                "time": self.start.stamp,
                "state": np.concatenate([self.start.qpos, self.start.qvel]),
                **common,
                "kind": kind,
                "observation": observation,
                "previous": previous,
                "knots": knots,
                "plan_cost": value,
                "advantage": (costs.mean() - value) / deviation,
            }
            for kind, observation, previous, knots, value in made
        ]


def tails_of(controller: Controller, reference: Reference, count: int) -> tuple[Tail, ...]:
    """Tails of the newest plan of a controller, at evenly spaced times in its first half."""
    plan, start = controller.current, controller.start
    assert plan is not None, "the teacher has planned"
    assert start is not None, "the teacher has planned"
    task, model, spline = controller.task, controller.backend.model, controller.objective.spline
    # Observations are a period apart, as of the plans themselves.
    period = max(1, round(1.0 / (controller.config.planner.rate * plan.control_dt)))
    last = len(plan.controls) // 2
    if not count or last <= period:
        return ()
    states = controller.predictor.planned_states(start, plan.controls, plan.control_dt)
    found = list[Tail]()
    for m in np.unique(np.linspace(period, last, count + 1)[1:].round().astype(int)).tolist():
        pair = [
            observe(
                task,
                model,
                State(start.stamp + k * plan.control_dt, states.qpos[k], states.qvel[k]),
                reference,
            )
            for k in (m - period, m)
        ]
        elapsed = m * plan.control_dt
        found.append(
            (
                np.stack(pair),
                # Between knots, a curve may leave their range.
                spline.shift(plan.previous, elapsed).clip(-1.0, 1.0),
                spline.shift(plan.knots, elapsed).clip(-1.0, 1.0),
            )
        )
    return tuple(found)


def as_arrays(rows: list[dict[str, Any]]) -> Rows:
    """Rows by field, in the types of the data."""
    return {
        name: np.array([row[name] for row in rows]).astype(TYPES.get(name, np.float32))
        for name in (rows[0] if rows else ())
    }
