"""Work in cells: run in processes, kept as they come, and not done twice."""

from __future__ import annotations

import difflib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diffusion_mpc.config import ConfigError

Cell = Mapping[str, Any]
Figures = dict[str, Any]
Choice = TypeVar("Choice")

# Numerical libraries would otherwise start as many threads as there are cores in each of as many processes.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class CellFile:
    """Figures by cell, one JSON object a line, so that what is done outlives whatever stops the rest.

    A cell is everything that its figures depend on. Figures are found again by the whole of it only.
    """

    def __init__(self, path: Path, identity: Sequence[str]) -> None:
        """Read what is there.

        Args:
            path: file, which need not exist yet
            identity: keys of a cell that say which one it is; the others are its settings

        Raises:
            ValueError: a line, other than a last one cut short, is not one of ours
        """
        self.path = path
        self._identity = tuple(identity)
        self._done: dict[str, Figures] = {}
        self._cells: list[Cell] = []
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            try:
                entry = json.loads(line)
                self._take(entry["cell"], entry["figures"])
            except (ValueError, KeyError, TypeError):
                if line.endswith("\n"):
                    raise ValueError(f"line {number} of '{path}' is not a benchmark's; name another folder with --output") from None
        # What was cut short by a kill would spoil the line after it.
        self._cut = bool(text) and not text.endswith("\n")

    def find(self, cell: Cell) -> Figures | None:
        """Figures of a cell, None where it has not been run."""
        return self._done.get(_key(cell))

    def add(self, cell: Cell, figures: Figures) -> None:
        """Keep the figures of a cell, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if self._cut else "") + json.dumps({"cell": cell, "figures": figures}) + "\n")
        self._cut = False
        self._take(cell, figures)

    def changed(self, cells: Iterable[Cell]) -> str:
        """One line about the first of these cells that is in the file with other settings only; empty where there is none."""
        for cell in cells:
            others = [c for c in self._cells if all(c.get(name) == cell[name] for name in self._identity)]
            if others and self.find(cell) is None:
                before, now = _flat(others[-1]), _flat(cell)
                names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
                what = ", ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in names[:3])
                return f"{self.path} has results of other settings ({what}); they are left out, and what changed is run anew"
        return ""

    def _take(self, cell: Cell, figures: Figures) -> None:
        self._done[_key(cell)] = figures
        self._cells.append(cell)


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)


def _flat(cell: Cell) -> dict[str, Any]:
    parts = {name: value for name, value in cell.items() if not isinstance(value, Mapping)}
    for value in cell.values():
        parts |= value if isinstance(value, Mapping) else {}
    return parts


@dataclass(frozen=True)
class Outcome:
    """What came of some cells.

    Attributes:
        figures: one entry a cell, in their order; None where there are no figures
        errors: what went wrong, one line for each cell that failed
        interrupted: whether Ctrl-C ended the work early
    """

    figures: tuple[Figures | None, ...]
    errors: tuple[str, ...] = field(default=())
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether every cell has its figures."""
        return None not in self.figures


def run_cells(work: Callable[[Cell], Figures], cells: Sequence[Cell], file: CellFile, processes: int, title: str) -> Outcome:
    """Run the cells that the file does not have yet, with a progress bar; Ctrl-C ends it with what it has.

    Args:
        work: from a cell to its figures; importable, for it runs in other processes
        cells: in the order to run them
        file: where figures are kept
        processes: number of processes; 0: one per core that this process may use
        title: what the bar says
    """
    if message := file.changed(cells):
        Console(stderr=True).print(f"note: {message}", highlight=False, soft_wrap=True)
    todo = [cell for cell in cells if file.find(cell) is None]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    errors, interrupted = list[str](), False
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=len(cells), completed=len(cells) - len(todo))
        count = min(processes or len(os.sched_getaffinity(0)), max(len(todo), 1))
        # Spawned, not forked: MuJoCo's and torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
        pending: dict[Future[Figures], Cell] = {}
        try:
            with _environment(ONE_THREAD):
                pending = {pool.submit(work, cell): cell for cell in todo}
            while pending:
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    cell = pending.pop(done)
                    if error := done.exception():
                        errors.append(f"{_name(cell)}: {error}")
                    else:
                        file.add(cell, done.result())
                    progress.advance(bar)
        except KeyboardInterrupt:
            interrupted = True
            for process in list((pool._processes or {}).values()):
                process.terminate()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Outcome(tuple(file.find(cell) for cell in cells), tuple(errors), interrupted)


@dataclass(frozen=True)
class Study(Generic[Choice]):
    """A benchmark: which cells there are, what is done in one, and what comes of all.

    Attributes:
        name: of the benchmark
        identity: keys of a cell that say which one it is, see `CellFile`
        cells: all cells of a choice
        work: from a cell to its figures; importable, for it runs in other processes
        summarise: from the cells and what came of them to the figures, ready for JSON
    """

    name: str
    identity: Sequence[str]
    cells: Callable[[Choice], list[Cell]]
    work: Callable[[Cell], Figures]
    summarise: Callable[[Sequence[Cell], Outcome], Figures]

    def run(self, choice: Choice, folder: Path, processes: int) -> tuple[Figures, Outcome]:
        """Run what is not done yet, and put all together.

        Args:
            choice: what to compare
            folder: where results are kept, for the next time
            processes: number of processes; 0: one per core

        Returns:
            what `summarise` makes of it, and how the work went

        Raises:
            ConfigError, TaskError: the choice names what there is not, or parameters that do not fit
        """
        todo = self.cells(choice)
        file = CellFile(folder / f"{self.name}.jsonl", self.identity)
        outcome = run_cells(self.work, todo, file, processes, self.name.replace("_", "-"))
        return self.summarise(todo, outcome), outcome


def among(what: str, name: str, known: Iterable[str]) -> str:
    """The name, which is one of those known.

    Raises:
        ConfigError: it is not; the message names the nearest one
    """
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
        raise ConfigError(f"unknown {what} '{name}'; {hint}")
    return name


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started within."""
    before = dict(os.environ)
    os.environ |= changes
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _begin() -> None:
    """Ctrl-C is for the process that waits, without which this one has nothing to do; and one process is one core's worth."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _name(cell: Cell) -> str:
    return " ".join(str(value) for value in cell.values() if isinstance(value, str | int) and not isinstance(value, bool))
