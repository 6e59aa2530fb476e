"""Gain in speed and loss in accuracy by reductions of a model's contacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import torch

from diffusion_mpc.check.parts import Row, contact_rows, touching
from diffusion_mpc.check.rest import Motion, deviation, move, rest, size, stands
from diffusion_mpc.check.subject import Subject
from diffusion_mpc.check.throughput import rates
from diffusion_mpc.rollout import CpuBackend
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.reduction import is_wheel, reduce_contacts
from diffusion_mpc.types import Array, State

GAIN = 1.2
"""Ratio of rates below which a reduction is not worth it."""

TOLERANCE = 1.5, 2e-3
"""Deviation of a reduction that is let pass: a multiple of the full planning model's, and some."""

PLANS = 4
"""Number of random plans that motions are compared under."""


def feet_of(subject: Subject) -> list[str]:
    """Bodies that stand on the world in the initial pose, but for wheels."""
    model = subject.task.model
    if subject.task.base is None or subject.task.dynamics is not None:
        return []
    contacts = contact_rows(model, touching(subject.task, model))
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

    Raises:
        TaskError: the feet have no soles
    """
    models: dict[int, mujoco.MjModel] = {0: subject.planning_model()}
    for points in (4, 2, 1):
        models[points] = _reduced(subject, feet, points)
    speeds = rates(subject, [CpuBackend([model]) for model in models.values()], start, controls)
    fine_rest = rest(subject, fine)
    few = controls[:PLANS].numpy()
    fine_plans = [_planned(subject, fine, plan) for plan in few]
    rows = []
    for (points, model), speed in zip(models.items(), speeds, strict=True):
        motion = rest(subject, model)
        standing = touching(subject.task, model)
        plans = [_planned(subject, model, plan) for plan in few]
        apart = [
            size(deviation(subject, mine, other))
            for mine, other in zip(plans, fine_plans, strict=True)
        ]
        rows.append(
            {
                "points": points or None,
                "contacts": int(standing.ncon),
                "constraint_rows": int(standing.nefc),
                "stands": stands(subject, motion),
                "steps_per_s": speed,
                "gain": speed / speeds[0],
                "rest_deviation": deviation(subject, motion, fine_rest),
                "plan_deviation_rms": float(np.mean(apart)) if np.isfinite(apart).all() else None,
            }
        )
    return rows


def proposed(rows: Sequence[Row]) -> Row | None:
    """The fastest reduction that is worth it and moves much like the full model, or None.

    A robot that falls at rest is compared under plans only; where nothing can be compared, the
    reduction with the most contacts is the safest.
    """
    full, *reduced = rows
    factor, besides = TOLERANCE
    judged = {"plan": full["plan_deviation_rms"]}
    if full["stands"] is not False:
        judged["rest"] = full["rest_deviation"]["rms"]
    judged = {name: value for name, value in judged.items() if value is not None}

    def accurate(row: Row) -> bool:
        own = {"plan": row["plan_deviation_rms"], "rest": row["rest_deviation"]["rms"]}
        return all(
            own[name] is not None and own[name] <= factor * value + besides
            for name, value in judged.items()
        )

    good = [
        row
        for row in reduced
        if row["gain"] >= GAIN and row["stands"] == full["stands"] and accurate(row)
    ]
    return max(good, key=lambda row: row["gain"] if judged else row["points"], default=None)


def code(subject: Subject, feet: Sequence[str], points: int) -> str:
    """The method to put into the task."""
    names = ", ".join(f'"{name}"' for name in feet)
    return (
        "from diffusion_mpc.tasks.reduction import reduce_contacts\n\n"
        "    def simplify(self, spec):\n"
        f"        reduce_contacts(spec, [{names}], points={points}, keyframe=self.keyframe)\n"
    )


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
