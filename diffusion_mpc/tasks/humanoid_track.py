"""The humanoid follows a motion: squats with raised arms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diffusion_mpc.tasks.base import cost, linear, smooth_abs
from diffusion_mpc.tasks.cost import columns
from diffusion_mpc.tasks.humanoid import Humanoid, off_balance, tilt
from diffusion_mpc.tasks.observation import direction, everywhere
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

PERIOD = 2.0
"""Duration of a squat, s."""

LEG, STRAIGHT = 0.44, 1.35
"""Length of thigh and shin each, and height of the torso above the soles with straight legs, m.

See models/humanoid.
"""


class HumanoidTrack(Humanoid):
    """Track a periodic motion of all joints.

    Squats on the spot, the arms raised forward on the way down.

    Positions of the joints alone would be met by a robot that tips over; height, balance and place
    stand for the base's part of the motion. Its phase comes from the clock, `Reference.times`.
    """

    name = "humanoid_track"
    defaults = {
        "planner.rate": 25.0,
        "planner.horizon_steps": 25,
        "planner.num_knots": 4,
        "planner.temperature": 0.3,
        "planner.noise_start": 0.1,
        "planner.noise_end": 0.04,
        "planner.noise_growth": 1.0,
    }

    @cost(weight=1.0, unit="rad")
    def pose(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the joints from the motion's."""
        motion, at_rest = motion_angles(reference.times), torch.zeros_like(reference.times)
        wanted = torch.stack([motion.get(name, at_rest) for name in self.joints], dim=-1)
        return columns(x.qpos, tuple(self.joints.values())) - wanted.to(x.qpos)

    @cost(weight=1.0, unit="0.1 m")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the torso's height from the motion's."""
        return (x.qpos[..., 2] - torso_height(reference.times).to(x.qpos)) / 0.1

    @cost(weight=10.0, norm=smooth_abs)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Tilt of the torso's own vertical from the world's: 1 - cos(tilt)."""
        return tilt(x)

    @cost(weight=20.0, unit="m")
    def balance(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the feet's middle from where it brings the robot to rest."""
        return off_balance(x)

    @cost(weight=2.0, unit="m")
    def place(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the torso from the origin."""
        return x.qpos[..., :2]

    @cost(weight=2.0, norm=linear)
    def heading(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Turn of the torso's forward axis from the x axis: 1 - cos(angle)."""
        return 1.0 - x.sensor("base_forward")[..., 0]

    @cost(weight=0.002, unit="rad/s")
    def smoothness(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Speeds of the joints."""
        return x.qvel[..., 6:]

    def observation(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """As of any floating base, and cosine and sine of the motion's phase."""
        phase = direction(2.0 * torch.pi * (reference.times / PERIOD % 1.0))
        return torch.cat([super().observation(x, reference), everywhere(phase, x)], dim=-1)


def squat_angle(times: Tensor) -> Tensor:
    """Forward lean of the thighs (horizon,), rad.

    0.2 to 0.85 and back in every period, as a cosine.
    """
    return 0.2 + 0.325 * (1.0 - (2.0 * torch.pi * (times / PERIOD % 1.0)).cos())


def motion_angles(times: Tensor) -> dict[str, Tensor]:
    """Angles (horizon,) of the joints that move, rad.

    Thighs and shins lean by the same angle: the hips stay above the feet.
    """
    angle = squat_angle(times)
    arms = -2.0 * (angle - 0.2)
    sides = {
        "shoulder_pitch": arms,
        "hip_pitch": -angle,
        "knee": 2.0 * angle,
        "ankle_pitch": -angle,
    }
    return {f"{side}_{name}": value for side in ("left", "right") for name, value in sides.items()}


def torso_height(times: Tensor) -> Tensor:
    """Height (horizon,) of the torso above flat soles, m."""
    return STRAIGHT - 2.0 * LEG * (1.0 - squat_angle(times).cos())
