"""The data path in one place: state -> actuators' memory -> predict -> plan -> command.

Knows nothing of ROS; the planner node is a shell around it.
"""

from __future__ import annotations

import math
import time as clock
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np
import torch

from diffusion_mpc.bags.demonstrations import read_demonstration
from diffusion_mpc.command.command import constant_control
from diffusion_mpc.command.follower import needs_planned_states
from diffusion_mpc.config import ConfigError, PlannerNodeConfig, SearchConfig
from diffusion_mpc.estimation.actuator_states import ActuatorStates
from diffusion_mpc.estimation.predictor import Predictor
from diffusion_mpc.names import BackendName
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.planner import Planner
from diffusion_mpc.planner.terminal_value import TerminalValue
from diffusion_mpc.policy.checkpoint import SHIPPED, CheckpointError, locate, read_description
from diffusion_mpc.policy.diffusion_policy import DiffusionPolicy
from diffusion_mpc.policy.policy import Policy
from diffusion_mpc.policy.purpose import Purpose
from diffusion_mpc.policy.trajectory_policy import TrajectoryPolicy
from diffusion_mpc.policy.value import read_value
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.runtime.backend_choice import ChosenBackend, choose
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.measured import initial_state, observe
from diffusion_mpc.types import CommandHistory, ControlLaw, Plan, Reference, State
from diffusion_mpc.versions import model_hash

# Stamps and command times come from one clock but are rounded on their way; a millisecond is far
# below a control step.
ROUNDING = 1e-3

HISTORY = 1.0
"""Time for which commands are remembered beyond the age that a state may have, s.

Longer than a period and the actuators' delay.
"""


