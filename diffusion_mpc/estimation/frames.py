"""Between ROS's frames and MuJoCo's, for a floating base. The only place where the two meet.

A ROS `nav_msgs/Odometry` (REP-103, REP-105) holds the pose of the base in the odometry frame, its
quaternion as xyzw, and its twist, linear and angular, in the frame of the base (the child frame).
Some drivers give the twist in the odometry frame, see `twist_to_child`. MuJoCo's free joint holds
the quaternion as wxyz, the linear velocity of the body's origin in the world frame, and the angular
velocity in the frame of the body.
"""

from __future__ import annotations

import numpy as np

from diffusion_mpc.names import TwistFrame
from diffusion_mpc.rotations import rotation_matrix
from diffusion_mpc.types import Array


def odometry_to_qpos_qvel(
    position: Array, quaternion_xyzw: Array, linear_body: Array, angular_body: Array
) -> tuple[Array, Array]:
    """Position and velocity of a free joint.

    Args:
        position: (3,) of the base in the world, m
        quaternion_xyzw: (4,) unit quaternion, world from base
        linear_body: (3,) linear velocity in the base frame, m/s
        angular_body: (3,) angular velocity in the base frame, rad/s

    Returns:
        qpos (7,) and qvel (6,) as MuJoCo orders them
    """
    qpos, qvel = pose_to_goal(position, quaternion_xyzw), np.empty(6)
    qvel[:3], qvel[3:] = rotation_matrix(qpos[3:]) @ linear_body, angular_body
    return qpos, qvel


def twist_to_child(
    quaternion_xyzw: Array, linear: Array, angular: Array, frame: TwistFrame
) -> tuple[Array, Array]:
    """A twist in the frame of the base.

    Args:
        quaternion_xyzw: (4,) unit quaternion, world from base
        linear: (3,) velocity, m/s
        angular: (3,) angular velocity, rad/s
        frame: frame that both are in, the base's (child) or the world's (header)
    """
    if frame == "child":
        return linear, angular
    x, y, z, w = quaternion_xyzw
    to_base = rotation_matrix(np.array([w, x, y, z])).T
    return to_base @ linear, to_base @ angular


def pose_to_goal(position: Array, quaternion_xyzw: Array) -> Array:
    """Goal (7,), position and quaternion wxyz as MuJoCo orders them, of a ROS pose.

    Position (3,), m, and unit quaternion (4,).
    """
    pose = np.empty(7)
    pose[:3], pose[3], pose[4:] = position, quaternion_xyzw[3], quaternion_xyzw[:3]
    return pose


def qpos_qvel_to_odometry(qpos: Array, qvel: Array) -> tuple[Array, Array, Array, Array]:
    """Position (3,), quaternion xyzw (4,), linear and angular velocity (3,) in the base frame.

    The inverse of `odometry_to_qpos_qvel`; units and frames as there.
    """
    position, (w, x, y, z) = qpos[:3], qpos[3:7]
    linear_body = rotation_matrix(qpos[3:7]).T @ qvel[:3]
    return position.copy(), np.array([x, y, z, w]), linear_body, qvel[3:6].copy()
