"""Trajectories of torch functions that move states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_mpc.policy.policy_guided import Move

Act = Callable[[Tensor], Tensor]
"""Actions (batch, actions) at states (batch, states)."""


def closed_loop(move: Move, start: Tensor, act: Act, horizon: int) -> Tensor:
    """Trajectories (batch, horizon, states + actions) of a policy from starts (batch, states)."""
    states, rows = start, []
    for _ in range(horizon):
        actions = act(states)
        rows.append(torch.cat((states, actions), -1))
        states = move(states, actions)
    return torch.stack(rows, 1)


def open_loop(move: Move, start: Tensor, actions: Tensor) -> Tensor:
    """States (batch, horizon, states) under actions (batch, horizon, actions)."""
    states = [start]
    for t in range(actions.shape[1] - 1):
        states.append(move(states[-1], actions[:, t]))
    return torch.stack(states, 1)
