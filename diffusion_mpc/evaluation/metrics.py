"""Figures of a run. Equal bags give equal figures, to the last digit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from diffusion_mpc.evaluation.recorded_run import Flags, RecordedPlans, RecordedRun
from diffusion_mpc.names import require_known
from diffusion_mpc.percentiles import percentiles
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.measured import heading_velocity, rows_of, trajectory
from diffusion_mpc.types import Array, Reference


@dataclass(frozen=True)
class Measured:
    """Velocities, references, distances, failures and costs at the measured states of a run.

    Attributes:
        velocity: (T, 3) as `heading_velocity`
        reference: (T, 3) commanded velocity in the same frame, that of the newest plan at the time;
            NaN where no plan says which
        goal: (T, 7) goal position, m, and unit quaternion (wxyz), that of the newest plan at the
            time
        goal_errors: (T,) of each of the task's distances from the goal; empty where it pursues
            none, or no plan says which
        failed: (T,) whether the robot had failed
        norms: cost (T,) of each of the task's terms without its weight; empty where the bag does
            not hold what they depend on
        weights: weight of each term
    """

    velocity: Array | None
    reference: Array
    goal: Array
    goal_errors: Mapping[str, Array]
    failed: Flags
    norms: Mapping[str, Array]
    weights: Mapping[str, float]

    @property
    def costs(self) -> dict[str, Array]:
        """Weighted cost (T,) of each term."""
        return {name: self.weights[name] * norm for name, norm in self.norms.items()}

    @property
    def cost(self) -> Array:
        """Sum of the weighted terms, (T,); (0,) where there are none."""
        return np.sum(list(self.costs.values()), axis=0) if self.norms else np.zeros(0)


def measure(run: RecordedRun, task: Task, weights: Mapping[str, float] | None = None) -> Measured:
    """Evaluate the task at the measured states.

    The sensors are those of the measured states themselves, and the controls are the commands in
    force at their stamps.

    Args:
        run: recorded run
        task: task that was run
        weights: weights of cost terms that differ from the task's own

    Raises:
        ValueError: a weight belongs to no term
    """
    terms = task.cost_terms()
    weight = {name: term.weight for name, term in terms.items()} | dict(weights or {})
    for name in weight:
        require_known("cost term", name, terms)
    stamps = run.states.stamps
    controls = _in_force(
        stamps, run.commands.stamps, run.commands.values, before=task.action_centre
    )
    planned = bool(len(run.plans.stamps))
    reference = _with_states(stamps, run.plans.stamps, run.plans.velocity, np.full(3, np.nan))
    goal = _with_states(stamps, run.plans.stamps, run.plans.goal, Reference().pose)
    x = trajectory(task.model, run.states.qpos, run.states.qvel, controls)
    norms: dict[str, Array] = {}
    errors: dict[str, Array] = {}
    # Without plans it is unknown what was asked for, and so is the cost of missing it.
    if len(stamps) and (planned or task.reference == "none"):
        parts = []
        for rows in _constant(np.concatenate([reference, goal], axis=1)):
            asked = Reference(reference[rows.start], goal[rows.start], stamps[rows]).on(x.qpos)
            parts.append(
                (task.costs(rows_of(x, rows), asked), task.goal_errors(rows_of(x, rows), asked))
            )
        # Without commands, the cost of effort is unknown.
        norms = {
            name: np.concatenate([part[name][0].numpy() for part, _ in parts])
            for name in (terms if len(run.commands.stamps) else ())
        }
        errors = {
            name: np.concatenate([part[name][0].numpy() for _, part in parts])
            for name in parts[0][1]
        }
    failed = task.failed(x)[0].numpy().astype(bool)
    return Measured(
        heading_velocity(task, run.states.qpos, run.states.qvel),
        reference,
        goal,
        errors,
        failed,
        norms,
        weight,
    )


def summarise(
    run: RecordedRun, task: Task, settle: float = 3.0, weights: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The headline figures; None where the bag lacks the messages.

    Times are differences of stamps, so that they do not depend on the machine that recorded.

    Args:
        run: recorded run
        task: task that was run
        settle: time from the first state on that the speeds leave out, s
        weights: weights of cost terms that differ from the task's own

    Returns:
        task, algorithm, backend, num_samples, horizon_steps, iterations; duration_s of the states;
        plan_rate_hz; plan_ms; state_to_command_ms (without safe commands); deadline_miss_ratio
        (fraction of the plans that had a deadline, which in lockstep none has); plans;
        effective_sample_size and noise (means over the plans);
        policy (see `policy_figures`); mean_cost and term_costs
        (weighted, over the measured states); falls (number of changes from well to failed);
        command_speed and mean_speed (m/s, see `speeds`); goal_errors (the task's distances from its
        goal at the last state); topics (messages on each)

    Raises:
        ValueError: a weight belongs to no term
    """
    return figures(run, task, measure(run, task, weights), settle)


