"""Time of each stage of a plan alone, captured where the backend captures, and its launches.

Not by torch.profiler: its tracing makes a stage of small operations take two to three times as
long, it counts views as operations, and Warp's kernels on its CPU device are invisible to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from rich.table import Table
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_mpc.benchmark.case import Case
from diffusion_mpc.benchmark.figures import Row, table
from diffusion_mpc.config import ConfigError
from diffusion_mpc.names import AlgorithmName
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.packing import pack_tensors, send
from diffusion_mpc.planner.sampler import draw_noise
from diffusion_mpc.planner.score import search_costs
from diffusion_mpc.planner.search import SearchInput
from diffusion_mpc.rollout.backend import Work
from diffusion_mpc.simulation.closed_loop import ClosedLoop


@dataclass(frozen=True)
class Stage:
    """A part of a plan.

    Attributes:
        name: name
        calls: number of calls in a plan
        work: one call of it, which reads and writes the same tensors each time, so that it can be
            captured
        captured: whether it is part of the search that a backend captures
    """

    name: str
    calls: int
    work: Work
    captured: bool = True


def check_stages(case: Case) -> None:
    """Refuse a case that `time_stages` would refuse, before any time is spent.

    Raises:
        ConfigError: the algorithm keeps something on the host, so its stages cannot be run again
            and again
    """
    name = cast(AlgorithmName, case.all_parameters()["planner.algorithm"])
    if not ALGORITHMS[name].on_device:
        raise ConfigError(
            f"planner.algorithm '{name}' decides on the host; its stages cannot be timed alone, "
            "leave --stages out"
        )


@torch.inference_mode()
def stages(loop: ClosedLoop) -> list[Stage]:
    """The stages of a plan from where a closed loop is.

    Its algorithm is one that leaves nothing to the host, see `check_stages`.
    """
    controller, steps = loop.controller, loop.config.planner.iterations
    objective, backend = controller.objective, controller.backend
    search, inputs = controller.planner.search(loop.state(), loop.reference)
    algorithm = search.algorithm
    generator = torch.Generator(backend.device)

    def copied_in() -> SearchInput[torch.Tensor]:
        return send(SearchInput, inputs, backend.dtype, backend.device)

    def drawn() -> torch.Tensor:
        return draw_noise(
            steps,
            loop.config.planner.num_samples,
            objective.origin,
            generator,
            algorithm.antithetic,
        )

    on_device, noise = copied_in(), drawn()
    problem, belief = search.begin(on_device)
    knots = algorithm.sample(belief, 0, noise[0])
    controls = objective.controls(knots)
    batch = backend.rollout(problem.start, controls, objective.control_dt)
    # A captured search has its rollouts elsewhere, and those of the next plan would lie here.
    batch = replace(
        batch, qpos=batch.qpos.clone(), qvel=batch.qvel.clone(), sensordata=batch.sensordata.clone()
    )
    found = objective.weigh(problem, batch)
    ranks = search_costs(found)
    after, weights = algorithm.update(belief, knots, ranks)
    packed = pack_tensors(search.conclude(after, knots, found, ranks, weights))
    return [
        Stage("noise", 1, drawn, captured=False),
        Stage("copy in", 1, lambda: copied_in().mean, captured=False),
        Stage("begin", 1, lambda: search.begin(on_device)[1].noise_scale),
        Stage("sample", steps, lambda: objective.controls(algorithm.sample(belief, 0, noise[0]))),
        Stage(
            "roll out",
            steps,
            lambda: backend.rollout(problem.start, controls, objective.control_dt).qpos,
        ),
        Stage("weigh", steps, lambda: search_costs(objective.weigh(problem, batch))),
        Stage("update", steps, lambda: algorithm.update(belief, knots, ranks)[0].mean),
        Stage(
            "conclude",
            1,
            lambda: pack_tensors(search.conclude(after, knots, found, ranks, weights)),
        ),
        Stage("copy out", 1, lambda: packed.cpu(), captured=False),
    ]


@torch.inference_mode()
def time_stages(case: Case, passes: int = 50) -> list[dict[str, Any]]:
    """Time of each stage of a case, one after the other as in a plan.

    Args:
        case: case to time
        passes: number of passes over all of them, whose medians are taken

    Returns:
        a row for each: stage; calls in a plan; launches: PyTorch's operations and Warp's kernels in
        one call; ms of one call; fraction of all stages' time in a plan

    Raises:
        ConfigError: see `check_stages`
    """
    check_stages(case)
    # As in the planner node: torch's own threads would wait busily on the cores that rollouts need.
    torch.set_num_threads(1)
    loop = ClosedLoop(case.parameters(), trial=0)
    backend, parts = loop.controller.backend, stages(loop)
    # What is in a graph is launched by nobody.
    launched = ClosedLoop({**case.parameters(), "backend.capture": "none"}, trial=0)
    launches = [count_launches(stage.work) for stage in stages(launched)]
    captured = iter(backend.capture_work([stage.work for stage in parts if stage.captured]))
    runs = [next(captured, stage.work) if stage.captured else stage.work for stage in parts]
    times = np.array([[timed(run, backend.device) for run in runs] for _ in range(passes + 3)])[3:]
    ms = 1e3 * np.median(times, axis=0)
    whole = sum(stage.calls * each for stage, each in zip(parts, ms, strict=True))
    return [
        {
            "stage": stage.name,
            "calls": stage.calls,
            "launches": number,
            "ms": float(each),
            "fraction": float(stage.calls * each / whole),
        }
        for stage, number, each in zip(parts, launches, ms, strict=True)
    ]


def timed(run: Work, device: torch.device) -> float:
    """Time that work takes, on its device, s."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        run()
        end.record()
        end.synchronize()
        return 1e-3 * float(begin.elapsed_time(end))
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of PyTorch that compute something."""

    def __init__(self) -> None:
        """Begin at zero."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Count an operation and do it."""
        self.count += not (func.is_view or "empty" in func.__name__)
        return func(*args, **(kwargs or {}))


