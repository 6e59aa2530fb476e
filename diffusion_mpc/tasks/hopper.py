"""The hopper hops forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.base import TWO_STEPS, Task, cost, linear
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class Hopper(Task):
    """Hop forward at 2 m/s with a planar one-legged robot.

    The reward in MBD (arXiv 2407.01573) is x - 0.5 min(|z - 1.0|, 1), for a robot and a horizon
    that differ from ours. In its place the cost has the forward velocity, whose sum over the
    horizon is the distance covered wherever the robot starts, up to 2 m/s: without that bound, and
    with half the weight on an upright torso, it sprinted at more than 3 m/s and fell within 4 s.
    """

    name = "hopper"
    model_path = MODELS / "hopper" / "hopper.xml"
    keyframe = "home"
    cyclic = ("root_x",)
    defaults = {
        "planner.num_knots": 8,
        "planner.horizon_steps": 40,
        "planner.num_samples": 32,
        "policy.checkpoint": "shipped:hopper",
        **TWO_STEPS,
    }

    @cost(weight=1.0, norm=linear, unit="m/s")
    def velocity(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Negative forward velocity of the torso, up to 2 m/s."""
        return -x.qvel[..., 0].clamp(max=2.0)

    @cost(weight=10.0, norm=linear, unit="m")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Depth of the torso's middle below 1.1 m."""
        return (1.1 - x.qpos[..., 1]).clamp(min=0.0)

    @cost(weight=20.0, norm=linear)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Lean of the torso: 1 - cos(pitch)."""
        return 1.0 - x.qpos[..., 2].cos()

    @cost(weight=0.02)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Torques as a fraction of their limits."""
        return self.normalise(x.ctrl)

    def failed(self, x: RolloutBatch) -> Tensor:
        """Fallen: the torso leans by more than 72 degrees, or its middle is lower than 0.6 m."""
        return (x.qpos[..., 2].cos() < 0.3) | (x.qpos[..., 1] < 0.6)
