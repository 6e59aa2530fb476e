"""Policies that are learned from recorded transitions alone: TD3+BC (2106.06860)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DISCOUNT, TRACKING, CLONING, BATCH, WIDTH = 0.95, 0.01, 2.5, 128, 64
NOISE, NOISE_LIMIT, ACTOR_EVERY = 0.2, 0.5, 2
"""Settings of the paper, but for the discount, which looks two seconds ahead, and the sizes."""


@dataclass(frozen=True)
class Transitions:
    """Transitions of several learners, each (learners, count, ...)."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    following: Tensor

    def pick(self, index: Tensor) -> Transitions:
        """Transitions of indices (learners, batch)."""
        rows = torch.arange(len(index))[:, None]
        return Transitions(
            *(x[rows, index] for x in (self.states, self.actions, self.rewards, self.following))
        )

    def with_more(self, other: Transitions) -> Transitions:
        """Both one after the other."""
        return Transitions(
            torch.cat((self.states, other.states), 1),
            torch.cat((self.actions, other.actions), 1),
            torch.cat((self.rewards, other.rewards), 1),
            torch.cat((self.following, other.following), 1),
        )


class Ensemble(nn.Module):
    """Networks of two hidden layers side by side, from (networks, batch, ...)."""

    def __init__(self, networks: int, size_in: int, size_out: int) -> None:
        """Build them, each with its own random parameters."""
        super().__init__()
        sizes = (size_in, WIDTH, WIDTH, size_out)
        scales = [1.0 / math.sqrt(size) for size in sizes[:-1]]
        self.weights = nn.ParameterList(
            scale * (2.0 * torch.rand(networks, a, b) - 1.0)
            for a, b, scale in zip(sizes[:-1], sizes[1:], scales, strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(networks, 1, b) for b in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (networks, batch, size_out)."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x.relu() if i else x, weight)
        return x


class Actors(nn.Module):
    """Deterministic policies of several learners."""

    def __init__(self, data: Transitions) -> None:
        """Build them untrained; actions reach as far as those of the data."""
        super().__init__()
        self.network = Ensemble(len(data.states), data.states.shape[-1], data.actions.shape[-1])
        self.limit = float(data.actions.abs().max())

    def forward(self, states: Tensor) -> Tensor:
        """Actions (learners, ..., actions) at states (learners, ..., states)."""
        flat = self.network(states.flatten(1, -2)).tanh() * self.limit
        return flat.unflatten(1, states.shape[1:-1])


def learn(data: Transitions, steps: int, generator: torch.Generator) -> Actors:
    """Policies of TD3+BC, one a learner.

    Args:
        data: transitions; tasks do not end
        steps: gradient steps of the critics
        generator: source of batches and noise
    """
    learners, count, size = data.states.shape
    actors, slow_actors = Actors(data), Actors(data)
    critics, slow_critics = (
        Ensemble(2 * learners, size + data.actions.shape[-1], 1) for _ in range(2)
    )
    slow_actors.load_state_dict(actors.state_dict())
    slow_critics.load_state_dict(critics.state_dict())
    optimisers = [torch.optim.Adam(m.parameters(), 1e-3) for m in (actors, critics)]
    limit = actors.limit

    def values(network: Ensemble, states: Tensor, actions: Tensor) -> Tensor:
        """Values (2, learners, batch) of the twin critics."""
        x = torch.cat((states, actions / limit), -1)
        return network(torch.cat((x, x)))[..., 0].unflatten(0, (2, learners))

    for step in range(steps):
        index = torch.randint(count, (learners, BATCH), generator=generator)
        rows = data.pick(index)
        with torch.no_grad():
            noise = NOISE * torch.randn(rows.actions.shape, generator=generator)
            noise = limit * noise.clamp(-NOISE_LIMIT, NOISE_LIMIT)
            action = (slow_actors(rows.following) + noise).clamp(-limit, limit)
            best = values(slow_critics, rows.following, action).amin(0)
            target = rows.rewards + DISCOUNT * best
        loss = (values(critics, rows.states, rows.actions) - target).square().mean((1, 2)).sum()
        _descend(optimisers[1], learners * loss)
        if step % ACTOR_EVERY == 0:
            action = actors(rows.states)
            value = values(critics, rows.states, action)[0]
            weight = CLONING / value.detach().abs().mean(-1, keepdim=True)
            cloning = ((action - rows.actions) / limit).square().sum(-1)
            _descend(optimisers[0], (cloning - weight * value).mean(-1).sum())
            for fast, slow in ((actors, slow_actors), (critics, slow_critics)):
                _track(fast, slow)
    return actors


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@torch.no_grad()
def _track(fast: nn.Module, slow: nn.Module) -> None:
    for a, b in zip(fast.parameters(), slow.parameters(), strict=True):
        b.lerp_(a, TRACKING)