def count_launches(work: Work) -> int:
    """Kernels that work launches when it is not captured.

    PyTorch's operations but for views, and Warp's launches.
    """
    kernels = 0

    def counting(launch: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            nonlocal kernels
            kernels += 1
            return launch(*args, **kwargs)

        return counted

    with ExitStack() as stack:
        operations = stack.enter_context(_Operations())
        # Only where it is loaded can it be in use.
        if (warp := sys.modules.get("warp")) is not None:
            for name in ("launch", "launch_tiled"):
                stack.enter_context(patch.object(warp, name, counting(getattr(warp, name))))
        work()
    return operations.count + kernels


def stages_table(row: Row) -> Table:
    """Time of each stage of a case, as of a row of `speed.run_case` with its stages."""
    return table(
        f"stages of a plan: {row['model']} {sizes(row)}, {backend_label(row)}",
        row["stages"],
        _cells,
        left=("stage",),
    )


def backend_label(row: Row) -> str:
    """Backend, device and what is captured, as of a row of `speed.run_case`."""
    graph = "" if row["capture"] == "none" else f", graph: {row['capture']}"
    return f"{row['backend']} ({row['device']}{graph})"


def sizes(row: Row) -> str:
    """Samples, steps and iterations, as of a row of `speed.run_case`."""
    return f"{row['num_samples']} × {row['horizon_steps']} × {row['iterations']}"


def _cells(stage: Row) -> dict[str, str]:
    return {
        "stage": stage["stage"],
        "calls in a plan": str(stage["calls"]),
        "launches in a call": f"{stage['launches']:,}",
        "ms in a call": f"{stage['ms']:.3f}",
        "fraction": f"{stage['fraction']:.1%}",
    }
