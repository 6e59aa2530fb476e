"""Base class of the sampling algorithms.

Where a search starts, what it samples, what it learns from the costs.

A new one needs a child of `Algorithm` and its name in `ALGORITHMS`, `AlgorithmName` and `SPACES`,
see CONTRIBUTING.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from diffusion_mpc.config import ConfigError, SearchConfig
from diffusion_mpc.planner.sampler import sample_knots
from diffusion_mpc.planner.schedule import knot_profile
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class Hyperparameters:
    """Numbers of an algorithm that may change from plan to plan; children name them."""


@dataclass(frozen=True)
class Belief:
    """State of a search between two denoising steps; mean and noise scale outlive the plan.

    Attributes:
        mean: (num_knots, nu) the plan
        noise_scale: (num_knots, nu) what the algorithm carries on beside it, of its own meaning; 1
            at first
        sigmas: (steps, num_knots, 1) standard deviation of the noise at each denoising step, by
            knot
        hyperparameters: those of the algorithm, tensors ()
        stagnated: () 1 where the previous plan was worse than the search could mend from there,
            else 0; see `StagnationDetector`
        strategy: what an algorithm carries on that is no tensor
    """

    mean: torch.Tensor
    noise_scale: torch.Tensor
    sigmas: torch.Tensor
    hyperparameters: Any
    stagnated: torch.Tensor
    strategy: Any = None


class Algorithm(ABC):
    """A search over knots that keeps nothing but its belief.

    By default it draws Gaussian knots around the mean with the same noise at every step, and starts
    with the mean alone.

    Attributes:
        hyperparameter_type: dataclass of the numbers that reach a search through its belief
        antithetic: whether its noise comes in pairs of opposite sign
        on_device: whether it leaves the host nothing to decide, so that a whole search can be
            captured
        least_samples: samples without which it cannot search
        config: parameters of the search; `sigmas` and `hyperparameters` are all that a search sees
            of those that change live
    """

    hyperparameter_type: ClassVar[type[Hyperparameters]] = Hyperparameters
    antithetic: bool = False
    on_device: ClassVar[bool] = True
    least_samples: ClassVar[int] = 2

    def __init__(self, config: SearchConfig) -> None:
        """Take the configuration of one plan.

        Raises:
            ConfigError: too few samples for the algorithm
        """
        if config.num_samples < self.least_samples:
            raise ConfigError(
                f"planner.num_samples is {config.num_samples}; planner.algorithm "
                f"{config.algorithm} needs {self.least_samples} at least"
            )
        self.config = config

    def sigmas(self, steps: int) -> Array:
        """Standard deviation (steps, num_knots) of the noise at each step, in normalised actions.

        `noise_start` with the profile along the horizon, at every step.
        """
        sigmas: Array = self.config.noise_start * knot_profile(
            self.config.num_knots, self.config.noise_growth
        )
        return np.tile(sigmas, (steps, 1))

    def hyperparameters(self) -> Hyperparameters:
        """The numbers of the configuration that `Belief.hyperparameters` holds."""
        names = self.hyperparameter_type.__dataclass_fields__
        return self.hyperparameter_type(**{name: getattr(self.config, name) for name in names})

    def pack(self) -> Array:
        """`hyperparameters` as an array (k,)."""
        return np.array(astuple(self.hyperparameters()), dtype=np.float64)

    def unpack(self, values: torch.Tensor) -> Hyperparameters:
        """Hyperparameters of their values (k,)."""
        return self.hyperparameter_type(*values.unbind())

    def start(self, belief: Belief) -> Belief:
        """Start of a search, given the end of the previous plan, its mean shifted to now."""
        return belief

    def sample(self, belief: Belief, step: int, noise: torch.Tensor) -> torch.Tensor:
        """Knots to roll out at a denoising step, made of standard normal noise.

        Both (num_samples, num_knots, nu).
        """
        return sample_knots(belief.mean, belief.sigmas[step], noise)

    @abstractmethod
    def update(
        self, belief: Belief, knots: torch.Tensor, costs: torch.Tensor
    ) -> tuple[Belief, torch.Tensor]:
        """The belief after the rollouts, and the weights (num_samples,) of its mean.

        Args:
            belief: what was known before
            knots: (num_samples, num_knots, nu) what was rolled out
            costs: (num_samples,) finite or positive infinite; where none is finite, the weights are
                NaN
        """
