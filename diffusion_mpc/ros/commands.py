"""Between commands and command messages, by joint name."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

from diffusion_mpc.commands import Actuator, Command, plain
from diffusion_mpc.msg import JointCommand
from diffusion_mpc.ros.time import to_stamp
from diffusion_mpc.types import Array

MESSAGES: dict[str, type] = {"joint_command": JointCommand, "float64_multi_array": Float64MultiArray}
"""Command message types by the value of the parameter `output.type`."""


class CommandRejectedError(ValueError):
    """A command message cannot be used; the text says why."""


def encode(kind: str, command: Command, driven: Sequence[Actuator], time: float, state_stamp: float | None) -> Any:  # noqa: ANN401
    """Command message.

    Args:
        kind: message type, as the parameter `output.type`
        command: what to send
        driven: the actuators
        time: time of the command, s
        state_stamp: stamp of the state that it follows from, s; None: it is a safe command
    """
    values = [float(u) * a.scale for u, a in zip(command.control, driven, strict=True)]
    if kind == "float64_multi_array":
        message = Float64MultiArray(data=array("d", values))
        message.layout.dim = [MultiArrayDimension(label="joint", size=len(values), stride=len(values))]
        return message
    message = JointCommand(name=[a.joint for a in driven], safe=state_stamp is None)
    message.header.stamp = to_stamp(time)
    message.state_stamp = to_stamp(state_stamp or 0.0)
    for field in {a.field for a in driven}:
        # An actuator that does not drive this field has no value in it; NaN says so without shifting the others.
        setattr(message, field, array("d", [v if a.field == field else np.nan for v, a in zip(values, driven, strict=True)]))
    if command.kd.any() or command.kp.any():
        message.kp, message.kd = array("d", command.kp), array("d", command.kd)
        message.position, message.velocity = array("d", command.position), array("d", command.velocity)
    return message


def decode(message: Any, driven: Sequence[Actuator]) -> Command:  # noqa: ANN401  (any of MESSAGES)
    """Command of a message; joints are matched by name where the message names them.

    Raises:
        CommandRejectedError: wrong length, missing joint, NaN or infinite value
    """
    if isinstance(message, Float64MultiArray):
        if len(message.data) != len(driven):
            raise CommandRejectedError(f"joint_command: {len(message.data)} values for {len(driven)} actuators")
        return plain(_finite([value / a.scale for value, a in zip(message.data, driven, strict=True)]))
    rows = [_row(message, actuator) for actuator in driven]
    control = _finite([_field(message, a.field, row) / a.scale for a, row in zip(driven, rows, strict=True)])
    if not message.kp:
        return plain(control)
    gains = ("kp", "kd", "position", "velocity")
    return Command(control, *(_finite([_field(message, name, row) for row in rows]) for name in gains))


def _row(message: JointCommand, actuator: Actuator) -> int:
    if actuator.joint not in message.name:
        raise CommandRejectedError(f"joint_command: joint '{actuator.joint}' is missing")
    return int(message.name.index(actuator.joint))


def _field(message: JointCommand, field: str, row: int) -> float:
    values = getattr(message, field)
    if len(values) != len(message.name):
        raise CommandRejectedError(f"joint_command: {len(values)} values of {field} for {len(message.name)} joints")
    return float(values[row])


def _finite(values: Sequence[float]) -> Array:
    if not np.isfinite(values).all():
        raise CommandRejectedError("joint_command: NaN or infinite value")
    return np.array(values)
