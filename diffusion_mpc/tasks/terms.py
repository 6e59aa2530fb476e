"""Quantities that the cost terms of several tasks are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diffusion_mpc.types import RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


def heading_velocity(x: RolloutBatch) -> Tensor:
    """Horizontal velocity (samples, horizon, 2) of the base, m/s, in its heading's frame.

    Reads the sensors `base_velocity` and `base_forward`.
    """
    return torch.view_as_real(_on_the_ground(x, "base_velocity") * _heading(x).conj())


def follows(x: RolloutBatch, velocity: Tensor) -> Tensor:
    """Whether runs go, on average, at half or more of a velocity (2,) in the heading frame, m/s.

    Boolean (samples,).
    """
    return (heading_velocity(x) @ velocity).mean(-1) >= 0.5 * velocity.square().sum()


def heading(x: RolloutBatch) -> Tensor:
    """Direction (samples, horizon, 2) of the sensor `base_forward` on the ground, unit."""
    return torch.view_as_real(_heading(x))


def _heading(x: RolloutBatch) -> Tensor:
    """`heading` as complex numbers (samples, horizon): a product is a rotation."""
    return _on_the_ground(x, "base_forward").sgn()


def _on_the_ground(x: RolloutBatch, sensor: str) -> Tensor:
    """Horizontal part of a sensor's vector, x + iy, (samples, horizon)."""
    vector = x.sensor(sensor)
    return torch.complex(vector[..., 0], vector[..., 1])


def off_balance(
    x: RolloutBatch, feet: Tensor, fall_time: float, velocity: Tensor | None = None
) -> Tensor:
    """Distance of the feet's middle from the place for a velocity, (samples, horizon, 2), m, world.

    An inverted pendulum comes to rest over a foot put at `position + fall_time * velocity` of its
    mass, the capture point (Pratt et al., Humanoids 2006). Here the velocity counts from the wanted
    one. Reads the sensors `mass_position`, `mass_velocity` and `base_forward`.

    Args:
        x: trajectories
        feet: (samples, horizon, 2) middle of the feet, m, world
        fall_time: time constant of the fall, sqrt(height of the mass / gravity), s
        velocity: (2,) wanted velocity along the heading and to its left, m/s; None: rest
    """
    excess = x.sensor("mass_velocity")[..., :2]
    if velocity is not None:
        (forward, left), (ahead_x, ahead_y) = velocity.unbind(), heading(x).unbind(-1)
        excess = excess - torch.stack(
            (forward * ahead_x - left * ahead_y, forward * ahead_y + left * ahead_x), dim=-1
        )
    return x.sensor("mass_position")[..., :2] - feet + fall_time * excess


def yaw(quaternion: Tensor) -> Tensor:
    """Angle () about the vertical, rad in (-pi, pi], by which a unit quaternion wxyz (4,) turns."""
    w, x, y, z = quaternion.unbind()
    return torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
