"""From a plan to what is sent.

A blend at the beginning, limits, the planned joint motion as target of gains. Without ROS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from diffusion_mpc.command.command import (
    Actuator,
    Command,
    CommandLimiter,
    joint_values,
    safe_command,
)
from diffusion_mpc.config import JointGains, OutputConfig
from diffusion_mpc.names import OutputType, SafeCommand
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.types import Array, Plan

Point = tuple[float, Command]
"""A command, and the time in s after the message's own from which it applies."""

Gains = Mapping[str, JointGains]
"""Gains by joint; those of a joint that is not named are 0."""

NO_GAINS = JointGains()

TRAJECTORY: OutputType = "joint_trajectory"


class Follower:
    """Follows plans, one after the other."""

    def __init__(
        self,
        actuators: Sequence[Actuator],
        low: Array,
        high: Array,
        config: OutputConfig,
        gains: Gains,
    ) -> None:
        """Take the actuators, their limits (nu,) in actuator units, and parameters."""
        self.actuators = actuators
        self._limiter = CommandLimiter(low, high)
        self.configure(config, gains)
        self.reset()

    def configure(self, config: OutputConfig, gains: Gains) -> None:
        """Change live parameters; takes effect with the next command."""
        # A servo's gains are its own.
        by_actuator = [
            gains.get(a.joint, NO_GAINS) if a.field == "effort" else NO_GAINS
            for a in self.actuators
        ]
        self._settings = (
            config,
            np.array([g.p for g in by_actuator]),
            np.array([g.d for g in by_actuator]),
        )

    @property
    def clamped(self) -> int:
        """Number of commands that a limit changed."""
        return self._limiter.clamped

    def reset(self) -> None:
        """Take over anew with the next plan."""
        self._limiter.reset()
        self._taken_over: tuple[float, Array] | None = None

    def safe(self, kind: SafeCommand, qpos: Array, kp: float, kd: float) -> Command:
        """The safe command, within the control range; what follows takes over anew.

        Arguments as `commands.safe_command`.
        """
        self.reset()
        found = safe_command(kind, self.actuators, qpos, kp, kd)
        return replace(found, control=self._limiter.within_range(found.control))

    def points(self, plan: Plan, time: float, period: float, qpos: Array) -> list[Point]:
        """Command of a plan for `time`, and the rest of the horizon's where messages carry it.

        Args:
            plan: what to follow
            time: time that the first command is due for, s
            period: time until the next command, s
            qpos: (nq,) measured positions, from which the plan takes over
        """
        config, kp, kd = self._settings
        if self._taken_over is None:
            self._taken_over = (time, safe_command("zero", self.actuators, qpos, 0.0, 0.0).control)
        times = np.array([time])
        if config.type == TRAJECTORY:
            steps = plan.start_time + plan.control_dt * np.arange(len(plan.controls) + 1)
            times = np.append(times, steps[steps > time + 1e-3])
        wanted = [self._blended(plan.control(t), t, config.blend_time) for t in times.tolist()]
        allowed = self._limiter.limit(wanted, times, config.rate_limit)
        # A gain pulls towards its target for a whole period: the middle of it is what it should
        # look at.
        ahead = 0.0 if config.type == TRAJECTORY else 0.5 * period
        return [
            (t - time, self._with_targets(u, plan, t + ahead, kp, kd))
            for u, t in zip(allowed, times.tolist(), strict=True)
        ]

    def _blended(self, control: Array, time: float, duration: float) -> Array:
        """From holding position to the plan."""
        assert self._taken_over is not None
        began, start = self._taken_over
        # A clock may have been set back since then.
        passed = max(time - began, 0.0)
        if passed >= duration:
            return control
        return start + (control - start) * passed / duration

    def _with_targets(
        self, control: Array, plan: Plan, time: float, kp: Array, kd: Array
    ) -> Command:
        zero = np.zeros_like(control)
        if plan.planned_states is None:
            return Command(control, zero, zero, zero, zero)
        position, velocity = self._planned(plan, time)
        for i, a in enumerate(self.actuators):
            # What a servo is sent is its target, and its gains are its own.
            position[i] = control[i] * a.scale if a.field == "position" else position[i]
            velocity[i] = control[i] * a.scale if a.field == "velocity" else velocity[i]
        return Command(control, kp, kd, position, velocity)

    def _planned(self, plan: Plan, time: float) -> tuple[Array, Array]:
        """Joint positions and velocities (nu,) of the plan, linear between control steps."""
        assert plan.planned_states is not None
        row = min(max((time - plan.start_time) / plan.control_dt, 0.0), float(len(plan.controls)))
        before = min(int(row), len(plan.controls) - 1)
        fraction = row - before
        rows, states = slice(before, before + 2), plan.planned_states
        qpos = joint_values(self.actuators, states.qpos[rows], "qpos")
        qvel = joint_values(self.actuators, states.qvel[rows], "qvel")
        return qpos[0] + fraction * (qpos[1] - qpos[0]), qvel[0] + fraction * (qvel[1] - qvel[0])


def needs_planned_states(config: OutputConfig, gains: Gains) -> bool:
    """Whether commands carry planned joint positions and velocities."""
    return config.type == TRAJECTORY or any(g != NO_GAINS for g in gains.values())


def require_carried(actuators: Sequence[Actuator], kind: OutputType) -> None:
    """Check that messages of a type carry commands to all actuators.

    Raises:
        TaskError: they do not
    """
    controlled = [a.name for a in actuators if a.field == "control"]
    if kind == TRAJECTORY and controlled:
        raise TaskError(
            f"output.type is {TRAJECTORY}, which carries joints only, and no joint stands for "
            f"actuator '{controlled[0]}'; set output.type to joint_command or float64_multi_array"
        )
