"""What a run prints and draws at its end."""

from pathlib import Path

from budget import Record, say
from rich.console import Console
from rich.markup import escape
from rich.table import Table

VERDICTS = {True: "met", False: "[red]NOT met[/red]", None: ""}


def table(record: Record) -> None:
    """Print all results, those of earlier runs with the same file among them."""
    shown = Table("what", "measured", "aim", "", title=record.device)
    for result in record.results():
        what, measured, aim = (escape(result[name]) for name in ("what", "measured", "aim"))
        shown.add_row(what, measured, aim, VERDICTS[result["met"]])
    Console(width=150).print(shown)


def draw(record: Record, file: Path) -> None:
    """Draw physics steps/s against samples: plans of the ant of one size but for the samples."""
    from diffusion_mpc.benchmark.speed import plot_speed

    entries = (record.entries[name] for name in ("ant plan", "ant throughput", "crossover"))
    rows = [result["row"] for entry in entries for result in entry["results"] if result["row"]]
    if rows:
        plot_speed(rows, file)
    else:
        say("nothing to plot: no plans of the ant were timed")
