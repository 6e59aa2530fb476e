"""The robot's state over ROS: `joint_states`, `odom` where the base floats, `objects/<body>`.

Subscriptions for a planner, publishers for a simulation.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from diffusion_mpc.estimation.checks import MessageRejectedError
from diffusion_mpc.estimation.estimator import ODOMETRY, Estimator
from diffusion_mpc.estimation.frames import qpos_qvel_to_odometry
from diffusion_mpc.estimation.joints import JOINTS
from diffusion_mpc.estimation.objects import OBJECTS
from diffusion_mpc.message_fields import pose_and_twist, to_seconds
from diffusion_mpc.names import ObjectType
from diffusion_mpc.ros.messages.stamps import to_stamp
from diffusion_mpc.types import Array, State

if TYPE_CHECKING:
    from diffusion_mpc.runtime.session import PlannerSession

OBJECT_MESSAGES: dict[ObjectType, type] = {"pose_stamped": PoseStamped, "odometry": Odometry}
"""Messages of objects by the value of the parameter `objects.type`."""

SENSOR_QOS = QoSProfile(
    depth=1,
    reliability=qos_profile_sensor_data.reliability,
    durability=qos_profile_sensor_data.durability,
)

JOINTS_QOS = QoSProfile(
    depth=4,
    reliability=qos_profile_sensor_data.reliability,
    durability=qos_profile_sensor_data.durability,
)
"""Joints may come from several publishers: a message must not take the place of another one's."""

CONFLICT = 1.0
"""Time (s) for which a part's messages are rejected after a sign of two publishers."""

DEAF = 5.0
"""Time (s) after which a topic that has a publisher and is not heard is subscribed to anew."""

WHOLE = np.array([0])
"""The only part of a topic that is measured as a whole."""


class OneSource:
    """Refuses measurements of one part by two publishers at once.

    Who controls a robot must not guess which of them is the robot. A part is a joint, or all that a
    topic measures.

    Every publisher numbers its messages, so that one alone is never heard with a number that is not
    greater than the last. What a publisher that was killed leaves behind in DDS does no harm: it is
    silent.
    """

    def __init__(self, node: Node, topic: str, joints: Sequence[str] = ("",)) -> None:
        """Nothing has been heard yet; `joints` are the names of the parts."""
        self._node, self._topic, self._joints = node, topic, joints
        self.subscription: Any = None
        self._greatest = -1
        self._last = np.full(len(joints), -1)
        self._until, self._ends = np.full(len(joints), -np.inf), -np.inf

    def check(self, info: Mapping[str, Any], parts: NDArray[np.intp] = WHOLE) -> None:
        """Look at what the middleware says about a message that measures some parts.

        Raises:
            MessageRejectedError: another publisher of one of them was heard a moment ago
        """
        number, now = info["publication_sequence_number"] or 0, time.monotonic()
        # Of one publisher alone, each number is the greatest.
        back = parts[:0] if number > self._greatest else parts[self._last[parts] >= number]
        self._last[parts] = number
        self._greatest = max(number, self._greatest)
        # The subscription knows whom it hears; the graph of nodes and topics learns of them later.
        if len(back) and self.subscription.get_publisher_count() > 1:
            self._until[back], self._ends = now + CONFLICT, now + CONFLICT
        if now < self._ends and len(doubted := parts[self._until[parts] > now]):
            joint = self._joints[doubted[0]]
            sources = self._node.get_publishers_info_by_topic(self._topic)
            names = sorted(f"{s.node_namespace.rstrip('/')}/{s.node_name}" for s in sources)
            raise MessageRejectedError(
                f"{self._topic}: more than one publisher{joint and f' of joint {joint!r}'}, "
                f"{' and '.join(names)}; only one may be the robot"
            )


