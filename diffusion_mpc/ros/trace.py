"""What threads did and what they waited for, event by event; kept in memory while a node runs, written when it ends.

The kernel tells, thread by thread, how long a thread computed and how long it was ready to and waited for a core
(`/proc/PID/task/TID/schedstat`, see Documentation/scheduler/sched-stats.rst of Linux). An event costs a few microseconds.
"""

from __future__ import annotations

import gc
import os
import resource
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from diffusion_mpc.ros.loops import Timing
from diffusion_mpc.types import Array, Plan

CAPACITY = 2**19
"""Events that are kept, the newest; about ten minutes at 100 plans a second."""

FIELDS = ("kind", "thread", "begin", "end", "cpu", "wait", "switches", "preempted", "minor", "major", "stamp")
"""Fields of every event: number of its kind and of its thread; begin and end on the steady clock, time on a core and time waiting for
one (s); voluntary and involuntary switches to another thread; minor and major page faults; stamp (s) of the state it is about."""

DETAILS: dict[str, tuple[str, ...]] = {
    # Taken by the simulation's physics, and from the stamp to the publication.
    "state": ("age",),
    "command": (),
    "arrival": ("age",),
    # The other threads, of which those that roll out have most to do: the one that was busy or waiting for a core longest.
    "plan": ("rollout_cpu", "rollout_wait", "process_minor", "process_major"),
    # Times before the end of the plan, s.
    "outcome": ("since_arrival", "since_begin", "since_grid", "lead", "iterations", "late"),
    "step": (),
    "prepare": (),
    "publish": (),
    "collect": (),
    "physics": (),
}
"""Kinds of events, and the numbers that they have besides `FIELDS`."""

KINDS = tuple(DETAILS)
_WIDTH = len(FIELDS) + max(map(len, DETAILS.values()))
_ROW = struct.Struct(f"{_WIDTH}d")

Usage = tuple[float, float, int, int, int, int]


class Untraced:
    """Takes the place of a trace where none is wanted."""

    def span(self, kind: str, stamp: float = np.nan) -> AbstractContextManager[Any]:
        """See `Trace.span`."""
        return nullcontext()

    def note(self, kind: str, begin: float, end: float, stamp: float = np.nan, details: Sequence[float] = ()) -> None:
        """See `Trace.note`."""

    def write(self) -> None:
        """See `Trace.write`."""


