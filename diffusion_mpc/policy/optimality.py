"""Labels and weights of training rows from their advantages.

CFGRL (2505.23458) trains one network with and without a label of optimality and improves on the
data by guidance when sampling; advantage-weighted regression, its baseline, decides when training.
"""

from __future__ import annotations

from torch import Tensor


def optimality(advantage: Tensor) -> Tensor:
    """Label `o = 1[A > 0]` (batch, 1) of rows with advantages (batch,).

    Give it to `Denoiser.loss` without weights: leaving the label out in a tenth of the rows is the
    unconditional loss with weight 0.1, of all rows alike. Weights by label would make the
    unconditional network another policy than the data's. In the goal-conditioned form the label is
    the goal, and the unconditional network is behaviour cloning.

    Sampling with the label 1 and guidance w is then from about `pi(a | s) p(o = 1 | s, a)^w`, where
    pi is the data's policy (2505.23458).
    """
    return (advantage > 0.0).to(advantage)[:, None]


def advantage_weights(advantage: Tensor, temperature: float, largest: float = 20.0) -> Tensor:
    """Weights (batch,) `min(exp(A / temperature), largest)` of advantage-weighted regression.

    From 1910.00177. The temperature cannot be changed once the network is trained.

    Raises:
        ValueError: the temperature is not positive
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature:g}; choose one above 0")
    return (advantage / temperature).exp().clamp(max=largest)
