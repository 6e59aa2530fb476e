"""The humanoid gets up from its back and stays up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diffusion_mpc.tasks.base import cost, linear, smooth_abs
from diffusion_mpc.tasks.humanoid import Humanoid, off_balance, tilt
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class HumanoidStandup(Humanoid):
    """Get up from lying on the back, and stand.

    The reward in MBD (arXiv 2407.01573) is 1.5 - clip(|z - 1.3|, -2, 1) - 0.1 |x| - 0.1 |y|: the
    terms `height` and `place`. It is content with a torso at 1.3 m that runs about; the other terms
    put the feet below it and bring it to rest.
    """

    name = "humanoid_standup"
    keyframe = "lying"
    defaults = {
        "planner.rate": 25.0,
        "planner.horizon_steps": 30,
        "planner.num_knots": 4,
        "planner.temperature": 0.4,
        "planner.noise_start": 0.48,
        "planner.noise_end": 0.085,
    }

    @cost(weight=1.0, norm=linear, unit="m")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the torso from a height of 1.3 m."""
        return (x.qpos[..., 2] - 1.3).abs()

    @cost(weight=0.1, norm=linear, unit="m")
    def place(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the torso from the origin, along x and y each."""
        return x.qpos[..., :2].abs()

    @cost(weight=0.2, norm=linear)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Tilt of the torso's own vertical from the world's: 1 - cos(tilt)."""
        return tilt(x)

    @cost(weight=0.4, norm=smooth_abs, unit="m")
    def balance(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the feet's middle from where it would bring the robot to rest."""
        return off_balance(x)

    @cost(weight=1.0, norm=linear)
    def rest(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance to rest in the stance, 0 to 1.

        Below 1 m it is 1: motion costs nothing before the robot is up.
        """
        far = self.from_stance(x).square().sum(-1)
        fast = x.qvel[..., :3].square().sum(-1) + 0.05 * x.qvel[..., 6:].square().sum(-1)
        risen = ((x.qpos[..., 2] - 1.0) / 0.2).clamp(0.0, 1.0)
        # A gain for being at rest rather than a price of moving: with a price on it the robot
        # stayed just below 1 m.
        return 1.0 - risen / (1.0 + far + fast)

    @cost(weight=0.004)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the servos' targets from the stance, as a fraction of their range."""
        return self.normalise(x.ctrl)

    def failed(self, x: RolloutBatch) -> Tensor:
        """Never: the robot lies on the ground to begin with."""
        return torch.zeros_like(x.qpos[..., 0], dtype=torch.bool)

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the robot stands in the last half second.

        The torso above 1.1 m, and leaning by less than 37 degrees.
        """
        late = reference.times > reference.times[-1] - 0.5
        return ((x.qpos[..., 2] > 1.1) & (tilt(x) < 0.2))[:, late].all(-1)
