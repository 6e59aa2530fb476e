"""Base classes of the benchmarks.

A dataclass whose fields are its options and whose methods run, summarise, table and plot.

`diffusion-mpc benchmark NAME` reads the options and their defaults from the fields, their help from
the docstring. A new benchmark is one such file, and its class in `command_line.py`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from rich.table import Table

from diffusion_mpc.arguments import OutputFile, write_json
from diffusion_mpc.benchmark.figures import show
from diffusion_mpc.benchmark.runs import Outcome, run_all
from diffusion_mpc.run_file import Figures, RunFile, RunSpec

Report = dict[str, Any]
"""Figures of a benchmark as it writes them to JSON: "complete", "rows", and others of its own."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A benchmark with its options; call it to run it.

    Attributes:
        json: file to write the figures to
    """

    json: OutputFile = None

    @abstractmethod
    def report(self) -> Report:
        """Run, and return the figures.

        Where Ctrl-C ends it early, those there are, with "complete" false.
        """

    @abstractmethod
    def tables(self, report: Report) -> list[Table]:
        """Tables of the figures."""

    def write(self, report: Report) -> Path | None:
        """Write a plot, or another file, of a report that has rows, and return its path.

        None: there is none.
        """
        return None

    def __call__(self) -> int:
        """Run, print the tables and write the files.

        Exit code 0 where all runs are done, else 1.
        """
        report = self.report()
        show(*self.tables(report))
        if report["rows"] and (file := self.write(report)) is not None:
            sys.stdout.write(f"Written  {file}\n")
        write_json(report, self.json)
        for error in report.get("errors", []):
            sys.stderr.write(f"error: {error}\n")
        if not report["complete"]:
            sys.stderr.write("error: incomplete; run the same command again to go on\n")
        return 0 if report["complete"] else 1


@dataclass(frozen=True, kw_only=True)
class RunsBenchmark(Benchmark):
    """A benchmark of many independent runs.

    Attributes:
        output: folder for results; a run that is there is not run again
        processes: number of processes; 0: one per core
    """

    output: Path = Path("runs/benchmark")
    processes: int = 0

    name: ClassVar[str]
    """Name of the files in `output`."""

    identity: ClassVar[Sequence[str]]
    """Keys of a run that name it, see `RunFile`."""

    @abstractmethod
    def runs(self) -> list[RunSpec]:
        """All runs, in an order in which those that are done at any time can be compared.

        Raises:
            ConfigError, TaskError: an option names something unknown, or parameters do not fit
        """

    @staticmethod
    @abstractmethod
    def measure(spec: RunSpec) -> Figures:
        """Figures of one run; called in other processes."""

    @abstractmethod
    def summarise(self, runs: pd.DataFrame) -> Report:
        """Figures over all runs that are done: "rows", and others of the benchmark's own.

        Args:
            runs: see `Outcome.frame`
        """

    def report(self) -> Report:
        """Run the missing runs and summarise all of them.

        Complete, errors, and the figures of `summarise`.
        """
        outcome = self.run(self.runs(), self.name.replace("_", "-"))
        return {**state(outcome), **self.summarise(outcome.frame())}

    def run(self, specs: Sequence[RunSpec], title: str) -> Outcome:
        """Run the missing ones of these runs, see `run_all`."""
        self.output.mkdir(parents=True, exist_ok=True)
        return run_all(
            self.measure,
            specs,
            RunFile(self.output / f"{self.name}.jsonl", self.identity),
            self.processes,
            title,
        )


def state(outcome: Outcome) -> Report:
    """State of the runs: complete, and errors, one line for each run that failed."""
    return {"complete": outcome.complete, "errors": list(outcome.errors)}
