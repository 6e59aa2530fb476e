"""Captures of GPU work into CUDA graphs.

One way of making them, for rollouts, benchmarks and tests.
"""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

import torch
import warp as wp
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

REASONS = {
    torch.Tag.data_dependent_output: "asks the device for the value of a tensor",
    torch.Tag.dynamic_output_shape: "asks the device how many elements there are",
    # torch.cuda.CUDAGraph would advance the generator with each replay; a capture that Warp began
    # does not know it.
    torch.Tag.nondeterministic_seeded: "draws random numbers, which every replay would repeat",
}
COPIES = "copies between host and device"
CHECKS = "asks the device whether a factorisation has failed"
FACTORISATIONS = ("cholesky", "eig", "eigh", "inv", "lstsq", "lu_factor", "pinv", "solve", "svd")

REFUSED = (
    dict.fromkeys(("is_nonzero", "equal", "allclose"), REASONS[torch.Tag.data_dependent_output])
    | dict.fromkeys(
        ("nonzero_numpy", "where.default", "repeat_interleave.self_Tensor"),
        REASONS[torch.Tag.dynamic_output_shape],
    )
    | dict.fromkeys(("lift_fresh", "pin_memory", "_pin_memory"), COPIES)
    | dict.fromkeys((f"linalg_{name}" for name in FACTORISATIONS), CHECKS)
    | dict.fromkeys(("_linalg_check_errors", "_linalg_eigh", "_linalg_svd"), CHECKS)
)
"""Reasons for which a CUDA graph cannot hold operations, by name, beside the tags of `REASONS`.

Sorting is not among them: its buffers come from the caching allocator, as all tensors do. Nor are
matrix products: the warm-up, in the same thread and on the same stream, has made cuBLAS's handle
and workspace, which PyTorch keeps for each thread and stream.
"""

# Garbage collection, the pool that memory comes from and the capture on Warp's `cpu` device belong
# to the process, so there is one capture at a time. Reentrant: a capture lies within the use of its
# memory.
_one_at_a_time = threading.RLock()

# Pools of captures that are gone.
_released: list[object] = []


class CaptureError(RuntimeError):
    """Work that could not be captured.

    The message is one line and begins with the operation that failed.
    """


class CapturedOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses operations of PyTorch that a CUDA graph cannot hold.

    Attributes:
        last: the operation that began last; empty before the first
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.last = ""

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Do an operation, or raise CaptureError before it begins."""
        self.last = str(func)
        if reason := refusal(func, args, kwargs or {}):
            raise CaptureError(reason)
        return func(*args, **(kwargs or {}))


def refusal(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Reason for which a CUDA graph cannot hold an operation; empty where it can."""
    name = func.overloadpacket.__name__
    if name in ("index", "index_put", "index_put_"):
        # The tag is on all indexing, but only what a mask selects has to be counted.
        assert isinstance(args[1], list | tuple), "indices"
        masked = any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
        return REASONS[torch.Tag.dynamic_output_shape] if masked else ""
    if name in ("to", "_to_copy", "copy_"):
        values = (x.device if isinstance(x, torch.Tensor) else x for x in (*args, *kwargs.values()))
        return COPIES if len({x.type for x in values if isinstance(x, torch.device)}) > 1 else ""
    tagged = (reason for tag, reason in REASONS.items() if tag in func.tags)
    return REFUSED.get(name) or REFUSED.get(str(func).removeprefix("aten.")) or next(tagged, "")


class CaptureMemory:
    """A memory pool of PyTorch's for captures of which only one runs at a time.

    Keep it as long as they are replayed.

    PyTorch ends the process ("captures_underway.empty() INTERNAL ASSERT FAILED") where a pool is
    destroyed while memory is being taken from any other, in whatever thread. So a pool outlives its
    CaptureMemory until the next one is about to be used.
    """

    def __init__(self, make_pool: Callable[[], Any] = torch.cuda.MemPool) -> None:
        self._pool = make_pool()
        weakref.finalize(self, _released.append, self._pool).atexit = False

    @contextmanager
    def used(
        self, use_pool: Callable[[Any], AbstractContextManager[None]] = torch.cuda.use_mem_pool
    ) -> Iterator[None]:
        """Take this thread's device memory from the pool, without garbage collection.

        Other threads' captures wait.
        """
        with _one_at_a_time, without_garbage_collection():
            _released.clear()
            with use_pool(self._pool):
                yield


@contextmanager
def capturing(device: wp.Device, stream: wp.Stream | None = None) -> Iterator[Any]:
    """Capture the work that this thread launches on a stream.

    Yields a `wp.ScopedCapture`, which has the `graph` afterwards.

    Warp begins the capture and PyTorch takes part in it, not the other way round (`external=True`):
    at every loop of a solver Warp ends the capture and takes it up again under another number, by
    which the allocator of `torch.cuda.CUDAGraph` would no longer know its own. Before, in the same
    thread, on the same stream and within the same `CaptureMemory.used`, do the work twice: that
    loads kernels, makes cuBLAS's handle and workspace, and leaves memory enough in the pool to
    allocate none within.

    Args:
        device: the GPU, or Warp's `cpu` device, where only Warp's kernels are captured
        stream: stream to capture; None: Warp's current one on the device

    Raises:
        CaptureError: an operation cannot be captured
    """
    operations, ended = CapturedOperations(), False
    # Thread-local: other threads go on calling CUDA, and their plans allocate and wait. In this
    # thread, garbage collection could free memory or destroy a graph, which is as illegal as in the
    # work itself.
    scoped = wp.ScopedCapture(device, stream, capture_mode=wp.CaptureMode.THREAD_LOCAL)
    with _one_at_a_time, without_garbage_collection():
        try:
            with scoped, operations:
                yield scoped
                ended = True
        # Warp raises Exception itself where a module cannot be loaded.
        except Exception as error:
            last = operations.last or "no operation of PyTorch"
            where = f"the end, after {last}" if ended else launched(error.__traceback__) or last
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CaptureError(f"{where}: {reason}") from error


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect garbage, then suspend its collection; nothing where it is suspended already."""
    enabled = gc.isenabled()
    if enabled:
        gc.collect()
        gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def launched(trace: TracebackType | None) -> str:
    """Warp's function and kernel that an error has come through.

    Empty where it came from elsewhere.
    """
    function = ""
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_globals.get("__name__", "").startswith("warp."):
            function = function or f"wp.{frame.f_code.co_name}"
            if isinstance(kernel := frame.f_locals.get("kernel"), wp.Kernel):
                return f"{function} of {kernel.key}"
    return function
