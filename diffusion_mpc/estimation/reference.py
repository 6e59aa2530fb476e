"""The reference of plans: from messages, or from parameters while none has come."""

from __future__ import annotations

import numpy as np

from diffusion_mpc.config import PlannerNodeConfig
from diffusion_mpc.estimation.estimator import normalised, require_finite
from diffusion_mpc.estimation.frames import pose_to_goal
from diffusion_mpc.rotations import yaw_to_quaternion
from diffusion_mpc.types import Array, Reference

VELOCITY, GOAL = "cmd_vel", "goal_pose"


def parameter_reference(config: PlannerNodeConfig) -> Reference:
    """The reference that parameters name: `command.*` as velocity, `goal.*` as pose."""
    command, goal = config.command, config.goal
    return Reference(
        velocity=np.array([command.vx, command.vy, command.yaw_rate]),
        pose=np.array([goal.x, goal.y, goal.z, *yaw_to_quaternion(goal.yaw)]),
    )


class ReferenceKeeper:
    """The newest good message of the kind that the task asks for.

    A velocity ages; a goal stands until the next one comes.
    """

    def __init__(self, kind: str) -> None:
        """Nothing has come; `kind` as `Task.reference`."""
        self.kind = kind
        self._velocity: tuple[float, Array] | None = None
        self._pose: Array | None = None

    def update_velocity(self, steady: float, velocity: Array) -> None:
        """Take forward and lateral velocity, m/s, and yaw rate, rad/s, (3,), of a steady time, s.

        Raises:
            MessageRejectedError: NaN or infinite value
        """
        require_finite(VELOCITY, velocity.tolist())
        self._velocity = (steady, velocity)

    def update_goal(self, position: Array, quaternion_xyzw: Array) -> None:
        """Take a goal position (3,), m, and quaternion (4,), both in the frame of the odometry.

        Raises:
            MessageRejectedError: NaN or infinite value, or a quaternion that is not of unit length
                to within 1 %
        """
        require_finite(GOAL, (*position, *quaternion_xyzw))
        self._pose = pose_to_goal(position, normalised(GOAL, quaternion_xyzw))

    def waiting_for(self, config: PlannerNodeConfig) -> list[str]:
        """The topic without which there is nothing to pursue; empty where there is something."""
        return [GOAL] if self.kind == GOAL and self._pose is None and config.goal.wait else []

    def reference(self, steady: float, config: PlannerNodeConfig) -> Reference:
        """Reference at a steady time, s."""
        given = parameter_reference(config)
        if self.kind == VELOCITY:
            newest = self._velocity
            if newest is not None and steady - newest[0] < config.command.timeout:
                return Reference(velocity=newest[1])
            return Reference(velocity=given.velocity)
        if self.kind == GOAL:
            return Reference(pose=given.pose if self._pose is None else self._pose)
        return Reference()
