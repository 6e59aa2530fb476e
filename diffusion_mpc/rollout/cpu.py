"""Rollouts through C MuJoCo on a persistent pool of threads: the reference that other backends are checked against."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
import torch
from mujoco import rollout

from diffusion_mpc.rollout.base import substeps
from diffusion_mpc.tasks.base import sensor_slices
from diffusion_mpc.types import Array, RolloutBatch, Start, State


@dataclass(frozen=True)
class Arrays:
    """What rollouts of one size are read from and written to.

    Attributes:
        repeats: physics steps in a control step
        models: model of each sample
        starts: (samples, state size) full physics state that each sample starts from
        states, sensors: (samples, steps, size) what MuJoCo writes after each physics step
        ended: (samples,) of these, the time that each sample has come to
        end: what that time has reached at least in a sample that is complete
        qpos, qvel, sensordata: (samples, horizon, dim) of these, what there is at the end of each control step
        chunk: samples that a thread takes at a time
    """

    repeats: int
    models: list[mujoco.MjModel]
    starts: Array
    states: Array
    sensors: Array
    ended: Array
    end: float
    qpos: torch.Tensor
    qvel: torch.Tensor
    sensordata: torch.Tensor
    chunk: int


class CpuBackend:
    """`mujoco.rollout` with one `MjData` and one thread per core, in double precision."""

    name = "cpu"
    device = torch.device("cpu")
    dtype = torch.float64
    overflows = 0
    capture = "none"

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
        self._threads = count
        self._pool = rollout.Rollout(nthread=count)
        self._data = [mujoco.MjData(self.model) for _ in range(count)]
        self._slices = sensor_slices(self.model)
        self._arrays = lru_cache(maxsize=4)(self._make_arrays)

    def rollout(self, state: State | Start, controls: torch.Tensor, control_dt: float) -> RolloutBatch:
        """See `RolloutBackend.rollout`."""
        if self.variants > 1:
            controls = controls.repeat_interleave(self.variants, dim=0)
        samples, horizon, _ = controls.shape
        start = state.on(self.dtype, self.device)
        arrays = self._arrays(samples, horizon, control_dt)
        repeats = arrays.repeats
        arrays.starts[:] = np.concatenate(([0.0], start.qpos.numpy(), start.qvel.numpy(), start.act.numpy()))
        # Types and shapes are right, and looking at them all takes longer than a short rollout.
        self._pool.rollout(
            arrays.models,
            self._data,
            arrays.starts,
            controls.repeat_interleave(repeats, dim=1).numpy() if repeats > 1 else controls.contiguous().numpy(),
            skip_checks=True,
            nstep=horizon * repeats,
            state=arrays.states,
            sensordata=arrays.sensors,
            chunk_size=arrays.chunk,
        )
        # MuJoCo resets a trajectory that diverges and leaves it there, looking fine; its time tells that it did not reach the end.
        unfinished = arrays.ended.min() < arrays.end
        return RolloutBatch(
            qpos=arrays.qpos,
            qvel=arrays.qvel,
            ctrl=controls,
            sensordata=arrays.sensordata,
            sensor_slices=self._slices,
            invalid=torch.from_numpy(arrays.ended < arrays.end) if unfinished else None,
        )

    def record(self, work: Callable[[], torch.Tensor]) -> None:
        """See `RolloutBackend.record`: there is nothing to gain here."""

    def _make_arrays(self, samples: int, horizon: int, control_dt: float) -> Arrays:
        model, repeats = self.model, substeps(control_dt, self.model.opt.timestep)
        steps = horizon * repeats
        size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
        states, sensors = np.empty((samples, steps, size)), np.empty((samples, steps, model.nsensordata))
        ends = torch.from_numpy(states[:, repeats - 1 :: repeats])
        return Arrays(
            repeats=repeats,
            models=self._models * (samples // self.variants),
            starts=np.zeros((samples, size)),
            states=states,
            sensors=sensors,
            ended=states[:, -1, 0],
            end=(steps - 0.5) * model.opt.timestep,
            qpos=ends[..., 1 : 1 + model.nq],
            qvel=ends[..., 1 + model.nq : 1 + model.nq + model.nv],
            sensordata=torch.from_numpy(sensors[:, repeats - 1 :: repeats]),
            # Small enough that no thread is left with much to do while the others have finished.
            chunk=max(1, samples // (8 * self._threads)),
        )
