"""Feet of a walking robot over a run: distance from the ground, contacts, steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from diffusion_mpc.bags.recorded_states import RecordedStates
from diffusion_mpc.evaluation.recorded_run import Flags
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.stance import clearance, geoms_of, ground
from diffusion_mpc.types import Array

TOUCHING = 0.001
"""Distance from the ground up to which a foot counts as on it, m: contacts of MuJoCo are soft."""

NEAR = 0.1
"""Distance from the ground in the nominal pose up to which the end of a limb is a foot, m."""


@dataclass(frozen=True)
class Feet:
    """Feet at the measured states of a run.

    Attributes:
        names: of the feet
        clearance: (T, feet) distances from the ground, m; negative: in it
    """

    names: tuple[str, ...]
    clearance: Array

    @property
    def contact(self) -> Flags:
        """Whether each foot is on the ground, (T, feet)."""
        return self.clearance <= TOUCHING

    def figures(self, stamps: Array) -> dict[str, Any]:
        """Fraction of the time on the ground, steps per second, and lift in m, by foot.

        Args:
            stamps: (T,) of the states, s
        """
        span, contact = max(float(np.ptp(stamps)), 1e-9), self.contact
        steps = (~contact[:-1] & contact[1:]).sum(axis=0) / span
        return {
            name: {
                "on_ground": float(contact[:, i].mean()),
                "steps_per_s": float(steps[i]),
                "lift_m": float(np.percentile(self.clearance[:, i], 95)),
            }
            for i, name in enumerate(self.names)
        }


def measure_feet(states: RecordedStates, task: Task) -> Feet | None:
    """Feet at the measured states, from the task's model; None where the robot does not walk."""
    feet = geoms_by_foot(task)
    if not feet or not len(states.stamps):
        return None
    data = mujoco.MjData(task.model)
    found = np.empty((len(states.stamps), len(feet)))
    for row, qpos in enumerate(states.qpos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(task.model, data)
        found[row] = [clearance(task.model, data, geoms) for geoms in feet.values()]
    return Feet(tuple(feet), found)


def geoms_by_foot(task: Task) -> dict[str, list[int]]:
    """Geoms of the feet: those the task names, else the ends of limbs that reach the ground."""
    model = task.model
    if task.base is None or task.reference != "cmd_vel" or not ground(model):
        return {}
    if named := getattr(task, "feet", ()):
        return {foot: _geoms(model, foot) for foot in named}
    data = task.initial_data(model)
    mujoco.mj_kinematics(model, data)
    root = model.body(task.base).id
    ends = [
        body
        for body in range(model.nbody)
        if model.body_rootid[body] == root and body not in model.body_parentid
    ]
    feet = {model.body(body).name or f"body {body}": geoms_of(model, body) for body in ends}
    return {
        name: geoms
        for name, geoms in feet.items()
        if geoms and clearance(model, data, geoms) < NEAR
    }


def _geoms(model: mujoco.MjModel, foot: str) -> list[int]:
    """Geoms of a foot that is named by a site, which stands for its body, or by a geom."""
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, foot)
    if site < 0:
        return [int(model.geom(foot).id)]
    return geoms_of(model, int(model.site_bodyid[site]))
