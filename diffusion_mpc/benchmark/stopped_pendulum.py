"""Pendulum between two stops, off which it bounces, to be kept beside one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_mpc.benchmark.linear_gaussian import LinearPolicy

STATES, ACTIONS, HORIZON = 2, 1, 32
TIMESTEP, GRAVITY, DAMPING = 0.1, 4.0, 0.2
STOP, RESTITUTION = 0.8, 0.6
"""Angle of the stops, rad, and fraction of the velocity after an impact."""

WANTED = 0.6
"""Angle to keep, rad."""

BEHAVIOUR = LinearPolicy(torch.tensor([[0.0, -0.5]]), 2.0, offset=1.0)
TARGET = LinearPolicy(torch.tensor([[-3.0, -2.0]]), 0.7, offset=4.0)


def move(states: Tensor, actions: Tensor) -> Tensor:
    """Next angles and velocities (..., 2) under accelerations (..., 1)."""
    angle, velocity = states.unbind(-1)
    acceleration = actions[..., 0] - GRAVITY * angle.sin() - DAMPING * velocity
    velocity = velocity + acceleration * TIMESTEP
    angle = angle + velocity * TIMESTEP
    beyond = angle.abs() > STOP
    angle = torch.where(beyond, 2.0 * STOP * angle.sign() - angle, angle).clamp(-STOP, STOP)
    return torch.stack((angle, torch.where(beyond, -RESTITUTION * velocity, velocity)), -1)


def starts(count: int, generator: torch.Generator) -> Tensor:
    """States (count, 2) anywhere between the stops, with velocities about 0."""
    angle = STOP * (2.0 * torch.rand(count, generator=generator) - 1.0)
    return torch.stack((angle, 0.5 * torch.randn(count, generator=generator)), -1)


def reward(states: Tensor, actions: Tensor) -> Tensor:
    """Rewards (...) of states (..., 2) and actions (..., 1)."""
    angle, velocity = states.unbind(-1)
    effort = actions.square().sum(-1)
    return 1.0 - (angle - WANTED).square() - 0.1 * velocity.square() - 0.01 * effort
