"""Diffusion Policy (Chi et al., 2303.04137): plans from the newest observations.

A plan is the residual that the network samples, added to the previous plan shifted to now: an
untrained network leaves the plan as it is. Or, with `Description.residual` off, it is the sample
itself, of the observations alone. The first of its actions are executed until the next
plan, as in receding-horizon control.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from diffusion_mpc.names import CheckpointKind
from diffusion_mpc.policy.checkpoint import (
    CheckpointError,
    Description,
    read_description,
    read_weights,
)
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.policy import Policy
from diffusion_mpc.policy.purpose import Purpose, require_fit, require_plan
from diffusion_mpc.types import Array

KINDS: tuple[CheckpointKind, ...] = ("policy", "optimality")
"""Kinds of checkpoints that plans can be sampled from."""


class DiffusionPolicy(Policy):
    """Policy whose network samples plans."""

    def __init__(self, path: Path, purpose: Purpose, seed: int = 0) -> None:
        """Read a checkpoint.

        Raises:
            CheckpointError: it cannot be read, or is for something else
        """
        description = read_description(path)
        require_fit(path, description, purpose, KINDS)
        require_plan(path, description, purpose)
        super().__init__(description, seed)
        try:
            config = DenoiserConfig(**description.network)
            self._denoiser = Denoiser(config).eval()
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"the network in '{path}' cannot be built: {error}") from None
        wanted = condition_size(description, purpose.actions)
        if (config.length, config.channels, config.condition) != wanted:
            raise CheckpointError(
                f"the network in '{path}' is of sizes {config.length}, {config.channels}, "
                f"{config.condition}; its description says {wanted}; train it anew"
            )
        read_weights(path, self._denoiser)

    @torch.inference_mode()
    def propose(
        self,
        previous: Array,
        rows: int,
        steps: int,
        guidance: float,
        level: float = 1.0,
        observations: Array | None = None,
    ) -> Array:
        """Plans (rows, num_knots, nu), see `Policy.propose`."""
        base = previous if self.description.residual else None
        if base is None:
            # Where there is no previous plan, there is none to be noised again in part.
            level = 1.0
        if self._denoiser.config.process == "ddpm":
            steps = min(steps, max(1, round(level * self._denoiser.config.levels)))
        observed = self.seen() if observations is None else observations
        seen = condition(observed[None], None if base is None else base[None])
        rows_seen = torch.from_numpy(seen).float().expand(rows, -1)
        noise = torch.randn((rows, *previous.shape), generator=self._generator)
        label = noise.new_ones((rows, 1)) if self._denoiser.config.label else None
        sample = self._denoiser.sample(rows_seen, noise, steps, label, guidance, level=level)
        plans = sample.double().numpy() + (0.0 if base is None else base)
        return np.asarray(plans.clip(-1.0, 1.0))

    @torch.inference_mode()
    def act(self, observations: Array, steps: int, guidance: float) -> Array:
        """First actions (batch, nu) in [-1, 1] of plans for many observations at once.

        Of plans that begin from no noise: they stand for the middle of the policy's distribution.

        Args:
            observations: (batch, history, obs) the newest last
            steps: sampling steps
            guidance: weight of the label, where the network has one

        Raises:
            ValueError: the policy adds to a previous plan, which these states have not
        """
        if self.description.residual:
            raise ValueError(
                "the policy adds to a previous plan, and there is none; train one with "
                "--no-residual"
            )
        config = self._denoiser.config
        seen = torch.from_numpy(condition(observations, None)).float()
        noise = torch.zeros((len(seen), config.length, config.channels))
        label = noise.new_ones((len(seen), 1)) if config.label else None
        sample = self._denoiser.sample(seen, noise, steps, label, guidance)
        return np.asarray(sample[:, 0].double().numpy().clip(-1.0, 1.0))


def condition(observations: Array, previous: Array | None) -> Array:
    """Condition (batch, c) of the network.

    Args:
        observations: (batch, history, obs) the newest last
        previous: (batch, num_knots, nu) the previous plan, shifted to now; None: it is not seen
    """
    parts = [observations] if previous is None else [observations, previous]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def condition_size(description: Description, actions: int) -> tuple[int, int, int]:
    """Rows and columns of the plans of a policy, and size of its condition."""
    knots = int(description.plan["num_knots"])
    seen = description.history * description.observation
    return knots, actions, seen + (knots * actions if description.residual else 0)
