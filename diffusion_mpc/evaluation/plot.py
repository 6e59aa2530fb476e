"""Plot of a run: commanded and measured motion, plan times and costs over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffusion_mpc.evaluation.metrics import Measured
from diffusion_mpc.evaluation.recorded_run import RecordedPlans, RecordedRun
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array

# Okabe and Ito's colours: told apart by colour-blind readers as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#F0E442")
INK, MISS = "#333333", "#D62728"
DASHED = (0.0, (4.0, 2.0))
STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
}


def write_plot(run: RecordedRun, task: Task, measured: Measured, file: Path) -> None:
    """Write a PNG with three panels over one time axis.

    Args:
        run: recorded run
        task: task that was run
        measured: result of `metrics.measure`
        file: where to write
    """
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(11.0, 7.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
        first, second, third = figure.subplots(3, 1, sharex=True, height_ratios=(1.25, 1.0, 1.0))
        beginnings = [stamps[0] for stamps in (run.states.stamps, run.plans.stamps) if len(stamps)]
        start = min(beginnings, default=0.0)
        time = run.states.stamps - start
        if measured.velocity is not None and task.reference == "cmd_vel":
            _speeds(first, time, measured.velocity, measured.reference)
        elif measured.goal_errors:
            _goal_errors(first, time, measured.goal_errors)
        else:
            _joints(first, time, run, task)
        _plan_times(second, run, start)
        draw_costs(third, run.plans.stamps - start, run.plans.term_names, run.plans.term_costs)
        third.set_xlabel("time, s")
        for axes in (first, second, third):
            _falls(axes, time, measured)
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.margins(x=0.0)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02), frameon=False)
        figure.suptitle(
            f"{task.name}: {_planner(run.plans)}", x=0.01, ha="left", fontsize=11.0, color=INK
        )
        figure.savefig(file, dpi=130)


def _planner(plans: RecordedPlans) -> str:
    if plans.algorithm is None:
        return "no plans recorded"
    size = (
        f"{plans.num_samples} samples × {plans.horizon_steps} steps × {plans.iterations} iterations"
    )
    return f"{plans.algorithm} on {plans.backend}, {size}"


def _speeds(axes: Axes, time: Array, velocity: Array, reference: Array) -> None:
    for i, name in enumerate(("forward, m/s", "lateral, m/s", "yaw rate, rad/s")):
        # The forward velocity is what most look for: it lies on top, and the yaw rate, which swings
        # most, at the back.
        front, faint = 4.0 - i, (1.0, 0.85, 0.55)[i]
        axes.plot(
            time,
            velocity[:, i],
            color=COLOURS[i],
            linewidth=1.1,
            alpha=faint,
            zorder=front,
            label=name,
        )
        axes.step(
            time,
            reference[:, i],
            where="post",
            color=COLOURS[i],
            zorder=front,
            linestyle=DASHED,
            linewidth=1.4,
        )
    axes.plot([], [], color=INK, linewidth=1.4, linestyle=DASHED, label="commanded")
    axes.set_ylabel("velocity, heading frame")


def _goal_errors(axes: Axes, time: Array, errors: Mapping[str, Array]) -> None:
    for colour, (name, error) in zip(COLOURS, errors.items(), strict=False):
        axes.plot(time, error, color=colour, linewidth=1.2, label=", ".join(name.rsplit("_", 1)))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("distance from the goal")


def _joints(axes: Axes, time: Array, run: RecordedRun, task: Task) -> None:
    model = task.model
    # Hinges and slides; a free joint's numbers have no common unit.
    single = [i for i in range(model.njnt) if model.jnt_type[i] >= 2]
    for row, i in enumerate(single[: len(COLOURS)]):
        unit = "m" if model.jnt_type[i] == 2 else "rad"
        position = run.states.qpos[:, model.jnt_qposadr[i]]
        axes.plot(
            time,
            position,
            color=COLOURS[row],
            linewidth=1.1,
            label=f"{model.joint(i).name}, {unit}",
        )
    axes.set_ylabel("joint positions")


def _plan_times(axes: Axes, run: RecordedRun, start: float) -> None:
    plans, time = run.plans, run.plans.stamps - start
    axes.plot(time, 1e3 * plans.plan_time, color=COLOURS[0], linewidth=0.9, label="planning")
    limited = np.isfinite(plans.deadline)
    if limited.any():
        axes.step(
            time[limited],
            1e3 * plans.deadline[limited],
            where="post",
            color=INK,
            linewidth=1.0,
            alpha=0.55,
            label="time allowed",
        )
    if plans.missed.any():
        late = plans.missed
        label = f"missed ({late.sum()} of {len(late)})"
        axes.plot(
            time[late], 1e3 * plans.plan_time[late], "o", color=MISS, markersize=3.5, label=label
        )
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("plan time, ms")


def draw_costs(axes: Axes, time: Array, names: Sequence[str], costs: Array) -> None:
    """Pile the cost terms of plans up, and rewards (negative costs) below zero.

    On one pile, rewards would hide the costs that lie on them.

    Args:
        axes: where to draw
        time: (P,) s
        names: of the terms
        costs: (P, terms) weighted
    """
    axes.set_ylabel("cost per step of the plan")
    if not len(costs):
        return
    # The largest terms lie nearest to zero, where they are easiest to read.
    order = np.argsort(-np.abs(costs.mean(axis=0)))
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(order))]
    labels, costs = [names[i] for i in order], costs[:, order].T
    axes.stackplot(time, np.maximum(costs, 0.0), colors=colours, labels=labels, linewidth=0.0)
    if (costs < 0.0).any():
        axes.stackplot(time, np.minimum(costs, 0.0), colors=colours, linewidth=0.0)
        axes.plot(time, costs.sum(axis=0), color=INK, linewidth=0.9, label="sum")
    else:
        axes.set_ylim(bottom=0.0)


def _falls(axes: Axes, time: Array, measured: Measured) -> None:
    down = measured.failed.astype(int)
    for begin in np.flatnonzero(np.diff(down, prepend=0) == 1):
        later = np.flatnonzero(down[begin:] == 0)
        end = time[begin + later[0]] if len(later) else time[-1]
        axes.axvspan(time[begin], end, color=MISS, alpha=0.12, linewidth=0.0)
