"""The disc pushes the T to `goal_pose`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from diffusion_mpc.models import MODELS
from diffusion_mpc.rotations import quaternion_to_yaw, yaw_to_quaternion
from diffusion_mpc.tasks.base import TWO_STEPS, Task, cost, linear
from diffusion_mpc.tasks.observation import direction, everywhere, in_frame
from diffusion_mpc.tasks.terms import yaw
from diffusion_mpc.types import Reference, ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class PushT(Task):
    """Push a T over a table to a goal position and angle with a disc.

    The T is three passive joints, part_x, part_y and part_yaw: its pose comes in `joint_states`
    with the disc's position, as from a node that sees both. The height and the tilt of `goal_pose`
    do not matter.

    The cost is the negative of the reward in MBD (arXiv 2407.01573), less a constant, with the
    weight of the position raised from 1 to 5: with 1, one goal in ten was missed by 10 cm.
    """

    name = "pusht"
    model_path = MODELS / "pusht" / "pusht.xml"
    reference = "goal_pose"
    keyframe = "home"
    demo = {"goal.wait": False, "goal.x": -0.4, "goal.y": 0.4, "goal.yaw": 3.1416}
    defaults = {
        "model.timestep": 0.025,
        "planner.rate": 20.0,
        "state_timeout": 0.2,
        "planner.control_dt": 0.05,
        "planner.horizon_steps": 40,
        "planner.num_knots": 10,
        "planner.num_samples": 48,
        "policy.checkpoint": "shipped:pusht",
        **TWO_STEPS,
    }

    @cost(weight=5.0, norm=linear, unit="m")
    def position(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the T from its goal."""
        return self._offset(x, reference)

    @cost(weight=1.0, norm=linear, unit="half turns")
    def angle(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Angle of the T from its goal, by the shorter way, as a fraction of a half turn."""
        return self._turn(x, reference) / torch.pi

    @cost(weight=1.0, norm=linear, unit="m")
    def reach(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the disc beyond 0.2 m from the T's middle."""
        return ((x.qpos[..., 3:5] - x.qpos[..., :2]).square().sum(-1).sqrt() - 0.2).clamp(min=0.0)

    def goal_errors(self, x: RolloutBatch, reference: ReferenceTensors) -> dict[str, Tensor]:
        """Distance, m, and angle, rad, of the T from its goal."""
        return {"position_m": self._offset(x, reference), "angle_rad": self._turn(x, reference)}

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the T ends at its goal, within 3 cm and 0.15 rad."""
        return (self._offset(x, reference)[:, -1] < 0.03) & (self._turn(x, reference)[:, -1] < 0.15)

    def observation(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Disc and goal from the T's middle, and all velocities, in the frame of the T; its angle.

        Its place is not in it. Its angle is: actions are velocities along the world's axes.
        """
        place, turn = x.qpos[..., :2], direction(x.qpos[..., 2])
        goal = direction(yaw(reference.pose[3:]))
        vectors = [
            x.qpos[..., 3:5] - place,
            everywhere(reference.pose[:2], x) - place,
            everywhere(goal, x),
            x.qvel[..., :2],
            x.qvel[..., 3:5],
        ]
        return torch.cat([*(in_frame(turn, v) for v in vectors), x.qvel[..., 2:3], turn], dim=-1)

    def _offset(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        return (x.qpos[..., :2] - reference.pose[:2]).square().sum(-1).sqrt()

    def _turn(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        off = x.qpos[..., 2] - yaw(reference.pose[3:])
        return torch.atan2(off.sin(), off.cos()).abs()

    def trial_reference(self, reference: Reference, random: np.random.Generator) -> Reference:
        """The goal moved by up to 0.2 m along x and y and turned by up to 45 degrees, as in MBD."""
        moved, turned = random.uniform(-0.2, 0.2, 2), random.uniform(-np.pi / 4, np.pi / 4)
        quaternion = yaw_to_quaternion(quaternion_to_yaw(reference.pose[3:]) + turned)
        return replace(
            reference, pose=np.array([*reference.pose[:2] + moved, reference.pose[2], *quaternion])
        )
