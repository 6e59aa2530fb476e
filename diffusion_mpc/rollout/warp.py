"""Rollouts through MuJoCo Warp, on an NVIDIA GPU where there is one.

Else on Warp's `cpu` device, for tests and development only.

Nothing in a rollout waits for the device, and all its memory is allocated before the first one of
its size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp

from diffusion_mpc.caching import cached
from diffusion_mpc.names import Capture
from diffusion_mpc.rollout.backend import Work, substeps
from diffusion_mpc.rollout.capacity import Capacity, probe
from diffusion_mpc.rollout.capture import CaptureError, CaptureMemory, capturing
from diffusion_mpc.tasks.base import Task, TaskError
from diffusion_mpc.tasks.model_file import sensor_slices
from diffusion_mpc.types import RolloutBatch, StateTensors

# That a solver ends at its last iteration is what `model.iterations` asks for; the other flags say
# that something was left out.
OVERFLOW = int(
    mjw.OverflowType.ALL & ~(mjw.OverflowType.ITERATIONS | mjw.OverflowType.LS_ITERATIONS)
)

# What a step reads of the steps before, beside the state that a rollout starts from.
CARRIED = ("time", "qacc_warmstart", "overflow", "history", "plastic")

DIVERGED = 1e10  # as C MuJoCo's mjMAXVAL

CAPTURES = get_args(Capture)
"""Parts of a plan that become a CUDA graph, each one the fallback of the one before."""

_FALLBACKS = {
    "step": "no CUDA graph of the whole plan, but one of each control step",
    "none": "no CUDA graphs, only single kernels",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worlds:
    """Parallel simulations of one batch.

    Warp's data, torch's views on its memory, and room for the trajectories.

    Attributes:
        data: MuJoCo Warp's data
        views: fields of `data` as tensors (samples, dim) that share its memory
        initial: what the fields in `CARRIED` hold at the beginning of a rollout
        qpos, qvel, sensordata: (samples, horizon, dim) trajectories
        repeats: physics steps in a control step
        graph: these steps as a CUDA graph, or None
    """

    data: mjw.Data
    views: dict[str, torch.Tensor]
    initial: dict[str, torch.Tensor]
    qpos: torch.Tensor
    qvel: torch.Tensor
    sensordata: torch.Tensor
    repeats: int
    graph: wp.Graph | None


MakeWorlds = Callable[[int, int, int], Worlds]


@dataclass(frozen=True)
class Replay:
    """Captured work.

    A call launches its graph on its stream, which waits for the caller's and is waited for by it.

    Attributes:
        stream, warp_stream: the stream that it was captured on, as PyTorch's and as Warp's
        graph: CUDA graph
        output: where the graph writes its result
        kept: what the graph reads and writes, which must stay as long as it
    """

    stream: torch.cuda.Stream
    warp_stream: wp.Stream
    graph: wp.Graph
    output: torch.Tensor
    kept: object

    def __call__(self) -> torch.Tensor:
        """Launch; the result is there when the current stream gets to it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        wp.capture_launch(self.graph, stream=self.warp_stream)
        torch.cuda.current_stream().wait_stream(self.stream)
        return self.output


# Worlds of the plan that this thread is capturing: its own, for other plans go on meanwhile.
_captured_worlds: ContextVar[MakeWorlds | None] = ContextVar("captured_worlds", default=None)


