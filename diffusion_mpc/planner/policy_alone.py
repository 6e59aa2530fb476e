"""A policy's plans as they are: what a search that starts from them has to beat."""

from __future__ import annotations

from typing import ClassVar

import torch

from diffusion_mpc.config import SearchConfig
from diffusion_mpc.planner.algorithm import Algorithm, Belief
from diffusion_mpc.planner.algorithms import ALGORITHMS


class PolicyAlone(Algorithm):
    """No search: the plan is the one that it begins with, the policy's.

    It is rolled out once, for its cost and its path.
    """

    least_samples: ClassVar[int] = 1

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """The plan itself, (1, num_knots, nu)."""
        return belief.mean[None]

    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """Nothing is learnt from its cost."""
        return belief, torch.ones_like(costs)


def make_algorithm(config: SearchConfig) -> Algorithm:
    """The search that a configuration names.

    Raises:
        ConfigError: too few samples for it
    """
    kind = PolicyAlone if config.algorithm == "policy" else ALGORITHMS[config.algorithm]
    return kind(config)
