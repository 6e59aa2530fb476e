"""One run of a task in closed loop, in lockstep and in this process, as benchmarks compare them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from diffusion_mpc.command.command import constant_control, without_gains
from diffusion_mpc.config import (
    PlannerNodeConfig,
    SimConfig,
    Value,
    build,
    cost_weights,
    load_parameters,
    split_sim,
)
from diffusion_mpc.estimation.reference import parameter_reference
from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.simulation.disturbances import ROUNDING, Actuation, Commands, Measurements
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import heading_velocity, trajectory
from diffusion_mpc.types import Array, Plan, RolloutBatch, State

# The trial decides the first one, and a robot that waits for its plans has no use for the others.
NOT_IN_LOCKSTEP = ("planner.seed", "planner.lead", "planner.time_budget")


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
        succeeded: whether it has done what the task asks for
        violation: mean over the run of the sum of all positive constraint values
        plans: number of plans; one was tried at every state once the first measurement had arrived
        rollouts: number of samples rolled out over all plans
        speed: mean velocity along the commanded direction, m/s; None where none is commanded
        prediction_error: (P, 2, nv) state that a plan began at less the true state of that time, as
            positions and velocities, one row for each plan that began at one of the states
    """

    stamps: Array
    qpos: Array
    qvel: Array
    controls: Array
    costs: Mapping[str, Array]
    failed: Array
    succeeded: bool
    violation: float
    plans: int
    rollouts: int
    speed: float | None
    prediction_error: Array

    @property
    def mean_cost(self) -> float:
        """Mean over the run of the sum of the weighted terms: the score."""
        return float(sum(cost.mean() for cost in self.costs.values()))

    @property
    def falls(self) -> int:
        """Number of times that the robot went from well to failed."""
        return int((~self.failed[:-1].astype(bool) & self.failed[1:].astype(bool)).sum())


class ClosedLoop:
    """Controller and simulated robot of one trial, stepped together.

    The robot waits while a plan is made.
    """

    def __init__(self, settings: Mapping[str, Value], trial: int, elites: int = 0) -> None:
        """Set both up.

        Args:
            settings: parameters of the planner node that differ from the task's defaults, `task`
                among them, and of the simulation, which begin with `sim.`
            trial: decides the initial state and the reference, the same for all that is compared,
                and noise and lost commands
            elites: as `Controller`

        Raises:
            ConfigError, TaskError: the settings are wrong
            ValueError: parameters do not fit each other, or the state's delay is no multiple of the
                simulation's time step
        """
        planned, simulated = split_sim(settings)
        _, values = load_parameters(PlannerNodeConfig, planned)
        _, plant_values = load_parameters(SimConfig, {"task": values["task"], **simulated})
        self.config = build(PlannerNodeConfig, values)
        self.weights = cost_weights(values)
        self.task = find_task(self.config.task)(self.config.model.file)
        self.controller = Controller(self.task, self.config, self.weights, elites)
        self.sim = build(SimConfig, plant_values)
        sim = self.sim
        self.plant = Plant(self.task, sim.model, sim.mass_scale, sim.friction_scale, sim.push)
        # Two generators, so that a task which draws more for its state keeps its references.
        state_random, reference_random = (
            np.random.default_rng((trial, stream)) for stream in range(2)
        )
        self.task.trial_state(self.plant.model, self.plant.data, state_random)
        self.reference = self.task.trial_reference(
            parameter_reference(self.config), reference_random
        )
        self._period = 1.0 / self.config.planner.rate
        self._steps = 0
        rest, seed = self.task.action_centre, self.sim.seed + trial
        self._measurements = Measurements(self.plant.model, self.sim.state_delay, seed)
        # States are measured so that they arrive when a plan begins: that fraction of a period
        # after one did.
        late = self.sim.state_delay / self._period
        self._phase = 1.0 - (late - math.floor(late + ROUNDING))
        steps = self._phase * self._period / self.sim.model.timestep
        if abs(steps - round(steps)) > ROUNDING:
            raise ValueError(
                f"sim.state_delay {self.sim.state_delay:g} s is not a multiple of "
                "sim.model.timestep; change one of them"
            )
        self._commands = Commands(without_gains(rest), seed)
        self._actuation = Actuation(self.plant.model.opt.timestep, rest)
        self._measurements.take(self.state(), self.sim.state_noise)
        self.newest: State | None = None

    def state(self) -> State:
        """The robot's present state."""
        return self.plant.state(self._steps * self._period)

    def plan(self) -> Plan | None:
        """Plan from the newest state that has arrived.

        None before the first has, and where every sample was infeasible: the previous plan stands.
        """
        now = self._steps * self._period
        self.newest = self._measurements.arrived(now) or self.newest
        if self.newest is None:
            return None
        try:
            return self.controller.plan(
                self.newest, self.reference, now + self.config.prediction.command_delay
            )
        except NoFeasibleSampleError:
            return None

    def advance(self) -> Array:
        """Send the command that is due and step the robot to the time of the next plan.

        Returns:
            (nu,) controls of the actuators at the beginning of the step

        Raises:
            DivergedError: the robot's state is no longer finite
        """
        now, sim = self._steps * self._period, self.sim
        self.controller.prepare()
        obeyed = now + self.config.prediction.command_delay
        plan = self.controller.current
        control = plan.control(obeyed) if plan is not None else self.task.action_centre
        self.controller.sent(obeyed, constant_control(control))
        self._commands.send(
            [(0.0, without_gains(control))], now, sim.command_delay, sim.command_dropout
        )
        applied = list[Array]()

        def drive(qpos: Array, qvel: Array) -> Array:
            applied.append(
                self._actuation.follow(self._commands.at(self.plant.time).control, sim.actuator_lag)
            )
            return applied[-1]

        self.plant.step(drive, self._phase * self._period)
        self._measurements.take(
            self.plant.state((self._steps + self._phase) * self._period), sim.state_noise
        )
        if self._phase < 1.0 - ROUNDING:
            self.plant.step(drive, (1.0 - self._phase) * self._period)
        self._steps += 1
        if self.plant.diverged:
            raise DivergedError(
                f"task '{self.task.name}': the simulation diverged at "
                f"{self._steps * self._period:g} s"
            )
        return applied[0]