class Trace(Untraced):
    """Events of one process. Any thread may record."""

    def __init__(self, file: Path) -> None:
        """Reserve memory.

        Args:
            file: where `write` puts the events
        """
        self._file = file
        # Filled, so that no event has to wait for the page that it is written to.
        self._rows = np.full((CAPACITY, _WIDTH), np.nan)
        self._memory = memoryview(self._rows).cast("B")
        self._count = 0
        self._lock = threading.Lock()
        self._mine = threading.local()
        self._names: dict[int, str] = {}
        self._others: list[int] = []
        self._collecting: Span | None = None
        gc.callbacks.append(self._on_collection)

    def span(self, kind: str, stamp: float = np.nan) -> Span:
        """Context manager that records what its thread does within.

        Args:
            kind: one of `KINDS`
            stamp: stamp of the state it is about, s
        """
        return Span(self, kind, stamp)

    def note(
        self,
        kind: str,
        begin: float,
        end: float,
        stamp: float = np.nan,
        details: Sequence[float] = (),
        usage: Usage = (0.0, 0.0, 0, 0, 0, 0),
    ) -> None:
        """Record an event of the calling thread.

        Args:
            kind: one of `KINDS`
            begin: its begin on the steady clock, s
            end: its end, s
            stamp: stamp of the state it is about, s
            details: numbers as in `DETAILS`
            usage: fields from `cpu` to `major`
        """
        padding = (np.nan,) * (_WIDTH - len(FIELDS) - len(details))
        row = (KINDS.index(kind), threading.get_native_id(), begin, end, *usage, stamp, *details, *padding)
        with self._lock:
            _ROW.pack_into(self._memory, self._count % CAPACITY * _ROW.size, *row)
            self._count += 1

    def write(self) -> None:
        """Write the events in the order they ended, as a NumPy file `events` (n, fields) and `threads` (ids and names)."""
        gc.callbacks.remove(self._on_collection)
        split = self._count % CAPACITY
        rows = np.concatenate((self._rows[split:], self._rows[:split])) if self._count > CAPACITY else self._rows[: self._count]
        np.savez(self._file, events=rows, threads=list(self._names), names=list(self._names.values()), pid=os.getpid())

    def usage(self) -> Usage:
        """What the calling thread has used so far; fields from `cpu` to `major`."""
        if not hasattr(self._mine, "file"):
            self._names[threading.get_native_id()] = threading.current_thread().name
            self._mine.file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        cpu, wait = _schedstat(self._mine.file)
        used = resource.getrusage(resource.RUSAGE_THREAD)
        return cpu, wait, used.ru_nvcsw, used.ru_nivcsw, used.ru_minflt, used.ru_majflt

    def others(self) -> Array:
        """(threads, 2) time on a core and time waiting for one (s), of all threads but the calling one that there were at first."""
        if not self._others:
            names = [name for name in os.listdir("/proc/self/task") if int(name) != threading.get_native_id()]
            self._others = [os.open(f"/proc/self/task/{name}/schedstat", os.O_RDONLY) for name in names]
        return np.array([_schedstat(file) for file in self._others])

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = self.span("collect").__enter__()
        elif self._collecting is not None:
            self._collecting.__exit__(None, None, None)
            self._collecting = None


class Span:
    """See `Trace.span`."""

    def __init__(self, trace: Trace, kind: str, stamp: float) -> None:
        """Of a trace."""
        self._trace, self._kind, self._stamp = trace, kind, stamp

    def __enter__(self) -> Span:
        """Begin."""
        if self._kind == "plan":
            self._process = resource.getrusage(resource.RUSAGE_SELF)
            self._others = self._trace.others()
        self._before = self._trace.usage()
        self._begin = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        """Record."""
        end, after = time.monotonic(), self._trace.usage()
        usage: Any = tuple(b - a for a, b in zip(self._before, after, strict=True))
        self._trace.note(self._kind, self._begin, end, self._stamp, self._details(), usage)

    def _details(self) -> tuple[float, ...]:
        if self._kind != "plan":
            return ()
        used = self._trace.others() - self._others
        slowest = used[used.sum(axis=1).argmax()].tolist()
        process = resource.getrusage(resource.RUSAGE_SELF)
        return (*slowest, process.ru_minflt - self._process.ru_minflt, process.ru_majflt - self._process.ru_majflt)


def note_outcome(trace: Untraced, plan: Plan, timing: Timing, now: float, late: bool) -> None:
    """Record a plan's denoising steps and its timing.

    Args:
        trace: where
        plan: the plan
        timing: its times
        now: time it was ready at, on the clock of `timing`, s
        late: whether its first command was due before
    """
    end, stats = time.monotonic(), plan.stats
    begin = end - (now - timing.begin)
    details = (now - timing.arrival, now - timing.begin, now - timing.grid, timing.due - timing.grid, stats.iterations, late)
    trace.note("outcome", begin, end, plan.stamp, details)
    step = end - stats.plan_time
    for taken in stats.step_times:
        trace.note("step", step, step + taken, plan.stamp)
        step += taken


def make_trace(file: str) -> Untraced:
    """A trace that is written to `file`; none where that is empty."""
    return Trace(Path(file)) if file else Untraced()


def _schedstat(file: int) -> tuple[float, float]:
    cpu, wait, _ = os.pread(file, 64, 0).split()
    return int(cpu) * 1e-9, int(wait) * 1e-9
