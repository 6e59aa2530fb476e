"""Shapes of geoms as points with a radius, to find where a robot touches the ground."""

from __future__ import annotations

import mujoco
import numpy as np

from diffusion_mpc.types import Array

TURNS = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
"""Directions from the axis of a round shape in which its edge is looked at, rad."""


def collides(model: mujoco.MjModel, geom: int) -> bool:
    """Whether a geom may touch others by its contact masks."""
    return bool(model.geom_contype[geom] or model.geom_conaffinity[geom])


def points(model: mujoco.MjModel, geom: int) -> tuple[Array, float]:
    """Points (n, 3) of a geom, in its own frame, and the radius of the balls round them, m.

    The geom lies in the convex hull of these balls. Planes and height fields have no points.
    """
    size = model.geom_size[geom]
    match mujoco.mjtGeom(int(model.geom_type[geom])):
        case mujoco.mjtGeom.mjGEOM_SPHERE:
            return np.zeros((1, 3)), float(size[0])
        case mujoco.mjtGeom.mjGEOM_CAPSULE:
            return np.array([[0.0, 0.0, -size[1]], [0.0, 0.0, size[1]]]), float(size[0])
        case mujoco.mjtGeom.mjGEOM_BOX:
            signs = np.array(np.meshgrid(*[(-1.0, 1.0)] * 3)).reshape(3, -1).T
            return signs * size, 0.0
        case mujoco.mjtGeom.mjGEOM_CYLINDER:
            ring = np.stack([np.cos(TURNS), np.sin(TURNS), np.ones_like(TURNS)], axis=1)
            ends = np.concatenate([ring, ring * (1.0, 1.0, -1.0)])
            return ends * (size[0], size[0], size[1]), 0.0
        case mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            heights = np.linspace(-1.0, 1.0, 33)
            across = np.sqrt(1.0 - heights**2)
            surface = np.stack(
                [
                    np.outer(across, np.cos(TURNS)),
                    np.outer(across, np.sin(TURNS)),
                    np.outer(heights, np.ones_like(TURNS)),
                ],
                axis=-1,
            )
            return surface.reshape(-1, 3) * size, 0.0
        case mujoco.mjtGeom.mjGEOM_MESH | mujoco.mjtGeom.mjGEOM_SDF:
            mesh = int(model.geom_dataid[geom])
            begin = int(model.mesh_vertadr[mesh])
            vertices = model.mesh_vert[begin : begin + int(model.mesh_vertnum[mesh])]
            return np.asarray(vertices, dtype=np.float64), 0.0
    return np.zeros((0, 3)), 0.0


def lowest_point(model: mujoco.MjModel, data: mujoco.MjData) -> float | None:
    """Height of the lowest point of all that moves and may touch something, m, world frame.

    None where there is nothing of that kind.

    Args:
        model: the model
        data: its state, with kinematics done
    """
    heights = []
    for geom in range(model.ngeom):
        if not collides(model, geom) or model.body_weldid[model.geom_bodyid[geom]] == 0:
            continue
        own, radius = points(model, geom)
        if len(own):
            world = own @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
            heights.append(float(world[:, 2].min()) - radius)
    return min(heights, default=None)
