"""A long run in real time: does the planner keep its time, and does its memory stay flat?"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy

from diffusion_mpc.benchmark.lateness import compare, gather
from diffusion_mpc.message_fields import to_seconds
from diffusion_mpc.msg import JointCommand, PlannerStats
from diffusion_mpc.percentiles import percentiles
from diffusion_mpc.ros.bringup import Options, isolation, processes
from diffusion_mpc.ros.processes import Running
from diffusion_mpc.ros.simulate import START_TIMEOUT, SimulationError

INTERVAL = 60.0
"""Time between two looks at the planner's memory, s."""


def soak(
    task: str, duration: float, settings: Mapping[str, str], progress: Callable[[float], None], trace: Path | None = None
) -> dict[str, Any]:
    """Run a task in simulation and look on; an interrupt ends it early.

    Args:
        task: name or file of the task
        duration: time to run, s
        settings: parameters by name, as texts
        progress: called with the time (s) that has passed
        trace: file for the trace of all nodes; None: nothing is traced

    Returns:
        figures over the whole run, rows for every interval, and of a trace what goes with late plans

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
        # From here on this process only looks on; it must not take time from a planner that shares the machine.
        os.nice(15)
        rclpy.init()
        observer = Observer()
        try:
            complete, rows = _watch(running, observer, duration, progress)
        finally:
            observer.close()
            rclpy.try_shutdown()
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
    running: Running, observer: Observer, duration: float, progress: Callable[[float], None]
) -> tuple[bool, list[dict[str, Any]]]:
    interval = min(INTERVAL, duration / 6.0)
    rows: list[dict[str, Any]] = []
    began = first = time.monotonic()
    try:
        while "sim" not in running.ended():
            for name, code in running.ended().items():
                raise SimulationError(f"the {name} node ended with exit code {code}: {running.log(name)}")
            observer.spin(0.5)
            now = time.monotonic()
            if not observer.plans:
                if now - began > START_TIMEOUT:
                    raise SimulationError(f"no plan came within {START_TIMEOUT:g} s: {running.log('planner')}")
                first = now
                continue
            progress(now - first)
            resident = running.resident("planner")
            if now - first >= interval * (len(rows) + 1) and resident:
                rows.append({"time_s": round(now - first, 1), "resident_mb": round(resident / 1e6, 2), **observer.lap()})
    except KeyboardInterrupt:
        return False, rows
    return True, rows


def _memory(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth of the resident memory since the first interval, which is warm-up, as a fraction."""
    if len(rows) < 2:
        return {"memory_growth": None}
    return {"memory_growth": max(row["resident_mb"] for row in rows[1:]) / rows[0]["resident_mb"] - 1.0}


class Observer:
    """Takes down plans and commands."""

    def __init__(self) -> None:
        """Subscribe."""
        self._node = rclpy.create_node("diffusion_mpc_soak")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        qos = QoSProfile(depth=500, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._node.create_subscription(PlannerStats, "planner/stats", self._on_stats, qos)
        self._node.create_subscription(JointCommand, "joint_command", self._on_command, qos)
        self._plan_times: list[float] = []
        self._delays: list[float] = []
        self.plans = self._misses = self._safe = self._safe_since = 0
        self._before = (0, 0, 0)

    def spin(self, seconds: float) -> None:
        """Take what arrives."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        """Unsubscribe."""
        self._executor.shutdown()
        self._node.destroy_node()

    def figures(self) -> dict[str, Any]:
        """Figures since the beginning; those that nothing is known of are None."""
        return {
            "plans": self.plans,
            "deadline_misses": self._misses,
            "deadline_miss_ratio": self._misses / self.plans if self.plans else None,
            "safe_commands": self._safe,
            "plan_ms": _percentiles(self._plan_times),
            "state_to_command_ms": _percentiles(self._delays),
        }

    def lap(self) -> dict[str, Any]:
        """Figures since the last call."""
        plans, misses, commands = self._before
        self._before = (self.plans, self._misses, len(self._delays))
        delays = _percentiles(self._delays[commands:])
        return {"plans": self.plans - plans, "deadline_misses": self._misses - misses, "state_to_command_ms": delays}

    def _on_stats(self, message: PlannerStats) -> None:
        # The planner's own counts: what is lost on the way here is not lost to them.
        self.plans, self._misses = message.plan_id, message.deadline_misses
        self._plan_times.append(message.plan_time)
        # What follows the last plan is the end: the simulation is gone, and the planner does what it should without states.
        self._safe, self._safe_since = self._safe + self._safe_since, 0

    def _on_command(self, message: JointCommand) -> None:
        self._safe_since += message.safe
        if not message.safe:
            self._delays.append(to_seconds(message.header.stamp) - to_seconds(message.state_stamp))


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    found = percentiles(seconds, (50, 99), largest=True)
    return {name: round(1e3 * value, 3) for name, value in found.items() if value is not None} or None
