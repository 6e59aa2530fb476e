"""What reductions of a model's contacts would gain in speed, and cost in accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import torch

from diffusion_mpc.check.parts import Row
from diffusion_mpc.check.rest import Motion, deviation, move, rest, size
from diffusion_mpc.check.subject import Subject
from diffusion_mpc.check.throughput import rates
from diffusion_mpc.rollout import CpuBackend
from diffusion_mpc.tasks.base import Task, TaskError
from diffusion_mpc.tasks.geometry import lowest_point
from diffusion_mpc.tasks.reduction import is_wheel, reduce_contacts
from diffusion_mpc.types import Array, State

GAIN = 1.2
"""Ratio of rates below which a reduction is not worth it."""

TOLERANCE = 1.5, 2e-3
"""Deviation of a reduction that is let pass: a multiple of the full planning model's, and some."""

PLANS = 4
"""Number of random plans that motions are compared under."""


def feet_of(subject: Subject, contacts: Sequence[Row]) -> list[str]:
    """Bodies that stand on the world, from its contacts, but for wheels."""
    model = subject.task.model
    if subject.task.base is None or subject.task.dynamics is not None:
        return []
    bodies = dict.fromkeys(body for row in contacts if row["world"] for body in row["bodies"])
    return [
        name
        for name in bodies
        if name
        and int(model.body_weldid[model.body(name).id]) != 0
        and not is_wheel(model, model.body(name).id)
    ]


def reduction_rows(
    subject: Subject,
    feet: Sequence[str],
    fine: mujoco.MjModel,
    start: State,
    controls: torch.Tensor,
) -> list[dict[str, Any]]:
    """The planning model as it is, and reduced to fewer contacts a foot.

    Args:
        subject: the robot
        feet: bodies that it stands on
        fine: model that motions are compared with
        start: state that speed is measured from
        controls: (samples, horizon, nu) of random plans
    """
    models: dict[int, mujoco.MjModel] = {0: subject.planning_model()}
    for points in (4, 2, 1):
        try:
            reduced = _reduced(subject, feet, points)
        except TaskError:
            # Such as a body that only lies on the ground because the robot has fallen.
            continue
        models[points] = reduced
    speeds = rates(subject, [CpuBackend([model]) for model in models.values()], start, controls)
    fine_rest = rest(subject, fine)
    few = controls[:PLANS].numpy()
    fine_plans = [_planned(subject, fine, plan) for plan in few]
    rows = []
    for (points, model), speed in zip(models.items(), speeds, strict=True):
        motion = rest(subject, model)
        plans = [_planned(subject, model, plan) for plan in few]
        apart = [
            size(deviation(subject, mine, other))
            for mine, other in zip(plans, fine_plans, strict=True)
        ]
        rows.append(
            {
                "points": points or None,
                **_standing(subject, model),
                "steps_per_s": speed,
                "gain": speed / speeds[0],
                "rest_deviation": deviation(subject, motion, fine_rest),
                "plan_deviation_rms": float(np.mean(apart)) if np.isfinite(apart).all() else None,
            }
        )
    return rows


def proposed(rows: Sequence[Row]) -> Row | None:
    """The fastest reduction that is worth it and moves much like the full model, or None."""
    full, *reduced = rows
    factor, besides = TOLERANCE
    good = [
        row
        for row in reduced
        if row["gain"] >= GAIN
        and size(row["rest_deviation"]) <= factor * size(full["rest_deviation"]) + besides
        and row["plan_deviation_rms"] is not None
        and full["plan_deviation_rms"] is not None
        and row["plan_deviation_rms"] <= factor * full["plan_deviation_rms"] + besides
    ]
    return max(good, key=lambda row: row["gain"], default=None)


def code(subject: Subject, feet: Sequence[str], points: int) -> str:
    """The method to put into the task."""
    names = ", ".join(f'"{name}"' for name in feet)
    return (
        "from diffusion_mpc.tasks.reduction import reduce_contacts\n\n"
        "    def simplify(self, spec):\n"
        f"        reduce_contacts(spec, [{names}], points={points}, keyframe=self.keyframe)\n"
    )


def _standing(subject: Subject, model: mujoco.MjModel) -> dict[str, int]:
    """Contacts and rows of constraints of the initial pose, a millimetre into the ground."""
    data = subject.task.initial_data(model)
    base = int(model.jnt_qposadr[model.body(subject.task.base).jntadr[0]])
    data.qpos[base + 2] -= (lowest_point(model, data) or 0.0) + 1e-3
    mujoco.mj_forward(model, data)
    return {"contacts": int(data.ncon), "constraint_rows": int(data.nefc)}


def _planned(subject: Subject, model: mujoco.MjModel, plan: Array) -> Motion:
    return move(subject.task, model, plan, subject.config.planner.control_dt)


def _reduced(subject: Subject, feet: Sequence[str], points: int) -> mujoco.MjModel:
    kind = type(subject.task)

    class Reduced(kind):  # type: ignore[valid-type, misc]
        def simplify(self: Task, spec: mujoco.MjSpec) -> None:
            kind.simplify(self, spec)
            reduce_contacts(spec, feet, points, self.keyframe)

    model = subject.config.model
    planning: mujoco.MjModel = Reduced(subject.task.file).planning_model(
        timestep=model.timestep, integrator=model.integrator, iterations=model.iterations
    )
    return planning
