"""The humanoid runs forward as fast as it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_mpc.tasks.base import cost, linear
from diffusion_mpc.tasks.humanoid import Humanoid, tilt
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class HumanoidRun(Humanoid):
    """Run forward along x as fast as possible.

    The reward in MBD (arXiv 2407.01573) is x - min(|z - 1.3|, 1) - 0.1 |y|. In its place the cost
    has the forward velocity, whose sum over the horizon is the distance covered wherever the robot
    starts. Height weighs 15 times more and terms keep the robot upright and facing forward: with a
    weight of 5 at 25 plans per second it fell in one of two runs of 4 s.
    """

    name = "humanoid_run"
    defaults = {
        "planner.horizon_steps": 30,
        "planner.num_knots": 5,
        "planner.temperature": 0.4,
        "planner.noise_start": 0.24,
        "planner.noise_end": 0.085,
    }

    @cost(weight=1.0, norm=linear, unit="m/s")
    def velocity(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Negative forward velocity of the torso along x."""
        return -x.qvel[..., 0]

    @cost(weight=15.0, norm=linear, unit="m")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the torso from a height of 1.3 m, 1 m at most."""
        return (x.qpos[..., 2] - 1.3).abs().clamp(max=1.0)

    @cost(weight=0.5, norm=linear, unit="m")
    def track(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the torso from the x axis."""
        return x.qpos[..., 1].abs()

    @cost(weight=10.0, norm=linear)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Tilt of the torso's own vertical from the world's: 1 - cos(tilt)."""
        return tilt(x)

    @cost(weight=1.0, norm=linear)
    def heading(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Turn of the torso's forward axis from the x axis: 1 - cos(angle)."""
        return 1.0 - x.sensor("base_forward")[..., 0]

    @cost(weight=0.1, unit="rad")
    def posture(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of waist, arms, hip yaws and hip rolls from the stance."""
        return self.from_stance(x, "hip_pitch", "knee", "ankle_pitch")

    @cost(weight=0.02)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the servos' targets from the stance, as a fraction of their range."""
        return self.normalise(x.ctrl)
