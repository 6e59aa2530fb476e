"""Normalisation by the limits of the training data, kept with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLAT = 1e-4
"""Range below which a quantity counts as constant."""


class Limits(nn.Module):
    """Map of the last dimension's columns to [-1, 1] (Diffusion Policy, 2303.04137, A.1)."""

    centre: Tensor
    reach: Tensor

    def __init__(self, size: int) -> None:
        """Begin with the identity; `fit` sets the limits."""
        super().__init__()
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("reach", torch.ones(size))

    def fit(self, low: Tensor, high: Tensor, symmetric: bool = False) -> None:
        """Set the limits.

        Args:
            low: (size,) least values
            high: (size,) largest values
            symmetric: keep 0 at 0, as residuals need it
        """
        if symmetric:
            high = torch.maximum(high.abs(), low.abs())
            low = -high
        reach = (high - low) / 2.0
        self.centre.copy_((high + low) / 2.0)
        self.reach.copy_(reach.where(reach > FLAT, torch.ones_like(reach)))

    def normalise(self, x: Tensor) -> Tensor:
        """From the data's units to [-1, 1]."""
        return (x - self.centre) / self.reach

    def restore(self, x: Tensor) -> Tensor:
        """From [-1, 1] to the data's units."""
        return x * self.reach + self.centre
