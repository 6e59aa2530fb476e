"""The humanoid walks as `cmd_vel` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diffusion_mpc.tasks.base import cost, smooth_abs
from diffusion_mpc.tasks.humanoid import Humanoid, off_balance, tilt
from diffusion_mpc.tasks.terms import follows, heading_velocity
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 0.8
"""Duration of two steps, s."""

SWING = 0.08
"""Highest lift of a foot, m."""


class HumanoidWalk(Humanoid):
    """Track forward and lateral velocity and yaw rate with a humanoid, upright.

    Stand still where nothing is commanded.

    A gait, which foot is to be how high when, stands in for a search over the order of steps, as in
    DIAL-MPC (arXiv 2409.15610).
    """

    name = "humanoid_walk"
    reference = "cmd_vel"
    defaults = {
        "planner.rate": 25.0,
        "planner.horizon_steps": 25,
        "planner.num_knots": 4,
        "planner.temperature": 0.4,
        "planner.noise_start": 0.18,
        "planner.noise_end": 0.04,
    }
    demo = {"command.vx": 0.8}

    @cost(weight=8.0, unit="m/s")
    def velocity(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Horizontal velocity of the torso, in its heading frame, against the commanded one."""
        return heading_velocity(x) - reference.velocity[:2]

    @cost(weight=0.5, unit="rad/s")
    def yaw_rate(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Yaw rate of the torso against the commanded one."""
        return x.qvel[..., 5] - reference.velocity[2]

    @cost(weight=10.0, norm=smooth_abs)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Tilt of the torso's own vertical from the world's: 1 - cos(tilt)."""
        return tilt(x)

    @cost(weight=0.5, unit="0.1 m")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the torso from a height of 1.28 m."""
        return (x.qpos[..., 2] - 1.28) / 0.1

    @cost(weight=20.0, unit="m")
    def balance(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the feet's middle from where it keeps the robot at the commanded velocity."""
        return off_balance(x, reference.velocity[:2])

    @cost(weight=0.5, unit="0.1 m")
    def gait(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Heights of the feet against those of the gait."""
        feet = torch.stack((x.sensor("left_foot")[..., 2], x.sensor("right_foot")[..., 2]), dim=-1)
        return (feet - foot_heights(reference).to(feet)) / 0.1

    @cost(weight=0.2, unit="rad")
    def posture(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of waist, arms, hip yaws and hip rolls from the stance."""
        return self.from_stance(x, "hip_pitch", "knee", "ankle_pitch")

    @cost(weight=0.01)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the servos' targets from the stance, as a fraction of their range."""
        return self.normalise(x.ctrl)

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the robot never fell, and went at half or more of the commanded velocity."""
        return super().succeeded(x, reference) & follows(x, reference.velocity[:2])


def foot_heights(reference: ReferenceTensors) -> Tensor:
    """Heights (horizon, 2) of the left and the right foot, m: half a sine each, in turn.

    0 where the robot is to stand.
    """
    left = (2.0 * torch.pi * (reference.times / STRIDE % 1.0)).sin()
    lift = SWING * (reference.velocity.abs().amax() > 0.05)
    return lift * torch.stack((left, -left), dim=-1).clamp(min=0.0)
