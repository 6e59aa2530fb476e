"""The sampling algorithms, each as three short methods: where the search starts, what it samples, what it learns from the costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.sampler import sample_knots
from diffusion_mpc.planner.schedule import dial_noise, knot_profile, online_noise, respread
from diffusion_mpc.planner.score import elite_weights, ranked_weights, sample_weights, success_share, weighted_mean
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class Belief:
    """What a search knows between two denoising steps, and at the beginning of the next plan.

    Attributes:
        mean: (num_knots, nu) the plan
        steps: denoising steps that there is time for
        spread: what else the algorithm carries on, None for most and at the beginning
    """

    mean: torch.Tensor
    steps: int
    spread: Any = None


class Algorithm(Protocol):
    """A search over knots that keeps nothing but its belief."""

    def start(self, previous: Belief) -> Belief:
        """Where a search starts from, given what the plan before ended with, its mean shifted to now."""
        ...

    def sample(self, belief: Belief, step: int, generator: torch.Generator) -> torch.Tensor:
        """Knots (num_samples, num_knots, nu) to roll out at a denoising step; the first row is the mean."""
        ...

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """What is known after the rollouts, and the weights (num_samples,) that the new mean came from."""
        ...


class MPPI:
    """Model Predictive Path Integral control (Williams et al., 1707.02342): the same noise at every step, and the weighted mean.

    Its weights are those of MBD, standardised, so that one temperature suits every cost.
    """

    def __init__(self, config: PlannerConfig) -> None:
        """Take the configuration of one plan."""
        self.config = config
        self._profile = torch.from_numpy(knot_profile(config.num_knots, config.noise_growth))[:, None]

    def start(self, previous: Belief) -> Belief:
        """The mean alone."""
        return replace(previous, spread=None)

    def sample(self, belief: Belief, step: int, generator: torch.Generator) -> torch.Tensor:
        """Gaussian knots around the mean, `noise_start` wide."""
        return sample_knots(
            belief.mean, self.config.noise_start * self._profile.to(belief.mean), self.config.num_samples, generator
        )

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples."""
        weights = sample_weights(costs, self.config.temperature)
        return replace(belief, mean=weighted_mean(weights, knots)), weights


class MBD(MPPI):
    """Model-Based Diffusion, online (Pan et al., 2407.01573, Algorithm 3).

    Draws a plan from `p0(Y) ~ exp(-J(Y) / temperature)` by denoising: at each step it samples around the present estimate with the
    step's noise level, rolls out, and moves to the weighted mean. The previous plan is re-noised to an intermediate level only; the
    paper leaves open to which. Here `Belief.spread` (num_knots, nu) multiplies the noise of the schedule, and follows what the
    samples tell, see `respread`. Monte-Carlo score ascent forgets the noisy iterate, so the estimate alone is carried.
    """

    def start(self, previous: Belief) -> Belief:
        """The previous plan and its spread; 1 at first."""
        return previous if previous.spread is not None else replace(previous, spread=torch.ones_like(previous.mean))

    def sample(self, belief: Belief, step: int, generator: torch.Generator) -> torch.Tensor:
        """Gaussian knots around the mean, with this step's noise level, the profile along the horizon, and the spread."""
        c = self.config
        level = online_noise(step, belief.steps, c.noise_start, c.noise_end)
        return sample_knots(
            belief.mean, level * self._profile.to(belief.mean) * belief.spread, c.num_samples, generator, c.mirrored
        )

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples (2407.01573, eq. 9b in eq. 6), and the spread for the next step."""
        updated, weights = super().update(belief, knots, costs)
        c = self.config
        better = success_share(costs)
        found = weighted_mean(weights, (knots - belief.mean).square()).sqrt() / self._profile.to(knots)
        return replace(
            updated, spread=respread(belief.spread, found, better - c.success_share, c.scale_rate, c.shape_rate)
        ), weights


class PredictiveSampling(MPPI):
    """Predictive sampling (Howell et al., 2212.00541): the cheapest sample becomes the plan."""

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The cheapest sample; the mean itself is one of them."""
        weights = elite_weights(costs, 1)
        return replace(belief, mean=knots[weights.argmax()]), weights


