"""Actuators: quantities that they are commanded by, what they remember, where that begins."""

from __future__ import annotations

import math
from typing import Literal

import mujoco
import numpy as np

from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.model_file import SINGLE, actuator_names, drives_joint, is_servo
from diffusion_mpc.types import Array

Drive = Literal["effort", "position", "velocity", "control"]
"""Quantity that an actuator is commanded by.

The effort, position or velocity of its joint, or its control, where that is none of a joint alone.
"""

INTEGRATOR = int(mujoco.mjtDyn.mjDYN_INTEGRATOR)
RELAXING = [
    int(getattr(mujoco.mjtDyn, f"mjDYN_{kind}")) for kind in ("NONE", "FILTER", "FILTEREXACT")
]
FOLLOWING = [*RELAXING[1:], int(mujoco.mjtDyn.mjDYN_MUSCLE)]
"""Dynamics whose activation comes to rest at the control."""


def drive(model: mujoco.MjModel, actuator: int) -> Drive:
    """Quantity that an actuator is commanded by.

    A motor on a hinge or slide of its own is driven by effort, a servo there by its position or
    velocity. All others have their control: on a tendon, site or body, beside another actuator on
    the same joint, muscles, dampers, and dynamics that turn the control into something else.
    """
    if not drives_joint(model, actuator):
        return "control"
    joint = int(model.actuator_trnid[actuator, 0])
    beside = [
        i
        for i in range(model.nu)
        if drives_joint(model, i) and int(model.actuator_trnid[i, 0]) == joint
    ]
    gain_is_fixed = int(model.actuator_gaintype[actuator]) == int(mujoco.mjtGain.mjGAIN_FIXED)
    dynamics, bias = int(model.actuator_dyntype[actuator]), model.actuator_biasprm[actuator]
    if len(beside) > 1 or int(model.jnt_type[joint]) not in SINGLE or not gain_is_fixed:
        return "control"
    if dynamics == INTEGRATOR and holds_position(model, actuator):
        return "velocity"
    if dynamics not in RELAXING:
        return "control"
    if is_servo(model, actuator):
        # An affine bias without feedback is not a servo's.
        return "position" if bias[1] != 0 else "velocity" if bias[2] != 0 else "control"
    has_bias = int(model.actuator_biastype[actuator]) != int(mujoco.mjtBias.mjBIAS_NONE)
    return "control" if has_bias else "effort"


def holds_position(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether an actuator pulls towards a length: that of its control or its activation."""
    return is_servo(model, actuator) and bool(model.actuator_biasprm[actuator, 1] != 0.0)


def has_memory(model: mujoco.MjModel) -> bool:
    """Whether the force of an actuator depends on earlier controls."""
    return model.na > 0 or bool((model.actuator_delay > 0.0).any())


def resting_activations(model: mujoco.MjModel, length: Array, ctrl: Array) -> Array:
    """Activations (na,) of a robot that has stood still for long.

    Filters and muscles are where their control is. An integrator that servoes a position has it
    where it is; what any other has integrated is not to be known, and counts as none.

    Args:
        model: model of the robot
        length: (nu,) lengths of the actuators, MuJoCo's `actuator_length`
        ctrl: (nu,) controls, in actuator units
    """
    act = np.zeros(model.na)
    for i in range(model.nu):
        dynamics, last = int(model.actuator_dyntype[i]), int(model.actuator_actadr[i])
        # What else an actuator has comes before the activation that its gain multiplies.
        last += int(model.actuator_actnum[i]) - 1
        if dynamics in FOLLOWING:
            act[last] = ctrl[i]
            if dynamics == FOLLOWING[-1]:
                act[last] = np.clip(ctrl[i], 0.0, 1.0)
        elif dynamics == INTEGRATOR and holds_position(model, i):
            act[last] = length[i]
        if dynamics in (*FOLLOWING, INTEGRATOR) and model.actuator_actlimited[i]:
            act[last] = np.clip(act[last], *model.actuator_actrange[i])
    return act


def begin_at_rest(model: mujoco.MjModel, data: mujoco.MjData, act: Array | None) -> None:
    """Put into `data` what the actuators of a robot remember that has stood still for long.

    Args:
        model: model of the robot
        data: state and controls, with kinematics done
        act: (na,) activations; None: see `resting_activations`
    """
    data.act[:] = (
        resting_activations(model, data.actuator_length, data.ctrl) if act is None else act
    )
    for i in np.flatnonzero(model.actuator_delay > 0.0):
        samples = int(model.actuator_history[i, 0])
        times = data.time + model.opt.timestep * np.arange(-samples, 0.0)
        values = np.full((samples, 1), data.ctrl[i])
        mujoco.mj_initCtrlHistory(model, data, int(i), times[:, None], values)


def fit_delays(spec: mujoco.MjSpec, timestep: float) -> None:
    """Make room for the controls on their way at a time step (s).

    MuJoCo takes the oldest one that it remembers where it remembers too few, and so makes a delay
    shorter. Sensors are read without their delay: terms ask for what is, and not for what a robot
    would know of it.
    """
    for actuator in spec.actuators:
        if actuator.delay > 0.0:
            steps = math.ceil(actuator.delay / timestep - 1e-9)
            actuator.nsample = max(actuator.nsample, steps + 1)
    for sensor in spec.sensors:
        if sensor.delay > 0.0:
            sensor.delay = 0.0


def place_mocap_bodies(model: mujoco.MjModel, key: int) -> None:
    """Put the mocap bodies of a model where a keyframe has them, whoever resets its data."""
    for body in range(model.nbody):
        if (mocap := int(model.body_mocapid[body])) >= 0:
            model.body_pos[body] = model.key_mpos[key].reshape(-1, 3)[mocap]
            model.body_quat[body] = model.key_mquat[key].reshape(-1, 4)[mocap]


def require_single_controls(model: mujoco.MjModel) -> None:
    """Check that every actuator has one control.

    Raises:
        TaskError: one has several
    """
    for i in range(model.nactuator):
        if (count := int(model.actuator_ctrlnum[i])) != 1:
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, i) or i
            raise TaskError(
                f"actuator '{name}' has {count} controls, and commands have one for each actuator; "
                "put actuators of one control in its place"
            )


def require_known_dynamics(model: mujoco.MjModel) -> None:
    """Check that the activations of all actuators can be computed.

    Raises:
        TaskError: one is computed by a function of the user's, or by a plugin
    """
    for i in range(model.nu):
        user = int(model.actuator_dyntype[i]) == int(mujoco.mjtDyn.mjDYN_USER)
        if user or int(model.actuator_plugin[i]) >= 0:
            what = "a plugin" if int(model.actuator_plugin[i]) >= 0 else "dyntype user"
            raise TaskError(
                f"actuator '{actuator_names(model)[i]}' has {what}, whose activation cannot be "
                "estimated from its commands; give it one of MuJoCo's own actuator types"
            )
