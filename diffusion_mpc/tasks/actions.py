"""Normalised actions: `ctrl = centre + scale * a`, a in [-1, 1], clipped to the control range.

A plan of zeros commands the centre. For a robot with servos that is its nominal pose, round which
a legged robot moves by a few tenths of a radian, whatever the range of its servos.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from diffusion_mpc.tasks.actuation import INTEGRATOR, holds_position
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.model_file import actuator_names, drives_joint
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class ServoReach:
    """Reach of position servos on either side of the centre; other actuators have their range.

    Attributes:
        target: rad or m
    """

    target: float


ActionScale = float | Mapping[str, float] | ServoReach
"""Reach of the actions on either side of the centre.

A number is a fraction of the range; a mapping gives one value an actuator, in the unit of its
control, by its name, its joint's or a pattern such as `*_hip`, the later one where two fit. The
range ends any of them.
"""


def action_centre(
    spec: mujoco.MjSpec, model: mujoco.MjModel, keyframe: str | None, limits: tuple[Array, Array]
) -> Array:
    """Centre (nu,) of the actions, in actuator units, within the limits.

    The control of the keyframe. Where the MJCF gives it none, position servos are where the
    keyframe has their joints, and others are in the middle of their range.
    """
    low, high = limits
    middle = (low + high) / 2.0
    key = None if keyframe is None else spec.key(keyframe)
    if key is None:
        return middle
    if len(key.ctrl):
        return np.clip(np.array(key.ctrl, dtype=np.float64), low, high)
    qpos = model.key_qpos[mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, keyframe)]
    for i in range(model.nu):
        if is_position_servo(model, i):
            # A gear turns the joint's angle into what the servo measures.
            angle = qpos[model.jnt_qposadr[model.actuator_trnid[i, 0]]]
            middle[i] = np.clip(model.actuator_gear[i, 0] * angle, low[i], high[i])
    return middle


def is_position_servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether an actuator's control is the position of a joint."""
    return (
        drives_joint(model, actuator)
        and holds_position(model, actuator)
        # That one's control is a velocity.
        and int(model.actuator_dyntype[actuator]) != INTEGRATOR
    )


def action_scale(
    model: mujoco.MjModel, wanted: ActionScale, centre: Array, limits: tuple[Array, Array]
) -> Array:
    """Scale (nu,) of the actions, in actuator units.

    A fraction of 1 reaches both ends of the range, also from a centre that is not in the middle.

    Raises:
        TaskError: a value is not positive, an actuator has none, or a name fits no actuator
    """
    low, high = limits
    reach = np.maximum(high - centre, centre - low)
    if isinstance(wanted, ServoReach):
        servos = [is_position_servo(model, i) for i in range(model.nu)]
        return np.where(servos, np.minimum(wanted.target, reach), reach)
    if not isinstance(wanted, Mapping):
        if not 0.0 < wanted <= 1.0:
            raise TaskError(
                f"action_scale is {wanted:g}; a fraction of the range is above 0 and at most 1"
            )
        return wanted * reach
    names = [_names(model, i) for i in range(model.nu)]
    scale = np.zeros(model.nu)
    for pattern, value in wanted.items():
        fits = [any(fnmatch.fnmatchcase(name, pattern) for name in found) for found in names]
        if not any(fits) or not value > 0.0:
            reason = "fits no actuator" if not any(fits) else "must be positive"
            raise TaskError(
                f"action_scale: '{pattern}' {reason}; actuators are "
                f"{', '.join(actuator_names(model))}"
            )
        scale[fits] = value
    if missing := [found[0] for found, s in zip(names, scale, strict=True) if s == 0.0]:
        raise TaskError(f"action_scale has no value for actuator '{missing[0]}'")
    return np.minimum(scale, reach)


def _names(model: mujoco.MjModel, actuator: int) -> list[str]:
    names = [actuator_names(model)[actuator]]
    if drives_joint(model, actuator):
        names.append(model.joint(model.actuator_trnid[actuator, 0]).name)
    return names
