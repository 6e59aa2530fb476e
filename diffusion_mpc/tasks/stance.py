"""A robot's nominal pose on the ground."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

import mujoco
import numpy as np

from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.geometry import collides, points
from diffusion_mpc.tasks.model_file import SINGLE
from diffusion_mpc.types import Array

FAR = 5.0
"""Distance beyond which no ground is looked for, m."""

FLAT = 0.005
"""Height above the lowest point up to which points of a foot belong to its sole, m."""


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
        if int(model.jnt_type[i]) in SINGLE
    }
    for pattern, angle in pose.items():
        fitting = fnmatch.filter(single, pattern)
        if not fitting:
            raise TaskError(f"pose: '{pattern}' fits no joint; joints are {', '.join(single)}")
        qpos[[single[name] for name in fitting]] = angle
    return qpos


def clearance(model: mujoco.MjModel, data: mujoco.MjData, geoms: Iterable[int]) -> float:
    """Distance of geoms from the world's geoms, m; negative: they are in one. `FAR` at most."""
    return min(
        (
            mujoco.mj_geomDistance(model, data, geom, other, FAR, None)
            for geom in geoms
            for other in ground(model)
        ),
        default=FAR,
    )


def sole(model: mujoco.MjModel, qpos: Array, body: str) -> Array:
    """Middle (3,) of the lowest points of a body, m, in the body's frame.

    Raises:
        TaskError: the body has no geom that collides
    """
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    found = []
    for geom in geoms_of(model, int(model.body(body).id)):
        own, radius = points(model, geom)
        world = own @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        found.append(world - (0.0, 0.0, radius))
    if not found:
        raise TaskError(f"foot '{body}' is a body without colliding geoms; name a site or a geom")
    all_points = np.concatenate(found)
    low = all_points[all_points[:, 2] < all_points[:, 2].min() + FLAT]
    # Not their mean: a mesh may have more points on one side.
    middle = (low.min(axis=0) + low.max(axis=0)) / 2.0
    place: Array = data.body(body).xmat.reshape(3, 3).T @ (middle - data.body(body).xpos)
    return place


def ground(model: mujoco.MjModel) -> list[int]:
    """Geoms of the world that something may stand on."""
    return [g for g in range(model.ngeom) if model.geom_bodyid[g] == 0 and collides(model, g)]


def geoms_of(model: mujoco.MjModel, body: int) -> list[int]:
    """Colliding geoms of a body."""
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
