"""`benchmark speed`.

Time of a whole plan against `mujoco.rollout` of the same batches alone, interleaved plan by plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from cyclopts.types import NonNegativeInt, PositiveInt
from matplotlib.ticker import FuncFormatter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from diffusion_mpc.arguments import OutputFile, SetOption, parse_settings
from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.case import Case
from diffusion_mpc.benchmark.figures import Row, panels, table
from diffusion_mpc.benchmark.raw_rollout import RawRollout, log_rollouts
from diffusion_mpc.benchmark.stages import (
    backend_label,
    check_stages,
    sizes,
    stages_table,
    time_stages,
)
from diffusion_mpc.config import ConfigError
from diffusion_mpc.evaluation.plot import COLOURS
from diffusion_mpc.names import BackendChoice, Capture
from diffusion_mpc.rollout.backend import substeps
from diffusion_mpc.rollout.variants import model_variants
from diffusion_mpc.simulation.closed_loop import ClosedLoop
from diffusion_mpc.types import Array
from diffusion_mpc.workers import cores

DEFAULT_CASES = (
    Case(
        "ant",
        {"planner.num_samples": "64", "planner.horizon_steps": "20", "planner.iterations": "2"},
    ),
    Case(
        "cartpole",
        {"planner.num_samples": "32", "planner.horizon_steps": "25", "planner.iterations": "1"},
    ),
)


RAW_SAMPLES = 1024
"""Most samples of a captured plan that `mujoco.rollout` repeats.

