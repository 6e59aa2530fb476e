"""Compiles the physics kernels of tasks for a GPU on a machine without one, into a kernel cache that a run on the GPU looks in.

    ./dmpc exec python test/gpu/compile_kernels.py --cache FOLDER [--arch 90] [--only REGEX] TASK...

A later run with WARP_CACHE_PATH=FOLDER finds them there: same versions of Warp and MuJoCo Warp, same parameters of the model. Exit code
1: a kernel does not compile for the GPU, or would not be found; the last line says which.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import warp as wp

from diffusion_mpc.benchmark.closed_loop import ClosedLoop
from diffusion_mpc.tasks import find_task

# A module is compiled once for each size of its thread blocks; 256 is what Warp launches with where nothing else is asked for.
Variant = tuple["wp.Module", int]
DEFAULT_BLOCK_DIM = 256


def gpu_of(arch: int) -> wp.Device:
    """A GPU for looking up names of files; nothing can run on it."""
    wp.init()
    runtime = wp._src.context.runtime
    gpu = object.__new__(wp.Device)
    gpu.runtime, gpu.alias, gpu.ordinal, gpu.arch, gpu.sm_count = runtime, "cuda:0", 0, arch, 132
    gpu.is_cubin_supported = arch in runtime.nvrtc_supported_archs
    return gpu


def launched_on(gpu: wp.Device, work: Callable[[], object]) -> set[Variant]:
    """Variants of modules that work would load on a GPU. Nothing is launched: work that a CUDA graph can hold reads no results."""
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
    demo = {name: value for name, value in find_task(task).demo.items() if not name.startswith("sim.")}
    loop = ClosedLoop({"task": task, "backend.name": "warp", **demo}, 0)
    controls = torch.zeros((loop.config.planner.num_samples, 1, len(loop.task.ctrl_limits[0])))
    return lambda: loop.controller.backend.rollout(loop.state(), controls, loop.config.planner.control_dt)


@contextmanager
def block_of(module: wp.Module, block_dim: int) -> Iterator[None]:
    before = module.options["block_dim"]
    wp.set_module_options({"block_dim": block_dim}, module)
    try:
        yield
    finally:
        wp.set_module_options({"block_dim": before}, module)


def compile_variant(variant: Variant, arch: int) -> None:
    """Compile into the kernel cache, where it is not there yet.

    Raises:
        Exception: it does not compile; Warp has printed the compiler's messages
    """
    module, block_dim = variant
    with block_of(module, block_dim):
        wp.compile_aot_module(module, arch=arch)


def looked_up(variant: Variant, gpu: wp.Device) -> list[Path]:
    """The files that loading a variant on a GPU looks for before it compiles; as in `Module.load` of Warp 1.19."""
    module, block_dim = variant
    folder = Path(wp.config.kernel_cache_dir, module.get_module_identifier(block_dim))
    return [folder / module._get_compile_output_name(gpu, block_dim=block_dim), folder / module._get_meta_name(block_dim=block_dim)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--cache", required=True, help="folder of the kernel cache")
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten: 90 is an H100")
    parser.add_argument("--only", default="", help="modules whose name this regular expression is found in")
    options = parser.parse_args()
    wp.config.kernel_cache_dir = options.cache
    gpu, began = gpu_of(options.arch), time.perf_counter()
    variants = set().union(*(launched_on(gpu, physics_of(task)) for task in options.tasks))
    chosen = sorted(((m, b) for m, b in variants if re.search(options.only, m.name)), key=lambda v: (v[0].name, v[1]))
    there = sum(all(path.exists() for path in looked_up(v, gpu)) for v in chosen)
    for variant in chosen:
        name = f"{variant[0].name}, {variant[1]} threads in a block"
        try:
            compile_variant(variant, options.arch)
        except Exception as error:
            sys.stderr.write(f"error: {name}: does not compile for sm_{options.arch}: {' '.join(str(error).split())}\n")
            return 1
        if missing := [path for path in looked_up(variant, gpu) if not path.exists()]:
            sys.stderr.write(f"error: {name}: a run would look for {missing[0]}, which is not what was compiled\n")
            return 1
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{len(chosen)} modules for sm_{options.arch}, {there} of them found compiled; {seconds:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
