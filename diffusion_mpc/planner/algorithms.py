"""The sampling algorithms, each as three short methods: where the search starts, what it samples, what it learns from the costs."""

from __future__ import annotations

from typing import Protocol

import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.sampler import sample_knots
from diffusion_mpc.planner.schedule import knot_profile, online_noise
from diffusion_mpc.planner.score import sample_weights, weighted_mean


class Algorithm(Protocol):
    """A search over knots that keeps nothing between plans but the knots it returns."""

    def start(self, previous: torch.Tensor) -> torch.Tensor:
        """Mean (num_knots, nu) that the search starts from, given the previous plan shifted to now."""
        ...

    def sample(self, mean: torch.Tensor, step: int, generator: torch.Generator) -> torch.Tensor:
        """Knots (num_samples, num_knots, nu) to roll out at a denoising step."""
        ...

    def update(self, knots: torch.Tensor, costs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """New mean (num_knots, nu) and the weights (num_samples,) it came from."""
        ...


class MBD:
    """Model-Based Diffusion, online (Pan et al., 2407.01573, Algorithm 2 and A.6).

    Draws a plan from `p0(Y) ~ exp(-J(Y) / temperature)` by denoising: at each step it samples around the present estimate with the
    step's noise level, rolls out, and moves to the weighted mean. The previous plan is re-noised to `noise_start` only.
    """

    def __init__(self, config: PlannerConfig) -> None:
        """Take the configuration of one plan."""
        self.config = config
        self._profile = torch.from_numpy(knot_profile(config.num_knots, config.noise_growth))[:, None]

    def start(self, previous: torch.Tensor) -> torch.Tensor:
        """The previous plan: Monte-Carlo score ascent forgets the noisy iterate, so the estimate alone is carried."""
        return previous

    def sample(self, mean: torch.Tensor, step: int, generator: torch.Generator) -> torch.Tensor:
        """Gaussian knots around the mean, with this step's noise level and the profile along the horizon."""
        c = self.config
        level = online_noise(step, c.iterations, c.noise_start, c.noise_end)
        return sample_knots(mean, level * self._profile.to(mean), c.num_samples, generator)

    def update(self, knots: torch.Tensor, costs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted mean of the samples (eq. 9 in eq. 8)."""
        weights = sample_weights(costs, self.config.temperature)
        return weighted_mean(weights, knots), weights


ALGORITHMS: dict[str, type[MBD]] = {"mbd": MBD}
