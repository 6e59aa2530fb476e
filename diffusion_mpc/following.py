"""From a plan to what is sent: smooth take-over, limits, and the planned joint motion as target of gains. Knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from diffusion_mpc.commands import Actuator, Command, CommandLimiter, safe_command
from diffusion_mpc.config import ConfigError, OutputConfig
from diffusion_mpc.types import Array, Plan

Point = tuple[float, Command]
"""A command, and the time in s after the message's own from which it applies."""

TRAJECTORY = "joint_trajectory"


class Follower:
    """Follows plans, one after the other."""

    def __init__(self, driven: Sequence[Actuator], low: Array, high: Array, config: OutputConfig) -> None:
        """Take the actuators, their limits (nu,) in actuator units, and parameters.

        Raises:
            ConfigError: as `configure`
        """
        self.driven = driven
        self._limiter = CommandLimiter(low, high)
        self._qpos, self._qvel = [a.qpos for a in driven], [a.qvel for a in driven]
        self.configure(config)
        self.reset()

    def configure(self, config: OutputConfig) -> None:
        """Change live parameters; takes effect with the next command.

        Raises:
            ConfigError: a gain is not a number, or for a joint that no actuator drives
        """
        kp, kd = (_by_actuator(f"output.{name}", getattr(config, name), self.driven) for name in ("kp", "kd"))
        self._settings = (config, kp, kd)

    @property
    def clamped(self) -> int:
        """Number of commands that a limit changed."""
        return self._limiter.clamped

    def reset(self) -> None:
        """Take over anew with the next plan."""
        self._limiter.reset()
        self._taken_over: tuple[float, Array] | None = None

    def safe(self, kind: str, qpos: Array, kp: float, kd: float) -> Command:
        """The safe command, within the control range; what follows takes over anew. Arguments as `commands.safe_command`."""
        self.reset()
        found = safe_command(kind, self.driven, qpos, kp, kd)
        return replace(found, control=self._limiter.within_range(found.control))

    def points(self, plan: Plan, time: float, period: float, qpos: Array) -> list[Point]:
        """The command of a plan for `time`, and where messages carry the horizon, those for the rest of it.

        Args:
            plan: what to follow
            time: time that the first command is due for, s
            period: time until the next command, s
            qpos: (nq,) measured positions, from which the plan takes over
        """
        config, kp, kd = self._settings
        if self._taken_over is None:
            self._taken_over = (time, safe_command("zero", self.driven, qpos, 0.0, 0.0).control)
        times = np.array([time])
        if config.type == TRAJECTORY:
            steps = plan.start_time + plan.control_dt * np.arange(len(plan.controls) + 1)
            times = np.append(times, steps[steps > time + 1e-3])
        wanted = [self._blended(plan.control(t), t, config.takeover) for t in times.tolist()]
        allowed = self._limiter.limit(wanted, times, config.rate_limit)
        # A gain pulls towards its target for a whole period: the middle of it is what it should look at.
        ahead = 0.0 if config.type == TRAJECTORY else 0.5 * period
        return [(t - time, self._with_targets(u, plan, t + ahead, kp, kd)) for u, t in zip(allowed, times.tolist(), strict=True)]

    def _blended(self, control: Array, time: float, duration: float) -> Array:
        """From holding position to the plan."""
        assert self._taken_over is not None
        began, held = self._taken_over
        # A clock may have been set back since then.
        passed = max(time - began, 0.0)
        if passed >= duration:
            return control
        return held + (control - held) * passed / duration

    def _with_targets(self, control: Array, plan: Plan, time: float, kp: Array, kd: Array) -> Command:
        zero = np.zeros_like(control)
        if plan.track is None:
            return Command(control, zero, zero, zero, zero)
        position, velocity = self._planned(plan, time)
        for i, a in enumerate(self.driven):
            # What a servo is sent is its target, and its gains are its own.
            position[i] = control[i] if a.field == "position" else position[i]
            velocity[i] = control[i] if a.field == "velocity" else velocity[i]
        return Command(control, kp, kd, position, velocity)

    def _planned(self, plan: Plan, time: float) -> tuple[Array, Array]:
        """Joint positions and velocities (nu,) that the plan leads to, linear between control steps."""
        assert plan.track is not None
        row = min(max((time - plan.start_time) / plan.control_dt, 0.0), float(len(plan.controls)))
        before = min(int(row), len(plan.controls) - 1)
        share = row - before
        qpos, qvel = plan.track.qpos[before : before + 2, self._qpos], plan.track.qvel[before : before + 2, self._qvel]
        return qpos[0] + share * (qpos[1] - qpos[0]), qvel[0] + share * (qvel[1] - qvel[0])


def needs_track(config: OutputConfig) -> bool:
    """Whether commands carry planned joint positions and velocities.

    Raises:
        ConfigError: a gain is not a number
    """
    gains = [*_gains("output.kp", config.kp).values(), *_gains("output.kd", config.kd).values()]
    return config.type == TRAJECTORY or any(gains)


def _gains(name: str, text: str) -> Mapping[str, float]:
    """Gains by joint; "" stands for all joints."""
    gains = {}
    for part in text.replace(",", " ").split():
        joint, _, number = part.rpartition("=")
        try:
            gains[joint] = float(number)
        except ValueError:
            raise ConfigError(f"{name}: '{number}' is not a number; write one for all joints, or joint=gain pairs") from None
        if not 0.0 <= gains[joint] <= 1e4:
            raise ConfigError(f"{name}: {number} is not between 0 and 10000")
    return gains


def _by_actuator(name: str, text: str, driven: Sequence[Actuator]) -> Array:
    gains = _gains(name, text)
    by_effort = {a.joint for a in driven if a.field == "effort"}
    unknown = [joint for joint in gains if joint and joint not in by_effort]
    if unknown:
        known = ", ".join(sorted(by_effort)) or "none"
        raise ConfigError(f"{name}: no actuator drives a joint '{unknown[0]}' by effort; those that are driven so: {known}")
    return np.array([gains.get(a.joint, gains.get("", 0.0)) if a.field == "effort" else 0.0 for a in driven])