class Controller:
    """Plans from measured states and evaluates the newest plan by time.

    It has no threads of its own; a session (`session.py`) calls it. `plan` may run in one thread
    while another calls `sent` and reads `current`: they share a reference to the newest plan and
    the history of commands, and nothing else.

    Attributes:
        config: parameters of the newest plan to come
        current: the newest plan; None before the first
        start: state that the newest plan begins at; None before the first
        choice: how the backend was chosen; None where the configuration names it
        policy: the policy that the configuration names; None: none
        missing: networks that the configuration names and that do not fit, and why
    """

    def __init__(
        self,
        task: Task,
        config: PlannerNodeConfig,
        weights: Mapping[str, float],
        elites: int = 0,
        traces: int | None = None,
    ) -> None:
        """Build backend, planner, predictor and the estimate of what actuators remember.

        Args:
            task: task to control
            config: parameters of the planner node
            weights: weight of every cost term
            elites: number of the cheapest samples whose knots a plan holds
            traces: number of those whose positions a plan holds; None: as many as are drawn

        Raises:
            ValueError: parameters do not fit each other; the message says which
        """
        self.task = task
        self.choice: ChosenBackend | None = None
        if config.backend.name == "auto":
            plan_time = partial(_plan_time, task, config, weights)
            self.choice = choose(
                task, config.robust, plan_time, config.planner.time_budget / config.planner.rate
            )
            config = _on(config, self.choice.name)
        self.backend = make_backend(config.backend, config.model, config.robust, task)
        self.missing = list[str]()
        self.objective = Objective(
            task,
            self.backend,
            config.planner,
            weights,
            config.robust,
            self._read_value(config),
        )
        named = config.planner.demonstration
        demonstration = read_demonstration(named, task) if named else None
        if named and config.policy.checkpoint and config.policy.fusion == "max_rule":
            raise ConfigError(
                "policy.fusion max_rule makes the policy's plan the demonstration; leave "
                "planner.demonstration empty, or set policy.fusion to rows"
            )
        self.policy = self._read_policy(config)
        drawn = self._traces(config) if traces is None else traces
        self.planner = Planner(
            self.objective, config.planner, drawn, demonstration, self.policy, elites
        )
        fine = {"timestep": config.prediction.timestep, "iterations": config.prediction.iterations}
        model = task.compile(integrator=config.model.integrator, **fine)
        self.predictor = Predictor(task, model)
        self.actuator_states = ActuatorStates(task, model)
        self.configure(config, weights)
        self.current: Plan | None = None
        self.start: State | None = None
        self._sent: deque[tuple[float, ControlLaw]] = deque()

    def configure(self, config: PlannerNodeConfig, weights: Mapping[str, float]) -> None:
        """Change live parameters; takes effect with the next plan."""
        self.config = config
        self.objective.configure(weights, config.robust, config.value.weight)
        self.planner.configure(config.planner, config.policy)
        self._with_states, self._predicted = (
            needs_planned_states(config.output, config.gains),
            config.prediction.enabled,
        )

    def purpose(self, config: PlannerNodeConfig, checkpoint: str) -> Purpose:
        """The purpose that a checkpoint of some name has to fit."""
        start = initial_state(self.task, self.backend.model)
        observation = observe(self.task, self.backend.model, start, Reference())
        # A task that moves by equations has no model file.
        own = self.task.path == getattr(type(self.task), "model_path", None)
        return Purpose(
            self.task.name,
            # Other processors compile a model to other bytes.
            "" if checkpoint.startswith(SHIPPED) and own else model_hash(self.task.model),
            len(observation),
            self.task.model.nu,
            plan_structure(config.planner),
        )

    def _read_policy(self, config: PlannerNodeConfig) -> Policy | None:
        """The policy; None where none is named, or where it does not fit and can be done without.

        Raises:
            CheckpointError: it does not fit, and nothing but the policy controls
        """
        if not config.policy.checkpoint:
            return None
        name = config.policy.checkpoint
        try:
            path, purpose, seed = locate(name), self.purpose(config, name), config.planner.seed
            if read_description(path).kind == "diffuser":
                return TrajectoryPolicy(path, purpose, self.objective.spline.to_knots, seed)
            return DiffusionPolicy(path, purpose, seed)
        except CheckpointError as error:
            if config.planner.algorithm == "policy":
                raise
            self.missing.append(f"planning without the policy: {error}")
            return None

    def _read_value(self, config: PlannerNodeConfig) -> TerminalValue | None:
        name = config.value.checkpoint
        if not name:
            return None
        try:
            network, period = read_value(locate(name), self.purpose(config, name))
        except CheckpointError as error:
            self.missing.append(f"planning without the value: {error}")
            return None
        like = torch.zeros((), dtype=self.backend.dtype, device=self.backend.device)
        search = config.planner
        return TerminalValue(
            self.task, network, period, search.horizon_steps * search.control_dt, like
        )

    def _traces(self, config: PlannerNodeConfig) -> int:
        # A base that does not float has no path to draw.
        return config.markers.count if self.task.base is not None else 0

    def reset(self) -> None:
        """Forget the plan and the commands sent."""
        self.planner.reset()
        self.actuator_states.reset()
        self.current = self.start = None
        self._sent.clear()

    def take_over(self, before: Controller) -> None:
        """Go on from where another controller of the same task is."""
        self.current, self.start, self._sent = before.current, before.start, before._sent
        self.actuator_states.take_over(before.actuator_states)
        if before.current is not None:
            self.planner.take_over(before.planner, before.current)

    def warm_up(self) -> None:
        """Make one plan and forget it, so that the first real one is as fast as the others."""
        self.plan(initial_state(self.task, self.backend.model), Reference(), 0.0)
        self.reset()

    def plan(
        self, state: State, reference: Reference, start_time: float, budget: float = math.inf
    ) -> Plan:
        """One cycle of the data path.

        Args:
            state: measured state; what its actuators remember is estimated
            reference: what to track
            start_time: time that the plan's first action is meant to take effect, s
            budget: time that planning may take, s

        Raises:
            NoFeasibleSampleError: no sample has a finite cost; the previous plan stays in force
        """
        began = clock.perf_counter()
        state = self.actuator_states.estimate(state, self.commands)
        if self._predicted:
            start = self.predictor.predict(
                state, start_time, self.commands(state.stamp, start_time)
            )
        else:
            start = replace(state, stamp=start_time)
        budget -= clock.perf_counter() - began
        plan = self.planner.plan(start, reference, stamp=state.stamp, budget=budget)
        if self._with_states:
            plan = replace(
                plan,
                planned_states=self.predictor.planned_states(start, plan.controls, plan.control_dt),
            )
        self.current, self.start = plan, start
        return plan

    def prepare(self) -> None:
        """Do what can be done of the next plan before its state is there."""
        self.planner.prepare()

    def sent(self, time: float, command: ControlLaw) -> None:
        """Note a command that was sent, and the time (s) from which the actuators obey it."""
        self._sent.append((time, command))
        # The prediction looks through all that are kept, and so does every garbage collection: keep
        # those that a state may ask for.
        oldest = time - self.config.state_timeout - HISTORY
        while len(self._sent) > 1 and self._sent[1][0] <= oldest:
            self._sent.popleft()

    def command_at(self, time: float) -> ControlLaw:
        """Command in force at `time` (s).

        One sent before, the plan's for a time yet to come, or no effort.
        """
        sent, plan = list(self._sent), self.current
        if plan is not None and (not sent or time > sent[-1][0] + plan.control_dt - ROUNDING):
            return constant_control(plan.control(time))
        earlier = [command for moment, command in sent if moment <= time + ROUNDING]
        return earlier[-1] if earlier else constant_control(self.task.action_centre)

    def commands(self, begin: float, end: float) -> CommandHistory:
        """Commands in force from one time to another, s."""
        plan, changes = self.current, [moment for moment, _ in list(self._sent)]
        if plan is not None:
            first = changes[-1] + plan.control_dt if changes else plan.start_time
            steps = plan.start_time + plan.control_dt * np.arange(len(plan.controls))
            changes += [first, *steps[steps > first + ROUNDING].tolist()]
        times = [begin, *(time for time in changes if begin + ROUNDING < time < end - ROUNDING)]
        return [(time, self.command_at(time)) for time in times]


def plan_structure(search: SearchConfig) -> dict[str, int | float | str]:
    """Structure of plans, which a policy depends on; see `Description.plan`."""
    names = ("num_knots", "horizon_steps", "control_dt", "spline")
    return {name: getattr(search, name) for name in names}


def _on(config: PlannerNodeConfig, backend: BackendName) -> PlannerNodeConfig:
    return replace(config, backend=replace(config.backend, name=backend))


def _plan_time(
    task: Task,
    config: PlannerNodeConfig,
    weights: Mapping[str, float],
    backend: BackendName,
    samples: int,
) -> float:
    """Time (s) of a plan of some samples on a backend; the median of three."""
    wanted = replace(config, planner=replace(config.planner, num_samples=samples))
    controller = Controller(task, _on(wanted, backend), weights)
    controller.warm_up()
    times = []
    for _ in range(3):
        began = clock.perf_counter()
        controller.warm_up()
        times.append(clock.perf_counter() - began)
    return median(times)