def run_episode(
    settings: Mapping[str, Value],
    trial: int,
    duration: float,
    on_step: Callable[[float], None] | None = None,
    planned: bool = True,
    lead_in: float = 0.0,
    weights: Mapping[str, float] | None = None,
) -> Episode:
    """Run a task in closed loop, one plan every `1 / planner.rate` seconds.

    Args:
        settings: as `ClosedLoop`
        trial: as `ClosedLoop`
        duration: simulated time, s
        on_step: called with the simulated time after each control period
        planned: whether anybody plans; otherwise the robot is left to itself
        lead_in: simulated time before, which does not count, s: the robot is left to itself, so
            that the first command takes effect in the same state however late states and commands
            are
        weights: weights of all terms that the run is scored by; None: those that it is planned
            with

    Raises:
        ConfigError, TaskError, ValueError: as `ClosedLoop`
        DivergedError: the robot's state is no longer finite
    """
    loop = ClosedLoop(settings, trial)
    states, controls = list[State](), list[Array]()
    starts = list[State]()
    plans = rollouts = 0
    before = round(lead_in * loop.config.planner.rate)
    first = round((lead_in - loop.sim.command_delay) * loop.config.planner.rate)
    for step in range(before + max(1, round(duration * loop.config.planner.rate))):
        states.append(loop.state())
        plan = loop.plan() if planned and step >= first else None
        if loop.newest is not None and step >= first:
            # The first batch decides whether any sample is feasible.
            rollouts += loop.config.planner.num_samples * (
                plan.stats.iterations if plan is not None else 1
            )
        if plan is not None and loop.controller.start is not None:
            plans += 1
            starts.append(loop.controller.start)
        controls.append(loop.advance())
        if on_step is not None:
            on_step(loop.state().stamp)
    errors = _errors(loop.plant.model, starts, states)
    states, controls = states[before:], controls[before:]
    stamps = np.array([state.stamp for state in states])
    qpos, qvel = np.array([s.qpos for s in states]), np.array([s.qvel for s in states])
    x = trajectory(loop.task.model, qpos, qvel, np.array(controls))
    reference = replace(loop.reference, times=stamps).on(x.qpos)
    costs = loop.task.costs(x, reference)
    scored = loop.weights if weights is None else weights
    return Episode(
        stamps=stamps,
        qpos=x.qpos[0].numpy(),
        qvel=x.qvel[0].numpy(),
        controls=x.ctrl[0].numpy(),
        costs={name: scored[name] * cost[0].numpy() for name, cost in costs.items()},
        failed=loop.task.failed(x)[0].numpy(),
        succeeded=bool(loop.task.succeeded(x, reference)[0]),
        violation=float(loop.task.violation(x, reference, tightened=False)[0])
        if loop.task.constraints()
        else 0.0,
        plans=plans,
        rollouts=rollouts,
        speed=_speed(loop, x),
        prediction_error=errors,
    )


def _speed(loop: ClosedLoop, x: RolloutBatch) -> float | None:
    command = loop.reference.velocity[:2]
    velocity = heading_velocity(loop.task, x.qpos[0].numpy(), x.qvel[0].numpy())
    if loop.task.reference != "cmd_vel" or velocity is None or not command.any():
        return None
    return float((velocity[:, :2] @ command).mean() / np.linalg.norm(command))


def _errors(model: mujoco.MjModel, predicted: Sequence[State], true: Sequence[State]) -> Array:
    """Predicted less true state (P, 2, nv) at the times that both have."""
    # Stamps are sums of rounded periods.
    by_time = {round(state.stamp, 6): state for state in true}
    errors = []
    for state in predicted:
        if (there := by_time.get(round(state.stamp, 6))) is not None:
            position = np.zeros(model.nv)
            mujoco.mj_differentiatePos(model, position, 1.0, there.qpos, state.qpos)
            errors.append((position, state.qvel - there.qvel))
    return np.array(errors).reshape(-1, 2, model.nv)
