"""Parts of a model: its joints, actuators and contacts, as rows of figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from diffusion_mpc.check.subject import Subject
from diffusion_mpc.command.command import actuators
from diffusion_mpc.tasks.actuation import Drive
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.measured import base_place
from diffusion_mpc.tasks.stance import ground, on_the_ground
from diffusion_mpc.types import Array

Row = dict[str, Any]

KINDS: Mapping[Drive, str] = {
    "effort": "motor",
    "position": "position servo",
    "velocity": "velocity servo",
    "control": "by its control",
}


def joint_rows(model: mujoco.MjModel) -> list[Row]:
    """Figures of each joint: kind, range, what drives it, damping, armature."""
    drivers: dict[int, list[str]] = {}
    for i in range(model.nu):
        if model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT:
            joint = int(model.actuator_trnid[i, 0])
            drivers.setdefault(joint, []).append(model.actuator(i).name or str(i))
    rows = []
    for i in range(model.njnt):
        dof, limited = int(model.jnt_dofadr[i]), bool(model.jnt_limited[i])
        rows.append(
            {
                "name": model.joint(i).name,
                "body": model.body(int(model.jnt_bodyid[i])).name,
                "kind": mujoco.mjtJoint(int(model.jnt_type[i])).name.removeprefix("mjJNT_").lower(),
                "range": model.jnt_range[i].tolist() if limited else None,
                "actuators": drivers.get(i, []),
                "damping": float(np.ravel(model.dof_damping[dof])[0]),
                "armature": float(model.dof_armature[dof]),
            }
        )
    return rows


def actuator_rows(task: Task) -> list[Row]:
    """Figures of each actuator: kind, unit, limits, centre and scale of the actions.

    Raises:
        TaskError: an actuator cannot be commanded
    """
    model, (low, high) = task.model, task.ctrl_limits
    rows = []
    for i, actuator in enumerate(actuators(model)):
        joint = model.joint(actuator.joint) if actuator.joint else None
        slides = joint is not None and int(joint.type[0]) == int(mujoco.mjtJoint.mjJNT_SLIDE)
        units = {
            "effort": "N" if slides else "N m",
            "position": "m" if slides else "rad",
            "velocity": "m/s" if slides else "rad/s",
            "control": "its own",
        }
        limited = bool(model.actuator_forcelimited[i])
        rows.append(
            {
                "name": actuator.name,
                "joint": actuator.joint,
                "kind": KINDS[actuator.field],
                "unit": units[actuator.field],
                "per_control": actuator.scale,
                "range": [float(low[i]), float(high[i])],
                "centre": float(task.action_centre[i]),
                "scale": float(task.action_reach[i]),
                "effort_limit": float(model.actuator_forcerange[i, 1]) if limited else None,
            }
        )
    return rows


def contact_rows(model: mujoco.MjModel, data: mujoco.MjData) -> list[Row]:
    """Number and deepest penetration, m, of the contacts between each two geoms that touch."""
    counts: Counter[tuple[int, int]] = Counter()
    depths: dict[tuple[int, int], float] = {}
    for contact in data.contact:
        pair = (int(contact.geom1), int(contact.geom2))
        counts[pair] += 1
        depths[pair] = max(depths.get(pair, 0.0), -float(contact.dist))
    return [
        {
            "geoms": [_geom(model, g) for g in pair],
            "bodies": [model.body(int(model.geom_bodyid[g])).name for g in pair],
            "world": any(int(model.body_weldid[model.geom_bodyid[g]]) == 0 for g in pair),
            "contacts": count,
            "depth_m": depths[pair],
        }
        for pair, count in counts.items()
    ]


def _geom(model: mujoco.MjModel, geom: int) -> str:
    name = model.geom(geom).name
    return name or f"{model.body(int(model.geom_bodyid[geom])).name}[{geom}]"


def base_pose(task: Task, qpos: Array) -> tuple[float, float] | None:
    """Height of the base, m, and its tilt from the world's vertical, degrees; None if it is fixed.

    Args:
        task: the robot
        qpos: (nq,)
    """
    if task.base is None:
        return None
    first = base_place(task).start
    x, y = qpos[first + 4 : first + 6]
    up = np.clip(1.0 - 2.0 * (x * x + y * y), -1.0, 1.0)
    return float(qpos[first + 2]), float(np.degrees(np.arccos(up)))


def touching(task: Task, model: mujoco.MjModel) -> mujoco.MjData:
    """The initial state, with a floating base moved so that it is 1 mm deep in the ground."""
    data = task.initial_data(model)
    if task.base is not None and ground(model):
        data.qpos[:] = on_the_ground(model, data.qpos, task.base, above_by=-1e-3)
        mujoco.mj_forward(model, data)
    return data


def nominal_row(subject: Subject) -> Row:
    """The pose that the robot starts from."""
    task = subject.task
    data = task.initial_data(task.model)
    pose = base_pose(task, data.qpos)
    return {
        "keyframe": task.keyframe,
        "base": task.base,
        "height_m": pose[0] if pose else None,
        "tilt_deg": pose[1] if pose else None,
        "qpos": data.qpos.tolist(),
        "mass_kg": float(task.model.body_mass.sum()),
    }
