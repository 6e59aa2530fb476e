"""The task's reference over ROS: subscribes to `cmd_vel` or `goal_pose`, as the task asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from rclpy.node import Node

from diffusion_mpc.estimation.reference import GOAL, VELOCITY
from diffusion_mpc.message_fields import to_seconds, xyz, xyzw
from diffusion_mpc.runtime.session import PlannerSession


def subscribe(node: Node, session: PlannerSession) -> list[Any]:
    """Subscriptions that fill the reference of a session.

    Args:
        node: the planner
        session: what takes the updates, and handles messages that an update rejects
    """
    keeper = session.reference

    def on_twist(twist: Twist, stamp: float = 0.0, frame: str = "") -> None:
        velocity = np.array([twist.linear.x, twist.linear.y, twist.angular.z])
        session.on_reference(stamp, lambda born: keeper.update_velocity(born, velocity, frame))

    def on_velocity(message: Twist) -> None:
        on_twist(message)

    def on_stamped_velocity(message: TwistStamped) -> None:
        on_twist(message.twist, to_seconds(message.header.stamp), message.header.frame_id)

    def on_goal(message: PoseStamped) -> None:
        position, quaternion = xyz(message.pose.position), xyzw(message.pose.orientation)
        frame = message.header.frame_id
        session.on_reference(
            to_seconds(message.header.stamp),
            lambda born: keeper.update_goal(born, position, quaternion, frame),
        )

    if keeper.kind == VELOCITY and session.config.command.stamped:
        return [node.create_subscription(TwistStamped, VELOCITY, on_stamped_velocity, 1)]
    if keeper.kind == VELOCITY:
        return [node.create_subscription(Twist, VELOCITY, on_velocity, 1)]
    if keeper.kind == GOAL:
        return [node.create_subscription(PoseStamped, GOAL, on_goal, 1)]
    return []
