"""Motors as position servos: the robot's joint controllers, which its model often leaves out.

Models of robots that are meant for reinforcement learning drive joints by torque, and whoever uses
them closes a loop round each joint. A plan of few samples needs that loop as well: round a nominal
pose most random targets keep a robot on its feet, and most random torques do not.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import mujoco
import numpy as np

from diffusion_mpc.tasks.errors import TaskError

Gains = Mapping[str, tuple[float, float]]
"""Position gain (N m/rad or N/m) and velocity gain (N m s/rad or N s/m).

By the name of an actuator or its joint, or a pattern such as `*_calf`; of two that fit the later
one counts.
"""


def as_servos(spec: mujoco.MjSpec, gains: Gains) -> None:
    """Turn motors into position servos whose torque ends where the motor's did.

    Targets have the range of the joint; servos of joints without one, the whole turn.

    Raises:
        TaskError: a pattern fits no motor of a joint
    """
    motors = {a.name or a.target: a for a in spec.actuators if is_motor(a)}
    chosen: dict[str, tuple[float, float]] = {}
    for pattern, pair in gains.items():
        fitting = [
            name
            for name, motor in motors.items()
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(motor.target, pattern)
        ]
        if not fitting:
            raise TaskError(
                f"servos: '{pattern}' fits no motor; motors are {', '.join(motors) or 'none'}"
            )
        chosen |= dict.fromkeys(fitting, pair)
    for name, (kp, kd) in chosen.items():
        _set(spec, motors[name], kp, kd)


def is_motor(actuator: mujoco.MjsActuator) -> bool:
    """Whether an actuator applies its control as a torque or force of a joint."""
    return bool(
        actuator.trntype == mujoco.mjtTrn.mjTRN_JOINT
        and actuator.gaintype == mujoco.mjtGain.mjGAIN_FIXED
        and actuator.biastype == mujoco.mjtBias.mjBIAS_NONE
        and actuator.dyntype == mujoco.mjtDyn.mjDYN_NONE
    )


def _set(spec: mujoco.MjSpec, motor: mujoco.MjsActuator, kp: float, kd: float) -> None:
    joint = spec.joint(motor.target)
    torque = np.array(motor.ctrlrange) * motor.gear[0] * motor.gainprm[0]
    has_range = joint.limited != mujoco.mjtLimited.mjLIMITED_FALSE and np.ptp(joint.range) > 0.0
    low, high = joint.range if has_range else (-np.pi, np.pi)
    if has_range and spec.compiler.degree and joint.type == mujoco.mjtJoint.mjJNT_HINGE:
        low, high = np.deg2rad((low, high))
    motor.set_to_position(kp=kp, kv=kd)
    motor.gear[0] = 1.0
    motor.ctrllimited, motor.ctrlrange = mujoco.mjtLimited.mjLIMITED_TRUE, (low, high)
    if np.ptp(torque) > 0.0:
        motor.forcelimited, motor.forcerange = (
            mujoco.mjtLimited.mjLIMITED_TRUE,
            (torque.min(), torque.max()),
        )
