"""Transforms between frames over ROS: `/tf` and `/tf_static`, read without tf2's library."""

from __future__ import annotations

from functools import partial
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from diffusion_mpc.estimation.reference import GOAL
from diffusion_mpc.message_fields import xyz, xyzw
from diffusion_mpc.runtime.session import PlannerSession

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

TOPICS = {
    "/tf": QoSProfile(depth=100),
    "/tf_static": QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL),
}
"""Topics of transforms, with their QoS."""


def subscribe(node: Node, session: PlannerSession) -> list[Any]:
    """Subscriptions that fill the transforms of a session.

    There are none where the task takes no pose that could come in another frame, or where
    `tf2_msgs` is not installed.
    """
    estimator = session.estimator
    if not (estimator.objects or session.reference.kind == GOAL):
        return []
    if TFMessage is None:
        node.get_logger().info("tf2_msgs is not installed: /tf is not read")
        return []

    def on_transforms(message: Any) -> None:  # noqa: ANN401
        for each in message.transforms:
            session.accept(partial(take, each))

    def take(message: TransformStamped) -> None:
        estimator.transforms.update_tf(
            message.child_frame_id,
            message.header.frame_id,
            xyz(message.transform.translation),
            xyzw(message.transform.rotation),
        )

    return [
        node.create_subscription(TFMessage, topic, on_transforms, qos)
        for topic, qos in TOPICS.items()
    ]
