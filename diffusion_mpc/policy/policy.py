"""Source of plans from a checkpoint: what it has observed, and its random numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch

from diffusion_mpc.policy.checkpoint import Description
from diffusion_mpc.types import Array


class Policy(ABC):
    """Policy from a checkpoint, for one thread.

    Between two plans it keeps the newest observations and the state of its random generator, which
    is its own.

    Attributes:
        description: what the checkpoint says of itself
    """

    def __init__(self, description: Description, seed: int) -> None:
        """Begin without observations."""
        self.description = description
        self._generator = torch.Generator()
        self._spacing = 1.0 / float(description.plan["rate"])
        self._observations: list[tuple[float, Array]] = []
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Forget the observations and begin the random sequence anew."""
        self._observations.clear()
        self._generator.manual_seed(seed)

    def observe(self, observation: Array, time: float) -> None:
        """Take the observation (obs,) of a new state, which is of some time, s."""
        self._observations.append((time, observation))
        oldest = time - self.description.history * self._spacing
        while self._observations[0][0] < oldest:
            del self._observations[0]

    def seen(self) -> Array:
        """Observations (history, obs), the newest last.

        Those that are nearest to being as far apart as in the data: plans may be made at another
        rate, and may be late.
        """
        newest, count = self._observations[-1][0], self.description.history
        wanted = [newest - k * self._spacing for k in reversed(range(count))]
        return np.stack(
            [min(self._observations, key=lambda seen: abs(seen[0] - t))[1] for t in wanted]
        )

    @abstractmethod
    def propose(
        self,
        previous: Array,
        rows: int,
        steps: int,
        guidance: float,
        level: float = 1.0,
        observations: Array | None = None,
    ) -> Array:
        """Plans (rows, num_knots, nu) in [-1, 1] from the newest observations.

        Args:
            previous: (num_knots, nu) the previous plan, shifted to now
            rows: number of plans
            steps: sampling steps; of a DDPM, no more than it has levels
            guidance: weight of the label, where the network has one
            level: noise level that sampling begins at, see `GenerativeProcess.sample`
            observations: (history, obs) in place of the newest ones
        """
