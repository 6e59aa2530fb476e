"""Actuators for joints of a model file that has none, made from the limits of the joints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import mujoco

from diffusion_mpc.names import ActuatorKind, require_known
from diffusion_mpc.tasks.errors import TaskError

FASTEST = 100.0
"""Largest natural frequency of an added position servo and its joint alone, rad/s.

A URDF says nothing of rotors, and a servo strong enough to stand on would be far faster than that
at an ankle or a finger, too fast for a planner's time step. The joint gets the inertia that keeps
it at this frequency, about that of the rotors of such robots.
"""

FULL_EFFORT = 0.25
"""Error at which an added servo reaches its joint's effort limit.

A fraction of the joint's range, or of its velocity limit.
"""

TRUE = mujoco.mjtLimited.mjLIMITED_TRUE


def add_actuators(
    spec: mujoco.MjSpec, kind: ActuatorKind, path: Path, velocity_limits: Mapping[str, float]
) -> None:
    """Add an actuator to each joint that has an effort limit and follows no other joint.

    `motor`: the control is the effort, up to the limit. `position`: a servo with the joint's range,
    which reaches the effort limit at an error of a quarter of the range, with a damping ratio of 1;
    where a joint turns without end, a velocity servo, or a motor where it has no velocity limit.

    Args:
        spec: model to add to; effort limits are its joints' `actuatorfrcrange`
        kind: what to add
        path: its file, for errors
        velocity_limits: rad/s or m/s by joint, where known

    Raises:
        TaskError: it has actuators, no joint has an effort limit, or such a joint has no name
    """
    require_known("kind of actuators", kind, get_args(ActuatorKind)[1:], TaskError)
    if spec.actuators:
        raise TaskError(
            f"model file '{path}' has actuators of its own; leave model.actuators empty"
        )
    following = {e.name1 for e in spec.equalities if e.type == mujoco.mjtEq.mjEQ_JOINT and e.name2}
    for joint in spec.joints:
        effort = float(joint.actfrcrange[1])
        turns = joint.type in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        if not turns or effort <= 0.0 or joint.name in following:
            continue
        if not joint.name:
            raise TaskError(
                f"model file '{path}' has a joint without a name; give it one, so that an "
                "actuator can drive it"
            )
        _add(spec, joint, kind, effort, velocity_limits.get(joint.name, 0.0))
    if not spec.actuators:
        raise TaskError(
            f"model file '{path}' has no joint with an effort limit, which model.actuators needs; "
            "give joints one (URDF: <limit effort=...>, MJCF: actuatorfrcrange)"
        )


def _add(
    spec: mujoco.MjSpec,
    joint: mujoco.MjsJoint,
    kind: ActuatorKind,
    effort: float,
    velocity: float,
) -> None:
    low, high = (float(x) for x in joint.range)
    actuator = spec.add_actuator(
        name=joint.name,
        target=joint.name,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        ctrllimited=TRUE,
        forcelimited=TRUE,
        forcerange=[-effort, effort],
    )
    if kind == "position" and low < high:
        stiffness = effort / (FULL_EFFORT * (high - low))
        actuator.set_to_position(kp=stiffness, dampratio=1.0)
        actuator.ctrlrange = [low, high]
        if joint.armature == 0.0:
            joint.armature = stiffness / FASTEST**2
    elif kind == "position" and velocity > 0.0:
        actuator.set_to_velocity(kv=effort / (FULL_EFFORT * velocity))
        actuator.ctrlrange = [-velocity, velocity]
    else:
        actuator.set_to_motor()
        actuator.ctrlrange = [-effort, effort]
