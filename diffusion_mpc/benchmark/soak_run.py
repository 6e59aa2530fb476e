"""A long run in real time: does the planner keep its time, and does its memory stay flat?

Needs ROS 2.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusion_mpc.benchmark.lateness import compare, gather
from diffusion_mpc.bringup.description import Options, isolation, processes
from diffusion_mpc.bringup.simulate import START_TIMEOUT, SimulationError
from diffusion_mpc.node_processes import Running
from diffusion_mpc.ros.observers import SoakObserver

INTERVAL = 60.0
"""Time between two looks at the planner's memory, s."""


def soak(
    task: str,
    duration: float,
    settings: Mapping[str, str],
    progress: Callable[[float], None],
    trace: Path | None = None,
) -> dict[str, Any]:
    """Run a task in simulation and look on; an interrupt ends it early.

    Args:
        task: name or file of the task
        duration: time to run, s
        settings: parameters by name, as texts
        progress: called with the time (s) that has passed
        trace: file for the trace of all nodes; None: nothing is traced

    Returns:
        figures over the whole run, rows for every interval, and of a trace what goes with late
        plans

    Raises:
        ConfigError, TaskError: the description of what to run is wrong
        SimulationError: a node failed
    """
    started = processes(Options(task, duration=duration, settings=settings))
    os.environ.update(isolation())
    with (
        tempfile.TemporaryDirectory(prefix="diffusion_mpc_") as folder,
        Running(started, Path(folder), traced=trace is not None) as running,
    ):
        # From here on this process only looks on; it must not take time from a planner that shares
        # the machine.
        os.nice(15)
        with SoakObserver() as observer:
            complete, rows = _watch(running, observer, duration, progress)
        running.stop()
        lateness = {"lateness": compare(gather(Path(folder), trace))} if trace else {}
    return {
        "task": task,
        "duration_s": duration,
        "complete": complete,
        **observer.figures(),
        **_memory(rows),
        "rows": rows,
        **lateness,
    }


def _watch(
    running: Running, observer: SoakObserver, duration: float, progress: Callable[[float], None]
) -> tuple[bool, list[dict[str, Any]]]:
    interval = min(INTERVAL, duration / 6.0)
    rows: list[dict[str, Any]] = []
    began = first = time.monotonic()
    try:
        while "sim" not in running.ended():
            for name in running.ended():
                raise SimulationError(running.reason(name))
            observer.spin(0.5)
            now = time.monotonic()
            if not observer.plans:
                if now - began > START_TIMEOUT:
                    raise SimulationError(
                        f"no plan came within {START_TIMEOUT:g} s: {running.log('planner')}"
                    )
                first = now
                continue
            progress(now - first)
            resident = running.resident("planner")
            if now - first >= interval * (len(rows) + 1) and resident:
                rows.append(
                    {
                        "time_s": round(now - first, 1),
                        "resident_mb": round(resident / 1e6, 2),
                        **observer.lap(),
                    }
                )
    except KeyboardInterrupt:
        return False, rows
    return True, rows


def _memory(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth of the resident memory since the first interval, which is warm-up, as a fraction."""
    if len(rows) < 2:
        return {"memory_growth": None}
    return {
        "memory_growth": max(row["resident_mb"] for row in rows[1:]) / rows[0]["resident_mb"] - 1.0
    }
