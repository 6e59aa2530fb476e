"""Linear system under linear Gaussian policies, whose trajectories are Gaussian in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STATES, ACTIONS, HORIZON = 2, 1, 16
A = torch.tensor([[1.0, 0.2], [-0.2, 0.95]])
B = torch.tensor([[0.0], [0.2]])


@dataclass(frozen=True)
class LinearPolicy:
    """Policy `action = gain state + offset + noise`.

    Attributes:
        gain: (actions, states)
        noise: standard deviation of the noise
        offset: of every action
    """

    gain: Tensor
    noise: float
    offset: float = 0.0

    def mean(self, states: Tensor) -> Tensor:
        """Mean actions (..., actions) at states (..., states)."""
        return states @ self.gain.T + self.offset

    def act(self, states: Tensor, generator: torch.Generator) -> Tensor:
        """Actions (..., actions)."""
        mean = self.mean(states)
        return mean + self.noise * torch.randn(mean.shape, generator=generator)

    def log_density(self, states: Tensor, actions: Tensor) -> Tensor:
        """Log densities (...) of actions, but for a constant."""
        return -0.5 * ((actions - self.mean(states)) / self.noise).square().sum(-1)


BEHAVIOUR = LinearPolicy(torch.tensor([[0.0, -0.5]]), 1.0)
TARGET = LinearPolicy(torch.tensor([[-1.0, -1.0]]), 0.5)


def move(states: Tensor, actions: Tensor) -> Tensor:
    """Next states (..., 2)."""
    return states @ A.T + actions @ B.T


def starts(count: int, generator: torch.Generator) -> Tensor:
    """Standard normal states (count, 2)."""
    return torch.randn((count, STATES), generator=generator)


@dataclass(frozen=True)
class Moments:
    """Mean (size,) and covariance (size, size) of flat trajectories, in double precision."""

    mean: Tensor
    covariance: Tensor

    def distance(self, other: Moments) -> float:
        """2-Wasserstein distance of the Gaussians of these moments."""
        root = _root(self.covariance)
        both = self.covariance + other.covariance - 2.0 * _root(root @ other.covariance @ root)
        square = (self.mean - other.mean).square().sum() + both.trace()
        return float(square.clamp(min=0.0).sqrt())


def moments_of(samples: Tensor) -> Moments:
    """Moments of trajectories (count, horizon, states + actions)."""
    flat = samples.flatten(1).double()
    return Moments(flat.mean(0), flat.T.cov())


def closed_form(policy: LinearPolicy, tilt: LinearPolicy | None = None, by: float = 0.0) -> Moments:
    """Moments of a policy's trajectories; without an offset their mean is zero.

    Args:
        policy: of the trajectories
        tilt: policy whose `prod_t pi(action_t | state_t)^by` multiplies the density of the
            trajectories that begin at a start; the starts' own density stays
        by: lambda
    """
    # Each row is linear in the first state and the actions' standard normal noise.
    sources = STATES + HORIZON * ACTIONS
    state = torch.eye(STATES, sources, dtype=torch.float64)
    rows, residuals = [], []
    for t in range(HORIZON):
        noise = torch.zeros((ACTIONS, sources), dtype=torch.float64)
        noise[:, STATES + t * ACTIONS :][:, :ACTIONS] = policy.noise * torch.eye(ACTIONS)
        action = policy.gain.double() @ state + noise
        rows.append(torch.cat((state, action)))
        if tilt is not None:
            residuals.append((action - tilt.gain.double() @ state) / tilt.noise)
        state = A.double() @ state + B.double() @ action
    factor = torch.cat(rows)
    of_start, of_noise = factor[:, :STATES], factor[:, STATES:]
    posterior = torch.eye(sources - STATES, dtype=torch.float64)
    if residuals:
        residual = torch.cat(residuals)
        start, own = residual[:, :STATES], residual[:, STATES:]
        posterior = (posterior + by * own.T @ own).inverse()
        of_start = of_start - of_noise @ posterior @ (by * own.T @ start)
    covariance = of_start @ of_start.T + of_noise @ posterior @ of_noise.T
    return Moments(torch.zeros(len(factor), dtype=torch.float64), covariance)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
