"""Items of work within a budget of time.

Each in a process of its own, and all that is known in one JSON file at any time.
"""

import faulthandler
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

NOT_REACHED, RUNNING, DONE, FAILED, TIMED_OUT, INTERRUPTED = (
    "not reached",
    "running",
    "done",
    "failed",
    "timed out",
    "interrupted",
)
# An abort says why before it says where, in every thread.
LOG_LINES = 150

# Forked from one process that has imported the libraries: seconds for each item otherwise.
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Result:
    """One thing that an item has found.

    Attributes:
        what: what was checked or measured
        measured: the outcome, as a text with its unit
        aim: what it should be, as a text; empty: nothing in particular
        met: whether the aim was met; None where it is not judged
        row: figures behind it
    """

    what: str
    measured: str
    aim: str = ""
    met: bool | None = None
    row: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Item:
    """A piece of work.

    Attributes:
        name: its name, by which a later run knows it
        share: time that it should take, s: it begins only where so much is left
        limit: time after which it is ended, s, or earlier where the budget ends
        work: module and name of a function that yields results, each of which is kept from then on;
            imported in the item's process only
        arguments: its keyword arguments, beside the one that all items get
    """

    name: str
    share: float
    limit: float
    work: str
    arguments: Mapping[str, object] = field(default_factory=dict)


class Record:
    """What is known of every item, in a file that is replaced as a whole with every change."""

    def __init__(self, file: Path, device: str, items: Sequence[Item]) -> None:
        """Go on from the file where it exists.

        Raises:
            ValueError: the file holds figures of another device, or something else
        """
        self._file, self.device = file, device
        kept = {}
        if file.exists():
            try:
                known = json.loads(file.read_text())
                kept, before = known["items"], known["device"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{file} was not written by this script; name another file"
                ) from None
            if before != device:
                raise ValueError(
                    f"{file} holds figures of {before}, not of {device}; name another file"
                )
        self.entries: dict[str, dict[str, Any]] = {
            item.name: kept.get(item.name, _entry(NOT_REACHED)) for item in items
        }
        for entry in self.entries.values():
            if entry["state"] == RUNNING:
                entry["state"] = INTERRUPTED
        self.save()

    def save(self) -> None:
        """Write all entries: whoever reads the file finds either the text before or the new one."""
        text = json.dumps(
            {"device": self.device, "summary": summary(self), "items": self.entries}, indent=1
        )
        beside = self._file.with_name(f"{self._file.name}.new")
        beside.write_text(text)
        os.replace(beside, self._file)

    def named(self, *states: str) -> list[str]:
        """Names of the items in one of these states."""
        return [name for name, entry in self.entries.items() if entry["state"] in states]

    def results(self) -> list[dict[str, Any]]:
        """Results of all items, those that did not end among them."""
        return [result for entry in self.entries.values() for result in entry["results"]]


def _entry(state: str) -> dict[str, Any]:
    return {"state": state, "seconds": 0.0, "results": [], "error": "", "log": []}


def import_early(modules: Sequence[str]) -> None:
    """Import what items need in the process that they are forked from."""
    forkserver.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def run_items(items: Sequence[Item], record: Record, end: float, argument: object) -> None:
    """Run what is not done yet and fits.

    First what was never tried, in its order, then what did not end well in an earlier run.

    Args:
        items: the items
        record: what is known of them
        end: end of the budget, as of `time.monotonic`, s
        argument: first argument of every item's work
    """
    untried = record.named(NOT_REACHED)
    again = record.named(FAILED, TIMED_OUT, INTERRUPTED)
    by_name = {item.name: item for item in items}
    for name in (*untried, *again):
        item, left = by_name[name], end - time.monotonic()
        if item.share > left:
            say(f"{name}: no time, it needs {item.share:.0f} s and {max(left, 0.0):.0f} s are left")
            continue
        say(f"{name} ...")
        _run(item, argument, min(item.limit, left), record)
        entry = record.entries[name]
        say(
            f"{name}: {entry['state']} after {entry['seconds']:.1f} "
            f"s{entry['error'] and ': ' + entry['error']}"
        )


def _run(item: Item, argument: object, seconds: float, record: Record) -> None:
    """Run one item in a process of its own and note what it sends."""
    entry = record.entries[item.name] = _entry(RUNNING)
    record.save()
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        source, sink = PROCESSES.Pipe(duplex=False)
        child = PROCESSES.Process(target=_work, args=(sink, item, argument, log.name))
        try:
            child.start()
            sink.close()
            while entry["state"] == RUNNING:
                if not source.poll(max(began + seconds - time.monotonic(), 0.0)):
                    entry |= {"state": TIMED_OUT, "error": f"not done within {seconds:.0f} s"}
                    # It notes in its log where it is.
                    with suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGUSR1)
                    break
                match source.recv():
                    case Result() as result:
                        entry["results"].append(asdict(result))
                        say(
                            f"  {result.what}: "
                            f"{result.measured}{result.aim and f' (aim {result.aim})'}"
                        )
                    case str() as error:
                        entry |= {"state": FAILED, "error": error}
                    case None:
                        entry["state"] = DONE
                entry["seconds"] = time.monotonic() - began
                record.save()
        except EOFError:
            # The pipe ends with the process: no word of an error.
            entry["state"] = FAILED
        finally:
            _end(child)
        if entry["state"] == FAILED and not entry["error"]:
            entry["error"] = _ending(child.exitcode)
        entry["log"] = list(deque((line.rstrip() for line in log), LOG_LINES))
    entry["seconds"] = time.monotonic() - began
    record.save()


def _end(child: multiprocessing.process.BaseProcess) -> None:
    """End a process and all that it started.

    One that hangs in a driver may stay; the next item begins all the same.
    """
    if child.pid is None:
        return
    child.join(0.5)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.join(5.0)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended by itself, with exit code {code}"


def _work(sink: Connection, item: Item, argument: object, log: str) -> None:
    """The process of an item: results to the pipe, all output to the log."""
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    module, _, name = item.work.rpartition(".")
    try:
        for result in getattr(importlib.import_module(module), name)(argument, **item.arguments):
            sink.send(result)
    except Exception as error:
        sink.send(" ".join(f"{type(error).__name__}: {error}".split())[:400])
        raise
    sink.send(None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def say(line: str) -> None:
    """Print a line at once: a run may be cut off at any time."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def summary(record: Record) -> str:
    """One line that says what was learnt, missed and not reached."""
    judged = [result for result in record.results() if result["met"] is not None]
    missed = [result for result in judged if not result["met"]]
    kinds = {
        "learnt": [", ".join(record.named(DONE)) or "nothing"],
        "aims met": [f"{len(judged) - len(missed)} of {len(judged)}"],
        "missed": [
            f"{result['what']}: {result['measured']}, aim {result['aim']}" for result in missed
        ],
        "failed": [
            f"{name} ({record.entries[name]['error']})" for name in record.named(FAILED, TIMED_OUT)
        ],
        "not ended": record.named(RUNNING, INTERRUPTED),
        "not reached": record.named(NOT_REACHED),
    }
    return "; ".join(f"{kind}: {', '.join(said)}" for kind, said in kinds.items() if said)


def all_well(record: Record) -> bool:
    """Whether every item is done and no aim was missed."""
    return len(record.named(DONE)) == len(record.entries) and all(
        result["met"] is not False for result in record.results()
    )
