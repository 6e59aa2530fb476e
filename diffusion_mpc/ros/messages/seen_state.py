"""Positions of a robot as an onlooker sees them: the newest of each part, whatever their age."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import mujoco
import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState

from diffusion_mpc.config import Value
from diffusion_mpc.estimation.estimator import ODOMETRY, Estimator
from diffusion_mpc.estimation.joints import JOINTS
from diffusion_mpc.message_fields import xyz, xyzw
from diffusion_mpc.ros.messages.state import JOINTS_QOS, OBJECT_MESSAGES, SENSOR_QOS
from diffusion_mpc.types import Array


class SeenState:
    """Subscribes to `joint_states`, `odom` and `objects/<body>`; checks nothing, shows all."""

    def __init__(
        self, node: Node, model: mujoco.MjModel, base: str, parameters: Mapping[str, Value]
    ) -> None:
        """Listen.

        Args:
            node: the onlooker
            model: model of the robot
            base: body that `odom` tells of; empty: the base is fixed
            parameters: the planner's

        Raises:
            TaskError: the model has joints that no message carries
        """
        self._node = node
        self._in_header = parameters["input.twist_frame"] == "header"
        prefix = str(parameters["joint_prefix"])
        parts = Estimator(model, base or None, prefix=prefix)
        self._joints = {f"{prefix}{name}": q for name, (q, _) in parts.addresses.items()}
        self._positions: dict[str, float] = {}
        self._poses: dict[str, Odometry | PoseStamped] = {}
        self._places: dict[str, slice] = {
            topic: positions for topic, (positions, _) in parts.objects.items()
        }
        if base:
            at = int(model.jnt_qposadr[model.body(base).jntadr[0]])
            self._places[ODOMETRY] = slice(at, at + 7)
        kind = OBJECT_MESSAGES[parameters["objects.type"]]  # type: ignore[index]
        self._subscriptions = [
            node.create_subscription(JointState, JOINTS, self._take_joints, JOINTS_QOS)
        ]
        for topic in self._places:
            self._subscriptions.append(
                node.create_subscription(
                    Odometry if topic == ODOMETRY else kind,
                    topic,
                    partial(self._take, topic),
                    SENSOR_QOS,
                )
            )

    def _take_joints(self, message: JointState) -> None:
        # Several publishers may have some joints each.
        self._positions.update(zip(message.name, message.position, strict=False))

    def _take(self, topic: str, message: Odometry | PoseStamped) -> None:
        self._poses[topic] = message

    @property
    def forward_velocity(self) -> float:
        """Velocity of the base along its own x axis, m/s; NaN where nothing tells it."""
        message = self._poses.get(ODOMETRY)
        if message is None:
            return math.nan
        velocity = xyz(message.twist.twist.linear)
        if self._in_header:
            inverse, world = np.zeros(4), velocity.copy()
            mujoco.mju_negQuat(inverse, np.roll(xyzw(message.pose.pose.orientation), 1))
            mujoco.mju_rotVecQuat(velocity, world, inverse)
        return float(velocity[0])

    def write(self, qpos: Array) -> None:
        """Write what has come into positions (nq,), and leave the others as they are."""
        for name, value in self._positions.items():
            if name in self._joints and np.isfinite(value):
                qpos[self._joints[name]] = value
        for topic, message in self._poses.items():
            pose = message.pose.pose if isinstance(message, Odometry) else message.pose
            quaternion = np.roll(xyzw(pose.orientation), 1)
            seen = np.concatenate([xyz(pose.position), quaternion])
            if np.isfinite(seen).all() and np.any(quaternion):
                qpos[self._places[topic]] = seen

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
