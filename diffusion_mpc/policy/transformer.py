"""Body of attention between the rows of a sequence (Peebles and Xie, 2212.09748: adaLN-zero)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_mpc.policy.body import Body, LevelEmbedding, zeroed


class Block(nn.Module):
    """Attention and a layer after it, scaled, shifted and gated by level and condition."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the layers."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.after = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = nn.Sequential(nn.SiLU(), zeroed(nn.Linear(width, 6 * width)))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map (batch, length, width) to the same, given (batch, width)."""
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(seen)[:, None].chunk(6, -1)
        h = self.norms[0](x) * (1.0 + scale) + shift
        x = x + gate * self.attention(h, h, h, need_weights=False)[0]
        return x + gate_2 * self.after(self.norms[1](x) * (1.0 + scale_2) + shift_2)


class Transformer(Body):
    """Encoder with one token a row."""

    def __init__(
        self,
        length: int,
        channels: int,
        condition: int,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
    ) -> None:
        """Build the layers.

        Args:
            length: rows of a sequence, at most
            channels: columns of a sequence
            condition: size of the condition
            width: size of a token, a multiple of `heads`
            depth: number of blocks
            heads: heads of attention
        """
        super().__init__()
        self.first = nn.Linear(channels, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.level = LevelEmbedding(width)
        self.seen = nn.Sequential(
            nn.Linear(width + condition, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, channels))

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Predict, see `Body.forward`."""
        seen = self.seen(torch.cat((self.level(level), condition), dim=-1))
        h = self.first(x) + self.places[: x.shape[1]]
        for block in self.blocks:
            h = block(h, seen)
        return self.last(self.norm(h))
