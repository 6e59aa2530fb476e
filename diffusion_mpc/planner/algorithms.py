"""The sampling algorithms, by name.

In their formulas, `Y_n` are the samples (knots), `J_n` their costs, `w_n` their weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from diffusion_mpc.config import SearchConfig
from diffusion_mpc.names import AlgorithmName
from diffusion_mpc.planner.algorithm import Algorithm, Belief, Hyperparameters
from diffusion_mpc.planner.cma_es import CMAES
from diffusion_mpc.planner.sampler import sample_knots
from diffusion_mpc.planner.schedule import (
    Scalar,
    dial_noise,
    knot_profile,
    online_noise,
    rescale_noise,
)
from diffusion_mpc.planner.score import elite_weights, sample_weights, success_rate, weighted_mean
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class SoftmaxHyperparameters(Hyperparameters):
    """Temperature of the weights, see `sample_weights`."""

    temperature: Scalar


@dataclass(frozen=True)
class MBDHyperparameters(SoftmaxHyperparameters):
    """Temperature, and what `rescale_noise` takes."""

    success_fraction: Scalar
    scale_rate: Scalar
    shape_rate: Scalar


@dataclass(frozen=True)
class CEMHyperparameters(Hyperparameters):
    """Least standard deviation of the refitted Gaussian."""

    noise_floor: Scalar


class MBD(Algorithm):
    """Model-Based Diffusion, online (Pan et al., 2407.01573, Algorithm 3).

    At denoising step i of N it draws `Y_n ~ N(Ybar, (sigma_i s)^2)`, and

        Ybar <- sum_n w_n Y_n,  w = softmax(-(J - mean J) / (std J * lambda))  (eq. 9b in 6, 10d)

    Ybar is the plan (`Belief.mean`), sigma_i the noise of the step (`Belief.sigmas`, from
    `noise_start` to `noise_end` in equal ratios), lambda the temperature. The previous plan is
    re-noised to an intermediate level only; the paper leaves open to which. Here s
    (`Belief.noise_scale`) follows what the samples tell, see `rescale_noise`, and whether plans
    stagnate, see `StagnationDetector`. Monte-Carlo score ascent forgets the noisy iterate, so the
    estimate alone is carried.
    """

    hyperparameter_type: ClassVar[type[Hyperparameters]] = MBDHyperparameters

    def __init__(self, config: SearchConfig) -> None:
        """Take the configuration of one plan."""
        super().__init__(config)
        self.antithetic = config.antithetic

    def sigmas(self, steps: int) -> Array:
        """Each step's noise, with the profile along the horizon.

        What there is no time for are the first steps, those of the most noise: few samples that are
        far apart find nothing.
        """
        c = self.config
        wanted = max(steps, c.iterations)
        noise = np.array(
            [
                online_noise(step, wanted, c.noise_start, c.noise_end)
                for step in range(wanted - steps, wanted)
            ]
        )
        sigmas: Array = noise[:, None] * knot_profile(c.num_knots, c.noise_growth)
        return sigmas

    def start(self, belief: Belief) -> Belief:
        """The mean, and the noise scale.

        Where plans stagnate no less of it than the schedule has.
        """
        scale = belief.noise_scale
        return replace(belief, noise_scale=scale * (belief.stagnated / scale.mean()).clamp(min=1.0))

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Gaussian knots around the mean, with this step's noise and the noise scale."""
        return sample_knots(belief.mean, belief.sigmas[step] * belief.noise_scale, noise)

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples, and the noise scale for the next step."""
        h: MBDHyperparameters = belief.hyperparameters
        weights = sample_weights(costs, h.temperature)
        # All steps have the same profile along the horizon.
        deviation = weighted_mean(weights, (knots - belief.mean).square()).sqrt() / belief.sigmas[
            0
        ].clamp(min=1e-12)
        excess = success_rate(costs) - h.success_fraction
        scale = rescale_noise(belief.noise_scale, deviation, excess, h.scale_rate, h.shape_rate)
        return replace(belief, mean=weighted_mean(weights, knots), noise_scale=scale), weights


class PredictiveSampling(Algorithm):
    """Predictive sampling (Howell et al., 2212.00541, Algorithm 1).

        Y_n ~ N(Y, sigma^2),  Y <- Y_m,  m = argmin_n J_n

    Y is the plan, itself the first of the samples, sigma `noise_start` at every step.
    """

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """The cheapest sample."""
        weights = elite_weights(costs, 1)
        return replace(belief, mean=knots.index_select(0, weights.argmax()[None])[0]), weights


class MPPI(Algorithm):
    """Model Predictive Path Integral control (Williams et al., 1707.02342, Algorithm 2).

        Y_n ~ N(Y, sigma^2),  Y <- sum_n w_n Y_n,  w = softmax(-(J - mean J) / (std J * lambda))

    Y is the plan, sigma `noise_start` at every step, lambda the temperature. The weights are those
    of MBD, standardised, so that one temperature suits every cost.
    """

    hyperparameter_type: ClassVar[type[Hyperparameters]] = SoftmaxHyperparameters

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples."""
        return _average(belief, knots, costs)


