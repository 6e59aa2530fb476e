"""The sampling algorithms, each as three short methods: where the search starts, what it samples, what it learns from the costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.sampler import sample_knots
from diffusion_mpc.planner.schedule import dial_noise, knot_profile, online_noise, respread
from diffusion_mpc.planner.score import elite_weights, ranked_weights, require_finite, sample_weights, success_share, weighted_mean
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class Belief:
    """What a search knows between two denoising steps; mean and spread outlive the plan.

    Attributes:
        mean: (num_knots, nu) the plan
        spread: (num_knots, nu) what the algorithm carries on beside it, of its own meaning; 1 at first
        levels: (steps, num_knots, 1) standard deviation of the noise at each denoising step, by knot
        live: (k,) the parameters that `Algorithm.live` names
        setback: () 1 where the plan before was worse than the search could mend from there, else 0; see `Setback`
        strategy: what an algorithm carries on that is no tensor
    """

    mean: torch.Tensor
    spread: torch.Tensor
    levels: torch.Tensor
    live: torch.Tensor
    setback: torch.Tensor
    strategy: Any = None


class Algorithm(Protocol):
    """A search over knots that keeps nothing but its belief.

    Attributes:
        config: parameters of the search; those of `levels` and `live` reach it through the belief only
        mirrored: whether its noise comes in pairs of opposite sign
        on_device: whether it leaves the host nothing to decide, so that a whole search can be captured
    """

    config: PlannerConfig
    mirrored: bool
    on_device: bool

    def levels(self, steps: int) -> Array:
        """Standard deviation (steps, num_knots) of the noise at each of some denoising steps, in normalised actions."""
        ...

    def live(self) -> tuple[float, ...]:
        """Other parameters that may change from plan to plan, for `Belief.live`."""
        ...

    def start(self, belief: Belief) -> Belief:
        """Where a search starts from, given what the plan before ended with, its mean shifted to now."""
        ...

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Knots to roll out at a denoising step, made of standard normal noise; both (num_samples, num_knots, nu)."""
        ...

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """What is known after the rollouts, and the weights (num_samples,) that the new mean came from.

        Where no cost is finite, the weights are NaN.
        """
        ...


class MPPI:
    """Model Predictive Path Integral control (Williams et al., 1707.02342): the same noise at every step, and the weighted mean.

    Its weights are those of MBD, standardised, so that one temperature suits every cost.
    """

    mirrored = False
    on_device = True

    def __init__(self, config: PlannerConfig) -> None:
        """Take the configuration of one plan."""
        self.config = config

    def levels(self, steps: int) -> Array:
        """`noise_start`, with the profile along the horizon, at every step."""
        levels: Array = self.config.noise_start * knot_profile(self.config.num_knots, self.config.noise_growth)
        return np.tile(levels, (steps, 1))

    def live(self) -> tuple[float, ...]:
        """The temperature first."""
        return (self.config.temperature,)

    def start(self, belief: Belief) -> Belief:
        """The mean alone."""
        return belief

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Gaussian knots around the mean, with this step's noise."""
        return sample_knots(belief.mean, belief.levels[step], noise)

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples."""
        weights = sample_weights(costs, belief.live[0])
        return replace(belief, mean=weighted_mean(weights, knots)), weights


class MBD(MPPI):
    """Model-Based Diffusion, online (Pan et al., 2407.01573, Algorithm 3).

    Draws a plan from `p0(Y) ~ exp(-J(Y) / temperature)` by denoising: at each step it samples around the present estimate with the
    step's noise level, rolls out, and moves to the weighted mean. The previous plan is re-noised to an intermediate level only; the
    paper leaves open to which. Here `Belief.spread` (num_knots, nu) multiplies the noise of the schedule, and follows what the
    samples tell, see `respread`, and what plans have come to, see `Setback`. Monte-Carlo score ascent forgets the noisy iterate, so
    the estimate alone is carried.
    """

    def __init__(self, config: PlannerConfig) -> None:
        """Take the configuration of one plan."""
        super().__init__(config)
        self.mirrored = config.mirrored

    def levels(self, steps: int) -> Array:
        """Each step's noise level, with the profile along the horizon."""
        c = self.config
        noise = np.array([online_noise(step, steps, c.noise_start, c.noise_end) for step in range(steps)])
        levels: Array = noise[:, None] * knot_profile(c.num_knots, c.noise_growth)
        return levels

    def live(self) -> tuple[float, ...]:
        """The temperature, and the parameters of `respread`."""
        return (self.config.temperature, self.config.success_share, self.config.scale_rate, self.config.shape_rate)

    def start(self, belief: Belief) -> Belief:
        """The mean, and the spread: after a setback no less of it than the schedule has."""
        return replace(belief, spread=belief.spread * (belief.setback / belief.spread.mean()).clamp(min=1.0))

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Gaussian knots around the mean, with this step's noise and the spread."""
        return sample_knots(belief.mean, belief.levels[step] * belief.spread, noise)

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The weighted mean of the samples (2407.01573, eq. 9b in eq. 6), and the spread for the next step."""
        updated, weights = super().update(belief, knots, costs)
        _, wanted, scale_rate, shape_rate = belief.live.unbind()
        # All levels have the same profile along the horizon.
        found = weighted_mean(weights, (knots - belief.mean).square()).sqrt() / belief.levels[0].clamp(min=1e-12)
        return replace(
            updated, spread=respread(belief.spread, found, success_share(costs) - wanted, scale_rate, shape_rate)
        ), weights


class PredictiveSampling(MPPI):
    """Predictive sampling (Howell et al., 2212.00541): the cheapest sample becomes the plan."""

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The cheapest sample; the mean itself is one of them."""
        weights = elite_weights(costs, 1)
        return replace(belief, mean=knots.index_select(0, weights.argmax()[None])[0]), weights


