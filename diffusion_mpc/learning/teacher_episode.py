"""One episode of a teacher: the planner at a generous budget, where it is pushed and interrupted.

Everything in an episode follows from its number and the settings, so that it can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from diffusion_mpc.config import Value
from diffusion_mpc.learning.dataset import Rows
from diffusion_mpc.simulation.closed_loop import ClosedLoop, DivergedError
from diffusion_mpc.tasks.measured import observe, trajectory
from diffusion_mpc.types import Array, Plan, Reference, State

PLAN, SAMPLE, TAIL = 0, 1, 2
"""Kinds of rows: a plan; one of its samples; its tail, at the state that it leads to."""

HISTORY = 2
"""Observations of a row."""

FIRST_TRIAL = 10_000
"""Trials of episodes begin here, after those of the benchmarks."""

PUSH_TIME = 0.1
"""Duration of a push, s."""

SETTLED = 0.5
"""Time that an episode goes on after a fall, s."""


@dataclass(frozen=True)
class EpisodeOptions:
    """Course of an episode.

    Attributes:
        duration: length, s
        samples: rows of a plan's samples, from the best to the worst
        tails: rows of a plan's tails
        reference_every: time between two references, s
        push_every: mean time between two pushes, s; 0: none
        push: largest change of velocity by a push, m/s
        deviation: standard deviation of the first state, rad or m, and ten times that of velocities
        delays: largest delay of states, in periods
        policy_fraction: fraction of the episodes whose robot executes the policy's plans
        discount: of the cost to go, by step
        seed: same seed, same data
    """

    duration: float = 8.0
    samples: int = 4
    tails: int = 2
    reference_every: float = 2.0
    push_every: float = 2.0
    push: float = 0.4
    deviation: float = 0.02
    delays: int = 2
    policy_fraction: float = 0.0
    discount: float = 0.98
    seed: int = 0


@dataclass
class _Step:
    """A step of an episode: its state, what was asked for, and the plan, where there was one."""

    state: State
    reference: Reference
    action: Array
    plan: Plan | None = None
    start: State | None = None
    observations: Array | None = None
    tails: tuple[tuple[Array, Array, Array], ...] = ()
    plan_cost: float = 0.0


class TeacherEpisode:
    """An episode of a task."""

    def __init__(self, settings: Mapping[str, Value], number: int, options: EpisodeOptions) -> None:
        """Set robot and teacher up.

        Raises:
            ConfigError, TaskError, ValueError: as `ClosedLoop`
        """
        self.number, self.options = number, options
        random = self._random = np.random.default_rng((options.seed, number))
        seeds, own = random.integers(0, 2**31 - 1, 2).tolist(), dict(settings)
        own |= {"planner.seed": seeds[0], "sim.seed": seeds[1]}
        probe = ClosedLoop(own, 0)
        if probe.task.dynamics is None:
            own |= {
                "sim.mass_scale": float(random.uniform(0.9, 1.1)),
                "sim.friction_scale": float(random.uniform(0.7, 1.2)),
            }
        period, step = 1.0 / probe.config.planner.rate, probe.sim.model.timestep
        delays = [n * period for n in range(options.delays + 1)]
        # The loop takes delays that are multiples of the simulation's step.
        fitting = [d for d in delays if abs(d / step - round(d / step)) < 1e-6]
        own["sim.state_delay"] = float(random.choice(fitting))
        trial = FIRST_TRIAL + number + 1_000_000 * options.seed
        self.loop = ClosedLoop(own, trial, probe.config.planner.num_samples)
        self._disturb()
        self._demanded = self.loop.reference
        follows = random.random() < options.policy_fraction
        self._policy = self.loop.controller.policy if follows else None
        self._seen: Array | None = None

    def run(self) -> Rows:
        """Run it.

        Returns:
            rows by field, see `learning/collect.py`; fewer where the simulation diverged
        """
        loop, o = self.loop, self.options
        rate = loop.config.planner.rate
        steps, fallen, push_left = list[_Step](), 0, 0
        every = max(1, round(o.reference_every * rate))
        for number in range(max(1, round(o.duration * rate))):
            if number % every == 0:
                loop.reference = loop.task.training_reference(self._demanded, self._random)
            push_left = self._push(push_left, rate)
            step = self._step()
            steps.append(step)
            fallen += self._failed(step)
            try:
                step.action = self._normalised(loop.advance())
            except DivergedError:
                steps.pop()
                break
            if fallen > SETTLED * rate:
                break
        return self._rows(steps)

    def _disturb(self) -> None:
        plant, deviation = self.loop.plant, self.options.deviation
        moved = self._random.normal(0.0, deviation, plant.model.nv)
        if self.loop.task.dynamics is None:
            mujoco.mj_integratePos(plant.model, plant.data.qpos, moved, 1.0)
        plant.data.qvel[:] += self._random.normal(0.0, 10.0 * deviation, plant.model.nv)
        mujoco.mj_forward(plant.model, plant.data)

    def _push(self, left: int, rate: float) -> int:
        """Begin, hold or end a push; periods that are left of it."""
        task, plant, o = self.loop.task, self.loop.plant, self.options
        if task.base is None or task.dynamics is not None or not o.push_every:
            return 0
        zero = np.zeros(3)
        if left > 1:
            return left - 1
        if left == 1:
            plant.push(task.base, zero, zero)
        if self._random.random() >= 1.0 / (o.push_every * rate):
            return 0
        mass = float(plant.model.body_subtreemass[plant.model.body(task.base).id])
        direction = self._random.normal(size=3) * (1.0, 1.0, 0.2)
        force = mass * self._random.uniform(0.0, o.push) / PUSH_TIME
        plant.push(task.base, force * direction / np.linalg.norm(direction), zero)
        return max(1, round(PUSH_TIME * rate))

    def _step(self) -> _Step:
        """Plan from the present state, and choose what is executed."""
        loop = self.loop
        controller, task = loop.controller, loop.task
        step = _Step(loop.state(), loop.reference, np.zeros(task.model.nu))
        plan = loop.plan()
        if plan is None or controller.start is None:
            return step
        model, start = controller.backend.model, controller.start
        seen = observe(task, model, start, loop.reference)
        before = seen if self._seen is None else self._seen
        self._seen = seen
        step.plan, step.start, step.observations = plan, start, np.stack([before, seen])
        objective = controller.objective
        problem = objective.pose(start, loop.reference)
        knots = objective.origin.new_tensor(plan.knots)
        step.plan_cost = float(objective.evaluate(problem, knots[None]).costs[0])
        step.tails = self._tails(plan, start)
        if self._policy is not None:
            sampling = loop.config.policy
            followed = self._policy.propose(
                plan.previous,
                1,
                sampling.steps,
                sampling.guidance,
                sampling.level,
                step.observations,
            )[0]
            controls = objective.controls(knots.new_tensor(followed)).double().numpy()
            controller.current = replace(plan, knots=followed, controls=controls)
            controller.planner.follow(followed, plan.start_time)
        return step

    def _tails(self, plan: Plan, start: State) -> tuple[tuple[Array, Array, Array], ...]:
        """Observations, previous knots and knots of the plan's tails."""
        loop, count = self.loop, self.options.tails
        task, spline = loop.task, loop.controller.objective.spline
        # Observations are a period apart, as of the plans themselves.
        period = max(1, round(1.0 / (loop.config.planner.rate * plan.control_dt)))
        last = len(plan.controls) // 2
        if not count or last <= period:
            return ()
        states = loop.controller.predictor.planned_states(start, plan.controls, plan.control_dt)
        model, found = loop.controller.backend.model, []
        for m in np.unique(np.linspace(period, last, count + 1)[1:].round().astype(int)).tolist():
            pair = [
                observe(
                    task,
                    model,
                    State(start.stamp + k * plan.control_dt, states.qpos[k], states.qvel[k]),
                    loop.reference,
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

    def _normalised(self, control: Array) -> Array:
        objective = self.loop.controller.objective
        return np.asarray(
            self.loop.task.normalise(objective.origin.new_tensor(control)).double().numpy()
        )

    def _failed(self, step: _Step) -> bool:
        state = step.state
        x = trajectory(
            self.loop.plant.model,
            state.qpos[None],
            state.qvel[None],
            self.loop.task.action_centre[None],
        )
        return bool(self.loop.task.failed(x)[0, 0])

    def _executed(self, steps: list[_Step]) -> tuple[Array, Array]:
        """Cost of each step, as executed, and whether the robot had failed."""
        task, loop = self.loop.task, self.loop
        centre, reach = task.action_centre, task.action_reach
        states = [step.state for step in steps]
        x = trajectory(
            loop.plant.model,
            np.array([s.qpos for s in states]),
            np.array([s.qvel for s in states]),
            centre + reach * np.array([step.action for step in steps]),
        )
        cost = np.empty(len(steps))
        stamps = np.array([s.stamp for s in states])
        # Terms see one reference at a time: the rows of each are taken from its evaluation.
        for reference in {id(step.reference): step.reference for step in steps}.values():
            here = np.array([step.reference is reference for step in steps])
            terms = task.costs(x, replace(reference, times=stamps).on(x.qpos))
            total = sum(loop.weights[name] * value[0].numpy() for name, value in terms.items())
            cost[here] = np.asarray(total)[here]
        return cost, np.asarray(task.failed(x)[0].numpy())

    def _rows(self, steps: list[_Step]) -> Rows:
        if not steps:
            return {}
        cost, failed = self._executed(steps)
        cost_to_go = np.empty_like(cost)
        # An episode ends, and the robot goes on: as in its last second, to the best of knowledge.
        # Otherwise states near the end would look cheap.
        second = max(1, round(self.loop.config.planner.rate))
        ahead = float(cost[-second:].mean()) / (1.0 - self.options.discount)
        for i in reversed(range(len(cost))):
            ahead = cost_to_go[i] = cost[i] + self.options.discount * ahead
        rows = list[dict[str, object]]()
        for number, step in enumerate(steps):
            if step.plan is None or step.start is None or step.observations is None:
                continue
            plan, finite = step.plan, np.isfinite(step.plan.elite_costs)
            costs = plan.elite_costs[finite]
            deviation = float(costs.std()) or 1.0
            common = {
                "reference": np.concatenate([step.reference.velocity, step.reference.pose]),
                "action": step.action,
                "cost": cost[number],
                "cost_to_go": cost_to_go[number],
                "episode": self.number,
                "step": number,
                "time": step.start.stamp,
                "state": np.concatenate([step.start.qpos, step.start.qvel]),
                "failed": failed[number],
            }

            count = min(self.options.samples, len(costs))
            chosen = np.linspace(0, len(costs) - 1, count).round().astype(int).tolist()
            seen, before, elites = step.observations, plan.previous, plan.elites[finite]
            made = [(PLAN, seen, before, plan.knots, step.plan_cost)]
            made += [(SAMPLE, seen, before, elites[i], float(costs[i])) for i in chosen]
            made += [(TAIL, *tail, step.plan_cost) for tail in step.tails]
            for kind, observation, previous, knots, value in made:
                rows.append(
                    {
                        **common,
                        "kind": kind,
                        "observation": observation,
                        "previous": previous,
                        "knots": knots,
                        "plan_cost": value,
                        "advantage": (costs.mean() - value) / deviation,
                    }
                )
        return {
            name: np.array([row[name] for row in rows]).astype(TYPES.get(name, np.float32))
            for name in (rows[0] if rows else ())
        }


TYPES = {
    "kind": np.uint8,
    "failed": np.uint8,
    "episode": np.int32,
    "step": np.int32,
    "state": np.float64,
}
"""Types of the fields that are not in single precision."""
