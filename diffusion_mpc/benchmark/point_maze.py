"""Point robot in a U-shaped corridor, and a controller that wanders through it."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_mpc.benchmark.rollouts import open_loop

SIZE = 3.0
"""Side of the square that the maze fills, m."""

BLOCK = (2.0, 1.0, 2.0)
"""Block in the square: from x = 0 to the first, in y between the others, m."""

TIMESTEP, MAX_ACCELERATION = 0.2, 3.0
CORNERS = torch.tensor([[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 2.5]])
"""Middle of the corridor, two metres from corner to corner."""

LENGTH, LOOK_AHEAD, SPEED, REACHED = 6.0, 0.5, 1.2, 0.5

STIFFNESS, DAMPING = 10.0, 5.0
"""Gains of the controller that follows plans, 1/s^2 and 1/s: errors halve at each step."""


def move(states: Tensor, actions: Tensor) -> Tensor:
    """Next states (..., 4), positions and velocities, under accelerations (..., 2)."""
    acceleration = actions.clamp(-MAX_ACCELERATION, MAX_ACCELERATION)
    position, velocity = states[..., :2], states[..., 2:]
    moved = position + velocity * TIMESTEP + acceleration * (TIMESTEP**2 / 2.0)
    return torch.cat((moved, velocity + acceleration * TIMESTEP), dim=-1)


def follow(planned: Tensor) -> Tensor:
    """Trajectories of a PD controller along planned positions (batch, horizon, 6), from the start.

    Velocities and accelerations are differences of the positions, for a sampled row agrees with
    its neighbours less well than a position does. Diffuser's authors, too, follow the planned
    positions of their mazes by such a controller.
    """
    steps = planned[..., :2].diff(dim=1) / TIMESTEP
    steps = torch.cat((steps[:, :1], steps, steps[:, -1:]), 1)
    velocities = (steps[:, 1:] + steps[:, :-1]) / 2.0
    # An acceleration acts until the next row, so that it is the change of the velocity until then.
    accelerations = torch.cat((velocities, velocities[:, -1:]), 1).diff(dim=1) / TIMESTEP
    state, rows = planned[:, 0, :4], []
    for t in range(planned.shape[1]):
        apart = torch.cat((planned[:, t, :2], velocities[:, t]), -1) - state
        action = accelerations[:, t] + STIFFNESS * apart[:, :2] + DAMPING * apart[:, 2:]
        rows.append(torch.cat((state, action), -1))
        state = move(state, action)
    return torch.stack(rows, 1)


def obey(planned: Tensor) -> Tensor:
    """Trajectories under the planned accelerations alone (batch, horizon, 6)."""
    actions = planned[..., 4:]
    return torch.cat((open_loop(move, planned[:, 0, :4], actions), actions), -1)


def depth(position: Tensor, margin: float = 0.0) -> Tensor:
    """Depth (...) in m of positions (..., 2) in walls that are thicker by a margin; 0: free."""
    right, low, high = BLOCK
    x, y = position.unbind(-1)
    inside = torch.stack((right + margin - x, y - low + margin, high + margin - y), -1).amin(-1)
    outside = torch.cat((margin - position, position - SIZE + margin), -1).amax(-1)
    return torch.maximum(inside, outside).clamp(min=0.0)


def wander(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """Trajectories (count, steps, 6) of a controller that goes to one random place after another.

    It looks ahead along the middle of the corridor, off it by a random distance.
    """
    draw = torch.rand((steps + 1, count, 3), generator=generator)
    noise = torch.randn((steps, count, 2), generator=generator)
    aim, offset = LENGTH * draw[0, :, 0], 0.4 * (draw[0, :, 1] - 0.5)
    states = torch.cat((_middle(LENGTH * draw[0, :, 2]), torch.zeros(count, 2)), -1)
    rows = []
    for t in range(steps):
        place = _along(states[:, :2])
        reached = (aim - place).abs() < REACHED
        aim = aim.where(~reached, LENGTH * draw[t + 1, :, 0])
        offset = offset.where(~reached, 0.4 * (draw[t + 1, :, 1] - 0.5))
        ahead = _middle(place + (aim - place).clamp(-LOOK_AHEAD, LOOK_AHEAD)) + offset[:, None]
        wanted = 3.0 * (ahead - states[:, :2])
        wanted = wanted * (SPEED / wanted.norm(dim=-1, keepdim=True).clamp(min=1e-6)).clamp(max=1.0)
        actions = 4.0 * (wanted - states[:, 2:]) + 0.3 * noise[t]
        actions = actions.clamp(-MAX_ACCELERATION, MAX_ACCELERATION)
        rows.append(torch.cat((states, actions), -1))
        states = move(states, actions)
    return torch.stack(rows, 1)


def windows(trajectories: Tensor, horizon: int, stride: int) -> Tensor:
    """Pieces (count, horizon, 6) of trajectories, those that touch no wall."""
    cut = trajectories.unfold(1, horizon, stride).permute(0, 1, 3, 2).flatten(0, 1)
    return cut[(depth(cut[..., :2]) == 0.0).all(1)]


def _middle(place: Tensor) -> Tensor:
    """Positions (batch, 2) at places (batch,) along the middle of the corridor."""
    place = place.clamp(0.0, LENGTH - 1e-4)
    i = (place / 2.0).long()
    part = (place / 2.0 - i)[:, None]
    return CORNERS[i] * (1.0 - part) + CORNERS[i + 1] * part


def _along(position: Tensor) -> Tensor:
    """Places (batch,) along the middle nearest to positions (batch, 2)."""
    part = ((position[:, None] - CORNERS[:-1]) * (CORNERS[1:] - CORNERS[:-1])).sum(-1) / 4.0
    part = part.clamp(0.0, 1.0)
    nearest = CORNERS[:-1] + part[..., None] * (CORNERS[1:] - CORNERS[:-1])
    i = (position[:, None] - nearest).norm(dim=-1).argmin(-1, keepdim=True)
    return (2.0 * (i + part.gather(1, i)))[:, 0]
