"""Tables and plots: parts common to the benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from diffusion_mpc.evaluation.plot import COLOURS, STYLE

Row = Mapping[str, Any]


def table(
    title: str,
    rows: Sequence[Row],
    cells: Callable[[Row], Mapping[str, str]],
    left: Collection[str] = (),
    wrap: bool = False,
    section: Callable[[Row], Hashable] = lambda row: None,
    bold: Callable[[Row], bool] = lambda row: False,
) -> Table:
    """A table with a line for each row.

    Args:
        title: title
        rows: figures
        cells: from a row to its texts by column heading
        left: headings of the columns that are aligned to the left
        wrap: whether texts may be broken over several lines
        section: a line is drawn where this changes from row to row
        bold: whether a row is emphasised
    """
    drawn = Table(title=title, title_justify="left")
    for heading in cells(rows[0]) if rows else ():
        drawn.add_column(heading, justify="left" if heading in left else "right", no_wrap=not wrap)
    for row, after in zip(rows, [*rows[1:], rows[-1]] if rows else (), strict=True):
        drawn.add_row(
            *cells(row).values(),
            style="bold" if bold(row) else None,
            end_section=section(row) != section(after),
        )
    return drawn


def show(*tables: Table) -> None:
    """Print tables, wide where the output is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    for each in tables:
        console.print(each)


def number(value: float) -> str:
    """A number with three significant digits; 0 where it is below 0.001."""
    if abs(value) < 1e-3:
        return "0"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:.0f}"


def interval(row: Row) -> str:
    """An interval with its bounds; empty where one value has none."""
    return "" if math.isnan(row["low"]) else f"[{number(row['low'])}, {number(row['high'])}]"


def difference(comparison: Row | None) -> str:
    """A paired difference with its interval; empty where nothing was compared."""
    found = comparison and comparison["difference"]
    return f"{number(found['mean'])} {interval(found)}" if found else ""


def wins(comparison: Row | None) -> str:
    """Pairs won, and their number."""
    return f"{comparison['wins']}/{comparison['difference']['count']}" if comparison else ""


@contextmanager
def panels(count: int, file: Path, columns: int = 3) -> Iterator[list[Axes]]:
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


def draw_costs(axes: Axes, i: int, label: str, x: pd.Series, rows: pd.DataFrame) -> None:
    """Mean costs with their intervals, as line i of a panel; the first one is emphasised."""
    half = (rows["high"] - rows["mean_cost"]).fillna(0.0)
    emphasis: dict[str, Any] = {"zorder": 5.0, "linewidth": 2.2} if i == 0 else {"linewidth": 1.1}
    axes.errorbar(
        x,
        rows["mean_cost"],
        yerr=half,
        color=COLOURS[i],
        marker="o",
        markersize=4.0,
        capsize=2.5,
        label=label,
        **emphasis,
    )
