"""Checks of the numbers and stamps of a message."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from diffusion_mpc.types import Array


class MessageRejectedError(ValueError):
    """A message cannot be used; the text says which field and why."""


def require_finite(topic: str, values: Sequence[float] | Array) -> None:
    """Check the numbers of a message.

    Raises:
        MessageRejectedError: `bad_number` found one
    """
    if reason := bad_number(values):
        raise MessageRejectedError(f"{topic}: {reason}")


def bad_number(values: Sequence[float] | Array) -> str:
    """Fault of numbers that should be a robot's; empty where there is none.

    MuJoCo gives up at `mjMAXVAL`, too.
    """
    # Not NumPy's functions: of a few numbers, they take longer than all the rest of a message.
    numbers = values.tolist() if isinstance(values, np.ndarray) else values
    if not all(map(math.isfinite, numbers)):
        return "NaN or infinite value"
    largest = max(map(abs, numbers), default=0.0)
    return (
        f"a value of {largest:.3g}; it must be below {mujoco.mjMAXVAL:g}"
        if largest >= mujoco.mjMAXVAL
        else ""
    )


def normalised(topic: str, quaternion: Array) -> Array:
    """The quaternion (4,) of a message, rid of its rounding.

    Raises:
        MessageRejectedError: it is not of unit length to within 1 %
    """
    length = math.hypot(*quaternion.tolist())
    if abs(length - 1.0) > 0.01:
        raise MessageRejectedError(f"{topic}: quaternion of length {length:.3g}; it must be 1")
    return np.asarray(quaternion / length)


def require_near(topic: str, age: float, behind: float, ahead: float, limit: str) -> None:
    """Check what a stamp says against the clock of this node.

    Args:
        topic: where the message came from
        age: age of the message by its stamp, s
        behind: how far its stamp may lie behind the clock, s
        ahead: how far it may lie ahead, s
        limit: parameter that says so

    Raises:
        MessageRejectedError: it lies further away
    """
    if age > behind:
        raise MessageRejectedError(
            f"{topic}: stamp is {age:.3g} s behind this node's clock, more than {limit} of "
            f"{behind:g} s"
        )
    if age < -ahead:
        raise MessageRejectedError(
            f"{topic}: stamp is {-age:.3g} s ahead of this node's clock; synchronise them, or set "
            "use_sim_time"
        )