def figures(run: RecordedRun, task: Task, measured: Measured, settle: float) -> dict[str, Any]:
    """The figures of `summarise`, of a run that has been measured already."""
    states, plans, commands = run.states, run.plans, run.commands
    latency = (commands.stamps - commands.state_stamps)[
        ~commands.safe & np.isfinite(commands.state_stamps)
    ]
    terms = {name: float(cost.mean()) for name, cost in measured.costs.items()}
    command_speed, mean_speed = speeds(run, task, measured, settle)
    return {
        "task": task.name,
        "algorithm": plans.algorithm,
        "backend": plans.backend,
        "num_samples": plans.num_samples,
        "horizon_steps": plans.horizon_steps,
        "iterations": plans.iterations,
        "duration_s": float(np.ptp(states.stamps)) if len(states.stamps) else None,
        "plan_rate_hz": _rate(plans.stamps),
        "plan_ms": percentiles(1e3 * plans.plan_time, (50, 95, 99), largest=True),
        "state_to_command_ms": percentiles(1e3 * latency, (50, 99)),
        "deadline_miss_ratio": _mean(plans.missed[~np.isinf(plans.deadline)].astype(np.float64)),
        "plans": len(plans.stamps) if plans.recorded else None,
        "effective_sample_size": _mean(plans.effective_sample_size),
        "noise": _mean(plans.noise),
        "policy": policy_figures(plans),
        "mean_cost": sum(terms.values()) if terms else None,
        "term_costs": terms,
        "falls": int((~measured.failed[:-1] & measured.failed[1:]).sum())
        if len(measured.failed)
        else None,
        "command_speed": command_speed,
        "mean_speed": mean_speed,
        "goal_errors": {name: float(error[-1]) for name, error in measured.goal_errors.items()},
        "topics": dict(run.topics),
    }


def policy_figures(plans: RecordedPlans) -> dict[str, Any] | None:
    """Part of a policy in the plans; None where it had none.

    Returns:
        rows and weight (means over the plans that it proposed for), proposed (fraction of the plans
        that it proposed for), ms (percentiles of the network's time), and by weight of its label,
        in the order in which they were set, guidance: plans and their mean cost
    """
    given = plans.policy_rows > 0
    if not given.any():
        return None
    weights = dict.fromkeys(plans.policy_guidance[given].tolist())
    under = {weight: given & (plans.policy_guidance == weight) for weight in weights}
    return {
        "rows": float(plans.policy_rows[given].mean()),
        "weight": float(plans.policy_weight[given].mean()),
        "proposed": float(given.mean()),
        "ms": percentiles(1e3 * plans.policy_time[given], (50, 99)),
        "guidance": {
            f"{weight:g}": {"plans": int(some.sum()), "cost": float(plans.cost[some].mean())}
            for weight, some in under.items()
        },
    }


def speeds(
    run: RecordedRun, task: Task, measured: Measured, settle: float
) -> tuple[float | None, float | None]:
    """Mean commanded speed, and mean measured velocity along its direction, m/s, after settling.

    States with no planar command do not count, unless there are no others: then the command is 0,
    and the speed is the planar one. Both are None for a task that follows no `cmd_vel`, where no
    state is left, and where no plan says what was commanded.
    """
    late = run.states.stamps >= run.states.stamps[:1] + settle
    late &= np.isfinite(measured.reference).all(axis=1)
    if task.reference != "cmd_vel" or measured.velocity is None or not late.any():
        return None, None
    velocity, command = measured.velocity[late, :2], measured.reference[late, :2]
    asked = np.linalg.norm(command, axis=1)
    moving = asked > 0.0
    if not moving.any():
        return 0.0, float(np.linalg.norm(velocity, axis=1).mean())
    along = (velocity[moving] * command[moving]).sum(1) / asked[moving]
    return float(asked[moving].mean()), float(along.mean())


def _constant(rows: Array) -> list[slice]:
    """Stretches over which all columns keep their value."""
    edges = [
        0,
        *(np.flatnonzero((np.diff(rows, axis=0) != 0.0).any(axis=1)) + 1).tolist(),
        len(rows),
    ]
    return [slice(a, b) for a, b in pairwise(edges)]


def _in_force(times: Array, stamps: Array, values: Array, before: Array) -> Array:
    """For every time, the value with the newest stamp that is not later; stamps ascend."""
    order = np.argsort(stamps, kind="stable")
    newest = np.searchsorted(stamps[order], times, side="right")
    return np.concatenate([before[None], values[order]])[newest]


def _with_states(times: Array, stamps: Array, values: Array, default: Array) -> Array:
    """For every time, the reference of the newest plan.

    Before the first plan, that of the first.
    """
    return _in_force(times, stamps, values, before=values[0] if len(values) else default)


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _rate(stamps: Array) -> float | None:
    span = float(np.ptp(stamps)) if len(stamps) else 0.0
    return (len(stamps) - 1) / span if span > 0.0 else None