class CEM(Algorithm):
    """Cross-entropy method (de Boer et al., 2005, Algorithm 4.1).

        Y_n ~ N(mu, s^2),  mu <- mean of the elites,  s <- max(std of the elites, floor)

    The elites are the cheapest `elite_fraction` of the samples. s (`Belief.noise_scale`) starts at
    `noise_start` with each plan.
    """

    hyperparameter_type: ClassVar[type[Hyperparameters]] = CEMHyperparameters

    def start(self, belief: Belief) -> Belief:
        """The previous plan, with the schedule's first noise as its standard deviation."""
        return replace(belief, noise_scale=belief.sigmas[0].expand_as(belief.mean))

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Gaussian knots with the belief's mean and standard deviation."""
        return sample_knots(belief.mean, belief.noise_scale, noise)

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """Mean and standard deviation of the elites."""
        h: CEMHyperparameters = belief.hyperparameters
        weights = elite_weights(costs, max(2, round(self.config.elite_fraction * len(knots))))
        mean = weighted_mean(weights, knots)
        std = weighted_mean(weights, (knots - mean).square()).sqrt()
        return replace(belief, mean=mean, noise_scale=std.clamp(min=h.noise_floor)), weights


class DIAL(Algorithm):
    """DIAL-MPC (Xue et al., 2409.15610, Algorithm 1).

    MPPI with noise that falls over steps and rises along the horizon.

        Y_n ~ N(Y, sigma_i^2),
        sigma_i,h = noise_start * exp(-(N - i) / (beta1 N) - (H - h) / (beta2 H))    (eq. 7)

    i runs from N to 1 over the denoising steps, h from 1 to H over the knots. The paper's
    `noise_start` is 1.
    """

    hyperparameter_type: ClassVar[type[Hyperparameters]] = SoftmaxHyperparameters

    def sigmas(self, steps: int) -> Array:
        """The paper's noise by step and knot."""
        c = self.config
        noise = [
            dial_noise(step, steps, c.num_knots, c.dial_beta1, c.dial_beta2)
            for step in range(steps)
        ]
        return c.noise_start * np.array(noise)

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples."""
        return _average(belief, knots, costs)


def _average(
    belief: Belief, knots: torch.Tensor, costs: torch.Tensor
) -> tuple[Belief, torch.Tensor]:
    h: SoftmaxHyperparameters = belief.hyperparameters
    weights = sample_weights(costs, h.temperature)
    return replace(belief, mean=weighted_mean(weights, knots)), weights


ALGORITHMS: dict[AlgorithmName, type[Algorithm]] = {
    "mbd": MBD,
    "predictive_sampling": PredictiveSampling,
    "mppi": MPPI,
    "cem": CEM,
    "dial": DIAL,
    "cma_es": CMAES,
}
