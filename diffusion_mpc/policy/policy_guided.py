"""Policy-Guided Diffusion (Jackson et al., 2404.06356).

Whole trajectories of a model of the behaviour's data, tilted to a target policy; and the baseline,
a one-step model that is rolled out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion_mpc.policy.diffuser import Diffuser, gradient
from diffusion_mpc.policy.generative_processes import Adjust, SamplingStep
from diffusion_mpc.policy.normaliser import Limits

LogDensity = Callable[[Tensor, Tensor], Tensor]
"""Log densities (batch, horizon) of a policy's actions (batch, horizon, actions) at states (batch,
horizon, states); differentiable in the actions.
"""

Move = Callable[[Tensor, Tensor], Tensor]
"""Next states (..., states) of states and actions (..., actions)."""


def coefficient(step: int, steps: int, strength: float) -> float:
    """Coefficient `strength (1 - k/N + 0.3 sin(pi (k + 1)/N))` of step k of N; 0 on the last."""
    if step >= steps - 1:
        return 0.0
    bump = 0.3 * math.sin(math.pi * (step + 1) / steps)
    return strength * (1.0 - step / steps + bump)


def policy_guidance(model: Diffuser, log_density: LogDensity, strength: float) -> Adjust:
    """Guidance of a model's trajectories to a policy.

    The mean moves by `coefficient * variance * gradient` of the log density of the estimated
    actions at the estimated states. The gradient is that of the actions alone, taken back through
    the network to the noisy trajectory: states follow through the model, as they do not if they are
    moved where the policy would rather be.

    Give starts when sampling: a tilted model otherwise prefers starts that suit the policy.

    Args:
        model: model of the behaviour's trajectories
        log_density: of the target policy
        strength: lambda of the paper; 0: the behaviour
    """
    restore = model.denoiser.sequence.restore

    def adjust(x: Tensor, step: SamplingStep) -> Tensor:
        factor = coefficient(step.index, step.steps, strength) * step.variance
        if factor == 0.0:
            return x

        def total(y: Tensor) -> Tensor:
            states, actions = model.split(restore(step.denoise(y)))
            return log_density(states.detach(), actions).sum(-1)

        return x + factor * gradient(total, step.before)

    return adjust


class OneStepModel(nn.Module):
    """Next state of a state and an action, learned as the change of the state."""

    def __init__(self, states: int, actions: int, width: int = 128) -> None:
        """Build it untrained: nothing moves."""
        super().__init__()
        self.given = Limits(states + actions)
        self.change = Limits(states)
        self.layers = nn.Sequential(
            nn.Linear(states + actions, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, states),
        )

    def fit_limits(self, states: Tensor, actions: Tensor, following: Tensor) -> None:
        """Set the normalisation from transitions, each (count, ...)."""
        given, change = torch.cat((states, actions), -1), following - states
        self.given.fit(given.amin(0), given.amax(0))
        self.change.fit(change.amin(0), change.amax(0), symmetric=True)

    def loss(self, states: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        """Mean squared error () of the normalised change."""
        target = self.change.normalise(following - states)
        return (self._predict(states, actions) - target).square().mean()

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Next states (batch, states)."""
        return states + self.change.restore(self._predict(states, actions))

    def _predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.layers(self.given.normalise(torch.cat((states, actions), -1)))


@dataclass(frozen=True)
class SyntheticData:
    """Sampled trajectories with their error against a system's own dynamics.

    Attributes:
        states: (count, horizon, states)
        actions: (count, horizon, actions)
        errors: (count, horizon - 1) distance of each next state to the system's
    """

    states: Tensor
    actions: Tensor
    errors: Tensor

    @classmethod
    def check(cls, states: Tensor, actions: Tensor, move: Move) -> SyntheticData:
        """Compare each step with the system's from the same state under the same action."""
        expected = move(states[:, :-1], actions[:, :-1])
        return cls(states, actions, (states[:, 1:] - expected).norm(dim=-1))
