"""The other side of a simulated robot: commands it and takes down its states."""

from array import array

from diffusion_mpc.msg import JointCommand
from rclpy.qos import QoSProfile
from robot import Robot
from sensor_msgs.msg import JointState

from diffusion_mpc.ros.time import to_seconds


class Pilot(Robot):
    """Sends what a planner would send."""

    def __init__(self):
        super().__init__()
        self.node.destroy_publisher(self._joint_states)
        self._command = self.node.create_publisher(JointCommand, "joint_command", QoSProfile(depth=1))
        self.node.create_subscription(JointState, "joint_states", self.states.append, QoSProfile(depth=100))

    def command(self, effort, answering=None):
        message = JointCommand(name=["slider"], effort=array("d", [effort]))
        if answering is not None:
            message.state_stamp = answering.header.stamp
        self._command.publish(message)

    def stamp(self, state=None):
        return to_seconds((state or self.states[-1]).header.stamp)
