"""From the measured state to the state when the plan's first action takes effect."""

from __future__ import annotations

import copy
import math

import mujoco
import numpy as np

from diffusion_mpc.estimation.delays import ControlRecord
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array, CommandHistory, PlannedStates, State


class Predictor:
    """Rolls a model forward under the commands that are in force until then (delay compensation).

    The model may be finer than the planning model: it is rolled out once a plan, not once a sample,
    and what it gets wrong no sample can make good. A contact of an ant that is stepped at 20 ms
    instead of 5 ms costs a third of a rad/s after 40 ms.
    """

    def __init__(self, task: Task, model: mujoco.MjModel) -> None:
        """Copy the model.

        Args:
            task: how the robot moves
            model: model of the task; its time step is the longest of a prediction, which fits its
                steps to the commands
        """
        self._task = task
        self._model, self._delays = undelayed(model)
        self._timestep = model.opt.timestep
        self._data = mujoco.MjData(self._model)

    def predict(self, state: State, time: float, commands: CommandHistory) -> State:
        """State at `time`, with what the actuators remember.

        Args:
            state: measured state
            time: time to predict for, s; not before the state's stamp
            commands: what is in force from the state's stamp on, in the order of time
        """
        # Stamps are rounded on their way.
        if time - state.stamp < 1e-6:
            return state
        data, record = self._begin(state)
        ends = [*(begin for begin, _ in commands[1:]), time]
        for (begin, law), end in zip(commands, ends, strict=True):
            for _ in range(self._divide(end - begin)):
                data.ctrl[:] = record.give(data.time, law(data.qpos, data.qvel))
                self._task.step(self._model, data)
        return State(
            time,
            np.array(data.qpos),
            np.array(data.qvel),
            np.array(data.act),
            record.past(data.time),
        )

    def planned_states(self, state: State, controls: Array, control_dt: float) -> PlannedStates:
        """States that controls (horizon, nu), each held for `control_dt` (s), lead to."""
        (data, record), steps = self._begin(state), self._divide(control_dt)
        qpos, qvel = [np.array(data.qpos)], [np.array(data.qvel)]
        for control in controls:
            for _ in range(steps):
                data.ctrl[:] = record.give(data.time, control)
                self._task.step(self._model, data)
            qpos.append(np.array(data.qpos))
            qvel.append(np.array(data.qvel))
        return PlannedStates(np.array(qpos), np.array(qvel))

    def _divide(self, interval: float) -> int:
        """Equal steps that an interval (s) is made in."""
        steps = max(math.ceil(interval / self._timestep - 1e-6), 1)
        self._model.opt.timestep = interval / steps
        return steps

    def _begin(self, state: State) -> tuple[mujoco.MjData, ControlRecord]:
        data = self._data
        mujoco.mj_resetData(self._model, data)
        data.qpos[:], data.qvel[:], data.act[: len(state.act)] = state.qpos, state.qvel, state.act
        return data, ControlRecord(self._delays, state.past, self._task.action_centre)


def undelayed(model: mujoco.MjModel) -> tuple[mujoco.MjModel, Array]:
    """A copy of a model whose actuators obey at once, and their delays (nu,), s.

    MuJoCo counts what it remembers in time steps, and these are fitted to the commands.
    """
    changed, delays = copy.copy(model), np.array(model.actuator_delay)
    changed.actuator_delay[:] = 0.0
    return changed, delays
