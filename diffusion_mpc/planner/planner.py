"""From a state and a reference to a plan: shift, then [sample, roll out, cost, update] for each denoising step."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from statistics import median

import numpy as np
import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.algorithms import ALGORITHMS, Belief
from diffusion_mpc.planner.demonstration import Guide, read_demonstration
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.score import effective_sample_size, search_costs
from diffusion_mpc.types import Plan, PlanStats, Reference, State


class Planner:
    """Receding-horizon planner of one task on one rollout backend.

    Between two plans it keeps the belief that the previous one ended with and the state of the random generator, nothing else.

    Attributes:
        traces: number of the cheapest samples whose positions a plan holds
    """

    traces = 0

    def __init__(self, objective: Objective, config: PlannerConfig) -> None:
        """Prepare the search.

        Args:
            objective: what is minimised
            config: parameters of the search, of which the objective was made, too; `configure` replaces those that may change live

        Raises:
            ValueError: the demonstration cannot be used
        """
        self.objective = objective
        named = config.demonstration
        self._guide = Guide(objective, config, read_demonstration(named, objective.task)) if named else None
        self._generator = torch.Generator(objective.backend.device)
        self._step_times: deque[float] = deque(maxlen=50)
        self.configure(config)
        self.reset()

    def configure(self, config: PlannerConfig) -> None:
        """Change live parameters; takes effect with the next plan."""
        # One assignment, read once a plan: a change from another thread takes effect between two plans.
        self._settings = (config, ALGORITHMS[config.algorithm](config))

    def reset(self) -> None:
        """Forget the previous plan and start the random sequence anew."""
        self._belief, self._made_by = Belief(self.objective.origin, 0), type(self._settings[1])
        self._start_time: float | None = None
        self._generator.manual_seed(self._settings[0].seed)

    def resume(self, plan: Plan) -> None:
        """Go on from a plan of another planner of the task, whose horizon and knots may differ."""
        controls = self.objective.task.normalise(torch.from_numpy(plan.controls)).numpy()
        rows, knots = np.arange(len(controls)), self.objective.spline.knot_times / plan.control_dt
        mean = np.stack([np.interp(knots, rows, column) for column in controls.T], axis=1)
        self._belief = replace(self._belief, mean=torch.from_numpy(mean).to(self.objective.origin))
        self._start_time = plan.start_time

    @torch.inference_mode()
    def plan(self, state: State, reference: Reference, stamp: float | None = None, budget: float = math.inf) -> Plan:
        """Plan from `state`, whose stamp is the time that the first action is meant for.

        Args:
            state: state at the time of the first action
            reference: what to track
            stamp: stamp of the measurement that `state` was predicted from, s; None: `state` is the measurement
            budget: time that planning may take, s; a denoising step that would not end in time is left out, the first never

        Raises:
            NoFeasibleSampleError: every sample has a NaN or infinite cost; the previous mean is kept
        """
        began = time.perf_counter()
        config, algorithm = self._settings
        reference = self.objective.timed(reference, state.stamp)
        elapsed = state.stamp - self._start_time if self._start_time is not None else 0.0
        demonstration = None if self._guide is None else self._guide.from_nearest(state, reference)
        steps = self._steps_within(budget, config.iterations)
        shifted = self.objective.spline.shift(self._belief.mean, max(elapsed, 0.0))
        belief = algorithm.start(
            replace(
                self._belief, mean=shifted, steps=steps, spread=self._belief.spread if self._made_by is type(algorithm) else None
            )
        )
        kept: list[torch.Tensor] = []
        for step in range(steps):
            step_began = time.perf_counter()
            if step > 0 and step_began - began + self._step_time() > budget:
                break
            knots = algorithm.sample(belief, step, self._generator)
            found = self.objective.evaluate(state, knots, reference, demonstration)
            ranks = search_costs(found)
            belief, weights = algorithm.update(belief, knots, ranks)
            if found.violation is not None:
                kept.append(knots[_cheapest(ranks, 1)[0]])
            done = step + 1
            self._step_times.append(time.perf_counter() - step_began)
        costs, terms = found.costs.cpu().numpy(), found.terms.cpu().numpy()
        finite = np.isfinite(costs)
        feasible = finite if found.violation is None else finite & (found.violation.cpu().numpy() <= 0.0)
        order = _cheapest(ranks, max(self.traces, 1))
        best = int(order[0])
        mean, violation = belief.mean, 0.0
        if found.violation is not None:
            mean, violation = self._safest(state, reference, torch.stack((mean, *reversed(kept))))
        self._belief, self._made_by, self._start_time = replace(belief, mean=mean), type(algorithm), state.stamp

        stats = PlanStats(
            cost=float(costs[best]),
            cost_mean=float(costs.mean(where=finite)),
            term_costs=dict(zip(self.objective.task.cost_terms(), terms[:, best].tolist(), strict=True)),
            effective_sample_size=effective_sample_size(weights),
            infeasible_share=1.0 - float(feasible.mean()),
            violation=violation,
            iterations=done,
            plan_time=time.perf_counter() - began,
        )
        return Plan(
            stamp=state.stamp if stamp is None else stamp,
            start_time=state.stamp,
            control_dt=config.control_dt,
            controls=self.objective.controls(mean).cpu().numpy(),
            knots=mean.cpu().numpy(),
            path=found.qpos[best].cpu().numpy().copy(),
            stats=stats,
            traces=found.qpos[order[: self.traces]].cpu().numpy(),
        )

    def _safest(self, state: State, reference: Reference, knots: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The first of the knots (k, num_knots, nu) that violate constraints least, and by how much they break them."""
        # Half-way between two ways round an obstacle lies the obstacle: the mean may be worse than the samples it comes from, and
        # so may be all samples that are drawn round it.
        found = self.objective.evaluate(state, knots, reference)
        assert found.violation is not None, "the task has constraints"
        assert found.breach is not None, "the task has constraints"
        chosen = int(found.violation.argmin())
        return knots[chosen], float(found.breach[chosen])

    def _steps_within(self, budget: float, most: int) -> int:
        """Denoising steps to plan for, so that the last of them has the least noise and not the one that was left out."""
        if math.isinf(budget) or not self._step_times:
            return most
        # Only the last step has to allow for being slow: if all did, one slow moment would leave half of the time idle.
        return min(max(1 + int((budget - self._step_time()) / median(self._step_times)), 1), most)

    def _step_time(self) -> float:
        """Time that nine of ten recent denoising steps ended within, s."""
        return sorted(self._step_times)[int(0.9 * (len(self._step_times) - 1))]


def _cheapest(costs: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of the `count` least costs (samples,), the least first; NaN is none of them while there is anything else."""
    return costs.nan_to_num(nan=math.inf).argsort(stable=True)[:count]
