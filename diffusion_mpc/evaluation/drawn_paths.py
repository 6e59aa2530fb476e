"""Paths of plans and samples in space, as a video draws them into the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from diffusion_mpc.evaluation.feet import geoms_by_foot
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.geometry import points
from diffusion_mpc.tasks.measured import base_place
from diffusion_mpc.types import Array, Plan

PLAN, SAMPLE = (0.98, 0.5, 0.05, 1.0), (0.15, 0.55, 0.95, 0.45)
"""Colours (red, green, blue, opacity) of the plan and of the best samples."""

THICK, THIN = 0.009, 0.003
"""Radii of both, as fractions of the model's extent."""


@dataclass(frozen=True)
class DrawnPaths:
    """Paths of several points of the robot, in P plans.

    Attributes:
        stamps: (P,) times from which each is drawn, s
        plans: (P, horizon, points, 3) m
        samples: (P, k, horizon, points, 3) of the best samples, m
    """

    stamps: Array
    plans: Array
    samples: Array

    def save(self, file: Path) -> None:
        """Write to a file."""
        np.savez(file, stamps=self.stamps, plans=self.plans, samples=self.samples)

    @staticmethod
    def load(file: Path) -> DrawnPaths:
        """Read what `save` wrote."""
        with np.load(file) as found:
            return DrawnPaths(found["stamps"], found["plans"], found["samples"])

    def draw(self, scene: Any, time: float, extent: float) -> None:  # noqa: ANN401  (mujoco.MjvScene)
        """Add the paths of the plan that is newest at a time, s, to a scene.

        Args:
            scene: what the renderer draws
            time: as the stamps, s
            extent: of the model, m
        """
        row = int(np.searchsorted(self.stamps, time + 1e-9, side="right")) - 1
        if row < 0:
            return
        for point in range(self.plans.shape[-2]):
            for sample in self.samples[row]:
                _add(scene, sample[:, point], THIN * extent, SAMPLE)
            _add(scene, self.plans[row][:, point], THICK * extent, PLAN)


def drawn_paths(task: Task, plans: Sequence[Plan]) -> DrawnPaths:
    """Paths of plans that hold the positions of their best samples.

    Args:
        task: what was planned for
        plans: of equal horizons
    """
    paths = np.array([plan.path for plan in plans])
    traces = np.array([plan.traces for plan in plans])
    stamps = np.array([plan.stamp for plan in plans])
    return DrawnPaths(stamps, _points(task, paths), _points(task, traces))


def _points(task: Task, qpos: Array) -> Array:
    """Points (..., points, 3) of the robot at positions (..., nq), m.

    Above a floating base, where the robot does not hide it, and its feet; else the end of the limb.
    """
    model, data = task.model, mujoco.MjData(task.model)
    feet = geoms_by_foot(task)
    bodies = [int(model.geom_bodyid[geoms[0]]) for geoms in feet.values()]
    offsets = [_tip(task, geoms) for geoms in feet.values()]
    if task.base is None:
        bodies = [_end(model)]
        offsets = [np.array(model.body_ipos[bodies[0]])]
    rows = qpos.reshape(-1, model.nq)
    found = np.empty((len(rows), len(bodies) + (task.base is not None), 3))
    for places, row in zip(found, rows, strict=True):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        for place, body, offset in zip(places, bodies, offsets, strict=False):
            place[:] = data.xpos[body] + data.xmat[body].reshape(3, 3) @ offset
    if task.base is not None:
        found[:, -1] = rows[:, base_place(task)] + (0.0, 0.0, _above(task))
    return found.reshape(*qpos.shape[:-1], *found.shape[1:])


def _tip(task: Task, geoms: Sequence[int]) -> Array:
    """Lowest point (3,) of a foot's geoms in the nominal pose, m, in the frame of its body."""
    model, data = task.model, task.initial_data(task.model)
    mujoco.mj_kinematics(model, data)
    body = int(model.geom_bodyid[geoms[0]])
    low = np.concatenate(
        [
            (own @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]) - (0, 0, radius)
            for geom in geoms
            for own, radius in [points(model, geom)]
        ]
    )
    lowest = low[low[:, 2].argmin()]
    return np.asarray(data.xmat[body].reshape(3, 3).T @ (lowest - data.xpos[body]))


def _above(task: Task) -> float:
    """Height above a floating base that is clear of it, m."""
    geoms = task.model.geom_bodyid == task.model.body(task.base).id
    return float(task.model.geom_rbound[geoms].max()) if geoms.any() else 0.1


def _end(model: mujoco.MjModel) -> int:
    """Body at the end of the longest chain of joints that actuators move."""
    joints = [
        int(model.actuator_trnid[i, 0])
        for i in range(model.nu)
        if model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
    ]
    bodies = [int(model.jnt_bodyid[joint]) for joint in joints] or [model.nbody - 1]
    return max(bodies, key=lambda body: _depth(model, body))


def _depth(model: mujoco.MjModel, body: int) -> int:
    depth = 0
    while body:
        body, depth = int(model.body_parentid[body]), depth + 1
    return depth


def _add(scene: Any, points: Array, radius: float, colour: Sequence[float]) -> None:  # noqa: ANN401
    for begin, end in pairwise(points):
        if scene.ngeom >= scene.maxgeom:
            return
        geom = scene.geoms[scene.ngeom]
        kind = mujoco.mjtGeom.mjGEOM_CAPSULE
        mujoco.mjv_initGeom(
            geom, kind, np.zeros(3), np.zeros(3), np.zeros(9), np.array(colour, np.float32)
        )
        mujoco.mjv_connector(geom, kind, radius, begin, end)
        scene.ngeom += 1
