"""Rollouts through MuJoCo Warp, on an NVIDIA GPU where there is one; else on Warp's `cpu` device, for tests and development only.

Nothing in a rollout waits for the device, and all its memory is allocated before the first one of its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp

from diffusion_mpc.rollout.base import substeps
from diffusion_mpc.rollout.capacity import Capacity, probe
from diffusion_mpc.tasks.base import Task, TaskError, sensor_slices
from diffusion_mpc.types import RolloutBatch, Start, State

# That a solver ends at its last iteration is what `model.iterations` asks for; the other flags say that something was left out.
OVERFLOW = int(mjw.OverflowType.ALL & ~(mjw.OverflowType.ITERATIONS | mjw.OverflowType.LS_ITERATIONS))

# What a step reads of the steps before, beside the state that a rollout starts from.
CARRIED = ("time", "qacc_warmstart", "overflow", "history", "plastic")

DIVERGED = 1e10  # as C MuJoCo's mjMAXVAL


@dataclass(frozen=True)
class Worlds:
    """Parallel simulations of one batch: Warp's data, torch's views on its memory, and room for the trajectories.

    Attributes:
        data: MuJoCo Warp's data
        views: fields of `data` as tensors (samples, dim) that share its memory
        initial: what the fields in `CARRIED` hold at the beginning of a rollout
        qpos, qvel, sensordata: (samples, horizon, dim) trajectories
        repeats: physics steps in a control step
        graph: these steps as a CUDA graph; None on other devices
    """

    data: mjw.Data
    views: dict[str, torch.Tensor]
    initial: dict[str, torch.Tensor]
    qpos: torch.Tensor
    qvel: torch.Tensor
    sensordata: torch.Tensor
    repeats: int
    graph: wp.Graph | None


class WarpBackend:
    """MuJoCo Warp in single precision, one world for each sample."""

    name = "warp"
    dtype = torch.float32
    variants = 1

    def __init__(self, task: Task, model: mujoco.MjModel, device: str = "") -> None:
        """Put the model on the device, and find out how many contacts and constraints to have memory for.

        Args:
            task: task, for the state that it starts from
            model: planning model
            device: "cuda", "cpu", or empty: the GPU where Warp finds one

        Raises:
            TaskError: the model has what MuJoCo Warp lacks, or PyTorch is one without CUDA beside a GPU
        """
        wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
        wp.init()
        device = device or ("cuda" if wp.get_cuda_device_count() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise TaskError("backend.name is warp, and there is a GPU, but this PyTorch has no CUDA; install one that has")
        self.model = model
        self.device = torch.device("cuda:0" if device == "cuda" else "cpu")
        self._on = wp.get_device(str(self.device))
        # CUDA cannot capture the default stream.
        self._stream = torch.cuda.Stream() if device == "cuda" else None
        self._slices = sensor_slices(model)
        with wp.ScopedDevice(self._on):
            self._model = _put_model(task, model)
        self.capacity: Capacity = probe(task, model, self._model.nxn_geom_pair_filtered.numpy())
        self._overflows = torch.zeros((), dtype=torch.int64, device=self.device)
        self._worlds = lru_cache(maxsize=4)(self._make_worlds)

    @property
    def overflows(self) -> int:
        """Samples since the start that needed more contacts or constraints than there was memory for; waits for the device."""
        return int(self._overflows)

    def rollout(self, state: State | Start, controls: torch.Tensor, control_dt: float) -> RolloutBatch:
        """See `RolloutBackend.rollout`."""
        samples, horizon, _ = controls.shape
        start = state.on(self.dtype, self.device)
        worlds = self._worlds(samples, horizon, substeps(control_dt, self.model.opt.timestep))
        if self._stream is None:
            with wp.ScopedDevice(self._on):
                self._start(worlds, start)
                self._run(worlds, controls)
        else:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream), wp.ScopedStream(wp.stream_from_torch(self._stream)):
                self._start(worlds, start)
                self._run(worlds, controls)
            torch.cuda.current_stream().wait_stream(self._stream)
        full = (worlds.views["overflow"] & OVERFLOW) != 0
        self._overflows += full.sum()
        # A NaN among the controls would be clamped to a limit, and the sample look fine.
        arrived = _bounded(worlds.qpos) & _bounded(worlds.qvel) & controls.isfinite().flatten(1).all(1)
        return RolloutBatch(
            qpos=worlds.qpos,
            qvel=worlds.qvel,
            ctrl=controls,
            sensordata=worlds.sensordata,
            sensor_slices=self._slices,
            invalid=full | ~arrived,
        )

    def _start(self, worlds: Worlds, start: Start) -> None:
        """Put all worlds into a state, with nothing left of the rollout before."""
        for name, initial in worlds.initial.items():
            worlds.views[name].copy_(initial)
        for name in ("qpos", "qvel", "act"):
            worlds.views[name].copy_(getattr(start, name))

    def _run(self, worlds: Worlds, controls: torch.Tensor) -> None:
        """Step all worlds through the horizon and note their trajectories."""
        views = worlds.views
        for t in range(controls.shape[1]):
            views["ctrl"].copy_(controls[:, t])
            self._advance(worlds)
            for name in ("qpos", "qvel", "sensordata"):
                getattr(worlds, name)[:, t] = views[name]

    def _advance(self, worlds: Worlds) -> None:
        """Physics steps of one control step."""
        if worlds.graph is not None:
            wp.capture_launch(worlds.graph)
            return
        for _ in range(worlds.repeats):
            mjw.step(self._model, worlds.data)

    def _make_worlds(self, samples: int, horizon: int, repeats: int) -> Worlds:
        # What is made in inference mode, as within a plan, could not be written to outside of it.
        with torch.inference_mode(False), wp.ScopedDevice(self._on):
            data = mjw.make_data(self.model, samples, nconmax=self.capacity.contacts, njmax=self.capacity.constraints)
            views = {name: self._view(getattr(data, name)) for name in ("qpos", "qvel", "act", "ctrl", "sensordata", *CARRIED)}
            initial = {name: views[name].clone() for name in CARRIED}
            qpos, qvel, sensordata = (
                views[name].new_empty((samples, horizon, views[name].shape[1])) for name in ("qpos", "qvel", "sensordata")
            )
            graph = None
            # Compiles and loads the kernels, which must not happen within a capture.
            mjw.step(self._model, data)
            if self._on.is_cuda:
                with wp.ScopedCapture(self._on) as capture:
                    for _ in range(repeats):
                        mjw.step(self._model, data)
                graph = capture.graph
                # Memory set up on Warp's own stream is used on another one from now on.
                wp.synchronize_device(self._on)
        return Worlds(data, views, initial, qpos, qvel, sensordata, repeats, graph)

    def _view(self, array: wp.array[Any]) -> torch.Tensor:
        """Tensor on the memory of an array; arrays of no element have none to share."""
        return wp.to_torch(array) if array.size else torch.empty(array.shape, device=self.device)


def _put_model(task: Task, model: mujoco.MjModel) -> mjw.Model:
    try:
        put = mjw.put_model(model)
    except (NotImplementedError, ValueError) as error:
        raise TaskError(
            f"model '{task.path}' cannot run on the warp backend: {' '.join(str(error).split())}; set backend.name to cpu"
        ) from None
    # Overflow is reported by `overflows`, not by lines from inside the kernels.
    put.opt.warn_overflow = 0
    return put


def _bounded(trajectories: torch.Tensor) -> torch.Tensor:
    """Which of the trajectories (samples, horizon, dim) stay finite and below what C MuJoCo takes for divergence, (samples,)."""
    return (trajectories.abs() < DIVERGED).flatten(1).all(1)
