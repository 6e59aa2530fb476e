"""The data path in one place: state -> predict -> plan -> command. Knows nothing of ROS; the planner node is a shell around it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from diffusion_mpc.config import NodeConfig
from diffusion_mpc.estimation.predictor import Predictor
from diffusion_mpc.following import needs_track
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.planner import Planner
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array, Plan, Reference, State


class Controller:
    """Plans from measured states and evaluates the newest plan by time.

    `plan` may run in one thread while `command` runs in another: they share a reference to the newest plan and the history of
    commands, and nothing else.
    """

    def __init__(self, task: Task, config: NodeConfig, weights: Mapping[str, float]) -> None:
        """Build backend, planner and predictor.

        Args:
            task: task to control
            config: parameters of the planner node
            weights: weight of every cost term

        Raises:
            ValueError: parameters do not fit each other; the message says which
        """
        self.task = task
        self.backend = make_backend(config.backend, config.model, config.robust, task)
        self.objective = Objective(task, self.backend, config.planner, weights, config.robust)
        self.planner = Planner(self.objective, config.planner, self._traces(config))
        self.predictor = Predictor(task, self.backend.model)
        self.configure(config, weights)
        self.current: Plan | None = None
        self._sent: deque[tuple[float, Array]] = deque(maxlen=256)

    def configure(self, config: NodeConfig, weights: Mapping[str, float]) -> None:
        """Change live parameters; takes effect with the next plan."""
        self.objective.configure(weights, config.robust)
        self.planner.configure(config.planner, self._traces(config))
        self._tracked = needs_track(config.output)

    def _traces(self, config: NodeConfig) -> int:
        # A base that does not float has no path to draw.
        return config.markers.count if self.task.base is not None else 0

    def reset(self) -> None:
        """Forget the plan and the commands sent."""
        self.planner.reset()
        self.current = None
        self._sent.clear()

    def warm_up(self) -> None:
        """Make one plan from the model's initial state and forget it, so that the first real one is as fast as the others."""
        data = self.task.initial_data(self.backend.model)
        self.plan(State(0.0, np.array(data.qpos), np.array(data.qvel), np.array(data.act)), Reference(), 0.0)
        self.reset()

    def plan(self, state: State, reference: Reference, start_time: float, budget: float = math.inf) -> Plan:
        """One cycle of the data path.

        Args:
            state: measured state
            reference: what to track
            start_time: time that the plan's first action is meant for, s
            budget: time that planning may take, s

        Raises:
            NoFeasibleSampleError: every sample is infeasible; the plan before stays in force
        """
        start = self.predictor.predict(state, start_time, self.command_at)
        plan = self.planner.plan(start, reference, stamp=state.stamp, budget=budget)
        if self._tracked:
            plan = replace(plan, track=self.predictor.track(start, plan.controls, plan.control_dt))
        self.current = plan
        return plan

    def sent(self, time: float, control: Array) -> None:
        """Note a command that was really sent, in actuator units (nu,)."""
        self._sent.append((time, control))

    def command_at(self, time: float) -> Array:
        """Control in force at `time`: what was sent before then, or what the plan holds for a time yet to come."""
        sent = list(self._sent)
        # Stamps and command times come from one clock but are rounded on their way; a millisecond is far below a control step.
        if self.current is not None and (not sent or time > sent[-1][0] + self.current.control_dt - 1e-3):
            return self.current.control(time)
        earlier = [control for moment, control in sent if moment <= time + 1e-3]
        if earlier:
            return earlier[-1]
        return sent[0][1] if sent else np.clip(0.0, *self.task.ctrl_limits)
