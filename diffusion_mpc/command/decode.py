"""From a command message to commands, by the names of joints and actuators.

JointCommand, Float64MultiArray or JointTrajectory, from rclpy or a bag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion_mpc.command.command import Actuator, Command, without_gains
from diffusion_mpc.command.follower import Point
from diffusion_mpc.estimation.checks import bad_number
from diffusion_mpc.message_fields import to_seconds
from diffusion_mpc.types import Array

FIELDS = {"velocity": "output.trajectory_velocities", "effort": "output.trajectory_effort"}
"""Parameters of the planner by the fields of a trajectory that they add."""


class CommandRejectedError(ValueError):
    """A command message cannot be used; the text says why."""


def decode(
    message: Any,  # noqa: ANN401
    actuators: Sequence[Actuator],
    prefix: str = "",
) -> list[Point]:
    """Commands of a message; joints and actuators are matched by name where it names them.

    Args:
        message: message of any of the three types, which are told apart by their fields
        actuators: the actuators, in MuJoCo's order
        prefix: prefix of names in messages, before the model's own

    Raises:
        CommandRejectedError: wrong length, missing joint, NaN or infinite value, points that are
            not in the order of time
    """
    if hasattr(message, "data"):
        if len(message.data) != len(actuators):
            raise CommandRejectedError(
                f"joint_command: {len(message.data)} values for {len(actuators)} actuators"
            )
        return [
            (
                0.0,
                without_gains(
                    _finite(
                        [value / a.scale for value, a in zip(message.data, actuators, strict=True)]
                    )
                ),
            )
        ]
    if hasattr(message, "points"):
        return _decode_trajectory(message, actuators, prefix)
    rows = [_row(message.name, prefix, actuator) for actuator in actuators]
    columns = {
        # A bag of before there were controls has none.
        field: list(getattr(message, field, ()))
        for field in ("position", "velocity", "effort", "control", "kp", "kd")
    }
    count = len(message.name)
    control = _control(columns, rows, actuators, count)
    if not columns["kp"]:
        return [(0.0, without_gains(control))]
    gains = ("kp", "kd", "position", "velocity")
    return [
        (
            0.0,
            Command(
                control,
                *(_finite([_value(columns, name, row, count) for row in rows]) for name in gains),
            ),
        )
    ]


def _decode_trajectory(
    message: Any,  # noqa: ANN401
    actuators: Sequence[Actuator],
    prefix: str,
) -> list[Point]:
    rows = [_row(message.joint_names, prefix, actuator) for actuator in actuators]
    if controlled := [a.name for a in actuators if a.field == "control"]:
        raise CommandRejectedError(
            f"joint_command: a trajectory has no controls, which actuator '{controlled[0]}' needs"
        )
    points: list[Point] = []
    for point in message.points:
        columns = {
            "position": point.positions,
            "velocity": point.velocities,
            "effort": point.effort,
        }
        seconds = to_seconds(point.time_from_start)
        if points and seconds <= points[-1][0]:
            raise CommandRejectedError(
                "joint_command: the points of the trajectory are not in the order of time"
            )
        points.append(
            (seconds, without_gains(_control(columns, rows, actuators, len(message.joint_names))))
        )
    if not points:
        raise CommandRejectedError("joint_command: a trajectory without points")
    return points


def _control(
    columns: Mapping[str, Sequence[float]],
    rows: Sequence[int],
    actuators: Sequence[Actuator],
    count: int,
) -> Array:
    return _finite(
        [
            _value(columns, a.field, row, count) / a.scale
            for a, row in zip(actuators, rows, strict=True)
        ]
    )


def _row(names: Sequence[str], prefix: str, actuator: Actuator) -> int:
    name = prefix + actuator.label
    if name not in names:
        kind = "joint" if actuator.joint else "actuator"
        raise CommandRejectedError(f"joint_command: {kind} '{name}' is missing")
    return list(names).index(name)


def _value(columns: Mapping[str, Sequence[float]], field: str, row: int, count: int) -> float:
    values = columns[field]
    if field in FIELDS and not len(values):
        raise CommandRejectedError(
            f"joint_command: no values of {field}; a planner sends them in a trajectory where "
            f"{FIELDS[field]} is true"
        )
    if len(values) != count:
        raise CommandRejectedError(
            f"joint_command: {len(values)} values of {field} for {count} names"
        )
    return float(values[row])


def _finite(values: Sequence[float]) -> Array:
    if reason := bad_number(values):
        raise CommandRejectedError(f"joint_command: {reason}")
    return np.array(values)
