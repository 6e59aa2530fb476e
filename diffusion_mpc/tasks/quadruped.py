"""The quadruped trots as `cmd_vel` says."""

from __future__ import annotations

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.legged import Quadruped


class OurQuadruped(Quadruped):
    """Track forward and lateral velocity and yaw rate with a quadruped of twelve servos."""

    name = "quadruped"
    model_path = MODELS / "quadruped" / "quadruped.xml"
    base = "base"
    feet = ("FL_foot", "FR_foot", "RL_foot", "RR_foot")
    sides = ("L_", "R_")
    action_scale = {"*_hip": 0.3, "*_thigh": 0.6, "*_calf": 0.6}
    # Taught by the planner itself, see docs/experiments/warm-start.md.
    # Fewer than without the policy, whose network takes the time of four.
    defaults = {
        **Quadruped.defaults,
        "planner.num_samples": 14,
        "policy.checkpoint": "shipped:quadruped",
    }
    demo = {"command.vx": 1.0}
