"""Disturbances between a real robot and its planner.

Late and noisy measurements, late, lost and smoothed commands.

Knows nothing of ROS. Everything random comes from a seed, so that a run in lockstep can be
repeated.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import mujoco
import numpy as np

from diffusion_mpc.command.command import Command
from diffusion_mpc.command.follower import Point
from diffusion_mpc.config import NoiseConfig
from diffusion_mpc.types import Array, State

# Stamps and delays are sums of rounded steps; a microsecond is far below any of them.
ROUNDING = 1e-6


def whole_periods(delay: float, period: float) -> float:
    """A delay (s) rounded up to whole periods (s).

    In lockstep nothing arrives between two of them.
    """
    return math.ceil(delay / period - ROUNDING) * period


class Measurements:
    """Measured states on their way to the planner.

    A state keeps the stamp of its measurement, so that the delay shows as age.
    """

    def __init__(self, model: mujoco.MjModel, delay: float, seed: int) -> None:
        """Nothing is on its way yet; `delay` in s."""
        self._model, self._delay = model, delay
        self._random = np.random.default_rng([seed, 0])
        self._under_way: deque[State] = deque()

    def take(self, state: State, noise: NoiseConfig) -> None:
        """Measure a true state.

        Noise goes on it, along the tangent of its quaternions, and it sets out.
        """
        if noise.position > 0.0 or noise.velocity > 0.0:
            error = self._random.standard_normal((2, self._model.nv))
            qpos = state.qpos.copy()
            mujoco.mj_integratePos(self._model, qpos, noise.position * error[0], 1.0)
            state = replace(state, qpos=qpos, qvel=state.qvel + noise.velocity * error[1])
        self._under_way.append(state)

    def arrived(self, time: float) -> State | None:
        """The newest state that has arrived by `time` (s) and was not handed out before.

        None where there is none.
        """
        newest = None
        while self._under_way and self._under_way[0].stamp + self._delay <= time + ROUNDING:
            newest = self._under_way.popleft()
        return newest

    def standing(self, state: State, period: float, noise: NoiseConfig) -> None:
        """Begin as if the robot had stood in `state` and been measured once a period (s)."""
        self._under_way.clear()
        for k in range(int(self._delay / period + ROUNDING) + 1):
            self.take(replace(state, stamp=state.stamp - self._delay + k * period), noise)


class Commands:
    """Commands on their way to the actuators, and those that these hold."""

    def __init__(self, rest: Command, seed: int) -> None:
        """Start with the command `rest` in force."""
        self._rest = rest
        self._random = np.random.default_rng([seed, 1])
        self.reset(0.0)

    def reset(self, time: float) -> None:
        """Nothing is on its way any more.

        The command at rest has been in force since `time` (s).
        """
        self._under_way: deque[tuple[float, Sequence[Point]]] = deque()
        self._in_force: tuple[float, Sequence[Point]] = (time, [(0.0, self._rest)])

    def send(self, points: Sequence[Point], time: float, delay: float, dropout: float) -> bool:
        """Send commands at `time` (s); says whether they get through.

        Args:
            points: what the actuators are to do, each command until the next one's time comes
            time: time at which they are sent, s
            delay: time until they take effect, s
            dropout: probability that they are lost
        """
        if dropout > 0.0 and self._random.random() < dropout:
            return False
        # Messages do not overtake one another, also when the delay is made shorter meanwhile.
        earliest = self._under_way[-1][0] if self._under_way else -math.inf
        self._under_way.append((max(time + delay, earliest), points))
        return True

    def at(self, time: float, timeout: float = math.inf) -> Command:
        """The command in force at `time` (s), which does not run backwards.

        That at rest when no news came for `timeout` (s).
        """
        while self._under_way and self._under_way[0][0] <= time + ROUNDING:
            self._in_force = self._under_way.popleft()
        since, points = self._in_force
        if time - since > timeout:
            return self._rest
        begun = [command for seconds, command in points if since + seconds <= time + ROUNDING]
        return begun[-1] if begun else points[0][1]


class Actuation:
    """Actuators that follow their controls with a first-order lag."""

    def __init__(self, timestep: float, rest: Array) -> None:
        """Take the time (s) between two calls of `follow`, and the controls (nu,) to begin with."""
        self._timestep, self._rest = timestep, rest
        self.reset()

    def reset(self) -> None:
        """Back to the controls of the beginning."""
        self._control = self._rest

    def follow(self, control: Array, lag: float) -> Array:
        """Control (nu,) one time step on its way to `control`.

        `lag` is the time constant in s, 0: at once.
        """
        fraction = -math.expm1(-self._timestep / lag) if lag > 0.0 else 1.0
        self._control = (
            control if fraction == 1.0 else self._control + fraction * (control - self._control)
        )
        return self._control
