"""Linear system under linear Gaussian policies, whose trajectories are Gaussian in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

STATES, ACTIONS, HORIZON = 2, 1, 16
A = torch.tensor([[1.0, 0.2], [-0.2, 0.95]])
B = torch.tensor([[0.0], [0.2]])
BEHAVIOUR, TARGET, NOISE = torch.tensor([[0.0, -0.5]]), torch.tensor([[-1.5, -1.5]]), 0.5
"""Gains of the two policies, action = gain state + noise, and the noise's standard deviation."""


def move(states: Tensor, actions: Tensor) -> Tensor:
    """Next states (..., 2)."""
    return states @ A.T + actions @ B.T


def act(states: Tensor, gain: Tensor, generator: torch.Generator) -> Tensor:
    """Actions (..., 1) of a policy."""
    mean = states @ gain.T
    return mean + NOISE * torch.randn(mean.shape, generator=generator)


def log_density(states: Tensor, actions: Tensor) -> Tensor:
    """Log densities (batch, horizon) of the target policy, but for a constant."""
    return -0.5 * ((actions - states @ TARGET.T) / NOISE).square().sum(-1)


def trajectories(count: int, gain: Tensor, generator: torch.Generator) -> Tensor:
    """Trajectories (count, horizon, 3) of a policy, from standard normal states."""
    states, rows = torch.randn((count, STATES), generator=generator), []
    for _ in range(HORIZON):
        actions = act(states, gain, generator)
        rows.append(torch.cat((states, actions), -1))
        states = move(states, actions)
    return torch.stack(rows, 1)


def roll_out(start: Tensor, actions: Tensor) -> Tensor:
    """States (batch, horizon, 2) from starts (batch, 2) under actions (batch, horizon, 1)."""
    states = [start]
    for t in range(actions.shape[1] - 1):
        states.append(move(states[-1], actions[:, t]))
    return torch.stack(states, 1)


def covariance(gain: Tensor) -> Tensor:
    """Covariance of a policy's trajectories, flat; their mean is zero."""
    # Each row is linear in the first state and the actions' noise, which are independent.
    sources = STATES + HORIZON * ACTIONS
    state = torch.eye(STATES, sources)
    rows = []
    for t in range(HORIZON):
        noise = torch.zeros(ACTIONS, sources)
        noise[:, STATES + t * ACTIONS :][:, :ACTIONS] = NOISE * torch.eye(ACTIONS)
        action = gain @ state + noise
        rows.append(torch.cat((state, action)))
        state = A @ state + B @ action
    factor = torch.cat(rows)
    return factor @ factor.T


def distance(samples: Tensor, gain: Tensor) -> float:
    """2-Wasserstein distance of a Gaussian of the samples' moments to a policy's trajectories."""
    flat = samples.flatten(1).double()
    mean, own, other = flat.mean(0), flat.T.cov(), covariance(gain).double()
    root = _root(own)
    square = mean.square().sum() + (own + other - 2.0 * _root(root @ other @ root)).trace()
    return float(square.clamp(min=0.0).sqrt())


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
