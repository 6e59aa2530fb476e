"""Plots of the benchmarks: cost against rollouts, delays and evaluations, and speed against samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from diffusion_mpc.benchmark.tables import backend_label
from diffusion_mpc.evaluation.plot import COLOURS, STYLE

Row = Mapping[str, Any]


def plot_quality(rows: Sequence[Row], file: Path) -> None:
    """Mean closed-loop cost with its 95 % interval against rollouts a plan, one panel a task.

    Args:
        rows: as `quality.summarise` returns them
        file: PNG to write
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    with _panels(len(tasks), file) as panels:
        for task, axes in zip(tasks, panels, strict=True):
            budgets = sorted({row["rollouts"] for row in rows if row["task"] == task})
            for i, algorithm in enumerate(algorithms):
                mine = sorted(
                    (row for row in rows if (row["task"], row["algorithm"]) == (task, algorithm)), key=lambda row: row["rollouts"]
                )
                # A little apart, so that no interval hides another.
                x = [row["rollouts"] * 1.03 ** (i - (len(algorithms) - 1) / 2) for row in mine]
                _line(axes, i, algorithm, x, mine)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(budgets))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticklabels([str(budget) for budget in budgets])
            axes.set_title(task, loc="left")
            axes.set_xlabel("rollouts in a plan")
            axes.set_ylabel("mean closed-loop cost")


def _line(axes: Axes, i: int, label: str, x: Sequence[float], rows: Sequence[Row]) -> None:
    mean = np.array([row["mean_cost"] for row in rows])
    half = np.array([np.nan_to_num(row["high"] - row["mean_cost"]) for row in rows])
    emphasis: dict[str, Any] = {"zorder": 5.0, "linewidth": 2.2} if i == 0 else {"linewidth": 1.1}
    axes.errorbar(x, mean, yerr=half, color=COLOURS[i], marker="o", markersize=4.0, capsize=2.5, label=label, **emphasis)


def plot_delay(rows: Sequence[Row], file: Path) -> None:
    """Mean closed-loop cost with its 95 % interval against delay, one panel for each thing that is late.

    Args:
        rows: as `delay.summarise` returns them
        file: PNG to write
    """
    undelayed = [row for row in rows if row["delay"] == 0.0 and row["compensated"]]
    late = [what for what in dict.fromkeys(row["delayed"] for row in rows) if what != "idle"]
    with _panels(len(late), file) as panels:
        for what, axes in zip(late, panels, strict=True):
            for i, (label, compensated) in enumerate((("compensated", True), ("not compensated", False))):
                mine = [row for row in rows if (row["delayed"], row["compensated"]) == (what, compensated) and row["delay"] > 0.0]
                mine = sorted(undelayed + mine, key=lambda row: float(row["delay"]))
                _line(axes, i, label, [1e3 * row["delay"] for row in mine], mine)
            axes.set_ylim(bottom=0.0)
            axes.set_title(f"{rows[0]['task']}: {what}s are late", loc="left")
            axes.set_xlabel("delay, ms")
            axes.set_ylabel("mean closed-loop cost")


def plot_renoising(rows: Sequence[Row], file: Path) -> None:
    """Noise, above, and cost, below, against the time since each event, means over trials.

    Args:
        rows: as `renoising.summarise` returns them
        file: PNG to write
    """
    events = list(dict.fromkeys(row["event"] for row in rows))
    kinds = list(dict.fromkeys(row["noise"] for row in rows))
    shown = [(event, *what) for what in (("noise_level", "noise"), ("costs", "cost")) for event in events]
    with _panels(len(shown), file, len(events)) as panels:
        for (event, series, name), axes in zip(shown, panels, strict=True):
            for row in rows:
                if row["event"] == event:
                    axes.plot(
                        row["times"], row[series], color=COLOURS[kinds.index(row["noise"])], linewidth=1.3, label=row["noise"]
                    )
            axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0.0)
            axes.set_xlim(-0.5, row["times"][-1])
            axes.set_ylim(bottom=0.0)
            axes.set_title(f"{rows[[r['event'] for r in rows].index(event)]['task']}: {event}", loc="left")
            axes.set_xlabel("time since the event, s")
            axes.set_ylabel(name)


def plot_black_box(rows: Sequence[Row], file: Path) -> None:
    """Least value so far against evaluations, mean over seeds, one panel a function and dimension.

    Args:
        rows: as `black_box.summarise` returns them
        file: PNG to write
    """
    cases = list(dict.fromkeys((row["function"], row["dim"]) for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    dims = len({dim for _, dim in cases})
    with _panels(len(cases), file, dims if dims > 1 else 3) as panels:
        for case, axes in zip(cases, panels, strict=True):
            for row in rows:
                if (row["function"], row["dim"]) == case:
                    count, best = zip(*row["curve"], strict=True)
                    axes.plot(count, best, color=COLOURS[methods.index(row["method"])], linewidth=1.5, label=row["method"])
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(f"{case[0]}, {case[1]} dimensions", loc="left")
            axes.set_xlabel("evaluations")
            axes.set_ylabel("least value so far")


def plot_speed(rows: Sequence[Row], file: Path) -> None:
    """Physics steps a second of whole plans, and of `mujoco.rollout` alone, against samples; one panel a model and horizon.

    Args:
        rows: as `speed.run_case` returns them
        file: PNG to write
    """
    cases = list(dict.fromkeys((row["model"], row["horizon_steps"], row["iterations"]) for row in rows))
    labels = list(dict.fromkeys(backend_label(row) for row in rows))
    with _panels(len(cases), file) as panels:
        for case, axes in zip(cases, panels, strict=True):
            mine = [row for row in rows if (row["model"], row["horizon_steps"], row["iterations"]) == case]
            mine.sort(key=lambda row: int(row["num_samples"]))
            for i, label in enumerate(labels):
                of_kind = [row for row in mine if backend_label(row) == label]
                samples, rates = [row["num_samples"] for row in of_kind], [row["physics_steps_per_s"] for row in of_kind]
                axes.plot(samples, rates, color=COLOURS[i], marker="o", markersize=4.0, label=label)
            label = f"mujoco.rollout alone, {mine[0]['threads']} threads"
            raw = [row["raw_steps_per_s"] for row in mine]
            axes.plot([row["num_samples"] for row in mine], raw, color="0.4", linestyle="--", linewidth=1.2, label=label)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda samples, _: f"{samples:.0f}"))
            axes.set_yscale("log")
            axes.set_title(f"{case[0]}, {case[1]} steps × {case[2]}", loc="left")
            axes.set_xlabel("samples")
            axes.set_ylabel("physics steps/s")


@contextmanager
def _panels(count: int, file: Path, columns: int = 3) -> Iterator[list[Axes]]:
    """As many axes, to be drawn on before the figure is written with one legend for all."""
    columns = max(1, min(columns, count))
    lines = max(1, math.ceil(count / columns))
    with rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.2 * columns + 1.6, 3.2 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
        yield grid[:count]
        labels: dict[str, Any] = {}
        for axes in grid[:count]:
            axes.grid(alpha=0.25, linewidth=0.6)
            handles, names = axes.get_legend_handles_labels()
            labels |= dict(zip(names, handles, strict=True))
        for axes in grid[count:]:
            axes.set_axis_off()
        figure.legend(list(labels.values()), list(labels), loc="outside right upper", frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=130)
