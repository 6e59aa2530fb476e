"""Cost of a plan: knots -> controls -> rollouts -> weighted terms, constraints, demonstration.

One for all searches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from diffusion_mpc.config import RobustConfig, SearchConfig
from diffusion_mpc.estimation.delays import HistoryBuffer
from diffusion_mpc.planner.packing import send
from diffusion_mpc.planner.score import Evaluation
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.planner.terminal_value import NAME as VALUE
from diffusion_mpc.planner.terminal_value import TerminalValue
from diffusion_mpc.rollout.backend import RolloutBackend, substeps
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.code_check import require_sound
from diffusion_mpc.tasks.cost import columns
from diffusion_mpc.types import (
    Array,
    Reference,
    ReferenceTensors,
    RolloutBatch,
    State,
    StateTensors,
)

Values = TypeVar("Values", Array, torch.Tensor)


@dataclass(frozen=True)
class Demonstration:
    """Positions to follow where that is cheaper than what the search has found.

    Neither complete nor feasible need they be.

    Attributes:
        positions: (horizon, k) what `columns` of qpos are at the end of each control step
        columns: the k columns of qpos that are demonstrated
        distance: distance from which a position counts as far off, in units of qpos
        cost: what the demonstration would cost, weighted terms averaged over the horizon
    """

    positions: torch.Tensor
    columns: tuple[int, ...]
    distance: float
    cost: float | torch.Tensor

    def log_density(self, batch: RolloutBatch) -> torch.Tensor:
        """`-mean_t (min(||x - x_demo||, d) / d)^2`, (samples,), the `p_demo` of 2407.01573, eq.

        13, in its authors' code.
        """
        apart = (columns(batch.qpos, self.columns) - self.positions).norm(dim=-1)
        return -(apart.clamp(max=self.distance) / self.distance).square().mean(-1)


@dataclass(frozen=True)
class ProblemInput(Generic[Values]):
    """Inputs of a problem: arrays on the host or tensors on the device.

    Attributes:
        qpos: (nq,), qvel: (nv,) and act: (na,), see `State`
        history: (nhistory,), see `StateTensors`; empty where nothing is delayed
        velocity: (3,), pose: (7,) and times: (horizon,), see `Reference`
        weights: (terms,) of the cost terms, the value's last
    """

    qpos: Values
    qvel: Values
    act: Values
    history: Values
    velocity: Values
    pose: Values
    times: Values
    weights: Values


@dataclass(frozen=True)
class Problem:
    """Problem that plans are evaluated for, all of it on the backend's device.

    Attributes:
        start: state that all samples start from
        reference: what to track
        weights: (terms,) of the cost terms
        demonstration: states to be drawn to, or None
    """

    start: StateTensors
    reference: ReferenceTensors
    weights: torch.Tensor
    demonstration: Demonstration | None = None


@dataclass(frozen=True, kw_only=True)
class Trajectories(Evaluation):
    """Evaluation of a batch of plans.

    Attributes:
        terms: (terms, samples) weighted cost of each of `Objective.term_names`, averaged over the
            horizon and aggregated over models
        breach: (samples,) as `violation`, without the constraints' tightening
        qpos: (samples, horizon, nq) positions, on the given model
    """

    terms: torch.Tensor
    breach: torch.Tensor | None
    qpos: torch.Tensor


class Objective:
    """Cost of normalised knots of one task on one rollout backend."""

    def __init__(
        self,
        task: Task,
        backend: RolloutBackend,
        config: SearchConfig,
        weights: Mapping[str, float],
        robust: RobustConfig | None = None,
        value: TerminalValue | None = None,
    ) -> None:
        """Prepare the map from knots to controls.

        Args:
            task: task whose cost is minimised
            backend: where rollouts run
            config: horizon, control step, knots and spline; the rest is not used
            weights: weight of every cost term by name
            robust: how costs on several models become one; None: a mean
            value: cost beyond the horizon, a term of its own; None: there is none

        Raises:
            ValueError: num_knots does not fit the spline, or control_dt is not a multiple of the
                model's time step
            TaskError: a term or a constraint fails at rest, or returns what it should not
        """
        require_sound(task, backend.model, backend.dtype, backend.device)
        self.task = task
        self.backend = backend
        self.control_dt = config.control_dt
        self.spline = Spline(
            config.num_knots, config.horizon_steps, config.control_dt, config.spline
        )
        substeps(config.control_dt, backend.model.opt.timestep)
        self._centre, self._reach, self._low, self._high = (
            torch.as_tensor(values, dtype=backend.dtype, device=backend.device)
            for values in (task.action_centre, task.action_reach, *task.ctrl_limits)
        )
        # Most robots' actions cannot leave the range.
        low, high = task.ctrl_limits
        beyond = abs(task.action_centre - (low + high) / 2) + task.action_reach - (high - low) / 2
        self._clipped = bool((beyond > 1e-9 * (high - low)).any())
        self._row_times = (
            np.arange(1, config.horizon_steps + 1, dtype=np.float64) * config.control_dt
        )
        self.constrained = bool(task.constraints())
        delayed = bool((backend.model.actuator_delay > 0.0).any()) and task.dynamics is None
        self._history = HistoryBuffer(backend.model, task.action_centre) if delayed else None
        self._value = value
        self.configure(weights, robust or RobustConfig())

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the terms: the task's, and the value's where there is one."""
        return (*self.task.cost_terms(), *(() if self._value is None else (VALUE,)))

    @property
    def origin(self) -> torch.Tensor:
        """Knots (num_knots, nu) that stand for the centre of the actions."""
        return self._centre.new_zeros((len(self.spline.knot_times), len(self._centre)))

    def configure(
        self, weights: Mapping[str, float], robust: RobustConfig, value_weight: float = 1.0
    ) -> None:
        """Change weights and aggregation; takes effect with the next problem."""
        all_weights = {**weights, VALUE: value_weight} if self._value is not None else weights
        self._weights = np.array([all_weights[name] for name in self.term_names])
        self._robust = robust

    def controls(self, knots: torch.Tensor) -> torch.Tensor:
        """Controls (..., horizon, nu) in actuator units of knots (..., num_knots, nu)."""
        controls = torch.addcmul(self._centre, self._reach, self.spline.controls(knots))
        return controls.clamp_(self._low, self._high) if self._clipped else controls

    def inputs(self, state: State, reference: Reference) -> ProblemInput[Array]:
        """Inputs of the problem of a state and a reference, with the present weights."""
        return ProblemInput(
            qpos=state.qpos,
            qvel=state.qvel,
            act=state.act,
            history=self._history.at(state.past) if self._history is not None else np.zeros(0),
            velocity=reference.velocity,
            pose=reference.pose,
            times=state.stamp + self._row_times,
            weights=self._weights,
        )

    def problem(self, inputs: ProblemInput[torch.Tensor]) -> Problem:
        """The problem that inputs on the device make, without a demonstration."""
        history = inputs.history if self._history is not None else None
        start = StateTensors(inputs.qpos, inputs.qvel, inputs.act, history)
        return Problem(
            start, ReferenceTensors(inputs.velocity, inputs.pose, inputs.times), inputs.weights
        )

    def pose(self, state: State, reference: Reference) -> Problem:
        """The problem of a state and a reference, without a demonstration."""
        inputs = self.inputs(state, reference)
        return self.problem(send(ProblemInput, inputs, self.backend.dtype, self.backend.device))

    def terms(self, batch: RolloutBatch, problem: Problem) -> torch.Tensor:
        """Weighted cost (terms, samples) of each term, averaged over the horizon."""
        terms = torch.stack(list(self.task.costs(batch, problem.reference).values())).mean(-1)
        if self._value is not None:
            terms = torch.cat((terms, self._value(batch, problem.reference)[None]))
        return terms.mul_(problem.weights[:, None])

    def evaluate(self, problem: Problem, knots: torch.Tensor) -> Trajectories:
        """Roll knots (samples, num_knots, nu) out and weigh what comes of them.

        Nothing in it waits for the device.
        """
        return self.weigh(
            problem, self.backend.rollout(problem.start, self.controls(knots), self.control_dt)
        )

    def weigh(self, problem: Problem, batch: RolloutBatch) -> Trajectories:
        """Evaluate trajectories.

        Args:
            problem: what they are evaluated for
            batch: `backend.variants` trajectories for each sample

        Returns:
            costs, infinite where the simulator could not finish, violations, and trajectories
        """
        robust, demonstration = self._robust, problem.demonstration
        # (terms, samples * variants) -> (terms, samples, variants)
        terms = self.terms(batch, problem)
        costs = terms.sum(0)
        if batch.invalid is not None:
            costs = costs.masked_fill(batch.invalid, torch.inf)
        violation = breach = None
        if self.constrained:
            violation, breach = (
                self.task.violation(batch, problem.reference, tightened)
                for tightened in (True, False)
            )
        closeness = None if demonstration is None else demonstration.log_density(batch)
        if self.backend.variants > 1:
            by_model = costs.view(-1, self.backend.variants)
            fraction = aggregation(by_model, robust)
            costs = (by_model * fraction).sum(-1)
            terms = (terms.view(len(terms), *by_model.shape) * fraction).sum(-1)
            violation = None if violation is None else violation.view_as(by_model).amax(-1)
            breach = None if breach is None else breach.view_as(by_model).amax(-1)
            closeness = None if closeness is None else closeness.view_as(by_model).mean(-1)
        demo_costs = None
        if demonstration is not None and closeness is not None:
            # The density has no unit: the nearest sample counts as the demonstration itself, as in
            # the authors' code. Otherwise a demonstration that no sample comes near to would never
            # be followed.
            demo_costs = demonstration.cost - (
                closeness - closeness.where(costs.isfinite(), -torch.inf).amax()
            )
        return Trajectories(
            costs,
            violation,
            demo_costs,
            terms=terms,
            breach=breach,
            qpos=batch.qpos[:: self.backend.variants],
        )


def aggregation(costs: torch.Tensor, robust: RobustConfig) -> torch.Tensor:
    """Fraction (samples, variants) that each model has in the cost of a sample; each row sums to 1.

    Conditional value at risk is the mean of the worst `tail` of the models, one at least: the worst
    case and the mean are its ends.

    Args:
        costs: (samples, variants)
        robust: kind of aggregation
    """
    models = costs.shape[1]
    count = {"mean": models, "worst": 1, "cvar": max(1, round(robust.tail * models))}[
        robust.aggregate
    ]
    if count == models:
        return costs.new_full(costs.shape, 1.0 / models)
    return torch.zeros_like(costs).scatter_(1, costs.topk(count, dim=1).indices, 1.0 / count)
