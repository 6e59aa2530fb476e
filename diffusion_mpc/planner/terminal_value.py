"""Cost beyond the horizon, predicted from the last state of each row (POLO, 1811.01848)."""

from __future__ import annotations

from dataclasses import replace

import torch

from diffusion_mpc.policy.value import Value
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

NAME = "value"
"""Name of the cost term."""


class TerminalValue:
    """Cost term of a value network.

    Costs are averaged over the horizon, and the network's cost to go is a sum over periods: as a
    part of that average it is `cost to go * period / horizon`, both in s.
    """

    def __init__(
        self, task: Task, network: Value, period: float, horizon: float, like: torch.Tensor
    ) -> None:
        """Take the network.

        Args:
            task: task whose observations it sees
            network: cost to go, by periods of its teacher
            period: such a period, s
            horizon: length of the plans, s
            like: tensor that gives type and device
        """
        self._task, self._scale = task, period / horizon
        self._network = network.to(like).requires_grad_(False).eval()

    def __call__(self, x: RolloutBatch, reference: ReferenceTensors) -> torch.Tensor:
        """Cost (samples,) of what follows the last states of trajectories."""
        last = replace(
            x,
            qpos=x.qpos[:, -1:],
            qvel=x.qvel[:, -1:],
            ctrl=x.ctrl[:, -1:],
            sensordata=x.sensordata[:, -1:],
        )
        at_last = replace(reference, times=reference.times[-1:])
        return self._scale * self._network(self._task.observation(last, at_last)[:, 0])
