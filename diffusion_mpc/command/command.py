"""Commands without ROS.

What the actuators drive, gains round targets, limits, and the safe command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from diffusion_mpc.names import SafeCommand
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.tasks.model_file import drives_joint, is_servo
from diffusion_mpc.types import Array, ControlLaw


@dataclass(frozen=True)
class Actuator:
    """An actuator: its joint, and the unit of its control.

    Attributes:
        name: actuator name
        joint: joint name
        field: "effort", "position" or "velocity"
        scale: value of that field per unit of control
        qpos, qvel: addresses of the joint
    """

    name: str
    joint: str
    field: str
    scale: float
    qpos: int
    qvel: int


def actuators(model: mujoco.MjModel) -> list[Actuator]:
    """The actuators in MuJoCo's order.

    Raises:
        TaskError: an actuator does not drive a single hinge or slide, or is neither a motor nor a
            position or velocity servo
    """
    return [_actuator(model, i) for i in range(model.nu)]


def _actuator(model: mujoco.MjModel, i: int) -> Actuator:
    name = model.actuator(i).name or str(i)
    if not drives_joint(model, i):
        raise TaskError(
            f"actuator '{name}' does not drive a joint; only joint actuators can be commanded"
        )
    joint = int(model.actuator_trnid[i, 0])
    gain, bias = model.actuator_gainprm[i], model.actuator_biasprm[i]
    field = "effort" if not is_servo(model, i) else "position" if bias[1] != 0 else "velocity"
    scale = float(model.actuator_gear[i, 0] * gain[0]) if field == "effort" else 1.0
    if scale == 0.0:
        raise TaskError(f"actuator '{name}' has no gain; give it a gear or a gain")
    return Actuator(
        name,
        model.joint(joint).name,
        field,
        scale,
        int(model.jnt_qposadr[joint]),
        int(model.jnt_dofadr[joint]),
    )


def constant_control(control: Array) -> ControlLaw:
    """A control (nu,) that does not depend on the state."""
    return lambda qpos, qvel: control


@dataclass(frozen=True)
class Command:
    """Input of a robot's joint controllers: controls, and gains round targets where there are any.

    Attributes:
        control: (nu,) in actuator units
        kp, kd: (nu,) gains in SI units that act on top of an effort; zero: none
        position, velocity: (nu,) targets of the gains, or of controllers that have gains of their
            own
    """

    control: Array
    kp: Array
    kd: Array
    position: Array
    velocity: Array

    def applied(self, actuators: Sequence[Actuator], qpos: Array, qvel: Array) -> Array:
        """Control (nu,) that results at a state, gains included."""
        q, v = qpos[[a.qpos for a in actuators]], qvel[[a.qvel for a in actuators]]
        effort = self.kp * (self.position - q) + self.kd * (self.velocity - v)
        return self.control + np.array(
            [
                e / a.scale if a.field == "effort" else 0.0
                for e, a in zip(effort, actuators, strict=True)
            ]
        )


def without_gains(control: Array) -> Command:
    """A command without gains."""
    zero = np.zeros_like(control)
    return Command(control, zero, zero, zero, zero)


def safe_command(
    kind: SafeCommand, actuators: Sequence[Actuator], qpos: Array, kp: float, kd: float
) -> Command:
    """Command for when control is lost.

    The robot's own joint controllers close the loop, for the state here may be stale.

    Args:
        kind: "zero": no effort; "damping": velocity gain towards standstill; "hold": position gain
            towards the last good state as well. These are for actuators driven by effort; whatever
            the kind, position servos hold the last good state and velocity servos stand still.
        actuators: the actuators of the robot
        qpos: (nq,) last good positions
        kp: position gain, SI units
        kd: velocity gain, SI units
    """
    position = np.array([qpos[a.qpos] for a in actuators])
    zero = np.zeros(len(actuators))
    control = np.array(
        [position[i] if a.field == "position" else 0.0 for i, a in enumerate(actuators)]
    )
    # A servo has gains of its own.
    by_effort = np.array([float(a.field == "effort") for a in actuators])
    gains = (kp * (kind == "hold") * by_effort, kd * (kind in ("hold", "damping")) * by_effort)
    return Command(control, *gains, position=position, velocity=zero)


class CommandLimiter:
    """Keeps commands within control range and rate of change, and counts those it had to change."""

    def __init__(self, low: Array, high: Array) -> None:
        """Take the limits (nu,) in actuator units."""
        self._low, self._high = low, high
        self._last: tuple[float, Array] | None = None
        self.clamped = 0

    def limit(self, controls: Sequence[Array], times: Array, rate_limit: float) -> list[Array]:
        """The nearest allowed controls.

        Args:
            controls: each (nu,), in the order of time; the first is sent now, the others are meant
                for later
            times: time of each control, s
            rate_limit: fastest change, in control ranges per second; 0: none
        """
        found: list[Array] = []
        last = self._last
        for control, time in zip(controls, times.tolist(), strict=True):
            low, high = self._low, self._high
            if rate_limit > 0.0 and last is not None:
                step = max(time - last[0], 0.0) * rate_limit * (high - low)
                low, high = np.maximum(low, last[1] - step), np.minimum(high, last[1] + step)
            found.append(np.clip(control, low, high))
            last = (time, found[-1])
        self.clamped += bool((found[0] != controls[0]).any())
        self._last = (float(times[0]), found[0])
        return found

    def within_range(self, control: Array) -> Array:
        """The nearest control (nu,) in the control range."""
        return np.clip(control, self._low, self._high)

    def reset(self) -> None:
        """Forget the last command: the next one may be anything within the control range."""
        self._last = None
