"""The robot's state over ROS: subscribes to `joint_states`, and to `odom` where the base floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from diffusion_mpc.estimation.estimator import JOINTS, ODOMETRY, Estimator
from diffusion_mpc.ros.time import to_seconds

SENSOR_QOS = QoSProfile(depth=1, reliability=qos_profile_sensor_data.reliability, durability=qos_profile_sensor_data.durability)


def subscribe(node: Node, estimator: Estimator, take: Callable[[Callable[[], None]], None]) -> list[Any]:
    """Subscriptions that fill the estimator.

    Args:
        node: the planner
        estimator: what holds the newest messages
        take: runs an update, and handles a message that the update rejects
    """

    def on_joint_states(message: JointState) -> None:
        stamp = to_seconds(message.header.stamp)
        take(lambda: estimator.update_joints(stamp, message.name, message.position, message.velocity))

    def on_odom(message: Odometry) -> None:
        p, q = message.pose.pose.position, message.pose.pose.orientation
        v, w = message.twist.twist.linear, message.twist.twist.angular
        parts = ([p.x, p.y, p.z], [q.x, q.y, q.z, q.w], [v.x, v.y, v.z], [w.x, w.y, w.z])
        take(lambda: estimator.update_odometry(to_seconds(message.header.stamp), *map(np.array, parts)))

    subscriptions = [node.create_subscription(JointState, JOINTS, on_joint_states, SENSOR_QOS)]
    if ODOMETRY in estimator.required:
        subscriptions.append(node.create_subscription(Odometry, ODOMETRY, on_odom, SENSOR_QOS))
    return subscriptions
