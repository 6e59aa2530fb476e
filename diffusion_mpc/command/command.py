"""Commands without ROS.

What the actuators drive, gains round targets, limits, and the safe command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from diffusion_mpc.names import SafeCommand
from diffusion_mpc.tasks.actuation import Drive, drive
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import Array, ControlLaw

NO_JOINT = -1
"""Address of the joint of an actuator that drives none of its own."""


@dataclass(frozen=True)
class Actuator:
    """An actuator: what it is commanded by, and the unit of its control.

    Attributes:
        name: actuator name
        joint: name of the joint that it alone drives; empty: there is none
        field: "effort", "position" or "velocity" of that joint; "control": the control itself
        scale: value of that field per unit of control
        qpos, qvel: addresses of the joint; `NO_JOINT` where there is none
        rest: control at rest, in actuator units
    """

    name: str
    joint: str
    field: Drive
    scale: float
    qpos: int
    qvel: int
    rest: float = 0.0

    @property
    def label(self) -> str:
        """Name in messages: the joint's, or its own where it has no joint."""
        return self.joint or self.name


def actuators(model: mujoco.MjModel, rest: Array | None = None) -> list[Actuator]:
    """The actuators in MuJoCo's order.

    Args:
        model: model of the robot
        rest: (nu,) controls at rest, in actuator units; None: zero

    Raises:
        TaskError: an actuator has no gain, or no name of its own in messages
    """
    found = [_actuator(model, i, 0.0 if rest is None else float(rest[i])) for i in range(model.nu)]
    for label, count in Counter(a.label for a in found).items():
        if count > 1:
            raise TaskError(
                f"commands to '{label}' would be ambiguous: it is a joint and an actuator of "
                "another; rename the actuator"
            )
    return found


def _actuator(model: mujoco.MjModel, i: int, rest: float) -> Actuator:
    name, field = model.actuator(i).name, drive(model, i)
    if field == "control":
        if not name:
            raise TaskError(
                f"actuator {i} has no name, and does not drive a joint of its own by whose name it "
                "could be commanded; give it a name"
            )
        return Actuator(name, "", field, 1.0, NO_JOINT, NO_JOINT, rest)
    joint = int(model.actuator_trnid[i, 0])
    gear = float(model.actuator_gear[i, 0])
    # A servo looks at the length of its transmission, which is the joint's times the gear.
    per_unit = gear * float(model.actuator_gainprm[i, 0]) if field == "effort" else gear
    if per_unit == 0.0:
        raise TaskError(f"actuator '{name or i}' has no gain; give it a gear or a gain")
    if not model.joint(joint).name:
        raise TaskError(
            f"the joint of body '{model.body(model.jnt_bodyid[joint]).name}' that actuator "
            f"'{name or i}' drives has no name to be commanded by; give it one"
        )
    return Actuator(
        name or str(i),
        model.joint(joint).name,
        field,
        per_unit if field == "effort" else 1.0 / per_unit,
        int(model.jnt_qposadr[joint]),
        int(model.jnt_dofadr[joint]),
        rest,
    )


def joint_values(actuators: Sequence[Actuator], values: Array, field: str) -> Array:
    """Positions or velocities (..., nu) of the actuators' joints; 0 where there is no joint.

    Args:
        actuators: the actuators
        values: (..., nq) or (..., nv)
        field: "qpos" or "qvel", which says which of them
    """
    addresses = np.array([getattr(a, field) for a in actuators], dtype=int)
    found = values[..., addresses]
    found[..., addresses == NO_JOINT] = 0.0
    return np.asarray(found)


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
        q, v = joint_values(actuators, qpos, "qpos"), joint_values(actuators, qvel, "qvel")
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
            towards the last good state as well. These are for joints driven by effort; whatever the
            kind, position servos hold the last good state, velocity servos stand still, and
            actuators that no joint stands for have their control at rest.
        actuators: the actuators of the robot
        qpos: (nq,) last good positions
        kp: position gain, SI units
        kd: velocity gain, SI units
    """
    position = joint_values(actuators, qpos, "qpos")
    zero = np.zeros(len(actuators))
    still = {"position": lambda a, q: q / a.scale, "control": lambda a, q: a.rest}
    control = np.array(
        [
            still[a.field](a, q) if a.field in still else 0.0
            for a, q in zip(actuators, position, strict=True)
        ]
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
