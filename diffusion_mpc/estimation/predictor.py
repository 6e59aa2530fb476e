"""From the measured state to the state when the plan's first action takes effect."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import mujoco
import numpy as np

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array, State

LONGEST_STEP = 0.02
"""Longest step of a prediction, s: within it the command is taken not to change, however coarse the planning model is."""


class Predictor:
    """Rolls the planning model forward with the commands already sent (delay compensation)."""

    def __init__(self, task: Task, model: mujoco.MjModel) -> None:
        """Copy the task's planning model: prediction fits its step to the interval."""
        self._task = task
        self._model = copy.copy(model)
        self._timestep = min(model.opt.timestep, LONGEST_STEP)
        self._data = mujoco.MjData(self._model)

    def predict(self, state: State, time: float, command: Callable[[float], Array]) -> State:
        """State at `time`, positions and velocities.

        Args:
            state: measured state
            time: time to predict for, s; not before the state's stamp
            command: control (nu,) in force at a time, in actuator units
        """
        interval = time - state.stamp
        steps = math.ceil(interval / self._timestep - 1e-6)
        if steps <= 0:
            return state
        model, data = self._model, self._data
        model.opt.timestep = interval / steps
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.act[: len(state.act)] = state.qpos, state.qvel, state.act
        for i in range(steps):
            data.ctrl[:] = command(state.stamp + i * model.opt.timestep)
            self._task.step(model, data)
        return State(time, np.array(data.qpos), np.array(data.qvel), np.array(data.act))
