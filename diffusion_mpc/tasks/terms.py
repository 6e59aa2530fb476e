"""Quantities that the cost terms of several tasks are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diffusion_mpc.types import RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


def heading_velocity(x: RolloutBatch) -> Tensor:
    """Horizontal velocity (samples, horizon, 2) of the torso, m/s, in its heading's frame.

    Reads the sensors `torso_velocity` and `torso_forward`.
    """
    return torch.view_as_real(_on_the_ground(x, "torso_velocity") * _heading(x).conj())


def follows(x: RolloutBatch, velocity: Tensor) -> Tensor:
    """Whether runs go, on average, at half or more of a velocity (2,) in the heading frame, m/s.

    Boolean (samples,).
    """
    return (heading_velocity(x) @ velocity).mean(-1) >= 0.5 * velocity.square().sum()


def heading(x: RolloutBatch) -> Tensor:
    """Direction (samples, horizon, 2) of the sensor `torso_forward` on the ground, unit."""
    return torch.view_as_real(_heading(x))


def _heading(x: RolloutBatch) -> Tensor:
    """`heading` as complex numbers (samples, horizon): a product is a rotation."""
    return _on_the_ground(x, "torso_forward").sgn()


def _on_the_ground(x: RolloutBatch, sensor: str) -> Tensor:
    """Horizontal part of a sensor's vector, x + iy, (samples, horizon)."""
    vector = x.sensor(sensor)
    return torch.complex(vector[..., 0], vector[..., 1])


def yaw(quaternion: Tensor) -> Tensor:
    """Angle () about the vertical, rad in (-pi, pi], by which a unit quaternion wxyz (4,) turns."""
    w, x, y, z = quaternion.unbind()
    return torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
