"""Labels and weights of training rows from their advantages.

CFGRL (2505.23458) trains one network with and without a label of optimality and improves on the
data by guidance when sampling; advantage-weighted regression, its baseline, decides when training.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONDITIONAL = 1.0
"""Weight of rows that are better than their like."""

UNCONDITIONAL = 0.1
"""Weight of the others, which only the unconditional network learns from."""


def optimality(advantage: Tensor) -> tuple[Tensor, Tensor]:
    """Label `o = 1[A > 0]` (batch, 1) and weight (batch,) of rows with advantages (batch,).

    Give them to `Denoiser.loss`. Sampling with the label 1 and guidance w is then from about
    `pi(a | s) p(o = 1 | s, a)^w`, which is better than the data's policy pi, and better the larger
    w, as far as the network can be trusted (2505.23458).
    """
    better = (advantage > 0.0).to(advantage)
    return better[:, None], torch.where(advantage > 0.0, CONDITIONAL, UNCONDITIONAL).to(advantage)


def advantage_weights(advantage: Tensor, temperature: float, largest: float = 20.0) -> Tensor:
    """Weights (batch,) `min(exp(A / temperature), largest)` of advantage-weighted regression.

    From 1910.00177. The temperature cannot be changed once the network is trained.

    Raises:
        ValueError: the temperature is not positive
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature:g}; choose one above 0")
    return (advantage / temperature).exp().clamp(max=largest)
