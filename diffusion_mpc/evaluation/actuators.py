"""What the actuators of a model drive: between joint commands in SI units and controls in actuator units."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco

from diffusion_mpc.tasks.base import TaskError


@dataclass(frozen=True)
class Actuator:
    """What an actuator drives, and in which unit.

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
        TaskError: an actuator does not drive a single hinge or slide, or is neither a motor nor a servo
    """
    return [_actuator(model, i) for i in range(model.nu)]


def _actuator(model: mujoco.MjModel, i: int) -> Actuator:
    name = model.actuator(i).name or str(i)
    if model.actuator_trntype[i] != mujoco.mjtTrn.mjTRN_JOINT:
        raise TaskError(f"actuator '{name}' does not drive a joint; only joint actuators can be commanded")
    joint = int(model.actuator_trnid[i, 0])
    gain, bias = model.actuator_gainprm[i], model.actuator_biasprm[i]
    servo = model.actuator_biastype[i] == mujoco.mjtBias.mjBIAS_AFFINE
    field = "effort" if not servo else "position" if bias[1] != 0 else "velocity"
    scale = float(model.actuator_gear[i, 0] * gain[0]) if field == "effort" else 1.0
    if scale == 0.0:
        raise TaskError(f"actuator '{name}' has no gain; give it a gear or a gain")
    qpos, qvel = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
    return Actuator(name, model.joint(joint).name, field, scale, qpos, qvel)
