"""Independent runs in several processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from diffusion_mpc.run_file import Figures, RunFile, RunSpec, run_key
from diffusion_mpc.workers import completed


@dataclass(frozen=True)
class Outcome:
    """Runs and their figures.

    Attributes:
        specs: the runs that were asked for, each once
        figures: one entry a run, in their order; None where there are no figures
        errors: one line for each run that failed
    """

    specs: tuple[RunSpec, ...]
    figures: tuple[Figures | None, ...]
    errors: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every run has its figures."""
        return None not in self.figures

    def frame(self) -> pd.DataFrame:
        """A row for each run that has figures.

        Columns are the keys of its specification and of its figures.
        """
        pairs = zip(self.specs, self.figures, strict=True)
        rows = [{**spec, **figures} for spec, figures in pairs if figures is not None]
        return pd.DataFrame(rows, columns=None if rows else list(self.specs[0]))


def run_all(
    measure: Callable[[RunSpec], Figures],
    specs: Sequence[RunSpec],
    file: RunFile,
    processes: int,
    title: str,
) -> Outcome:
    """Run those that the file does not have yet, with a progress bar.

    Ctrl-C ends it with the runs that are done.

    Args:
        measure: from a run to its figures; importable, for it is called in other processes
        specs: the runs, in their order; one that occurs twice is run once
        file: where figures are kept
        processes: number of processes; 0: one per core that this process may use
        title: label of the progress bar
    """
    specs = list({run_key(spec): spec for spec in specs}.values())
    if message := file.changed(specs):
        Console(stderr=True).print(f"note: {message}", highlight=False, soft_wrap=True)
    todo = [spec for spec in specs if file.find(spec) is None]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    errors = list[str]()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=len(specs), completed=len(specs) - len(todo))
        by_key = {run_key(spec): spec for spec in todo}
        work = partial(_measured, measure)
        # Ctrl-C ends it with what is there.
        with suppress(KeyboardInterrupt):
            for key, (figures, error) in completed(work, list(by_key), processes):
                if figures is None:
                    errors.append(f"{_name(by_key[key])}: {error}")
                else:
                    file.add(by_key[key], figures)
                progress.advance(bar)
    return Outcome(tuple(specs), tuple(file.find(spec) for spec in specs), tuple(errors))


def _measured(measure: Callable[[RunSpec], Figures], key: str) -> tuple[Figures | None, str]:
    """Figures of a run, or why it has none: one that fails must not end the others."""
    try:
        return measure(json.loads(key)), ""
    except Exception as error:
        return None, str(error)


def _name(spec: RunSpec) -> str:
    return " ".join(
        str(value)
        for value in spec.values()
        if isinstance(value, str | int) and not isinstance(value, bool)
    )
