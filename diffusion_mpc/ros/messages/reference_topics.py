"""The task's reference over ROS: subscribes to `cmd_vel` or `goal_pose`, as the task asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from rclpy.node import Node

from diffusion_mpc.estimation.reference import GOAL, VELOCITY, ReferenceKeeper
from diffusion_mpc.message_fields import xyz, xyzw

Take = Callable[[Callable[[], None]], bool]


def subscribe(node: Node, keeper: ReferenceKeeper, stamped: bool, take: Take) -> list[Any]:
    """Subscriptions that fill the keeper.

    Args:
        node: the planner
        keeper: what holds the newest message
        stamped: whether `cmd_vel` is a TwistStamped
        take: runs an update, and counts and reports a message that the update rejects
    """

    def on_velocity(message: Twist | TwistStamped) -> None:
        twist = message.twist if isinstance(message, TwistStamped) else message
        velocity = np.array([twist.linear.x, twist.linear.y, twist.angular.z])
        take(lambda: keeper.update_velocity(time.monotonic(), velocity))

    def on_goal(message: PoseStamped) -> None:
        take(lambda: keeper.update_goal(xyz(message.pose.position), xyzw(message.pose.orientation)))

    if keeper.kind == VELOCITY:
        return [
            node.create_subscription(TwistStamped if stamped else Twist, VELOCITY, on_velocity, 1)
        ]
    if keeper.kind == GOAL:
        return [node.create_subscription(PoseStamped, GOAL, on_goal, 1)]
    return []
