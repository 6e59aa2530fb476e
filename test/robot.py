"""A robot for tests.

Publishes states over real DDS, as its owner says, and takes down what the planner sends.
"""

from __future__ import annotations

import time
from array import array

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from diffusion_mpc.msg import JointCommand, Plan, PlannerStats
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from diffusion_mpc.ros.messages.stamps import to_stamp

DEEP = QoSProfile(depth=1000)
SERVICES = {
    "reset": Trigger,
    "step": Trigger,
    "pause": SetBool,
    "change_state": ChangeState,
    "get_state": GetState,
}


class Robot:
    """A node of its own context; `spin_until` runs it."""

    def __init__(
        self,
        joints=("slider", "pole"),
        base=False,
        command=JointCommand,
        name="robot",
        objects=(),
    ):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.joints, self.base = list(joints), base
        self.position, self.velocity = np.zeros(len(self.joints)), np.zeros(len(self.joints))
        self.commands, self.diagnostics, self.stats, self.plans, self.states = [], [], [], [], []
        self.edit = lambda message: message
        self.edit_odom = lambda message: message
        self._joint_states = self.node.create_publisher(JointState, "joint_states", 10)
        self._odom = self.node.create_publisher(Odometry, "odom", 10)
        self._command = command
        self.listen()
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.append(m.status[0]), DEEP
        )
        self.node.create_subscription(PlannerStats, "planner/stats", self.stats.append, DEEP)
        self.node.create_subscription(Plan, "planner/plan", self.plans.append, DEEP)
        self._goal = self.node.create_publisher(PoseStamped, "goal_pose", 10)
        self._objects = {
            body: self.node.create_publisher(PoseStamped, f"objects/{body}", 10) for body in objects
        }
        self._timer = None
        self.clock = self.node.create_publisher(Clock, "/clock", 10)

    def listen(self):
        """Take commands, with the steady time at which they came."""
        take = lambda message: self.commands.append((time.monotonic(), message))  # noqa: E731
        self._listening = self.node.create_subscription(self._command, "joint_command", take, DEEP)

    def turn_deaf(self):
        self.node.destroy_subscription(self._listening)

    def first_safe(self):
        """Steady time at which the first safe command came, and that command."""
        self.spin_until(lambda: any(m.safe for _, m in self.commands), "the safe command")
        return next((t, m) for t, m in self.commands if m.safe)

    def regains_control(self):
        """Commands follow plans again, and the diagnostics say that all is well."""
        self.spin_until(lambda: not self.commands[-1][1].safe, "control to return")
        self.spin_until(lambda: self.diagnostics[-1].level == b"\x00", "OK")

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def now(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    def publish(self, stamp=None):
        """One state; `edit` may spoil it on the way. Returns the steady time."""
        stamp = to_stamp(self.now() if stamp is None else stamp)
        message = JointState(
            name=self.joints, position=array("d", self.position), velocity=array("d", self.velocity)
        )
        message.header.stamp = stamp
        self._joint_states.publish(self.edit(message))
        if self.base:
            odom = Odometry(child_frame_id="torso")
            odom.header.stamp = stamp
            odom.pose.pose.position.z = 0.52
            odom.pose.pose.orientation.w = 1.0
            self._odom.publish(self.edit_odom(odom))
        return time.monotonic()

    def publish_object(self, body, position, quaternion_xyzw=(0.0, 0.0, 0.0, 1.0), stamp=None):
        """A pose of an object. Returns the steady time."""
        message = pose_message(position, quaternion_xyzw)
        message.header.stamp = to_stamp(self.now() if stamp is None else stamp)
        self._objects[body].publish(message)
        return time.monotonic()

    def goal(self, position, quaternion_xyzw=(0.0, 0.0, 0.0, 1.0), stamp=0.0, frame=""):
        message = pose_message(position, quaternion_xyzw)
        message.header.stamp, message.header.frame_id = to_stamp(stamp), frame
        self.spin_until(self._goal.get_subscription_count, "a subscriber of goal_pose")
        self._goal.publish(message)

    def start(self, rate=50.0):
        """Publish states evenly from now on."""
        self.stop()
        self._timer = self.node.create_timer(1.0 / rate, self._tick)

    def _tick(self):
        self.last_published = self.publish()

    def stop(self):
        if self._timer is not None:
            self.node.destroy_timer(self._timer)
            self._timer = None

    def spin(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.01)

    def spin_until(self, condition, what, timeout=60.0):
        """The timeout is for a node that hangs, not for one that is slow.

        On a loaded machine, only its imports take 20 s.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout:g} s for: {what}"
            self.executor.spin_once(timeout_sec=0.01)

    def call(self, name, request=None):
        """Call a service, e.g. "planner/reset"."""
        kind = SERVICES[name.rsplit("/", 1)[-1]]
        client = self.node.create_client(kind, name)
        self.spin_until(client.service_is_ready, f"service {name}")
        return self._result(client, request or kind.Request())

    def set_parameters(self, node="planner", **values):
        """Set parameters at once; dots are written as `__`. Returns (successful, reason)."""
        client = self.node.create_client(
            SetParametersAtomically, f"{node}/set_parameters_atomically"
        )
        self.spin_until(client.service_is_ready, "parameter service")
        parameters: list[ParameterMessage] = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        result = self._result(client, SetParametersAtomically.Request(parameters=parameters)).result
        return result.successful, result.reason

    def ask(self, kind, name, request):
        """Answer of any service."""
        client = self.node.create_client(kind, name)
        self.spin_until(client.service_is_ready, f"service {name}")
        return self._result(client, request)

    def _result(self, client, request):
        future = client.call_async(request)
        self.spin_until(future.done, f"answer of {client.srv_name}")
        self.node.destroy_client(client)
        return future.result()


def pose_message(position, quaternion_xyzw):
    message = PoseStamped()
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z = map(float, position)
    q.x, q.y, q.z, q.w = map(float, quaternion_xyzw)
    return message
