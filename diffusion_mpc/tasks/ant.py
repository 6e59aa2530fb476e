"""The ant walks as `cmd_vel` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.base import Task, cost, smooth_abs
from diffusion_mpc.tasks.terms import follows, heading_velocity
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class Ant(Task):
    """Track forward and lateral velocity and yaw rate with a four-legged robot, upright."""

    name = "ant"
    model_path = MODELS / "ant" / "ant.xml"
    sides = ("left", "right")
    sensors = {
        "base_velocity": ("framelinvel", "xbody", "torso"),
        "base_forward": ("framexaxis", "xbody", "torso"),
        "base_up": ("framezaxis", "xbody", "torso"),
    }
    reference = "cmd_vel"
    base = "torso"
    keyframe = "home"
    # With noise that is widest at the beginning of the horizon, it stumbles in one trial of seven.
    defaults = {
        "planner.num_knots": 4,
        "planner.horizon_steps": 18,
        "planner.noise_growth": 1.5,
        # With the policy, half of the samples that it takes alone.
        "planner.num_samples": 16,
        "policy.checkpoint": "shipped:ant",
    }
    demo = {"command.vx": 1.0}

    @cost(weight=1.0, unit="m/s")
    def velocity(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Horizontal velocity of the torso, in its heading frame, against the commanded one."""
        return heading_velocity(x) - reference.velocity[:2]

    @cost(weight=0.2, unit="rad/s")
    def yaw_rate(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Yaw rate of the torso against the commanded one."""
        return x.qvel[..., 5] - reference.velocity[2]

    @cost(weight=20.0, norm=smooth_abs)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Tilt of the torso's own vertical from the world's: 1 - cos(tilt)."""
        return 1.0 - x.sensor("base_up")[..., 2]

    @cost(weight=1.0, unit="0.1 m")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Depth of the torso below 0.4 m."""
        return (0.4 - x.qpos[..., 2]).clamp(min=0.0) / 0.1

    @cost(weight=0.02)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Torques as a fraction of their limits."""
        return self.normalise(x.ctrl)

    def failed(self, x: RolloutBatch) -> Tensor:
        """Fallen: the torso leans by more than 72 degrees, or lies lower than 0.2 m."""
        return (x.sensor("base_up")[..., 2] < 0.3) | (x.qpos[..., 2] < 0.2)

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the robot never fell, and went at half or more of the commanded velocity."""
        return super().succeeded(x, reference) & follows(x, reference.velocity[:2])
