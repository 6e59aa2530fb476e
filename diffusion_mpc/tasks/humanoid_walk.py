"""The humanoid walks as `cmd_vel` says."""

from __future__ import annotations

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.legged import Biped


class HumanoidWalk(Biped):
    """Track forward and lateral velocity and yaw rate with a humanoid, upright.

    Stand still where nothing is commanded.
    """

    name = "humanoid_walk"
    model_path = MODELS / "humanoid" / "humanoid.xml"
    base = "torso"
    keyframe = "stand"
    feet = ("left_foot", "right_foot")
    sides = ("left", "right")
    # The servos' ranges are made for this, and reach beyond the joints'.
    action_scale = 1.0
    free_joints = ("*_hip_pitch", "*_knee", "*_ankle_pitch")
    demo = {"command.vx": 0.8}
