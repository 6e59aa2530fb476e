"""Rollouts through C MuJoCo on a persistent pool of threads.

The reference that other backends are checked against.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch

from diffusion_mpc.caching import cached
from diffusion_mpc.names import Capture
from diffusion_mpc.rollout.backend import Work, substeps
from diffusion_mpc.tasks.model_file import sensor_slices
from diffusion_mpc.types import Array, RolloutBatch, StateTensors


@dataclass(frozen=True)
class Simulations:
    """Simulations of one batch size, and the memory that their rollouts are written to.

    Attributes:
        batch: MuJoCo's simulations, one for each row
        start: (nstate,) state that all of them start from; what a `State` does not hold is the
            model's own (mocap bodies, active equalities) or zero (time, warm start)
        qpos_qvel_act: (nq + nv + na,) the part of `start` that a `State` holds
        history: (nhistory,) the part of `start` with controls on their way to delayed actuators
        records: (samples, steps, dim) by name, what MuJoCo writes after each physics step
        ends: (samples, horizon, dim) by name, of these the rows at the end of each control step
        repeats: physics steps in a control step
        end: time that a complete rollout reaches at least, s
    """

    batch: Batch
    start: Array
    qpos_qvel_act: Array
    history: Array
    records: dict[str, Array]
    ends: dict[str, torch.Tensor]
    repeats: int
    end: float


class CpuBackend:
    """`mujoco.batch` with one thread per core, in double precision."""

    name = "cpu"
    device = torch.device("cpu")
    dtype = torch.float64
    overflows = 0
    capture: Capture = "none"
    capture_failure = ""

    def __init__(self, models: Sequence[mujoco.MjModel], threads: int = 0) -> None:
        """Take the models; threads start with the first rollout of each size.

        Args:
            models: planning model, and variants of it that every control sequence is rolled out on
                as well
            threads: number of threads; 0: one per core that this process may use
        """
        self.model = models[0]
        self.variants = len(models)
        # A diverging sample is nothing to warn about, and MuJoCo would write a file of warnings in
        # the current folder.
        mujoco.set_mju_user_warning(lambda text: None)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._models = list(models)
        self._slices = sensor_slices(self.model)
        self._simulations = cached(self._make_simulations, maxsize=4)

    def rollout(
        self, start: StateTensors, controls: torch.Tensor, control_dt: float
    ) -> RolloutBatch:
        """See `RolloutBackend.rollout`."""
        if self.variants > 1:
            controls = controls.repeat_interleave(self.variants, dim=0)
        samples, horizon, _ = controls.shape
        simulations = self._simulations(samples, horizon, control_dt)
        batch, repeats = simulations.batch, simulations.repeats
        np.concatenate(
            (start.qpos.numpy(), start.qvel.numpy(), start.act.numpy()),
            out=simulations.qpos_qvel_act,
        )
        if start.history is not None:
            simulations.history[:] = start.history.numpy()
        batch.state[:] = simulations.start
        # A simulation stops where its warnings become more, so they have to begin at none.
        batch.warning[:] = 0
        batch.rollout(
            horizon * repeats,
            (controls.repeat_interleave(repeats, dim=1) if repeats > 1 else controls).numpy(),
            record=list(simulations.records),
            out=simulations.records,
        )
        # MuJoCo resets a simulation that diverges, and it looks fine there; its time tells that it
        # did not reach the end.
        ended = batch.state[:, 0]
        unfinished = ended.min() < simulations.end
        return RolloutBatch(
            **simulations.ends,
            ctrl=controls,
            sensor_slices=self._slices,
            invalid=torch.from_numpy(ended < simulations.end) if unfinished else None,
        )

    def capture_work(
        self, works: Sequence[Work], warm_up: Sequence[Work] | None = None
    ) -> Sequence[Work]:
        """See `RolloutBackend.capture_work`: there is nothing to gain here."""
        return ()

    def _make_simulations(self, samples: int, horizon: int, control_dt: float) -> Simulations:
        model, repeats = self.model, substeps(control_dt, self.model.opt.timestep)
        batch = Batch(model, samples, self._threads)
        if self.variants > 1:
            batch.set_models(self._models * (samples // self.variants))
        steps = horizon * repeats
        sizes = {"qpos": model.nq, "qvel": model.nv, "sensordata": model.nsensordata}
        records = {name: np.empty((samples, steps, size)) for name, size in sizes.items()}
        start = batch.state[0].copy()
        end = 1 + model.nq + model.nv + model.na
        return Simulations(
            batch=batch,
            start=start,
            # The full physics state of MuJoCo begins with the time; positions, velocities,
            # activations and histories follow.
            qpos_qvel_act=start[1:end],
            history=start[end : end + model.nhistory],
            records=records,
            ends={
                name: torch.from_numpy(rows[:, repeats - 1 :: repeats])
                for name, rows in records.items()
            },
            repeats=repeats,
            end=(steps - 0.5) * model.opt.timestep,
        )
