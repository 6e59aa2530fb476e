"""Open-loop trajectory optimisation of a task: a full reverse pass over its knots (Pan et al., 2407.01573, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.optimize import Evaluation, OnLevel, Result, Settings, reverse_pass
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.rollout.base import RolloutBackend
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Reference, RolloutBatch, State


@dataclass(frozen=True)
class Demonstration:
    """Positions to follow where that is cheaper than what the search has found; neither complete nor feasible need they be.

    Attributes:
        positions: (horizon, k) what `columns` of qpos are at the end of each control step
        columns: the k columns of qpos that are demonstrated
        distance: distance from which a position counts as far off, in units of qpos
        cost: what the demonstration would cost, weighted terms averaged over the horizon
    """

    positions: torch.Tensor
    columns: tuple[int, ...]
    distance: float
    cost: float

    def log_density(self, batch: RolloutBatch) -> torch.Tensor:
        """`-mean_t (min(||x - x_demo||, d) / d)^2`, (samples,), for states only (2407.01573, eq. 13 and authors' code)."""
        apart = (batch.qpos[..., list(self.columns)] - self.positions.to(batch.qpos)).norm(dim=-1)
        return -(apart.clamp(max=self.distance) / self.distance).square().mean(-1)


class TrajectoryProblem:
    """The cost of a task over one horizon as a black-box function of flattened, normalised knots in [-1, 1]^(num_knots * nu).

    With as many knots as horizon steps, each control is a coordinate of its own, as in the paper.
    """

    def __init__(
        self,
        task: Task,
        backend: RolloutBackend,
        config: PlannerConfig,
        weights: Mapping[str, float],
        state: State,
        reference: Reference,
        demonstration: Demonstration | None = None,
    ) -> None:
        """Fix everything but the knots.

        Args:
            task: task whose cost is minimised
            backend: where rollouts run
            config: horizon, control step, knots and spline; the rest is not used
            weights: weight of every cost term by name
            state: state that all trajectories start from
            reference: what to track
            demonstration: states to be drawn to, or None

        Raises:
            ValueError: num_knots does not fit the spline
        """
        self.task, self.backend, self.state, self.reference = task, backend, state, reference
        self.weights, self.demonstration, self.control_dt = dict(weights), demonstration, config.control_dt
        self.spline = Spline(config.num_knots, config.horizon_steps, config.control_dt, config.spline)
        low, high = (torch.as_tensor(limit, dtype=backend.dtype, device=backend.device) for limit in task.ctrl_limits)
        self._centre, self._half_range = (low + high) / 2, (high - low) / 2
        self._shape = (config.num_knots, len(low))

    @property
    def origin(self) -> torch.Tensor:
        """The point (d,) that stands for the middle of all control ranges."""
        return self._centre.new_zeros(self._shape[0] * self._shape[1])

    def controls(self, points: torch.Tensor) -> torch.Tensor:
        """Controls (..., horizon, nu) in actuator units of points (..., d)."""
        return self._centre + self._half_range * self.spline.controls(points.reshape(*points.shape[:-1], *self._shape))

    def evaluate(self, points: torch.Tensor) -> Evaluation:
        """Mean weighted cost over the horizon of points (samples, d); infinite where the simulator could not finish."""
        batch = self.backend.rollout(self.state, self.controls(points), self.control_dt)
        terms = self.task.costs(batch, self.reference)
        costs = torch.stack([self.weights[name] * cost.mean(-1) for name, cost in terms.items()]).sum(0)
        if batch.invalid is not None:
            costs = costs.masked_fill(batch.invalid, torch.inf)
        demo_costs = None
        if self.demonstration is not None and bool(costs.isfinite().any()):
            closeness = self.demonstration.log_density(batch)
            # The density has no unit: the nearest sample counts as the demonstration itself, as in the authors' code. Otherwise a
            # demonstration that no sample comes near to would never be followed.
            demo_costs = self.demonstration.cost - (closeness - closeness[costs.isfinite()].max())
        return Evaluation(costs, torch.zeros_like(costs), demo_costs)


def optimize_trajectory(problem: TrajectoryProblem, settings: Settings, on_level: OnLevel | None = None) -> Result:
    """Denoise a whole trajectory, from noise, over all levels; `problem.controls(result.best.point)` are its controls.

    Raises:
        NoFeasibleSampleError: every trajectory of a level has a NaN or infinite cost
    """
    return reverse_pass(problem.evaluate, problem.origin, settings, on_level)
