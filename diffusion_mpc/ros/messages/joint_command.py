"""From commands to command messages, by the names of joints and of actuators that have none.

`command.decode` is the way back.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from std_msgs.msg import Float64MultiArray, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from diffusion_mpc.command.command import Actuator, Command
from diffusion_mpc.command.follower import TRAJECTORY, Point
from diffusion_mpc.config import OutputConfig
from diffusion_mpc.msg import JointCommand
from diffusion_mpc.names import OutputType
from diffusion_mpc.ros.messages.stamps import to_duration, to_stamp

MESSAGES: dict[OutputType, type] = {
    "joint_command": JointCommand,
    "float64_multi_array": Float64MultiArray,
    TRAJECTORY: JointTrajectory,
}
"""Command message types by the value of the parameter `output.type`."""


def encode(
    output: OutputConfig,
    points: Sequence[Point],
    actuators: Sequence[Actuator],
    time: float,
    state_stamp: float | None,
    prefix: str = "",
) -> Any:  # noqa: ANN401
    """Command message.

    Args:
        output: message type, and what a trajectory holds
        points: what to send; types without a horizon take the first
        actuators: the actuators of the robot
        time: time of the first command, s
        state_stamp: stamp of the state that it follows from, s; None: it is a safe command
        prefix: prefix of names in messages, before the model's own
    """
    if output.type == TRAJECTORY:
        names = [prefix + a.joint for a in actuators]
        return _trajectory(output, points, actuators, names, time, state_stamp is None)
    command = points[0][1]
    values = _values(command, actuators)
    if output.type == "float64_multi_array":
        message = Float64MultiArray(data=array("d", values))
        message.layout.dim = [
            MultiArrayDimension(label="joint", size=len(values), stride=len(values))
        ]
        return message
    message = JointCommand(name=[prefix + a.label for a in actuators], safe=state_stamp is None)
    message.header.stamp = to_stamp(time)
    message.state_stamp = to_stamp(state_stamp or 0.0)
    for field in {a.field for a in actuators}:
        # An actuator that does not drive this field has no value in it; NaN says so without
        # shifting the others.
        setattr(
            message,
            field,
            array(
                "d",
                [v if a.field == field else np.nan for v, a in zip(values, actuators, strict=True)],
            ),
        )
    if command.kd.any() or command.kp.any():
        message.kp, message.kd = array("d", command.kp), array("d", command.kd)
        message.position, message.velocity = (
            array("d", command.position),
            array("d", command.velocity),
        )
    return message


def _trajectory(
    output: OutputConfig,
    points: Sequence[Point],
    actuators: Sequence[Actuator],
    names: list[str],
    time: float,
    safe: bool,
) -> JointTrajectory:
    """For joint_trajectory_controller: positions of all joints, and what else is asked for.

    Its parameter `allow_nonzero_velocity_at_trajectory_end` has to be true for velocities: the
    horizon ends in full motion, and the next message replaces it long before. Efforts it takes
    where it commands by effort.
    """
    message = JointTrajectory(joint_names=names)
    # A single point in the past would be refused; without a stamp, it applies at once.
    message.header.stamp = to_stamp(0.0 if safe else time)
    by_effort = output.trajectory_effort and any(a.field == "effort" for a in actuators)
    for seconds, command in points:
        point = JointTrajectoryPoint(
            positions=array("d", command.position), time_from_start=to_duration(seconds)
        )
        if output.trajectory_velocities:
            point.velocities = array("d", command.velocity)
        if by_effort:
            values = zip(_values(command, actuators), actuators, strict=True)
            point.effort = array("d", [v if a.field == "effort" else 0.0 for v, a in values])
        message.points.append(point)
    return message


def _values(command: Command, actuators: Sequence[Actuator]) -> list[float]:
    """Controls in SI units."""
    return [float(u) * a.scale for u, a in zip(command.control, actuators, strict=True)]