class CEM(MPPI):
    """Cross-entropy method (de Boer et al., 2005): mean and standard deviation of each knot are refitted to the elites.

    The standard deviation starts at `noise_start` and never falls below `noise_floor`.
    """

    def start(self, belief: Belief) -> Belief:
        """The previous plan, with the first level as its standard deviation (num_knots, nu)."""
        return replace(belief, spread=belief.levels[0].expand_as(belief.mean))

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Gaussian knots with the belief's mean and standard deviation."""
        return sample_knots(belief.mean, belief.spread, noise)

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

    def levels(self, steps: int) -> Array:
        """The paper's noise by step and knot."""
        c = self.config
        noise = [dial_noise(step, steps, c.num_knots, c.dial_beta1, c.dial_beta2) for step in range(steps)]
        return c.noise_start * np.array(noise)


class CMAES(MPPI):
    """Covariance Matrix Adaptation Evolution Strategy (Hansen, 1604.00772) of the package `cma`, begun anew with each plan.

    The eigenvalues of a full covariance are found on the CPU, so it suits tens of knot values, not hundreds.
    """

    on_device = False

    def start(self, belief: Belief) -> Belief:
        """The previous plan as mean, `noise_start` as standard deviation."""
        # Imported here, for the package brings half a second of start-up that other algorithms need not wait for.
        import cma

        # The package's own random numbers would change what others draw from NumPy.
        options = {"popsize": self.config.num_samples, "verbose": -10, "seed": float("nan"), "randn": self._drawn}
        # A standard deviation of zero, which others understand as no search, is an error to the package.
        width = max(self.config.noise_start, 1e-6)
        return replace(belief, strategy=cma.CMAEvolutionStrategy(belief.mean.flatten().tolist(), width, options))

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """What the strategy asks for, clipped to [-1, 1]; the first row is the mean itself."""
        self._noise = noise.flatten(1).double().cpu().numpy()
        rows = torch.as_tensor(np.array(belief.strategy.ask())).to(belief.mean)
        rows[0] = belief.mean.flatten()
        return rows.clamp(-1.0, 1.0).reshape(-1, *belief.mean.shape)

    def update(self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor) -> tuple[Belief, torch.Tensor]:
        """The strategy's own update; NaN and infinite costs count as worse than the worst finite one."""
        strategy, finite = belief.strategy, costs.isfinite()
        weights = ranked_weights(costs, tuple(strategy.sp.weights.positive_weights.tolist()))
        require_finite(weights)
        worst = costs[finite].max()
        told = costs.where(finite, worst + worst.abs() + 1.0)
        strategy.tell(list(knots.flatten(1).double().cpu().numpy()), told.tolist())
        mean = torch.as_tensor(np.array(strategy.mean)).to(knots).clamp(-1.0, 1.0)
        return replace(belief, mean=mean.reshape(belief.mean.shape)), weights

    def _drawn(self, rows: int, columns: int) -> Array:
        """The noise of this step, of which the first row, zero, stands for the mean."""
        assert self._noise.shape == (rows, columns), "the strategy asks for all samples at once"
        return self._noise


ALGORITHMS: dict[str, type[MPPI]] = {
    "mbd": MBD,
    "predictive_sampling": PredictiveSampling,
    "mppi": MPPI,
    "cem": CEM,
    "dial": DIAL,
    "cma_es": CMAES,
}
