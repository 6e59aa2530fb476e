"""Trace events of a node and its threads, written where `DIFFUSION_MPC_TRACE` asks for them.

The file holds an event a line, in the JSON format of Chrome's trace viewer, which Perfetto
(ui.perfetto.dev) reads as well. Linux tells how long a thread computed and how long it waited for a
core (`/proc/PID/task/TID/schedstat`, Documentation/scheduler/ sched-stats.rst).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

VARIABLE = "DIFFUSION_MPC_TRACE"
"""Environment variable that names an existing folder for the traces, one for each process."""


class Trace:
    """Trace of this process. Any thread may record."""

    def __init__(self, folder: Path) -> None:
        """Open a file, named after the process, in a folder."""
        # A few thousand events at a time, in a write that takes less than a millisecond.
        self._file = (folder / f"{os.getpid()}.json").open("wb", buffering=1 << 20)
        self._named: set[int] = set()
        self._schedstats: dict[int, int] = {}
        self._collection = 0.0
        gc.callbacks.append(self._on_collection)

    @contextmanager
    def span(self, name: str, usage: bool) -> Iterator[dict[str, Any]]:
        """See the function `span`."""
        about: dict[str, Any] = {}
        before = self._used() if usage else None
        began = time.monotonic()
        try:
            yield about
        finally:
            ended = time.monotonic()
            if before is not None:
                about |= self._since(before)
            self._write(name, began, ended, about)

    def name(self, name: str) -> None:
        """Name the process."""
        self._append(
            {"ph": "M", "name": "process_name", "pid": os.getpid(), "args": {"name": name}}
        )

    def flush(self) -> None:
        """Write what is left."""
        self._file.flush()

    def close(self) -> None:
        """Write what is left, and record no more."""
        gc.callbacks.remove(self._on_collection)
        self._file.close()

    def _write(self, name: str, began: float, ended: float, about: dict[str, Any]) -> None:
        place = {"pid": os.getpid(), "tid": threading.get_native_id()}
        if place["tid"] not in self._named:
            self._named.add(place["tid"])
            self._append(
                {
                    "ph": "M",
                    "name": "thread_name",
                    **place,
                    "args": {"name": threading.current_thread().name},
                }
            )
        self._append(
            {
                "ph": "X",
                "name": name,
                **place,
                "ts": began * 1e6,
                "dur": (ended - began) * 1e6,
                "args": about,
            }
        )

    def _append(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event).encode() + b",\n")

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collection = time.monotonic()
        else:
            self._write(
                "collect", self._collection, time.monotonic(), {"generation": info["generation"]}
            )

    def _used(self) -> tuple[int, dict[int, tuple[int, int]]]:
        """Page faults; time on a core and waiting for one, ns, of every thread."""
        threads = set(map(int, os.listdir("/proc/self/task")))
        for ended in self._schedstats.keys() - threads:
            os.close(self._schedstats.pop(ended))
        for new in threads - self._schedstats.keys():
            self._schedstats[new] = os.open(f"/proc/self/task/{new}/schedstat", os.O_RDONLY)
        faults = resource.getrusage(resource.RUSAGE_SELF)
        return faults.ru_minflt + faults.ru_majflt, {
            thread: _schedstat(file) for thread, file in self._schedstats.items()
        }

    def _since(self, before: tuple[int, dict[int, tuple[int, int]]]) -> dict[str, Any]:
        """Use since then, by the calling thread and by the busiest of the others."""
        faults, threads = self._used()
        used = {
            t: (now[0] - then[0], now[1] - then[1])
            for t, now in threads.items()
            for then in [before[1].get(t, (0, 0))]
        }
        own = used.pop(threading.get_native_id())
        other = max(used.values(), key=sum, default=(0, 0))
        names = ("cpu_ms", "wait_ms", "other_cpu_ms", "other_wait_ms")
        return {
            "faults": faults - before[0],
            **{name: ns * 1e-6 for name, ns in zip(names, own + other, strict=True)},
        }


_trace = Trace(Path(os.environ[VARIABLE])) if VARIABLE in os.environ else None


def span(name: str, usage: bool = False) -> AbstractContextManager[dict[str, Any]]:
    """Context manager that records what its thread does within, where there is a trace.

    Args:
        name: what that is
        usage: whether to record as well what threads wait for and page faults, for about 0.1 ms

    Returns:
        context manager of a dictionary for more about it, which may be filled until its end
    """
    return _trace.span(name, usage) if _trace else nullcontext({})


def begin(name: str) -> None:
    """Name this process in the trace, where there is one."""
    if _trace:
        _trace.name(name)


def end() -> None:
    """Write the rest of the trace, where there is one."""
    if _trace:
        _trace.close()


def _schedstat(file: int) -> tuple[int, int]:
    cpu, wait, _ = os.pread(file, 64, 0).split()
    return int(cpu), int(wait)
