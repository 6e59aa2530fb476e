"""Use that a checkpoint is meant for, and refusal of one that is for something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_mpc.names import CheckpointKind
from diffusion_mpc.policy.checkpoint import CheckpointError, Description
from diffusion_mpc.versions import versions


@dataclass(frozen=True)
class Purpose:
    """Use that a network is meant for, which its checkpoint has to fit.

    Attributes:
        task: name of the task
        model_sha256: hash of the robot's compiled model; empty: it is known to be the one
        observation: size of one observation
        actions: number of actuators
        plan: as `Description.plan`
    """

    task: str
    model_sha256: str
    observation: int
    actions: int
    plan: Mapping[str, Any]


def require_fit(
    path: Path, description: Description, purpose: Purpose, kinds: tuple[CheckpointKind, ...]
) -> None:
    """Refuse a checkpoint that is for something else.

    Raises:
        CheckpointError: it is of another kind, or for another task, model or observation
    """
    # Policies are of several kinds, of which the first names them all.
    wanted = kinds[0]
    if description.kind not in kinds:
        raise CheckpointError(
            f"'{path}' is a {description.kind}, no {wanted}; train one with `diffusion-mpc train`"
        )
    if description.task != purpose.task:
        raise CheckpointError(
            f"'{path}' is a {wanted} for task '{description.task}', not '{purpose.task}'"
        )
    if description.observation != purpose.observation:
        raise CheckpointError(
            f"'{path}' sees observations of {description.observation} numbers; those of task "
            f"'{purpose.task}' have {purpose.observation}; train it anew"
        )
    # Another version of MuJoCo compiles the same file to other bytes.
    compiler = description.versions.get("mujoco")
    known = purpose.model_sha256 and compiler == versions()["mujoco"]
    if known and description.model_sha256 != purpose.model_sha256:
        raise CheckpointError(
            f"'{path}' is a {wanted} for another model of task '{purpose.task}'; train it anew, or "
            "leave model.path as it was"
        )


def require_plan(path: Path, description: Description, purpose: Purpose) -> None:
    """Refuse a checkpoint that makes plans of another structure.

    Raises:
        CheckpointError: knots, horizon, control step or spline are others, or it does not say how
            far apart its observations are
    """
    if "rate" not in description.plan:
        raise CheckpointError(f"'{path}' does not say at which rate it plans; train it anew")
    for name, value in purpose.plan.items():
        if description.plan.get(name) != value:
            raise CheckpointError(
                f"'{path}' makes plans of {name} {description.plan.get(name)}; set planner.{name} "
                f"to that in place of {value}"
            )
