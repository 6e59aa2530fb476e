"""Independent runs: in several processes, each result kept as it comes, none run twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

from diffusion_mpc.workers import cores, one_thread_each, worker_pool

RunSpec = Mapping[str, Any]
"""Everything that the figures of a run depend on, ready for JSON."""

Figures = dict[str, Any]


class RunFile:
    """Figures by run, one JSON object a line: finished runs outlive an interruption or a crash.

    Figures are found again by the whole specification of a run only.
    """

    def __init__(self, path: Path, identity: Sequence[str]) -> None:
        """Read the runs that are there.

        Args:
            path: file, which need not exist yet
            identity: keys of a specification that name the run; the others are its settings

        Raises:
            ValueError: a line, other than a last one cut short, is not one of ours
        """
        self.path = path
        self._identity = tuple(identity)
        self._done: dict[str, Figures] = {}
        self._specs: list[RunSpec] = []
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            try:
                entry = json.loads(line)
                self._take(entry["run"], entry["figures"])
            except (ValueError, KeyError, TypeError):
                if line.endswith("\n"):
                    raise ValueError(
                        f"line {number} of '{path}' is not a benchmark's; name another folder "
                        "with --output"
                    ) from None
        # A line cut short by a kill would spoil the next one.
        self._cut = bool(text) and not text.endswith("\n")

    def find(self, spec: RunSpec) -> Figures | None:
        """Figures of a run, None where it has not been run."""
        return self._done.get(_key(spec))

    def add(self, spec: RunSpec, figures: Figures) -> None:
        """Keep the figures of a run, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(
                ("\n" if self._cut else "") + json.dumps({"run": spec, "figures": figures}) + "\n"
            )
        self._cut = False
        self._take(spec, figures)

    def changed(self, specs: Iterable[RunSpec]) -> str:
        """One line about the first of these runs that is in the file with other settings only.

        Empty where there is none.
        """
        for spec in specs:
            others = [
                s for s in self._specs if all(s.get(name) == spec[name] for name in self._identity)
            ]
            if others and self.find(spec) is None:
                before, now = _flat(others[-1]), _flat(spec)
                names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
                changes = ", ".join(
                    f"{name}: {before.get(name)} -> {now.get(name)}" for name in names[:3]
                )
                return (
                    f"{self.path} has results of other settings ({changes}); they are left out, "
                    "and changed runs are run anew"
                )
        return ""

    def _take(self, spec: RunSpec, figures: Figures) -> None:
        self._done[_key(spec)] = figures
        self._specs.append(spec)


def _key(spec: RunSpec) -> str:
    return json.dumps(spec, sort_keys=True)


def _flat(spec: RunSpec) -> dict[str, Any]:
    parts = {name: value for name, value in spec.items() if not isinstance(value, Mapping)}
    for value in spec.values():
        parts |= value if isinstance(value, Mapping) else {}
    return parts


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
    specs = list({_key(spec): spec for spec in specs}.values())
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
        pool = worker_pool(min(processes or cores(), max(len(todo), 1)))
        pending: dict[Future[Figures], RunSpec] = {}
        try:
            with one_thread_each():
                pending = {pool.submit(measure, spec): spec for spec in todo}
            while pending:
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    spec = pending.pop(done)
                    if error := done.exception():
                        errors.append(f"{_name(spec)}: {error}")
                    else:
                        file.add(spec, done.result())
                    progress.advance(bar)
        except KeyboardInterrupt:
            for process in list((pool._processes or {}).values()):
                process.terminate()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Outcome(tuple(specs), tuple(file.find(spec) for spec in specs), tuple(errors))


def _name(spec: RunSpec) -> str:
    return " ".join(
        str(value)
        for value in spec.values()
        if isinstance(value, str | int) and not isinstance(value, bool)
    )
