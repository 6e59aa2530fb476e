"""Fields of ROS messages as numbers.

Any object that has the fields will do: a message of rclpy, or one read out of a bag.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffusion_mpc.types import Array


def to_seconds(stamp: Any) -> float:  # noqa: ANN401
    """Time or time span, s, of a builtin_interfaces/Time or Duration, exact to 0.1 us."""
    return float(stamp.sec + stamp.nanosec * 1e-9)


def xyz(vector: Any) -> Array:  # noqa: ANN401
    """Components (3,) of a geometry_msgs/Point or Vector3."""
    return np.array([vector.x, vector.y, vector.z])


def xyzw(quaternion: Any) -> Array:  # noqa: ANN401
    """Components (4,) of a geometry_msgs/Quaternion, in ROS's order."""
    return np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])


def pose_and_twist(message: Any) -> tuple[Array, Array, tuple[Array, Array] | None]:  # noqa: ANN401
    """Position (3,), quaternion xyzw (4,) and twist of a PoseStamped, which has none, or Odometry.

    The twist is linear (3,) and angular (3,).
    """
    if not hasattr(message, "twist"):
        return xyz(message.pose.position), xyzw(message.pose.orientation), None
    pose, twist = message.pose.pose, message.twist.twist
    return xyz(pose.position), xyzw(pose.orientation), (xyz(twist.linear), xyz(twist.angular))
