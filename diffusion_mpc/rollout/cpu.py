"""Rollouts through C MuJoCo on a persistent pool of threads: the reference that other backends are checked against."""

from __future__ import annotations

import os
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from mujoco import rollout

from diffusion_mpc.rollout.base import substeps
from diffusion_mpc.tasks.base import sensor_slices
from diffusion_mpc.types import Array, RolloutBatch, State


class CpuBackend:
    """`mujoco.rollout` with one `MjData` and one thread per core, in double precision."""

    name = "cpu"
    device = torch.device("cpu")
    dtype = torch.float64
    overflows = 0

    def __init__(self, models: Sequence[mujoco.MjModel], threads: int = 0) -> None:
        """Start the threads.

        Args:
            models: planning model, and variants of it that every control sequence is rolled out on as well
            threads: number of threads; 0: one per core that this process may use
        """
        self.model = models[0]
        self.variants = len(models)
        # A diverging sample is nothing to warn about, and MuJoCo would write a file of warnings in the current folder.
        mujoco.set_mju_user_warning(lambda text: None)
        count = threads or len(os.sched_getaffinity(0))
        self._models = list(models)
        self._pool = rollout.Rollout(nthread=count)
        self._data = [mujoco.MjData(self.model) for _ in range(count)]
        self._slices = sensor_slices(self.model)
        self._buffers: tuple[Array, Array] | None = None

    def rollout(self, state: State, controls: torch.Tensor, control_dt: float) -> RolloutBatch:
        """See `RolloutBackend.rollout`."""
        model, repeats = self.model, substeps(control_dt, self.model.opt.timestep)
        if self.variants > 1:
            controls = controls.repeat_interleave(self.variants, dim=0)
        samples, horizon, _ = controls.shape
        states, sensors = self._outputs(samples, horizon * repeats)
        start = np.concatenate(([0.0], state.qpos, state.qvel, state.act))
        self._pool.rollout(
            model if self.variants == 1 else self._models * (samples // self.variants),
            self._data,
            np.broadcast_to(start, (samples, len(start))),
            controls.repeat_interleave(repeats, dim=1).numpy() if repeats > 1 else controls.contiguous().numpy(),
            state=states,
            sensordata=sensors,
        )
        # MuJoCo resets a trajectory that diverges and leaves it there, looking fine; its time tells that it did not reach the end.
        unfinished = states[:, -1, 0] < (horizon * repeats - 0.5) * model.opt.timestep
        ends, nq, nv = torch.from_numpy(states[:, repeats - 1 :: repeats]), model.nq, model.nv
        return RolloutBatch(
            qpos=ends[..., 1 : 1 + nq],
            qvel=ends[..., 1 + nq : 1 + nq + nv],
            ctrl=controls,
            sensordata=torch.from_numpy(sensors[:, repeats - 1 :: repeats]),
            sensor_slices=self._slices,
            invalid=torch.from_numpy(unfinished) if unfinished.any() else None,
        )

    def _outputs(self, samples: int, steps: int) -> tuple[Array, Array]:
        if self._buffers is None or self._buffers[0].shape[:2] != (samples, steps):
            size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
            self._buffers = np.empty((samples, steps, size)), np.empty((samples, steps, self.model.nsensordata))
        return self._buffers
