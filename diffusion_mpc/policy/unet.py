"""Body of convolutions along the sequence, Diffusion Policy's 1-D U-Net (2303.04137, A.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffusion_mpc.policy.body import Body, LevelEmbedding, zeroed

KERNEL, GROUPS = 5, 8


def _convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels_out, KERNEL, padding=KERNEL // 2),
        nn.GroupNorm(GROUPS, channels_out),
        nn.Mish(),
    )


class ResidualBlock(nn.Module):
    """Two convolutions, scaled and shifted between by level and condition (FiLM, 1709.07871)."""

    def __init__(self, channels_in: int, channels_out: int, condition: int) -> None:
        """Build the layers."""
        super().__init__()
        self.first = _convolution(channels_in, channels_out)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * channels_out))
        self.second = _convolution(channels_out, channels_out)
        self.skip = nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (batch, channels_in, length) to (batch, channels_out, length)."""
        scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
        return self.second(self.first(x) * (1.0 + scale) + shift) + self.skip(x)


class UNet(Body):
    """U-Net over time whose every block sees level and condition."""

    def __init__(
        self,
        length: int,
        channels: int,
        condition: int,
        widths: Sequence[int] = (64, 128, 256),
        level_size: int = 64,
    ) -> None:
        """Build the layers.

        Args:
            length: rows of a sequence; padded to a multiple of what the strides need
            channels: columns of a sequence
            condition: size of the condition
            widths: channels at each resolution, multiples of 8; the paper's are 256, 512, 1024
            level_size: size of the level's embedding; the paper's is 256
        """
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        self.level = nn.Sequential(
            LevelEmbedding(level_size),
            nn.Linear(level_size, 4 * level_size),
            nn.Mish(),
            nn.Linear(4 * level_size, level_size),
        )
        seen = level_size + condition
        sizes = list(pairwise((channels, *widths)))
        self.down = nn.ModuleList(
            nn.ModuleList((ResidualBlock(a, b, seen), ResidualBlock(b, b, seen))) for a, b in sizes
        )
        self.downsample = nn.ModuleList(
            nn.Conv1d(w, w, 3, stride=2, padding=1) for w in widths[:-1]
        )
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], seen) for _ in range(2))
        ups = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(
            nn.ModuleList((ResidualBlock(a + b, b, seen), ResidualBlock(b, b, seen)))
            for a, b in ups
        )
        self.upsample = nn.ModuleList(
            nn.ConvTranspose1d(a, a, 4, stride=2, padding=1) for a, _ in ups
        )
        self.last = nn.Sequential(
            _convolution(widths[0], widths[0]), zeroed(nn.Conv1d(widths[0], channels, 1))
        )

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Predict, see `Body.forward`."""
        seen = torch.cat((self.level(level), condition), dim=-1)
        length = x.shape[1]
        # A plan's few knots rarely divide by the strides: the last is repeated.
        padding = -length % self.multiple
        h = nn.functional.pad(x.transpose(1, 2), (0, padding), mode="replicate")
        skips = []
        for i, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, seen)
            if i < len(self.downsample):
                skips.append(h)
                h = self.downsample[i](h)
        for block in self.middle:
            h = block(h, seen)
        for larger, blocks in zip(self.upsample, self.up, strict=True):
            h = torch.cat((larger(h), skips.pop()), dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, seen)
        return self.last(h).transpose(1, 2)[:, :length]
