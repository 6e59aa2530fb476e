"""Compiles the physics kernels of tasks for a GPU on a machine without one, into a cache.

    ./dmpc exec python test/gpu/compile_kernels.py --cache FOLDER [--arch 90] [--only REGEX] TASK...

A later run with WARP_CACHE_PATH=FOLDER finds them there, if versions of Warp and MuJoCo Warp and
the model are the same; numbers of samples and steps may be others. Exit code 1: a kernel does not
compile for the GPU; the last line says which.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import warp as wp

from diffusion_mpc.config import split_sim
from diffusion_mpc.simulation.closed_loop import ClosedLoop
from diffusion_mpc.tasks import find_task

# A module is compiled once for each size of its thread blocks; 256 is what Warp launches with where
# nothing else is asked for.
Variant = tuple["wp.Module", int]
DEFAULT_BLOCK_DIM = 256


def gpu_of(arch: int) -> wp.Device:
    """A GPU as far as code is chosen and compiled for it; nothing can run on it."""
    wp.init()
    runtime = wp._src.context.runtime
    gpu = object.__new__(wp.Device)
    gpu.runtime, gpu.alias, gpu.ordinal, gpu.arch, gpu.sm_count = runtime, "cuda:0", 0, arch, 132
    gpu._context = 1  # any handle: what is loaded is kept by it
    gpu.is_cubin_supported = arch in runtime.nvrtc_supported_archs
    return gpu


def launched_on(gpu: wp.Device, work: Callable[[], object]) -> set[Variant]:
    """Variants of modules that work would load on a GPU.

    Nothing is launched: work that a CUDA graph can hold reads no results.
    """
    variants, get_device = set(), wp.get_device

    def note(kernel, dim, *args, block_dim=DEFAULT_BLOCK_DIM, **kwargs):
        if np.prod(dim) > 0:
            variants.add((kernel.module, block_dim))

    def once(condition, while_body, stream=None, **kwargs):
        while_body(**kwargs)

    def both(condition, on_true=None, on_false=None, stream=None, **kwargs):
        for body in (on_true, on_false):
            if body is not None:
                body(**kwargs)

    with (
        patch.object(wp, "get_device", lambda *args: get_device(*args) if args else gpu),
        patch.object(wp, "launch", note),
        patch.object(wp, "launch_tiled", note),
        patch.object(wp, "capture_while", once),
        patch.object(wp, "capture_if", both),
    ):
        work()
    return variants


def physics_of(task: str) -> Callable[[], object]:
    """A rollout of one control step of a task, as its planner is configured."""
    demo, _ = split_sim(find_task(task).demo)
    loop = ClosedLoop({"task": task, "backend.name": "warp", **demo}, 0)
    backend, planner = loop.controller.backend, loop.config.planner
    start = loop.state().on(backend.dtype, backend.device)
    controls = torch.zeros((planner.num_samples, 1, len(loop.task.ctrl_limits[0])))
    return lambda: backend.rollout(start, controls, planner.control_dt)


class BinaryReached(Exception):  # noqa: N818 (no error)
    """Warp would load a binary into the GPU now."""


def load_on(gpu: wp.Device, variant: Variant) -> Path:
    """Do what a launch on a GPU does first.

    Look for the binary in the kernel cache, and compile it if it is not there.

    Returns:
        the binary

    Raises:
        Exception: it does not compile; Warp has printed the compiler's messages
    """
    module, block_dim = variant

    def reach(path, device):
        raise BinaryReached(path)

    with patch.object(wp._src.build, "load_cuda", reach):
        try:
            module.load(gpu, block_dim)
        except BinaryReached as reached:
            return Path(str(reached))
    raise RuntimeError(f"Warp has loaded {module.name} without looking for its binary")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--cache", required=True, help="folder of the kernel cache")
    parser.add_argument(
        "--arch", type=int, default=90, help="compute capability times ten: 90 is an H100"
    )
    parser.add_argument(
        "--only", default="", help="modules whose name this regular expression is found in"
    )
    options = parser.parse_args()
    wp.config.kernel_cache_dir = options.cache
    gpu, began = gpu_of(options.arch), time.perf_counter()
    variants = set().union(*(launched_on(gpu, physics_of(task)) for task in options.tasks))
    chosen = sorted(
        ((m, b) for m, b in variants if re.search(options.only, m.name)),
        key=lambda v: (v[0].name, v[1]),
    )
    before = set(Path(wp.config.kernel_cache_dir).rglob("*.cubin"))
    found = 0
    for module, block_dim in chosen:
        try:
            found += load_on(gpu, (module, block_dim)) in before
        except Exception as error:
            reason = " ".join(str(error).split())
            sys.stderr.write(
                f"error: {module.name} ({block_dim} threads in a block) fails for "
                f"sm_{options.arch}: {reason}\n"
            )
            return 1
    seconds = time.perf_counter() - began
    sys.stdout.write(
        f"{len(chosen)} modules for sm_{options.arch}, {found} of them found compiled; "
        f"{seconds:.0f} s\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
