"""The cart swings its pole up and balances it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.base import TWO_STEPS, Task, cost, linear
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class Cartpole(Task):
    """Swing up a pole by pushing its cart, and balance it in the middle of the rail."""

    name = "cartpole"
    model_path = MODELS / "cartpole" / "cartpole.xml"
    keyframe = "hanging"
    defaults = {
        "planner.horizon_steps": 50,
        **TWO_STEPS,
    }

    @cost(weight=1.0, norm=linear)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the pole from upright: (1 - cos(angle)) / 2."""
        return (1.0 - x.qpos[..., 1].cos()) / 2.0

    @cost(weight=0.1, unit="m")
    def centred(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the cart from the middle of the rail."""
        return x.qpos[..., 0]

    @cost(weight=0.01, unit="rad/s")
    def still(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Angular velocity of the pole."""
        return x.qvel[..., 1]

    @cost(weight=0.01)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Force on the cart as a fraction of its limit."""
        return self.normalise(x.ctrl)

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the pole ends upright, within 0.2 rad."""
        return x.qpos[:, -1, 1].cos() > math.cos(0.2)