class StateSubscriptions:
    """Subscriptions that fill the estimator of a session."""

    def __init__(self, node: Node, session: PlannerSession) -> None:
        """Subscribe.

        Args:
            node: the planner
            session: what takes the updates, and handles messages that an update rejects
        """
        self._node, self._session, estimator = node, session, session.estimator
        self._sources = {
            topic: OneSource(node, topic, estimator.joints.names if topic == JOINTS else ("",))
            for topic in estimator.topics
        }
        self._heard: set[str] = set()
        self._silent_since: dict[str, float] = {}
        for topic, source in self._sources.items():
            source.subscription = self._listen(topic)

    def close(self) -> None:
        """Give the subscriptions back."""
        for source in self._sources.values():
            self._node.destroy_subscription(source.subscription)

    def renew(self) -> list[str]:
        """Subscribe anew where a publisher has been there for `DEAF` seconds and was never heard.

        Discovery of DDS is not certain: now and then a publisher and a subscription do not find
        each other, and would not for as long as both are there.

        Returns:
            topics that were subscribed anew
        """
        now, renewed = time.monotonic(), []
        for topic, source in self._sources.items():
            if topic in self._heard:
                continue
            if not self._node.count_publishers(source.subscription.topic_name):
                self._silent_since.pop(topic, None)
            elif now - self._silent_since.setdefault(topic, now) >= DEAF:
                self._silent_since[topic] = now
                self._node.destroy_subscription(source.subscription)
                source.subscription = self._listen(topic)
                renewed.append(topic)
        return renewed

    def _listen(self, topic: str) -> Any:  # noqa: ANN401
        if topic in self._session.estimator.objects:
            kind = OBJECT_MESSAGES[self._session.config.objects.type]

            # rclpy looks at the signature of what it calls: two arguments, of which the second is
            # about the message.
            def on_this(message: PoseStamped | Odometry, info: Mapping[str, Any]) -> None:
                self._on_object(topic, message, info)

            return self._node.create_subscription(kind, topic, on_this, SENSOR_QOS)
        if topic == JOINTS:
            return self._node.create_subscription(
                JointState, topic, self._on_joint_states, JOINTS_QOS
            )
        return self._node.create_subscription(Odometry, topic, self._on_odom, SENSOR_QOS)

    def _on_joint_states(self, message: JointState, info: Mapping[str, Any]) -> None:
        self._heard.add(JOINTS)
        estimator = self._session.estimator
        parts = estimator.joints.layout(message.name).joints
        stamp = to_seconds(message.header.stamp)
        if not len(parts):
            # A gripper's own, say.
            return

        def update() -> None:
            self._sources[JOINTS].check(info, parts)
            estimator.update_joints(stamp, message.name, message.position, message.velocity)

        self._session.on_state(JOINTS, stamp, update)

    def _on_odom(self, message: Odometry, info: Mapping[str, Any]) -> None:
        self._heard.add(ODOMETRY)
        stamp = to_seconds(message.header.stamp)
        position, quaternion, twist = pose_and_twist(message)
        assert twist is not None, "an odometry has a twist"

        def update() -> None:
            self._sources[ODOMETRY].check(info)
            frames = (message.header.frame_id, message.child_frame_id)
            self._session.estimator.update_odometry(stamp, position, quaternion, *twist, frames)

        self._session.on_state(ODOMETRY, stamp, update)

    def _on_object(
        self, topic: str, message: PoseStamped | Odometry, info: Mapping[str, Any]
    ) -> None:
        self._heard.add(topic)
        stamp = to_seconds(message.header.stamp)

        def update() -> None:
            self._sources[topic].check(info)
            self._session.estimator.update_object(
                topic, stamp, *pose_and_twist(message), message.header.frame_id
            )

        self._session.on_object(topic, stamp, update)


class StatePublisher:
    """Publishes the state of a simulated robot, and of the objects beside it."""

    def __init__(
        self,
        node: Node,
        model: mujoco.MjModel,
        base: str | None,
        object_type: ObjectType,
        prefix: str = "",
    ) -> None:
        """Open the topics.

        Args:
            node: the simulation
            model: model of the robot
            base: body that `odom` tells of; None: the base is fixed
            object_type: type of the messages of objects
            prefix: prefix of names in messages, before the model's own

        Raises:
            TaskError: the model has joints that no message carries
        """
        parts = Estimator(model, base, prefix=prefix)
        self._names = parts.joints.names
        self._base, self._joints, self._objects = base, parts.addresses, parts.objects
        if base is not None:
            joint = model.body(base).jntadr[0]
            self._base_at = (int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint]))
        self._object_type = OBJECT_MESSAGES[object_type]
        kinds = {JOINTS: JointState, ODOMETRY: Odometry}
        self._publishers = {
            topic: node.create_publisher(
                kinds.get(topic, self._object_type), topic, QoSProfile(depth=10)
            )
            for topic in parts.topics
        }

    def listeners(self) -> int:
        """Number of those who hear every topic."""
        return min(self.counts().values())

    def counts(self) -> dict[str, int]:
        """Number of listeners by topic, as it is named after remapping."""
        return {p.topic_name: p.get_subscription_count() for p in self._publishers.values()}

    def publish(self, state: State) -> None:
        """Publish a state; objects first, for planners go by the robot's own messages."""
        for topic, (positions, velocities) in self._objects.items():
            qpos, qvel = state.qpos[positions], state.qvel[velocities]
            body = topic.removeprefix(OBJECTS)
            message = odometry(state.stamp, body, qpos, qvel)
            if self._object_type is PoseStamped:
                message = PoseStamped(header=message.header, pose=message.pose.pose)
            self._publishers[topic].publish(message)
        if JOINTS in self._publishers:
            joints = JointState(name=self._names)
            joints.header.stamp = to_stamp(state.stamp)
            joints.position = array("d", (state.qpos[q] for q, _ in self._joints.values()))
            joints.velocity = array("d", (state.qvel[v] for _, v in self._joints.values()))
            self._publishers[JOINTS].publish(joints)
        if self._base is not None:
            q, v = self._base_at
            self._publishers[ODOMETRY].publish(
                odometry(state.stamp, self._base, state.qpos[q : q + 7], state.qvel[v : v + 6])
            )


def odometry(stamp: float, body: str, qpos: Array, qvel: Array) -> Odometry:
    """Pose and twist of a body at a time (s), of its free joint's qpos (7,) and qvel (6,)."""
    position, quaternion, linear, angular = (
        part.tolist() for part in qpos_qvel_to_odometry(qpos, qvel)
    )
    message = Odometry(child_frame_id=body)
    message.header.stamp, message.header.frame_id = to_stamp(stamp), "odom"
    pose, twist = message.pose.pose, message.twist.twist
    pose.position.x, pose.position.y, pose.position.z = position
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = quaternion
    twist.linear.x, twist.linear.y, twist.linear.z = linear
    twist.angular.x, twist.angular.y, twist.angular.z = angular
    return message
