"""From a state and a reference to a plan: shift the plan before, search, and say what came of it."""

from __future__ import annotations

import math
import time
from collections import deque
from functools import lru_cache
from statistics import median

import numpy as np
import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.demonstration import Guide, read_demonstration
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.sampler import draw_noise
from diffusion_mpc.planner.score import NoFeasibleSampleError, effective_sample_size
from diffusion_mpc.planner.search import Search
from diffusion_mpc.planner.transfer import send
from diffusion_mpc.types import Array, Plan, PlanStats, Reference, State


class Planner:
    """Receding-horizon planner of one task on one rollout backend.

    Between two plans it keeps the mean of the previous one and the state of the random generator, nothing else.
    """

    def __init__(self, objective: Objective, config: PlannerConfig, traces: int = 0) -> None:
        """Prepare the search.

        Args:
            objective: what is minimised
            config: parameters of the search, of which the objective was made, too; `configure` replaces those that may change live
            traces: number of the cheapest samples whose positions a plan holds

        Raises:
            ValueError: the demonstration cannot be used
        """
        self.objective = objective
        named = config.demonstration
        self._guide = Guide(objective, config, read_demonstration(named, objective.task)) if named else None
        self._generator = torch.Generator(objective.backend.device)
        self._origin = objective.origin
        self._step_times: deque[float] = deque(maxlen=50)
        self.configure(config, traces)
        self.reset()

    def configure(self, config: PlannerConfig, traces: int = 0) -> None:
        """Change live parameters; takes effect with the next plan."""
        # One assignment, read once a plan: a change from another thread takes effect between two plans.
        algorithm = ALGORITHMS[config.algorithm](config)
        self._settings = (config, algorithm, lru_cache(maxsize=8)(algorithm.levels), traces)

    def reset(self) -> None:
        """Forget the previous plan and start the random sequence anew."""
        self._mean: Array = np.zeros(self._origin.shape)
        self._start_time: float | None = None
        self._generator.manual_seed(self._settings[0].seed)

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
        config, algorithm, levels, traces = self._settings
        elapsed = state.stamp - self._start_time if self._start_time is not None else 0.0
        steps = self._steps_within(budget, config.iterations)
        numbers = self.objective.numbers(state, reference)
        numbers["mean"] = self.objective.spline.shift(self._mean, max(elapsed, 0.0))
        numbers["levels"], numbers["temperature"] = levels(steps), np.array(config.temperature)
        if self._guide is not None:
            numbers["demonstrated"] = np.array(float(self._guide.nearest(state)))
        noise = draw_noise(steps, config.num_samples, self._origin, self._generator, algorithm.mirrored)
        search = Search(self.objective, algorithm, steps, traces, self._guide)
        laps = [began]

        def go_on(step: int) -> bool:
            laps.append(time.perf_counter())
            self._step_times.append(laps[-1] - laps[-2])
            return laps[-1] - began + self._step_time() <= budget

        outcome = search(send(numbers, noise.dtype, noise.device), noise, go_on)
        found = outcome.unpacked(outcome.packed().double().cpu().numpy())
        self._step_times.append(time.perf_counter() - laps[-1])
        cost, costs = float(found["cost"][0]), found["costs"]
        if not math.isfinite(cost):
            raise NoFeasibleSampleError(f"all {config.num_samples} samples have a NaN or infinite cost")
        self._mean, self._start_time = found["mean"], state.stamp
        finite = np.isfinite(costs)
        stats = PlanStats(
            cost=cost,
            cost_mean=float(costs.mean(where=finite)),
            term_costs=dict(zip(self.objective.task.cost_terms(), found["terms"][:, 0].tolist(), strict=True)),
            effective_sample_size=effective_sample_size(found["weights"]),
            infeasible_share=1.0 - float((finite & (found["violations"] <= 0.0)).mean()),
            violation=float(found["violation"][0]),
            iterations=len(laps),
            plan_time=time.perf_counter() - began,
        )
        return Plan(
            stamp=state.stamp if stamp is None else stamp,
            start_time=state.stamp,
            control_dt=config.control_dt,
            controls=found["controls"],
            knots=found["mean"],
            path=found["path"],
            stats=stats,
            traces=found["traces"],
        )

    def _steps_within(self, budget: float, most: int) -> int:
        """Denoising steps to plan for, so that the last of them has the least noise and not the one that was left out."""
        if math.isinf(budget) or not self._step_times:
            return most
        # Only the last step has to allow for being slow: if all did, one slow moment would leave half of the time idle.
        return min(max(1 + int((budget - self._step_time()) / median(self._step_times)), 1), most)

    def _step_time(self) -> float:
        """Time that nine of ten recent denoising steps ended within, s."""
        return sorted(self._step_times)[int(0.9 * (len(self._step_times) - 1))]
