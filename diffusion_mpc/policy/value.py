"""A network for the cost to go of whoever made the data, after POLO (1811.01848) and TD-MPC."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_mpc.policy.checkpoint import CheckpointError
from diffusion_mpc.policy.denoiser import WITHIN
from diffusion_mpc.policy.normaliser import Excess, Limits
from diffusion_mpc.policy.purpose import Purpose, read_network


@dataclass(frozen=True)
class ValueConfig:
    """Sizes of a value network.

    Attributes:
        observation: size of what it sees
        width: units of a hidden layer
        depth: number of hidden layers
        members: networks of the ensemble, begun from other random numbers
    """

    observation: int
    width: int = 256
    depth: int = 2
    members: int = 2


class Value(nn.Module):
    """Ensemble of networks, the worst of which counts: costs are not to be thought too low.

    Nor lower than the least of the training data, which a search would find.
    """

    def __init__(self, config: ValueConfig) -> None:
        """Build it untrained, without normalisation."""
        super().__init__()
        self.config = config
        self.given, self.cost = Limits(config.observation), Excess()
        sizes = [config.observation] + config.depth * [config.width]
        self.members = nn.ModuleList(
            nn.Sequential(
                *[
                    layer
                    for before, after in pairwise(sizes)
                    for layer in (nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU())
                ],
                nn.Linear(config.width, 1),
            )
            for _ in range(config.members)
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Cost to go (batch,) of observations (batch, obs): the largest of the members'."""
        return self.cost.restore(self._predict(observation).amax(0))

    def loss(self, observation: Tensor, cost_to_go: Tensor) -> Tensor:
        """Mean squared error () of all members, in logarithms.

        Args:
            observation: (batch, obs)
            cost_to_go: (batch,)
        """
        return (self._predict(observation) - self.cost.normalise(cost_to_go)).square().mean()

    def _predict(self, observation: Tensor) -> Tensor:
        seen = self.given.normalise(observation).clamp(-WITHIN, WITHIN)
        return torch.stack([member(seen)[:, 0] for member in self.members])


def read_value(path: Path, purpose: Purpose) -> tuple[Value, float]:
    """Value of a checkpoint, and the period that its costs count by, s.

    Raises:
        CheckpointError: it cannot be read, or is for something else
    """
    value, period = read_network(
        path, purpose, "value", lambda network: Value(ValueConfig(**network))
    )
    if value.config.observation != purpose.observation:
        raise CheckpointError(f"'{path}' sees more than the newest observation; train it anew")
    return value, period
