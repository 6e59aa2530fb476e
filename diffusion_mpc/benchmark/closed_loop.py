"""One run of a task in closed loop, in lockstep and in this process: what `benchmark quality` compares algorithms by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from diffusion_mpc.config import NodeConfig, SimConfig, Value, build, cost_weights, load_parameters
from diffusion_mpc.controller import Controller
from diffusion_mpc.estimation.reference import parameter_reference
from diffusion_mpc.evaluation.metrics import trajectory
from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.simulation import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Array, Plan, State


class DivergedError(RuntimeError):
    """The simulated robot's state became NaN or infinite."""


@dataclass(frozen=True)
class Episode:
    """A run in closed loop.

    Attributes:
        stamps: (T,) times of the states, s
        qpos: (T, nq)
        qvel: (T, nv)
        controls: (T, nu) applied from each state on, in actuator units
        costs: weighted cost (T,) of each of the task's terms, at these states and controls
        failed: (T,) whether the robot had failed
        violation: mean over the run of the sum of all positive constraint values
        plans: number of plans; one was tried at every state
        rollouts: number of samples rolled out over all plans
    """

    stamps: Array
    qpos: Array
    qvel: Array
    controls: Array
    costs: Mapping[str, Array]
    failed: Array
    violation: float
    plans: int
    rollouts: int

    @property
    def mean_cost(self) -> float:
        """Mean over the run of the sum of the weighted terms: the score."""
        return float(sum(cost.mean() for cost in self.costs.values()))

    @property
    def falls(self) -> int:
        """How often the robot went from well to failed."""
        return int((~self.failed[:-1].astype(bool) & self.failed[1:].astype(bool)).sum())


class ClosedLoop:
    """Controller and simulated robot of one trial, stepped together: the robot waits while a plan is made."""

    def __init__(self, settings: Mapping[str, Value], trial: int) -> None:
        """Set both up.

        Args:
            settings: parameters of the planner node that differ from the task's defaults; `task` among them
            trial: decides the initial state and the reference, the same for all that is compared

        Raises:
            ConfigError, TaskError: the settings are wrong
            ValueError: parameters do not fit each other
        """
        _, values = load_parameters(NodeConfig, settings)
        _, plant_values = load_parameters(SimConfig, {"task": values["task"]})
        self.config = build(NodeConfig, values)
        self.weights = cost_weights(values)
        self.task = find_task(self.config.task)(self.config.model.path)
        self.controller = Controller(self.task, self.config, self.weights)
        sim = build(SimConfig, plant_values)
        self.plant = Plant(self.task, sim.model, sim.mass_scale, sim.friction_scale)
        # Two generators, so that a task which draws more for its state keeps its references.
        state_random, reference_random = (np.random.default_rng((trial, stream)) for stream in range(2))
        self.task.trial_state(self.plant.model, self.plant.data, state_random)
        self.reference = self.task.trial_reference(parameter_reference(self.config), reference_random)
        self._period = 1.0 / self.config.planner.rate
        self._steps = 0

    def state(self) -> State:
        """The robot's present state."""
        return self.plant.state(self._steps * self._period)

    def plan(self) -> Plan | None:
        """Plan from the present state; None where every sample was infeasible, and the plan before stands."""
        state = self.state()
        try:
            return self.controller.plan(state, self.reference, state.stamp)
        except NoFeasibleSampleError:
            return None

    def advance(self) -> Array:
        """Step the robot to the time of the next plan under the command now in force, (nu,), which is returned.

        Raises:
            DivergedError: the robot's state is no longer finite
        """
        control = self.controller.command_at(self._steps * self._period)
        self.plant.step(lambda qpos, qvel: control, self._period)
        self._steps += 1
        if self.plant.diverged:
            raise DivergedError(f"task '{self.task.name}': the simulation diverged at {self._steps * self._period:g} s")
        return control


def run_episode(
    settings: Mapping[str, Value], trial: int, duration: float, on_step: Callable[[float], None] | None = None
) -> Episode:
    """Run a task in closed loop, one plan every `1 / planner.rate` seconds.

    Args:
        settings: parameters of the planner node that differ from the task's defaults; `task` among them
        trial: decides the initial state and the reference
        duration: simulated time, s
        on_step: called with the simulated time after each control period

    Raises:
        ConfigError, TaskError, ValueError: as `ClosedLoop`
        DivergedError: the robot's state is no longer finite
    """
    loop = ClosedLoop(settings, trial)
    states, controls = list[State](), list[Array]()
    plans = rollouts = 0
    for _ in range(max(1, round(duration * loop.config.planner.rate))):
        states.append(loop.state())
        plan = loop.plan()
        plans += plan is not None
        # The first batch decides whether any sample is feasible.
        rollouts += loop.config.planner.num_samples * (plan.stats.iterations if plan is not None else 1)
        controls.append(loop.advance())
        if on_step is not None:
            on_step(loop.state().stamp)
    stamps = np.array([state.stamp for state in states])
    x = trajectory(loop.task, *(np.array(rows) for rows in ([s.qpos for s in states], [s.qvel for s in states], controls)))
    reference = replace(loop.reference, times=stamps)
    costs = loop.task.costs(x, reference)
    return Episode(
        stamps=stamps,
        qpos=x.qpos[0].numpy(),
        qvel=x.qvel[0].numpy(),
        controls=x.ctrl[0].numpy(),
        costs={name: loop.weights[name] * cost[0].numpy() for name, cost in costs.items()},
        failed=loop.task.failed(x)[0].numpy(),
        violation=float(loop.task.violation(x, reference, tightened=False)[0]) if loop.task.constraints() else 0.0,
        plans=plans,
        rollouts=rollouts,
    )
