"""The ant walks as `cmd_vel` says, but never touches the wall ahead of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.ant import Ant
from diffusion_mpc.tasks.base import Task, constraint
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

WALL = 2.0
"""Distance of the wall from where the ant starts, along x, m; see models/ant/ant_wall.xml."""

LEGS = tuple(f"{end}_{side}" for end in ("front", "rear") for side in ("left", "right"))
LIMB_RADIUS = 0.08


class AntWall(Ant):
    """Track velocity and yaw rate as the ant does, and keep all limbs off a wall."""

    name = "ant_wall"
    model_path = MODELS / "ant" / "ant_wall.xml"
    # The ant's policy knows no wall.
    defaults = {"planner.num_samples": 32, "policy.checkpoint": ""}
    # Raised legs reach farthest with their ankles, others with their toes.
    sensors = {
        **Ant.sensors,
        **{f"{leg}_toe": ("framepos", "site", f"{leg}_toe") for leg in LEGS},
        **{f"{leg}_ankle": ("framepos", "xbody", f"{leg}_foot") for leg in LEGS},
    }

    @constraint(tightening=0.2, unit="m")
    def wall(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the ends of all limbs beyond 0.1 m before the wall."""
        ends = torch.cat(
            [x.sensor(f"{leg}_{end}")[..., :1] for leg in LEGS for end in ("toe", "ankle")], dim=-1
        )
        return ends + LIMB_RADIUS + 0.1 - WALL

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the robot neither fell nor touched the wall.

        Where that is, it cannot go on as commanded.
        """
        return Task.succeeded(self, x, reference)