The rates are compared, not the times.
"""


@dataclass(frozen=True, kw_only=True)
class Speed(Benchmark):
    """Time whole plans against mujoco.rollout of the same batches alone.

    example: diffusion-mpc benchmark speed --json speed.json

    Attributes:
        tasks: tasks (default: ant 64 x 20 x 2 and cartpole 32 x 25 x 1)
        samples: samples, one case for each number
        horizon: control steps, one case for each number
        iterations: denoising steps, one case for each number
        backend: rollout backend (default: the task's own)
        capture: CUDA graphs of warp, one case for each
        stages: time every stage of a plan alone, too
        plot: draw physics steps/s against samples into a PNG
        plans: plans that are timed
        warm_up: plans before, which do not count
        settings: planner parameter; can be repeated
    """

    tasks: tuple[str, ...] = ()
    samples: tuple[PositiveInt, ...] = ()
    horizon: tuple[PositiveInt, ...] = ()
    iterations: tuple[PositiveInt, ...] = ()
    backend: BackendChoice | None = None
    capture: tuple[Capture, ...] = ()
    stages: bool = False
    plot: OutputFile = None
    plans: PositiveInt = 200
    warm_up: NonNegativeInt = 20
    settings: SetOption = ()

    def cases(self) -> list[Case]:
        """All cases, checked.

        Raises:
            ConfigError, TaskError: an option names an unknown task, algorithm or parameter
        """
        axes = {
            "planner.num_samples": self.samples,
            "planner.horizon_steps": self.horizon,
            "planner.iterations": self.iterations,
            "backend.capture": self.capture,
            "backend.name": (self.backend,) if self.backend else (),
        }
        chosen = [
            [(name, str(value)) for value in values] for name, values in axes.items() if values
        ]
        own = [Case(task, {}) for task in self.tasks] or DEFAULT_CASES
        settings = parse_settings(self.settings)
        cases = [
            Case(case.task, {**case.settings, **settings, **dict(values)})
            for case in own
            for values in product(*chosen)
        ]
        for case in cases:
            case.all_parameters()
            if self.stages:
                check_stages(case)
        return cases

    def report(self) -> Report:
        """Time all cases.

        Complete, and a row for each, see `row`, with stages where they are asked for.
        """
        cases = self.cases()
        rows: list[dict[str, Any]] = []
        complete = True
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task("speed", total=len(cases) * (self.plans + self.warm_up))
            try:
                for case in cases:
                    progress.update(bar, description=f"speed: {case.task}")
                    rows.append(
                        run_case(case, self.plans, self.warm_up, lambda: progress.advance(bar))
                    )
                    complete = rows[-1].pop("complete")
                    if not complete:
                        break
                    if self.stages:
                        rows[-1]["stages"] = time_stages(case)
            except KeyboardInterrupt:
                complete = False
        return {"complete": complete, "rows": rows}

    def tables(self, report: Report) -> list[Table]:
        """Speeds and their ratio, and the stages of each case."""
        rows = report["rows"]
        speeds = table(
            "a whole plan against mujoco.rollout alone",
            rows,
            _cells,
            left=("model", "backend"),
            wrap=True,
        )
        return [speeds, *(stages_table(row) for row in rows if "stages" in row)]

    def write(self, report: Report) -> Path | None:
        """Draw the plot, where it is asked for."""
        if self.plot is not None:
            plot_speed(report["rows"], self.plot)
        return self.plot


def run_case(case: Case, plans: int, warm_up: int, on_plan: Callable[[], None]) -> dict[str, Any]:
    """Time a case in closed loop.

    Args:
        case: case to time
        plans: number of plans to time
        warm_up: number of plans before, that do not count
        on_plan: called after each plan

    Returns:
        the row; see `row`. Where Ctrl-C came between, of fewer plans

    Raises:
        ConfigError, TaskError: the case names an unknown task, algorithm or parameter
        ValueError: parameters do not fit each other
        KeyboardInterrupt: Ctrl-C came before the first plan that counts
    """
    # As in the planner node: torch's own threads would wait busily on the cores that rollouts need.
    torch.set_num_threads(1)
    loop = ClosedLoop(case.parameters(), trial=0)
    backend, config = loop.controller.backend, loop.config
    if backend.name == "function":
        raise ConfigError(
            f"task '{case.task}' has dynamics of its own, so there is no mujoco.rollout to "
            "compare with"
        )
    calls = log_rollouts(backend)
    raw = RawRollout(model_variants(backend.model, config.robust), config.backend.threads)
    repeats = substeps(config.planner.control_dt, backend.model.opt.timestep)
    steps_a_control = repeats * backend.variants
    plan_times, raw_times = list[float](), list[float]()
    physics_steps, raw_steps = list[int](), list[int]()
    try:
        for number in range(warm_up + plans):
            calls.clear()
            began = time.perf_counter()
            plan = loop.plan()
            plan_time = time.perf_counter() - began
            counted = sum(controls.shape[0] * controls.shape[1] for _, controls in calls)
            if not calls and plan is not None:
                # A captured plan makes no calls. In its place, a part of it that the CPU can do:
                # the plan itself, many times.
                controls = torch.from_numpy(plan.controls).expand(
                    min(config.planner.num_samples, RAW_SAMPLES), -1, -1
                )
                calls.append((loop.state().on(torch.float64, controls.device), controls))
                counted = (
                    config.planner.num_samples
                    * config.planner.horizon_steps
                    * plan.stats.iterations
                )
            raw_time = sum(raw.time(state, controls, repeats) for state, controls in calls)
            loop.advance()
            on_plan()
            if number >= warm_up and plan is not None:
                plan_times.append(plan_time)
                raw_times.append(raw_time)
                physics_steps.append(counted * steps_a_control)
                raw_steps.append(
                    sum(
                        controls.shape[0] * controls.shape[1] * steps_a_control
                        for _, controls in calls
                    )
                )
    except KeyboardInterrupt:
        if not plan_times:
            raise
    arrays = (np.array(values) for values in (plan_times, physics_steps, raw_times, raw_steps))
    return row(loop, *arrays) | {"complete": len(plan_times) == plans}


def row(
    loop: ClosedLoop, plan_times: Array, physics_steps: Array, raw_times: Array, raw_steps: Array
) -> dict[str, Any]:
    """Figures of a case.

    Args:
        loop: closed loop that was timed
        plan_times: (plans,) of all that `Controller.plan` does, s
        physics_steps: (plans,) physics steps in each
        raw_times: (plans,) of `mujoco.rollout` alone on the same batches, or on a part of them, s
        raw_steps: (plans,) physics steps in each of these

    Returns:
        model, num_samples, horizon_steps, iterations, backend, device, capture; plan_ms_p50,
        plan_ms_p99; physics_steps_per_s and raw_steps_per_s, medians over the plans; efficiency,
        the ratio of the two; raw_ms_p50, plans, threads, timestep
    """
    p, backend = loop.config.planner, loop.controller.backend
    planned, raw = (
        float(np.median(physics_steps / plan_times)),
        float(np.median(raw_steps / raw_times)),
    )
    return {
        "model": loop.task.name,
        "num_samples": p.num_samples,
        "horizon_steps": p.horizon_steps,
        "iterations": p.iterations,
        "backend": backend.name,
        "device": str(backend.device),
        "capture": backend.capture,
        "plan_ms_p50": 1e3 * float(np.median(plan_times)),
        "plan_ms_p99": 1e3 * float(np.quantile(plan_times, 0.99)),
        "physics_steps_per_s": planned,
        "raw_steps_per_s": raw,
        "efficiency": planned / raw,
        "raw_ms_p50": 1e3 * float(np.median(raw_times)),
        "plans": len(plan_times),
        "threads": loop.config.backend.threads or cores(),
        "timestep": float(backend.model.opt.timestep),
    }


def plot_speed(rows: Sequence[Row], file: Path) -> None:
    """Draw physics steps a second of whole plans, and of `mujoco.rollout` alone, against samples.

    One panel a model and horizon.

    Args:
        rows: as `run_case` returns them
        file: PNG to write
    """
    frame = (
        pd.DataFrame(rows)
        .assign(label=[backend_label(row) for row in rows])
        .sort_values("num_samples", kind="stable")
    )
    labels = list(dict.fromkeys(backend_label(row) for row in rows))
    cases = list(frame.groupby(["model", "horizon_steps", "iterations"], sort=False))
    with panels(len(cases), file) as drawn:
        for ((model, horizon, iterations), mine), axes in zip(cases, drawn, strict=True):
            for label, of_kind in mine.groupby("label"):
                samples, rates = of_kind["num_samples"], of_kind["physics_steps_per_s"]
                axes.plot(
                    samples,
                    rates,
                    color=COLOURS[labels.index(label)],
                    marker="o",
                    markersize=4.0,
                    label=label,
                )
            raw = f"mujoco.rollout alone, {mine['threads'].iloc[0]} threads"
            axes.plot(
                mine["num_samples"],
                mine["raw_steps_per_s"],
                color="0.4",
                linestyle="--",
                linewidth=1.2,
                label=raw,
            )
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda samples, _: f"{samples:.0f}"))
            axes.set_yscale("log")
            axes.set_title(f"{model}, {horizon} steps × {iterations}", loc="left")
            axes.set_xlabel("samples")
            axes.set_ylabel("physics steps/s")


def _cells(row: Row) -> dict[str, str]:
    return {
        "model": row["model"],
        "samples × steps × iterations": sizes(row),
        "backend": backend_label(row),
        "plan, ms": f"{row['plan_ms_p50']:.2f}",
        "physics steps/s": f"{row['physics_steps_per_s']:,.0f}",
        "raw steps/s": f"{row['raw_steps_per_s']:,.0f}",
        "efficiency": f"{row['efficiency']:.2f}",
    }
