"""CMA-ES as a sampling algorithm, by the package `cma`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from diffusion_mpc.planner.algorithm import Algorithm, Belief
from diffusion_mpc.planner.score import ranked_weights, require_finite
from diffusion_mpc.types import Array


@dataclass
class Normal:
    """Random numbers for the package, whose own would change what others draw from NumPy.

    Attributes:
        rows: (samples, num_knots * nu) noise of the present step; the first row, zero, stands for
            the mean
    """

    rows: Array

    def __call__(self, samples: int, values: int) -> Array:
        """Numbers in the form that the package asks for."""
        assert self.rows.shape == (samples, values), "the strategy asks for all samples at once"
        return self.rows


class CMAES(Algorithm):
    """Covariance Matrix Adaptation Evolution Strategy (Hansen, 1604.00772), anew in each plan.

        Y_n ~ N(m, s^2 C),  m <- sum_k v_k Y_(k)    (eq. 40 and 41)

    Y_(k) is the k-th best sample and v_k its weight; step size s and covariance C follow from
    evolution paths (eq. 43 to 47), s from `noise_start` on, C from the identity. The eigenvalues of
    a full covariance are found on the CPU, so it suits tens of knot values, not hundreds.
    """

    on_device: ClassVar[bool] = False
    # With fewer, the package mirrors samples with noise of its own making.
    least_samples: ClassVar[int] = 6

    def start(self, belief: Belief) -> Belief:
        """The previous plan as mean, `noise_start` as standard deviation."""
        # Imported here, for the package brings half a second of start-up that other algorithms need
        # not wait for.
        import cma

        normal = Normal(np.zeros((0, 0)))
        options = {
            "popsize": self.config.num_samples,
            "verbose": -10,
            "seed": float("nan"),
            "randn": normal,
        }
        # A standard deviation of zero, which others understand as no search, is an error to the
        # package.
        sigma = max(self.config.noise_start, 1e-6)
        strategy = cma.CMAEvolutionStrategy(belief.mean.flatten().tolist(), sigma, options)
        return replace(belief, strategy=(strategy, normal))

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Points that the strategy asks for, clipped to [-1, 1].

        The first row is the mean itself.
        """
        strategy, normal = belief.strategy
        normal.rows = noise.flatten(1).double().cpu().numpy()
        rows = torch.as_tensor(np.array(strategy.ask())).to(belief.mean)
        rows[0] = belief.mean.flatten()
        return rows.clamp(-1.0, 1.0).reshape(-1, *belief.mean.shape)

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """The strategy's own update; infinite costs count as worse than the worst finite one."""
        strategy, _ = belief.strategy
        finite = costs.isfinite()
        weights = ranked_weights(costs, tuple(strategy.sp.weights.positive_weights.tolist()))
        require_finite(weights)
        worst = costs[finite].max()
        told = costs.where(finite, worst + worst.abs() + 1.0)
        strategy.tell(list(knots.flatten(1).double().cpu().numpy()), told.tolist())
        mean = torch.as_tensor(np.array(strategy.mean)).to(knots).clamp(-1.0, 1.0)
        return replace(belief, mean=mean.reshape(belief.mean.shape)), weights
