"""The robot left to its rest command: does the planning model move as the fine one does?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from diffusion_mpc.check.parts import base_pose
from diffusion_mpc.check.subject import Subject
from diffusion_mpc.names import Integrator
from diffusion_mpc.simulation.plant import DIVERGED
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array

DURATION = 2.0
"""Time that the robot is watched at rest, s."""

SETTLED = 1.0
"""Time after which contacts and costs at rest are looked at, s."""

INTEGRATORS: tuple[Integrator, ...] = ("euler", "implicitfast", "discrete")

FALL_TILT, FALL_HEIGHT = 45.0, 0.6
"""A robot has fallen where it leans by more degrees, or is lower than that fraction of before."""


@dataclass(frozen=True)
class Motion:
    """A robot's motion under given controls.

    Attributes:
        qpos: (T + 1, nq) at the beginning, and after every control step
        data: MuJoCo's state at the end
        diverged: whether MuJoCo gave up on it
    """

    qpos: Array
    data: mujoco.MjData
    diverged: bool


def move(task: Task, model: mujoco.MjModel, controls: Array, control_dt: float) -> Motion:
    """Motion from the task's initial state.

    Args:
        task: the robot
        model: its model
        controls: (T, nu) in actuator units
        control_dt: time between two of them, s, a multiple of the model's time step
    """
    data = task.initial_data(model)
    repeats = max(1, round(control_dt / model.opt.timestep))
    rows = [data.qpos.copy()]
    for control in controls:
        data.ctrl[:] = control
        for _ in range(repeats):
            task.step(model, data)
        rows.append(data.qpos.copy())
    qpos = np.array(rows)
    diverged = any(data.warning[kind].number for kind in DIVERGED)
    return Motion(qpos, data, bool(diverged) or not np.isfinite(qpos).all())


def rest(subject: Subject, model: mujoco.MjModel, duration: float = DURATION) -> Motion:
    """Motion under the rest command, with a row for every planning step."""
    step = subject.config.model.timestep
    count = max(1, round(duration / step))
    controls = np.tile(subject.task.action_centre, (count, 1))
    return move(subject.task, model, controls, step)


def deviation(subject: Subject, motion: Motion, fine: Motion) -> dict[str, Any]:
    """Differences of a motion from the one of the fine model, at the same times.

    Height and tilt of the base as the largest differences, m and degrees; that of all degrees of
    freedom as the root mean square over time and over them, in rad or m. None where one diverged.
    """
    task = subject.task
    if motion.diverged or fine.diverged:
        return {"height_m": None, "tilt_deg": None, "rms": None}
    rows = list(zip(motion.qpos, fine.qpos, strict=True))
    difference = np.zeros((len(rows), task.model.nv))
    for out, (mine, other) in zip(difference, rows, strict=True):
        mujoco.mj_differentiatePos(task.model, out, 1.0, other, mine)
    rms = float(np.sqrt(np.mean(difference**2)))
    if task.base is None:
        return {"height_m": None, "tilt_deg": None, "rms": rms}
    poses = np.array([[base_pose(task, q) for q in pair] for pair in rows])
    height, tilt = np.abs(poses[:, 0] - poses[:, 1]).max(axis=0)
    return {"height_m": float(height), "tilt_deg": float(tilt), "rms": rms}


def size(deviation: Mapping[str, float | None]) -> float:
    """Deviation of all degrees of freedom; infinite for a motion that diverged."""
    rms = deviation["rms"]
    return math.inf if rms is None else rms


def stands(subject: Subject, motion: Motion) -> bool | None:
    """Whether the robot still stands at the end as it did at first; None for a fixed base."""
    before = base_pose(subject.task, motion.qpos[0])
    after = base_pose(subject.task, motion.qpos[-1])
    if before is None or after is None:
        return None
    return (
        not motion.diverged
        and abs(after[1] - before[1]) < FALL_TILT
        and after[0] > FALL_HEIGHT * before[0]
    )


def end_row(subject: Subject, motion: Motion) -> dict[str, Any]:
    """Height, m, and tilt, degrees, of the base at the end, and whether the robot stands."""
    pose = base_pose(subject.task, motion.qpos[-1])
    finite = pose is not None and not motion.diverged
    return {
        "diverged": motion.diverged,
        "stands": stands(subject, motion),
        "end_height_m": pose[0] if pose and finite else None,
        "end_tilt_deg": pose[1] if pose and finite else None,
    }


def integrator_rows(subject: Subject, fine: Motion) -> list[dict[str, Any]]:
    """The planning model at rest, with each integrator, against the fine model."""
    own = subject.config.model.integrator
    names = dict.fromkeys((own, *INTEGRATORS))
    rows = []
    for name in names:
        motion = rest(subject, subject.planning_model(integrator=name))
        rows.append(
            {
                "integrator": name,
                "own": name == own,
                **end_row(subject, motion),
                "deviation": deviation(subject, motion, fine),
            }
        )
    return rows