class WarpBackend:
    """MuJoCo Warp in single precision, one world for each sample.

    Attributes:
        capture: what of a plan is a CUDA graph; less than was asked for where that failed
        capture_failure: why it is less, in one line; empty where it is not
    """

    name = "warp"
    dtype = torch.float32
    variants = 1

    def __init__(
        self, task: Task, model: mujoco.MjModel, device: str = "", capture: Capture = "plan"
    ) -> None:
        """Put the model on the device, and find out the numbers of contacts and constraints.

        Args:
            task: task, for the state that it starts from
            model: planning model
            device: "cuda", "cpu", or empty: the GPU where Warp finds one
            capture: what of a plan to make a CUDA graph of

        Raises:
            TaskError: the model has what MuJoCo Warp lacks, or PyTorch is one without CUDA beside a
                GPU
        """
        wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
        # Not PTX, which the driver would have to translate, if new enough for it.
        # `test/gpu/compile_kernels.py` makes cubin, too.
        wp.config.cuda_output = "cubin"
        wp.init()
        device = device or ("cuda" if wp.get_cuda_device_count() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise TaskError(
                "backend.name is warp, and there is a GPU, but this PyTorch has no CUDA; install "
                "one that has"
            )
        self.model = model
        self.device = torch.device("cuda:0" if device == "cuda" else "cpu")
        # On the `cpu` device a capture takes in what other threads launch meanwhile.
        self.capture, self.capture_failure = capture if device == "cuda" else "none", ""
        self._on = wp.get_device(str(self.device))
        # CUDA cannot capture the default stream.
        self._stream = torch.cuda.Stream() if device == "cuda" else None
        # Warp knows a capture by its own stream object: there must be one only.
        self._warp_stream = wp.stream_from_torch(self._stream) if self._stream else None
        self._slices = sensor_slices(model)
        with wp.ScopedDevice(self._on):
            self._model = _put_model(task, model)
        self.capacity: Capacity = probe(task, model, self._model.nxn_geom_pair_filtered.numpy())
        self._overflows = torch.zeros((), dtype=torch.int64, device=self.device)
        self._worlds: MakeWorlds = cached(self._make_worlds, maxsize=4)

    @property
    def overflows(self) -> int:
        """Samples so far without room for contacts or constraints; waits for the device."""
        return int(self._overflows)

    def rollout(
        self, start: StateTensors, controls: torch.Tensor, control_dt: float
    ) -> RolloutBatch:
        """See `RolloutBackend.rollout`."""
        samples, horizon, _ = controls.shape
        with self._streams():
            worlds = (_captured_worlds.get() or self._worlds)(
                samples, horizon, substeps(control_dt, self.model.opt.timestep)
            )
            self._start(worlds, start)
            self._run(worlds, controls)
        full = (worlds.views["overflow"] & OVERFLOW) != 0
        self._overflows += full.sum()
        # A NaN among the controls would be clamped to a limit, and the sample look fine.
        arrived = (
            _bounded(worlds.qpos) & _bounded(worlds.qvel) & controls.isfinite().flatten(1).all(1)
        )
        return RolloutBatch(
            qpos=worlds.qpos,
            qvel=worlds.qvel,
            ctrl=controls,
            sensordata=worlds.sensordata,
            sensor_slices=self._slices,
            invalid=full | ~arrived,
        )

    def footprint(self, samples: int) -> int:
        """Device memory that the worlds of so many samples take, bytes.

        What a physics step may read and write.
        """
        with self._streams():
            return sum(array.capacity for array in _arrays(self._worlds(samples, 1, 1).data))

    def capture_work(
        self, works: Sequence[Work], warm_up: Sequence[Work] | None = None
    ) -> list[Work]:
        """See `RolloutBackend.capture_work`."""
        if self.capture != "plan":
            return []
        try:
            return self._graphs_of(works, works if warm_up is None else warm_up)
        except RuntimeError as error:
            self._fall_back("step", error)
            return []

    def _fall_back(self, capture: Capture, error: RuntimeError) -> None:
        self.capture, self.capture_failure = capture, " ".join(str(error).split())
        _log.warning("%s: %s", _FALLBACKS[capture], self.capture_failure)

    def _graphs_of(self, works: Sequence[Work], warm_up: Sequence[Work]) -> list[Work]:
        # A stream, worlds and memory of their own: plans through older graphs go on meanwhile, and
        # nothing else may ever lie where these write.
        stream, memory = torch.cuda.Stream(), CaptureMemory()
        warp_stream = wp.stream_from_torch(stream)
        worlds: MakeWorlds = cached(self._make_worlds, maxsize=None)
        token = _captured_worlds.set(worlds)
        replays = list[Work]()
        try:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream), wp.ScopedStream(warp_stream), memory.used():
                # The first time makes worlds and loads kernels, the second finds in the pool what
                # the captures will.
                for work in (*warm_up, *warm_up):
                    work()
                stream.synchronize()
                for work in works:
                    with capturing(self._on, warp_stream) as capture:
                        output = work()
                    replays.append(
                        Replay(stream, warp_stream, capture.graph, output, (worlds, memory, work))
                    )
        finally:
            _captured_worlds.reset(token)
        # Once, for the driver prepares a graph when it is launched first.
        for replay in replays:
            replay()
        stream.synchronize()
        return replays

    @contextmanager
    def _streams(self) -> Iterator[None]:
        """Torch and Warp on one stream, which waits for the caller's and is waited for by it."""
        if self._stream is None or self._warp_stream is None or _captured_worlds.get() is not None:
            with wp.ScopedDevice(self._on) if self._stream is None else nullcontext():
                yield
            return
        caller = torch.cuda.current_stream()
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream), wp.ScopedStream(self._warp_stream):
            yield
        caller.wait_stream(self._stream)

    def _start(self, worlds: Worlds, start: StateTensors) -> None:
        """Put all worlds into a state, with nothing left of the rollout before."""
        for name, initial in worlds.initial.items():
            worlds.views[name].copy_(initial)
        for name in ("qpos", "qvel", "act"):
            worlds.views[name].copy_(getattr(start, name))
        if start.history is not None:
            worlds.views["history"].copy_(start.history)

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
            data = mjw.make_data(
                self.model, samples, nconmax=self.capacity.contacts, njmax=self.capacity.constraints
            )
            views = {
                name: self._view(getattr(data, name))
                for name in ("qpos", "qvel", "act", "ctrl", "sensordata", *CARRIED)
            }
            initial = {name: views[name].clone() for name in CARRIED}
            qpos, qvel, sensordata = (
                views[name].new_empty((samples, horizon, views[name].shape[1]))
                for name in ("qpos", "qvel", "sensordata")
            )
            # Loads the kernels, which must not happen within a capture.
            mjw.step(self._model, data)
            graph = (
                None
                if _captured_worlds.get() or self.capture == "none"
                else self._step_graph(data, repeats)
            )
        return Worlds(data, views, initial, qpos, qvel, sensordata, repeats, graph)

    def _step_graph(self, data: mjw.Data, repeats: int) -> wp.Graph | None:
        """The physics steps of one control step as a CUDA graph; None where that cannot be."""
        try:
            with capturing(self._on) as capture:
                for _ in range(repeats):
                    mjw.step(self._model, data)
        except CaptureError as error:
            self._fall_back("none", error)
            return None
        return capture.graph

    def _view(self, array: wp.array[Any]) -> torch.Tensor:
        """Tensor on the memory of an array; arrays of no element have none to share."""
        return wp.to_torch(array) if array.size else torch.empty(array.shape, device=self.device)


def _arrays(data: object) -> Iterator[wp.array[Any]]:
    """All arrays of a data structure of MuJoCo Warp's."""
    for field in fields(data):  # type: ignore[arg-type]
        value = getattr(data, field.name)
        if isinstance(value, wp.array):
            yield value
        elif is_dataclass(value):
            yield from _arrays(value)


def _put_model(task: Task, model: mujoco.MjModel) -> mjw.Model:
    try:
        put = mjw.put_model(model)
    except (NotImplementedError, ValueError) as error:
        raise TaskError(
            f"model '{task.path}' cannot run on the warp backend: "
            f"{' '.join(str(error).split())}; set backend.name to cpu"
        ) from None
    # Overflow is reported by `overflows`, not by lines from inside the kernels.
    put.opt.warn_overflow = 0
    return put


def _bounded(trajectories: torch.Tensor) -> torch.Tensor:
    """Mask (samples,) of trajectories that stay finite and below C MuJoCo's limit."""
    return (trajectories.abs() < DIVERGED).flatten(1).all(1)
