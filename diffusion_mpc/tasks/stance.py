"""A robot's nominal pose on the ground."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

import mujoco
import numpy as np

from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.types import Array

FAR = 5.0
"""Distance beyond which no ground is looked for, m."""


def posed(model: mujoco.MjModel, pose: Mapping[str, float]) -> Array:
    """Positions (nq,) with joints at given angles, the others where the model has them.

    Args:
        model: MuJoCo model
        pose: angle, rad or m, by the name of a joint or a pattern such as `*_calf`; of two that fit
            the same joint the later one counts

    Raises:
        TaskError: a name fits no hinge or slide
    """
    qpos: Array = model.qpos0.copy()
    single = {
        model.joint(i).name: int(model.jnt_qposadr[i])
        for i in range(model.njnt)
        if model.jnt_type[i] >= int(mujoco.mjtJoint.mjJNT_SLIDE)
    }
    for pattern, angle in pose.items():
        fitting = fnmatch.filter(single, pattern)
        if not fitting:
            raise TaskError(f"pose: '{pattern}' fits no joint; joints are {', '.join(single)}")
        qpos[[single[name] for name in fitting]] = angle
    return qpos


def clearance(model: mujoco.MjModel, data: mujoco.MjData, geoms: Iterable[int]) -> float:
    """Distance of geoms from the world's geoms, m; negative: they are in one. `FAR` at most."""
    ground = _ground(model)
    return min(
        (
            mujoco.mj_geomDistance(model, data, geom, other, FAR, None)
            for geom in geoms
            for other in ground
        ),
        default=FAR,
    )


def sole(model: mujoco.MjModel, qpos: Array, body: str) -> Array:
    """Middle (3,) of the points of a body that touch the ground first, m, in the body's frame."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    ground = _ground(model)

    def nearest_point(geom: int) -> tuple[float, Array]:
        lines = np.zeros((len(ground), 6))
        distances = [
            mujoco.mj_geomDistance(model, data, geom, other, FAR, line)
            for other, line in zip(ground, lines, strict=True)
        ]
        first = int(np.argmin(distances))
        return distances[first], lines[first, :3]

    nearest = [nearest_point(geom) for geom in geoms_of(model, "body", body)]
    if not nearest or not ground:
        raise TaskError(f"foot '{body}' is a body without colliding geoms; name a site or a geom")
    least = min(distance for distance, _ in nearest)
    point = np.mean([p for distance, p in nearest if distance < least + 0.005], axis=0)
    rotation = data.body(body).xmat.reshape(3, 3)
    found: Array = rotation.T @ (point - data.body(body).xpos)
    return found


def collides(model: mujoco.MjModel, geom: int) -> bool:
    """Whether a geom collides with anything."""
    return bool(model.geom_contype[geom] or model.geom_conaffinity[geom])


def _ground(model: mujoco.MjModel) -> list[int]:
    return [g for g in range(model.ngeom) if model.geom_bodyid[g] == 0 and collides(model, g)]


def geoms_of(model: mujoco.MjModel, kind: str, name: str) -> list[int]:
    """Colliding geoms of a body, or the geom of that name."""
    if kind == "geom":
        return [int(model.geom(name).id)]
    body = int(model.body(name).id)
    return [g for g in range(model.ngeom) if model.geom_bodyid[g] == body and collides(model, g)]


def on_the_ground(model: mujoco.MjModel, qpos: Array, base: str, above_by: float = 0.0) -> Array:
    """The positions with the free body `base` so high that the robot touches the ground.

    Or is `above_by` (m) above it.

    Raises:
        TaskError: there is no ground below it
    """
    data = mujoco.MjData(model)
    body = model.body(base)
    height = int(model.jnt_qposadr[body.jntadr[0]]) + 2
    # From above: in the ground, a distance says how deep a geom is, and only of some shapes.
    data.qpos[:] = qpos
    data.qpos[height] = max(qpos[height], FAR - 1.0)
    mujoco.mj_kinematics(model, data)
    robots = [
        g
        for g in range(model.ngeom)
        if model.body_rootid[model.geom_bodyid[g]] == body.id and collides(model, g)
    ]
    above = clearance(model, data, robots)
    if above >= FAR:
        raise TaskError(
            f"there is no ground below body '{base}' in the model; add a plane to its worldbody, "
            "or load the scene that has one"
        )
    found = np.array(data.qpos)
    found[height] -= above - above_by
    return found
