"""Normalisation by the training data, kept with the weights."""

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


class Excess(nn.Module):
    """Map of costs to the logarithm of their excess over the least one.

    In units of the median excess. Falls cost a hundred times what walking does: on a linear scale
    they would take all of the range, and walking well and walking badly would be one number. After
    symlog (DreamerV3, 2301.04104, eq. 9), with the finest resolution at the least cost, not at 0.
    """

    least: Tensor
    unit: Tensor
    most: Tensor

    def __init__(self) -> None:
        """Begin with the logarithm of positive costs; `fit` sets the units."""
        super().__init__()
        self.register_buffer("least", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("most", torch.tensor(torch.finfo().max).log())

    def fit(self, costs: Tensor) -> None:
        """Set the units from costs (n,)."""
        excess = costs - costs.amin()
        median = excess.median()
        self.least.copy_(costs.amin())
        self.unit.copy_(median.where(median > FLAT, torch.ones_like(median)))
        self.most.copy_(self.normalise(costs.amax()))

    def normalise(self, cost: Tensor) -> Tensor:
        """From costs to logarithms."""
        return ((cost - self.least) / self.unit).clamp(min=0.0).log1p()

    def restore(self, logarithm: Tensor) -> Tensor:
        """From logarithms to costs, none outside those that it was fitted to."""
        return self.least + self.unit * logarithm.clamp(min=0.0).minimum(self.most).expm1()
