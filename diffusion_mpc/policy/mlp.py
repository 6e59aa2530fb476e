"""Body of fully connected layers: the fastest on a CPU for the few knots of a plan."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_mpc.policy.body import Body, LevelEmbedding, zeroed

LEVEL_SIZE = 32


class MLP(Body):
    """Hidden layers of one width with residual connections, SiLU and layer normalisation."""

    def __init__(
        self, length: int, channels: int, condition: int, width: int = 256, depth: int = 3
    ) -> None:
        """Build the layers.

        Args:
            length: rows of a sequence
            channels: columns of a sequence
            condition: size of the condition
            width: units of a hidden layer
            depth: number of hidden layers
        """
        super().__init__()
        flat = length * channels
        self.level = LevelEmbedding(LEVEL_SIZE)
        self.first = nn.Linear(flat + LEVEL_SIZE + condition, width)
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth - 1)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), zeroed(nn.Linear(width, flat)))

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Predict, see `Body.forward`."""
        h = self.first(torch.cat((x.flatten(1), self.level(level), condition), dim=-1))
        for layer in self.hidden:
            h = h + layer(h)
        return self.last(h).view_as(x)
