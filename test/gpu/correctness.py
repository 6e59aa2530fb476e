"""Checks that plans on the GPU are right: captures, live parameters, rollouts."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import mujoco
import numpy as np
import torch
import warp as wp
from budget import Result
from cases import kernel_modules, loop_settings, planned
from scale import Scale, absent

from diffusion_mpc.rollout.backend import RolloutBackend
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.rollout.warp import CAPTURES
from diffusion_mpc.simulation.closed_loop import ClosedLoop

# Two plans from the same numbers, in normalised actions: single precision in another order.
SAME = 2e-2
# Two plans that differ.
DIFFERENT = 1e-3


def machine(scale: Scale) -> Iterator[Result]:
    """What all of this runs on."""
    names = {
        "torch": torch.__version__,
        "warp": wp.__version__,
        "mujoco": mujoco.__version__,
        "mujoco_warp": _version("mujoco-warp"),
    }
    yield Result("versions", ", ".join(f"{name} {number}" for name, number in names.items()))
    yield Result("cores", str(len(os.sched_getaffinity(0))))
    yield Result("kernel modules in Warp's cache", str(kernel_modules()))
    if scale.rehearsal:
        yield absent("CUDA driver")
        return
    driver, toolkit = (wp.get_cuda_driver_version(), wp.get_cuda_toolkit_version())
    yield Result("CUDA driver", str(driver), ">= (12, 4)", driver is not None and driver >= (12, 4))
    yield Result("Warp's CUDA toolkit, PyTorch's", f"{toolkit}, {torch.version.cuda}")


def captures(scale: Scale, task: str, samples: int) -> Iterator[Result]:
    """Plans through the three kinds of capture from the same state with the same seed.

    Nothing falls back, mean knots agree.
    """
    knots = {}
    for capture in reversed(CAPTURES):
        before, began = kernel_modules(), time.perf_counter()
        loop = ClosedLoop(loop_settings(scale, task, samples, **{"backend.capture": capture}), 0)
        knots[capture] = [planned(loop).knots for _ in range(2)]
        seconds, compiled = time.perf_counter() - began, kernel_modules() - before
        took = f"{seconds:.1f} s, {compiled} kernel modules compiled"
        yield Result(f"{task}: set up and two plans through capture {capture}", took)
        used, what = (
            loop.controller.backend.capture,
            f"{task}: capture {capture} is what was asked for",
        )
        yield (
            absent(what)
            if scale.rehearsal and capture != "none"
            else Result(what, used, capture, used == capture)
        )
        if capture != "none":
            apart = max(
                float(np.abs(a - b).max())
                for a, b in zip(knots[capture], knots["none"], strict=True)
            )
            yield _same(f"{task}: knots through capture {capture} against none", apart)


def live_parameters(scale: Scale) -> Iterator[Result]:
    """Temperature, noise, seed and weights reach a captured plan, which is not captured anew."""
    loop = ClosedLoop(loop_settings(scale, "ant", 256), 0)
    controller, state = loop.controller, loop.state()
    planner, config, weights = controller.planner, loop.config.planner, dict(loop.weights)

    def knots() -> np.ndarray:
        planner.reset()
        return planner.plan(state, loop.reference).knots

    first = knots()
    captured = planner._captured
    yield _same("same seed, same plan: knots", float(np.abs(knots() - first).max()))
    for name, value in {"temperature": 1.0, "noise_start": 0.05, "seed": 7}.items():
        planner.configure(replace(config, **{name: value}))
        yield _other(f"{name} reaches the plan: knots", first, knots())
    planner.configure(config)
    controller.objective.configure(
        {name: float(name == "effort") for name in weights}, loop.config.robust
    )
    yield _other("weights reach the plan: knots", first, knots())
    what = "captured once, by denoising steps"
    if scale.rehearsal:
        yield absent(what)
    else:
        kept = bool(captured) and planner._captured is captured
        yield Result(what, ", ".join(map(str, captured)) or "not captured", "once", kept)


def controller_swap(scale: Scale) -> Iterator[Result]:
    """A controller with more samples is built, and captured, in another thread while plans go on.

    Then it takes over.
    """
    loop = ClosedLoop(loop_settings(scale, "ant", 256), 0)
    plans, began = 0, time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(ClosedLoop, loop_settings(scale, "ant", 8192), 0)
        while not building.done():
            planned(loop)
            loop.advance()
            plans += 1
    controller = building.result().controller
    yield Result(
        "ant: plans while another controller was built",
        f"{plans} in {time.perf_counter() - began:.1f} s",
    )
    controller.take_over(loop.controller)
    plan = controller.plan(loop.state(), loop.reference, loop.state().stamp)
    warm = plan.stats.warm_start
    yield Result(
        "ant: it starts from the plan of the previous one",
        warm,
        "plan",
        warm == "plan" and bool(np.isfinite(plan.knots).all()),
    )
    used, what = controller.backend.capture, "ant: what it captured"
    yield absent(what) if scale.rehearsal else Result(what, used, "plan", used == "plan")


def rollouts(scale: Scale) -> Iterator[Result]:
    """Rollouts against C MuJoCo's, where contacts do not amplify single precision."""
    loop = ClosedLoop(loop_settings(scale, "cartpole", 64, **{"backend.capture": "none"}), 0)
    backend, task = loop.controller.backend, loop.task
    controls = torch.from_numpy(
        np.random.default_rng(0).uniform(*task.ctrl_limits, (scale.samples(64), 50, 1))
    )
    state = loop.state()

    def positions(backend: RolloutBackend) -> torch.Tensor:
        start = state.on(backend.dtype, backend.device)
        return backend.rollout(start, controls.to(start.qpos), 0.02).qpos.cpu().double()

    apart = float((positions(backend) - positions(CpuBackend([backend.model]))).abs().max())
    yield Result(
        "cartpole: positions against C MuJoCo after 1 s", f"{apart:.1e}", "<= 5e-4", apart <= 5e-4
    )


def _same(what: str, apart: float) -> Result:
    return Result(what, f"{apart:.1e} apart", f"<= {SAME:g}", apart <= SAME)


def _other(what: str, before: np.ndarray, after: np.ndarray) -> Result:
    apart = float(np.abs(after - before).max())
    return Result(what, f"{apart:.1e} apart", f"> {DIFFERENT:g}", apart > DIFFERENT)


def _version(package: str) -> str:
    # A folder on PYTHONPATH need not have the package's metadata.
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
