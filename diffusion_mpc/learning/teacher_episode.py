"""One episode of a teacher: the planner at a generous budget, where it is pushed and interrupted.

Everything in an episode follows from its number and the settings, so that it can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np

from diffusion_mpc.config import Value
from diffusion_mpc.learning.dataset import Rows
from diffusion_mpc.learning.executed import costs_to_go, executed_costs
from diffusion_mpc.learning.novice import DeployedPlanner, LearntPolicy, Novice
from diffusion_mpc.learning.plan_rows import TaughtPlan, as_arrays
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.simulation.closed_loop import ClosedLoop, DivergedError
from diffusion_mpc.tasks.measured import has_failed
from diffusion_mpc.types import Array, Reference, State

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
        policy_time: longest time for which it does before the teacher takes its turn, s; 0: all of
            the episode. A policy that falls alone is then taught where it begins to
        deployed_samples, deployed_steps: samples and denoising steps of a planner whose plans are
            executed in its place, with the policy among its samples: states that a robot in use is
            led to. 0: the policy's own plans
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
    policy_time: float = 0.0
    deployed_samples: int = 0
    deployed_steps: int = 0
    discount: float = 0.98
    seed: int = 0


@dataclass
class _Step:
    """A step of an episode: its state, what was asked for, and the plan, where there was one."""

    state: State
    reference: Reference
    action: Array
    taught: TaughtPlan | None = None


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
        self._novice = self._make_novice() if follows else None
        self._novices_turn, self._turn_left = True, 0
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
            fallen += has_failed(loop.task, loop.plant.model, step.state)
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

    def _make_novice(self) -> Novice | None:
        policy, config, o = self.loop.controller.policy, self.loop.config, self.options
        if policy is None:
            return None
        if not o.deployed_samples:
            return LearntPolicy(policy, config.policy)
        search = replace(
            config.planner, num_samples=o.deployed_samples, iterations=o.deployed_steps
        )
        return DeployedPlanner(
            Controller(self.loop.task, replace(config, planner=search), self.loop.weights)
        )

    def _step(self) -> _Step:
        """Plan from the present state, and choose what is executed."""
        loop = self.loop
        controller, task = loop.controller, loop.task
        step = _Step(loop.state(), loop.reference, np.zeros(task.model.nu))
        plan = loop.plan()
        if plan is None or controller.start is None:
            return step
        step.taught = taught = TaughtPlan.of(
            controller, loop.reference, self._seen, self.options.tails
        )
        self._seen = taught.observations[-1]
        if self._novice is not None:
            if self._is_novices_turn():
                followed = self._novice.plan(taught)
                objective = controller.objective
                controls = objective.controls(objective.origin.new_tensor(followed))
                controller.current = replace(
                    plan, knots=followed, controls=controls.double().numpy()
                )
                controller.planner.follow(followed, plan.start_time)
            else:
                self._novice.observe(taught)
        return step

    def _is_novices_turn(self) -> bool:
        """Whether the novice controls this step; turns are of random length."""
        if not self.options.policy_time:
            return True
        if self._turn_left == 0:
            rate = self.loop.config.planner.rate
            longest = max(1, round(self.options.policy_time * rate))
            self._novices_turn = not self._novices_turn
            self._turn_left = int(self._random.integers(1, longest + 1))
        self._turn_left -= 1
        return self._novices_turn

    def _normalised(self, control: Array) -> Array:
        objective = self.loop.controller.objective
        return np.asarray(
            self.loop.task.normalise(objective.origin.new_tensor(control)).double().numpy()
        )

    def _rows(self, steps: list[_Step]) -> Rows:
        if not steps:
            return {}
        loop, o = self.loop, self.options
        cost, failed = executed_costs(
            loop.task,
            loop.plant.model,
            loop.weights,
            [step.state for step in steps],
            np.array([step.action for step in steps]),
            [step.reference for step in steps],
        )
        cost_to_go = costs_to_go(cost, o.discount, loop.config.planner.rate)
        rows = list[dict[str, Any]]()
        for number, step in enumerate(steps):
            if step.taught is None:
                continue
            rows += step.taught.rows(
                o.samples,
                {
                    "action": step.action,
                    "cost": cost[number],
                    "cost_to_go": cost_to_go[number],
                    "episode": self.number,
                    "step": number,
                    "failed": failed[number],
                },
            )
        return as_arrays(rows)
