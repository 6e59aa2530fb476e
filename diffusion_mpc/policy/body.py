"""Base class of the networks' bodies, and how they see noise level and condition."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Body(nn.Module, ABC):
    """Network from a noisy sequence to a prediction of the same shape.

    Its last layer begins at zero, so that an untrained one predicts zeros.
    """

    @abstractmethod
    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Predict.

        Args:
            x: (batch, length, channels) noisy sequences
            level: (batch,) noise level, 0 for none to 1 for noise alone
            condition: (batch, c)

        Returns:
            (batch, length, channels)
        """


class LevelEmbedding(nn.Module):
    """Sines and cosines of the noise level (Vaswani et al., 1706.03762, section 3.5)."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        """Prepare frequencies from 1 to 1000 radians, half of `size` (even) of them."""
        super().__init__()
        spaced = torch.linspace(0.0, math.log(1000.0), size // 2)
        self.register_buffer("frequencies", spaced.exp(), persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        """Embedding (batch, size) of levels (batch,)."""
        angles = level[:, None] * self.frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


def zeroed(layer: nn.Module) -> nn.Module:
    """A layer whose parameters are zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