class CEM(MPPI):
    """Cross-entropy method (de Boer et al., 2005): mean and standard deviation of each knot are refitted to the elites.

    The standard deviation starts at `noise_start` and never falls below `noise_floor`.
    """

    def start(self, previous: Belief) -> Belief:
        """The previous plan, with the profile along the horizon as its standard deviation (num_knots, nu)."""
        mean = previous.mean
        return replace(previous, spread=self.config.noise_start * self._profile.to(mean).expand_as(mean))

    def sample(self, belief: Belief, step: int, generator: torch.Generator) -> torch.Tensor:
        """Gaussian knots with the belief's mean and standard deviation."""
        return sample_knots(belief.mean, belief.spread, self.config.num_samples, generator)

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """Mean and standard deviation of the elites."""
        weights = elite_weights(costs, max(2, round(self.config.elite_share * len(knots))))
        mean = weighted_mean(weights, knots)
        std = weighted_mean(weights, (knots - mean).square()).sqrt()
        return replace(belief, mean=mean, spread=std.clamp(min=self.config.noise_floor)), weights


class DIAL(MPPI):
    """DIAL-MPC (Xue et al., 2409.15610): noise that falls with each step, and from the end of the horizon towards its beginning.

    `noise_start` scales the profile; the paper's is 1.
    """

    def sample(self, belief: Belief, step: int, generator: torch.Generator) -> torch.Tensor:
        """Gaussian knots around the mean, with the noise of this step by knot."""
        c = self.config
        profile = torch.from_numpy(dial_noise(step, belief.steps, c.num_knots, c.dial_beta1, c.dial_beta2))[:, None]
        return sample_knots(belief.mean, c.noise_start * profile.to(belief.mean), c.num_samples, generator)


class CMAES:
    """Covariance Matrix Adaptation Evolution Strategy (Hansen, 1604.00772) of the package `cma`, begun anew with each plan.

    The eigenvalues of a full covariance are found on the CPU, so it suits tens of knot values, not hundreds.
    """

    def __init__(self, config: PlannerConfig) -> None:
        """Take the configuration of one plan."""
        self.config = config

    def start(self, previous: Belief) -> Belief:
        """The previous plan as mean, `noise_start` as standard deviation."""
        # Imported here, for the package brings half a second of start-up that other algorithms need not wait for.
        import cma

        options = {"popsize": self.config.num_samples, "verbose": -10, "seed": float("nan"), "randn": self._normal}
        # A standard deviation of zero, which others understand as no search, is an error to the package.
        width = max(self.config.noise_start, 1e-6)
        return replace(previous, spread=cma.CMAEvolutionStrategy(previous.mean.flatten().tolist(), width, options))

    def sample(self, belief: Belief, step: int, generator: torch.Generator) -> torch.Tensor:
        """What the strategy asks for, clipped to [-1, 1]; the first row is the mean itself."""
        self._generator = generator
        rows = torch.as_tensor(np.array(belief.spread.ask())).to(belief.mean)
        rows[0] = belief.mean.flatten()
        return rows.clamp(-1.0, 1.0).reshape(-1, *belief.mean.shape)

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The strategy's own update; NaN and infinite costs count as worse than the worst finite one."""
        strategy = belief.spread
        weights = ranked_weights(costs, strategy.sp.weights.positive_weights)
        worst = costs[costs.isfinite()].max()
        told = costs.where(costs.isfinite(), worst + worst.abs() + 1.0)
        strategy.tell(list(knots.flatten(1).double().cpu().numpy()), told.tolist())
        mean = torch.as_tensor(np.array(strategy.mean)).to(knots).clamp(-1.0, 1.0)
        return replace(belief, mean=mean.reshape(belief.mean.shape)), weights

    def _normal(self, *shape: int) -> Array:
        """Standard normal numbers of the planner's own generator: the package's would change what others draw from NumPy."""
        generator = self._generator
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).cpu().numpy()


ALGORITHMS: dict[str, Callable[[PlannerConfig], Algorithm]] = {
    "mbd": MBD,
    "predictive_sampling": PredictiveSampling,
    "mppi": MPPI,
    "cem": CEM,
    "dial": DIAL,
    "cma_es": CMAES,
}
