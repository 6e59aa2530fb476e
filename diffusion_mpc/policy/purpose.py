"""Use that a checkpoint is meant for, and refusal of one that is for something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from diffusion_mpc.names import CheckpointKind
from diffusion_mpc.policy.checkpoint import (
    CheckpointError,
    Description,
    read_description,
    read_weights,
)
from diffusion_mpc.versions import versions

NetworkT = TypeVar("NetworkT", bound=nn.Module)


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


def read_network(
    path: Path,
    purpose: Purpose,
    kind: CheckpointKind,
    make: Callable[[Mapping[str, Any]], NetworkT],
) -> tuple[NetworkT, float]:
    """Network of a checkpoint that sees the newest observation, and the period of its data, s.

    Args:
        path: the checkpoint
        purpose: what it has to fit
        kind: kind that it has to be of
        make: the network, untrained, of `Description.network`

    Raises:
        CheckpointError: it cannot be read, or is for something else
    """
    description = read_description(path)
    require_fit(path, description, purpose, (kind,))
    try:
        network = make(description.network)
        period = 1.0 / float(description.plan["rate"])
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"the network in '{path}' cannot be built: {error!r}; train it anew"
        ) from None
    if description.history != 1:
        raise CheckpointError(f"'{path}' sees more than the newest observation; train it anew")
    read_weights(path, network)
    return network, period


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
