"""From a state and a reference to a plan: shift, then [sample, roll out, cost, update] for each denoising step."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping

import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.score import effective_sample_size
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.rollout.base import RolloutBackend, substeps
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Plan, PlanStats, Reference, State


class Planner:
    """Receding-horizon planner of one task on one rollout backend.

    Between two plans it keeps the mean of the previous one and the state of the random generator, nothing else.
    """

    def __init__(self, task: Task, backend: RolloutBackend, config: PlannerConfig, weights: Mapping[str, float]) -> None:
        """Prepare the search.

        Args:
            task: task whose cost is minimised
            backend: where rollouts run
            config: parameters of the search; `configure` replaces those that may change live
            weights: weight of every cost term by name

        Raises:
            ValueError: num_knots does not fit the spline, or control_dt is not a multiple of the model's time step
        """
        self.task = task
        self.backend = backend
        self.spline = Spline(config.num_knots, config.horizon_steps, config.control_dt, config.spline)
        substeps(config.control_dt, backend.model.opt.timestep)
        low, high = task.ctrl_limits
        self._centre = torch.as_tensor((low + high) / 2, dtype=backend.dtype, device=backend.device)
        self._half_range = torch.as_tensor((high - low) / 2, dtype=backend.dtype, device=backend.device)
        self._generator = torch.Generator(backend.device)
        self._step_times: deque[float] = deque(maxlen=50)
        self.configure(config, weights)
        self.reset()

    def configure(self, config: PlannerConfig, weights: Mapping[str, float]) -> None:
        """Change live parameters; takes effect with the next plan."""
        # One assignment, read once a plan: a change from another thread takes effect between two plans.
        self._settings = (config, dict(weights), ALGORITHMS[config.algorithm](config))

    def reset(self) -> None:
        """Forget the previous plan and start the random sequence anew."""
        config = self._settings[0]
        self._mean = torch.zeros((config.num_knots, len(self._centre)), dtype=self.backend.dtype, device=self.backend.device)
        self._start_time: float | None = None
        self._generator.manual_seed(config.seed)

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
        config, term_weights, algorithm = self._settings
        elapsed = state.stamp - self._start_time if self._start_time is not None else 0.0
        belief = algorithm.start(self.spline.shift(self._mean, max(elapsed, 0.0)))
        for step in range(config.iterations):
            step_began = time.perf_counter()
            if step > 0 and step_began - began + self._step_time() > budget:
                break
            knots = algorithm.sample(belief, step, self._generator)
            batch = self.backend.rollout(state, self.controls(knots), config.control_dt)
            terms = {name: term_weights[name] * cost.mean(-1) for name, cost in self.task.costs(batch, reference).items()}
            costs = torch.stack(list(terms.values())).sum(0)
            if batch.invalid is not None:
                costs = costs.masked_fill(batch.invalid, torch.inf)
            belief, weights = algorithm.update(belief, knots, costs)
            done = step + 1
            self._step_times.append(time.perf_counter() - step_began)
        mean = belief.mean
        self._mean, self._start_time = mean, state.stamp

        finite = costs.isfinite()
        best = int(torch.where(finite, costs, torch.inf).argmin())
        stats = PlanStats(
            cost=float(costs[best]),
            cost_mean=float(costs[finite].mean()),
            term_costs={name: float(cost[best]) for name, cost in terms.items()},
            effective_sample_size=effective_sample_size(weights),
            infeasible_share=1.0 - float(finite.double().mean()),
            iterations=done,
            plan_time=time.perf_counter() - began,
        )
        return Plan(
            stamp=state.stamp if stamp is None else stamp,
            start_time=state.stamp,
            control_dt=config.control_dt,
            controls=self.controls(mean).cpu().numpy(),
            knots=mean.cpu().numpy(),
            path=batch.qpos[best].cpu().numpy().copy(),
            stats=stats,
        )

    def _step_time(self) -> float:
        """Time that nine of ten recent denoising steps ended within, s."""
        return sorted(self._step_times)[int(0.9 * (len(self._step_times) - 1))]

    def controls(self, knots: torch.Tensor) -> torch.Tensor:
        """Controls (..., horizon, nu) in actuator units of normalised knots (..., num_knots, nu)."""
        return self._centre + self._half_range * self.spline.controls(knots)
