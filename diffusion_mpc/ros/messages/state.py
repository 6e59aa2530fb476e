"""The robot's state over ROS: subscribes to `joint_states`, and to `odom` where the base floats."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from diffusion_mpc.estimation.estimator import JOINTS, ODOMETRY, Estimator, MessageRejectedError
from diffusion_mpc.message_fields import to_seconds, xyz, xyzw

SENSOR_QOS = QoSProfile(
    depth=1,
    reliability=qos_profile_sensor_data.reliability,
    durability=qos_profile_sensor_data.durability,
)


CONFLICT = 1.0
"""Time (s) for which a topic's messages are rejected after a sign of two publishers."""


class OneSource:
    """Refuses states from two publishers at once.

    Who controls a robot must not guess which of them is the robot.

    Every publisher numbers its messages, so that one alone is never heard with a number that is not
    greater than the last. What a publisher that was killed leaves behind in DDS does no harm: it is
    silent.
    """

    def __init__(self, node: Node, topic: str) -> None:
        """Nothing has been heard yet."""
        self._node, self._topic = node, topic
        self.subscription: Any = None
        self._last = -1
        self._until = -math.inf

    def check(self, info: Mapping[str, Any]) -> None:
        """Look at what the middleware says about a message.

        Raises:
            MessageRejectedError: another publisher was heard a moment ago
        """
        number = info["publication_sequence_number"] or 0
        back, self._last = number <= self._last, number
        # The subscription knows whom it hears; the graph of nodes and topics learns of them later.
        if back and self.subscription.get_publisher_count() > 1:
            self._until = time.monotonic() + CONFLICT
        if time.monotonic() < self._until:
            sources = self._node.get_publishers_info_by_topic(self._topic)
            names = sorted(f"{s.node_namespace.rstrip('/')}/{s.node_name}" for s in sources)
            raise MessageRejectedError(
                f"{self._topic}: more than one publisher, {' and '.join(names)}; only one may be "
                "the robot"
            )


def subscribe(
    node: Node, estimator: Estimator, take: Callable[[Callable[[], None]], None]
) -> list[Any]:
    """Subscriptions that fill the estimator.

    Args:
        node: the planner
        estimator: what holds the newest messages
        take: runs an update, and handles a message that the update rejects
    """
    sources = {topic: OneSource(node, topic) for topic in estimator.required}

    def on_joint_states(message: JointState, info: Mapping[str, Any]) -> None:
        def update() -> None:
            sources[JOINTS].check(info)
            estimator.update_joints(
                to_seconds(message.header.stamp), message.name, message.position, message.velocity
            )

        take(update)

    def on_odom(message: Odometry, info: Mapping[str, Any]) -> None:
        pose, twist = message.pose.pose, message.twist.twist
        parts = (xyz(pose.position), xyzw(pose.orientation), xyz(twist.linear), xyz(twist.angular))

        def update() -> None:
            sources[ODOMETRY].check(info)
            estimator.update_odometry(to_seconds(message.header.stamp), *parts)

        take(update)

    kinds = {JOINTS: (JointState, on_joint_states), ODOMETRY: (Odometry, on_odom)}
    for topic, source in sources.items():
        source.subscription = node.create_subscription(
            kinds[topic][0], topic, kinds[topic][1], SENSOR_QOS
        )
    return [source.subscription for source in sources.values()]
