"""A simulation from beginning to end: start the nodes, show how it goes, stop them, evaluate what was recorded."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import FrameType

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.text import Text

from diffusion_mpc.evaluation.report import write_report
from diffusion_mpc.message_fields import to_seconds
from diffusion_mpc.msg import PlannerStats
from diffusion_mpc.percentiles import percentiles
from diffusion_mpc.bringup.description import Options, isolation, processes
from diffusion_mpc.bringup.processes import Running

REFRESH = 0.5
START_TIMEOUT = 180.0


class SimulationError(ValueError):
    """A node ended too early, or nothing moved; the message says which and why."""


def new_run_folder() -> Path:
    """`runs/<time>` in the current folder; not created yet."""
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def simulate(
    task: str,
    duration: float,
    folder: Path | None,
    video: bool,
    lockstep: bool = False,
    headless: bool = True,
    params_file: str = "",
    settings: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Run a task until its duration is over or the user interrupts, and evaluate it.

    Args:
        task: name or file of the task
        duration: simulated time, s; 0: until interrupted
        folder: new folder for bag, report and plot; None: nothing is kept
        video: render a video into the folder
        lockstep: the simulation waits for every command
        headless: without a viewer window
        params_file: ROS parameter file; empty: none
        settings: parameters by name, as texts

    Returns:
        the figures of `evaluation.metrics.summarise`

    Raises:
        ConfigError, TaskError: the description of what to run is wrong
        SimulationError: a node failed
    """
    if folder is not None and folder.exists():
        raise SimulationError(f"'{folder}' exists already; name a new folder")
    with tempfile.TemporaryDirectory(prefix="diffusion_mpc_") as scratch:
        where = folder if folder is not None else Path(scratch)
        bag = where / "bag"
        options = Options(
            task,
            params_file,
            headless=headless,
            record=str(bag.absolute()),
            lockstep=lockstep,
            duration=duration,
            settings=settings or {},
        )
        started = processes(options)
        logs = where / "nodes"
        logs.mkdir(parents=True)
        os.environ.update(isolation())
        with Running(started, logs) as running:
            # From here on this process only looks on; it must not take time from a planner that shares the machine.
            os.nice(15)
            _watch(running, duration)
        report = write_report(bag, task, where, video=video, plot=folder is not None)
        sys.stdout.write(report.text() if folder is not None else report.table())
        return report.summary


def _watch(running: Running, duration: float) -> None:
    """Show a status line until the simulation has ended or the user interrupts."""
    stop = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    status = Status(duration)
    began = time.monotonic()
    try:
        with Live(status.text(), console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            while not stop:
                ended = running.ended()
                for name, code in ended.items():
                    if code != 0 or name == "planner":
                        raise SimulationError(f"the {name} node ended with exit code {code}: {running.log(name)}")
                if "sim" in ended:
                    break
                if not status.plans and time.monotonic() - began > START_TIMEOUT:
                    raise SimulationError(f"no plan came within {START_TIMEOUT:g} s; the nodes' logs are in {running.folder}")
                status.update()
                live.update(status.text(), refresh=True)
                time.sleep(REFRESH)
    finally:
        status.close()
        rclpy.try_shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


class Status:
    """Figures of the last seconds, from the planner's statistics and the robot's odometry."""

    def __init__(self, duration: float) -> None:
        """Subscribe."""
        self._duration = duration
        self._node = rclpy.create_node("diffusion_mpc_status")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        qos = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._stats: deque[PlannerStats] = deque(maxlen=250)
        self._speeds: deque[float] = deque(maxlen=50)
        self._node.create_subscription(PlannerStats, "planner/stats", self._on_stats, qos)
        self._node.create_subscription(Odometry, "odom", self._on_odom, QoSProfile(depth=1, reliability=qos.reliability))
        self.plans = 0
        self._first = 0.0

    def update(self) -> None:
        """Take what has arrived."""
        for _ in range(400):
            before = (self.plans, len(self._speeds))
            self._executor.spin_once(timeout_sec=0.0)
            if before == (self.plans, len(self._speeds)):
                break

    def close(self) -> None:
        """Unsubscribe."""
        self._executor.shutdown()
        self._node.destroy_node()

    def text(self) -> Text:
        """The status line."""
        if not self._stats:
            return Text("starting the nodes ...")
        stamps = np.array([to_seconds(s.header.stamp) for s in self._stats])
        rate = (len(stamps) - 1) / max(stamps[-1] - stamps[0], 1e-6)
        p99 = percentiles([1e3 * s.plan_time for s in self._stats], (99,))["p99"]
        newest = self._stats[-1]
        elapsed = stamps[-1] - self._first
        total = f" / {self._duration:g}" if self._duration else ""
        parts = [
            f"{newest.algorithm} on {newest.backend}",
            f"{elapsed:5.1f}{total} s",
            f"{rate:5.1f} plans/s",
            f"p99 {p99:5.1f} ms",
            f"misses {newest.deadline_misses}",
            f"cost {np.mean([s.cost for s in self._stats]):.3f}",
        ]
        if self._speeds:
            parts.insert(2, f"{np.mean(self._speeds):5.2f} m/s (asked {newest.command.linear.x:.2f})")
        return Text("  ".join(parts))

    def _on_stats(self, message: PlannerStats) -> None:
        if not self._stats:
            self._first = to_seconds(message.header.stamp)
        self._stats.append(message)
        self.plans += 1

    def _on_odom(self, message: Odometry) -> None:
        self._speeds.append(message.twist.twist.linear.x)
