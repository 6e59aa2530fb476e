"""The other side of a simulated robot: takes down its states, and commands it."""

from array import array
from itertools import pairwise

import numpy as np
from diffusion_mpc.msg import JointCommand
from rclpy.qos import QoSProfile
from robot import DEEP, Robot
from sensor_msgs.msg import JointState

from diffusion_mpc.message_fields import to_seconds


class Witness(Robot):
    """Listens to a simulation and its planner."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        for publisher in (self._joint_states, self._odom, self.clock):
            self.node.destroy_publisher(publisher)
        self.node.create_subscription(JointState, "joint_states", self.states.append, DEEP)

    def stamp(self, state=None):
        return to_seconds((state or self.states[-1]).header.stamp)


class Pilot(Witness):
    """Sends what a planner would send."""

    def __init__(self):
        super().__init__()
        self._commands = self.node.create_publisher(
            JointCommand, "joint_command", QoSProfile(depth=1)
        )

    def command(self, effort, answering=None):
        message = JointCommand(name=["slider"], effort=array("d", [effort]))
        if answering is not None:
            message.state_stamp = answering.header.stamp
        self._commands.publish(message)


def motor_off(states, task="cartpole"):
    """Stamp (s) from which the states move as the robot does without its motors, or None."""
    from diffusion_mpc.config import PlantModelConfig
    from diffusion_mpc.simulation.plant import Plant
    from diffusion_mpc.tasks import find_task

    config = PlantModelConfig()
    plant = Plant(find_task(task)(), config)
    off = None
    for state, after in pairwise(states):
        plant.data.qpos[:], plant.data.qvel[:] = state.position, state.velocity
        plant.step(lambda qpos, qvel: np.zeros(plant.model.nu), config.timestep)
        coasts = np.allclose(plant.data.qvel, after.velocity, rtol=0.0, atol=1e-6)
        off = (to_seconds(state.header.stamp) if off is None else off) if coasts else None
    return off
