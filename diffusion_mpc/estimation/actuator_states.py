"""Estimate of what actuators remember: activations, and controls on their way.

No message carries them, and they follow from the commands sent. A copy of the model is led along
the measured states, from each to the next, and its actuators are given those commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import mujoco
import numpy as np

from diffusion_mpc.estimation.delays import ControlRecord
from diffusion_mpc.estimation.predictor import undelayed
from diffusion_mpc.tasks.actuation import has_memory, require_known_dynamics, resting_activations
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.model_file import actuator_names
from diffusion_mpc.types import Array, CommandHistory, State

LONGEST = 1.0
"""Longest time between two states for which commands are looked at, s.

After a longer one the activations go on from where they were, under the commands of this time.
"""


class ActuatorStates:
    """Estimates activations and past controls of a robot from its states and commands."""

    def __init__(self, task: Task, model: mujoco.MjModel) -> None:
        """Copy the model.

        Args:
            task: the robot, and its controls at rest
            model: model of the task; its time step is the longest of the estimate

        Raises:
            TaskError: an actuator has dynamics that cannot be computed
        """
        require_known_dynamics(model)
        self._task = task
        self._model, self._delays = undelayed(model)
        # Where the robot goes has been measured; only its actuators are of interest.
        disabled = (mujoco.mjtDisableBit.mjDSBL_CONSTRAINT, mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        for flag in disabled:
            self._model.opt.disableflags |= int(flag)
        self._timestep = model.opt.timestep
        self._data = mujoco.MjData(self._model)
        # Dynamics of a task's own know no actuators.
        self.needed = has_memory(model) and task.dynamics is None
        self.reset()

    def describe(self) -> str:
        """Line of text on what is estimated; empty where nothing is."""
        if not self.needed:
            return ""
        model, names = self._model, actuator_names(self._model)
        parts = {
            "activations": [names[i] for i in range(model.nu) if model.actuator_actnum[i]],
            "delayed controls": [names[i] for i in np.flatnonzero(self._delays)],
        }
        told = [f"{what} of {', '.join(who)}" for what, who in parts.items() if who]
        return f"no message carries the {' and the '.join(told)}: estimated from the commands sent"

    def reset(self) -> None:
        """Forget everything: at the next state the robot has stood still for long."""
        self._last: State | None = None

    def take_over(self, before: ActuatorStates) -> None:
        """Go on from another estimate of the same robot."""
        self._last = before._last

    def estimate(self, state: State, commands: Callable[[float, float], CommandHistory]) -> State:
        """A measured state with what its actuators remember.

        Args:
            state: measured state, not before the last one, unless time begins anew
            commands: commands in force from one time to another, s
        """
        if not self.needed:
            return state
        last = self._last
        if last is None or state.stamp < last.stamp:
            self._last = self._at_rest(state)
        elif state.stamp > last.stamp:
            self._last = self._led(last, state, commands)
        else:
            self._last = replace(state, act=last.act, past=last.past)
        return self._last

    def _at_rest(self, state: State) -> State:
        model, data, rest = self._model, self._data, self._task.action_centre
        mujoco.mj_resetData(model, data)
        data.qpos[:] = state.qpos
        mujoco.mj_fwdPosition(model, data)
        # A keyframe may say otherwise.
        given = self._task.initial_activations(model)
        act = resting_activations(model, data.actuator_length, rest) if given is None else given
        past = ControlRecord(self._delays, None, rest).past(0.0)
        return replace(state, act=act, past=past)

    def _led(
        self, last: State, state: State, commands: Callable[[float, float], CommandHistory]
    ) -> State:
        """The state `state`, with what actuators remember that were led to it from `last`."""
        model, data = self._model, self._data
        mujoco.mj_resetData(model, data)
        data.act[:] = last.act
        record = ControlRecord(self._delays, last.past, self._task.action_centre)
        span = state.stamp - last.stamp
        begin = max(last.stamp, state.stamp - LONGEST)
        way = np.zeros(model.nv)
        mujoco.mj_differentiatePos(model, way, 1.0, last.qpos, state.qpos)
        history = commands(begin, state.stamp)
        ends = [*(time for time, _ in history[1:]), state.stamp]
        for (time, law), end in zip(history, ends, strict=True):
            steps = max(math.ceil((end - time) / self._timestep - 1e-6), 1)
            model.opt.timestep = (end - time) / steps
            for k in range(steps):
                passed = time - last.stamp + k * model.opt.timestep
                self._put(last, state, passed / span, way)
                data.ctrl[:] = record.give(passed, law(data.qpos, data.qvel))
                if model.na:
                    mujoco.mj_step(model, data)
        return replace(state, act=np.array(data.act), past=record.past(span))

    def _put(self, last: State, state: State, fraction: float, way: Array) -> None:
        """Put the robot on the way from one state to the next."""
        data = self._data
        data.qpos[:] = last.qpos
        mujoco.mj_integratePos(self._model, data.qpos, way, fraction)
        data.qvel[:] = last.qvel + fraction * (state.qvel - last.qvel)
