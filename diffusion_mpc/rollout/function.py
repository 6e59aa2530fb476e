"""Rollouts through a task's own dynamics, a batched torch function, instead of MuJoCo."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import torch

from diffusion_mpc.names import Capture
from diffusion_mpc.rollout.backend import Work, substeps
from diffusion_mpc.tasks.base import Dynamics, Task, TaskError
from diffusion_mpc.types import RolloutBatch, StateTensors


class FunctionBackend:
    """`Task.dynamics`, step by step for all samples at once.

    It has no sensors: terms read positions, velocities and controls.
    """

    name = "function"
    variants = 1
    overflows = 0
    capture: Capture = "none"
    capture_failure = ""

    def __init__(
        self,
        task: Task,
        model: mujoco.MjModel,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        """Try the dynamics on a batch of two.

        Args:
            task: task with dynamics of its own
            model: planning model, for names, sizes and the time step
            device: where the tensors lie
            dtype: floating type of the tensors

        Raises:
            TaskError: the task has no dynamics, reads sensors, or its dynamics return something
                else than a state
        """
        if task.dynamics is None:
            raise TaskError(
                f"task '{task.name}' has no dynamics of its own; set backend.name to cpu"
            )
        if task.sensors:
            raise TaskError(
                f"task '{task.name}' reads sensors ({', '.join(task.sensors)}), which the "
                "function backend does not have; "
                "compute them from positions and velocities"
            )
        self.model, self.device, self.dtype = model, torch.device(device), dtype
        self._dynamics: Dynamics = task.dynamics
        self._try(task)

    def rollout(
        self, start: StateTensors, controls: torch.Tensor, control_dt: float
    ) -> RolloutBatch:
        """See `RolloutBackend.rollout`."""
        samples, horizon, _ = controls.shape
        repeats = substeps(control_dt, self.model.opt.timestep)
        qpos, qvel = (x.expand(samples, -1) for x in (start.qpos, start.qvel))
        positions, velocities = [], []
        for t in range(horizon):
            for _ in range(repeats):
                qpos, qvel = self._dynamics(qpos, qvel, controls[:, t], self.model.opt.timestep)
            positions.append(qpos)
            velocities.append(qvel)
        ends, speeds = torch.stack(positions, 1), torch.stack(velocities, 1)
        return RolloutBatch(
            qpos=ends,
            qvel=speeds,
            ctrl=controls,
            sensordata=controls.new_empty((samples, horizon, 0)),
            sensor_slices={},
            invalid=~(ends.isfinite().flatten(1).all(1) & speeds.isfinite().flatten(1).all(1)),
        )

    def capture_work(
        self, works: Sequence[Work], warm_up: Sequence[Work] | None = None
    ) -> Sequence[Work]:
        """See `RolloutBackend.capture_work`: there is nothing to gain here."""
        return ()

    def _tensor(self, values: object) -> torch.Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _try(self, task: Task) -> None:
        data = task.initial_data(self.model)
        qpos, qvel, ctrl = (self._tensor(x).repeat(2, 1) for x in (data.qpos, data.qvel, data.ctrl))
        moved, velocity = self._dynamics(qpos, qvel, ctrl, self.model.opt.timestep)
        for name, asked, got in (("positions", qpos, moved), ("velocities", qvel, velocity)):
            if (got.shape, got.dtype, got.device) != (asked.shape, asked.dtype, asked.device):
                raise TaskError(
                    f"dynamics of task '{task.name}' return {name} of {tuple(got.shape)}, "
                    f"{got.dtype}, {got.device}; "
                    f"they were given {tuple(asked.shape)}, {asked.dtype}, {asked.device}"
                )
