"""Plans that are the actions of a Diffuser's trajectories (Janner et al., 2205.09991)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_mpc.policy.checkpoint import read_description
from diffusion_mpc.policy.diffuser import read_diffuser
from diffusion_mpc.policy.policy import Policy
from diffusion_mpc.policy.purpose import Purpose
from diffusion_mpc.types import Array


class TrajectoryPolicy(Policy):
    """Policy that dreams states and actions from the newest observation, and plans the actions.

    A plan that reaches further than the trajectories holds their last action. Planned again with
    every state, as in the paper.
    """

    def __init__(self, path: Path, purpose: Purpose, to_knots: Array, seed: int = 0) -> None:
        """Read a checkpoint.

        Args:
            path: the checkpoint
            purpose: what it has to fit
            to_knots: (num_knots, horizon_steps) knots of normalised controls of a plan
            seed: of the samples

        Raises:
            CheckpointError: it cannot be read, or is for something else
        """
        super().__init__(read_description(path), seed)
        self._model, period = read_diffuser(path, purpose)
        self._to_knots = to_knots
        steps = steps_of_controls(to_knots.shape[1], float(purpose.plan["control_dt"]), period)
        self._steps = np.minimum(steps, self._model.config.horizon - 1)

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
        """Plans (rows, num_knots, nu), see `Policy.propose`.

        It knows neither the previous plan nor labels.
        """
        observed = self.seen() if observations is None else observations
        made = self._model.sample(
            rows,
            self._generator,
            steps=min(steps, self._model.config.levels),
            conditions=torch.from_numpy(observed[-1]).float().expand(rows, -1),
        )
        actions = self._model.split(made)[1].double().numpy().clip(-1.0, 1.0)
        return np.asarray((self._to_knots @ actions[:, self._steps]).clip(-1.0, 1.0))


def steps_of_controls(count: int, control_dt: float, period: float) -> NDArray[np.int64]:
    """Steps of a trajectory, `period` (s) apart, in force at controls, `control_dt` (s) apart."""
    return np.floor(np.arange(count) * control_dt / period + 1e-6).astype(np.int64)
