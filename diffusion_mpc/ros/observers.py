"""Onlookers of a run, which only subscribe.

The status line of a simulation, and the figures of a long run.
"""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rich.text import Text
from std_msgs.msg import String

from diffusion_mpc.message_fields import to_seconds
from diffusion_mpc.msg import JointCommand, PlannerStats
from diffusion_mpc.percentiles import percentiles
from diffusion_mpc.ros.messages.run import TASK


class Observer:
    """A node of its own while the block lasts; signals stay the caller's."""

    def __init__(self, name: str) -> None:
        """Take the node's name."""
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.plans = 0

    def __enter__(self) -> Any:  # noqa: ANN401
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()


class Status(Observer):
    """Figures of the last seconds, from the planner's statistics and the robot's odometry."""

    def __init__(self, duration: float) -> None:
        """Subscribe.

        `alarms` are the planner's reasons for which control was lost and that nobody has told yet;
        `chosen_task` is the task that people have asked for on the page, empty: none.
        """
        super().__init__("diffusion_mpc_status")
        self._duration = duration
        qos = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._stats: deque[PlannerStats] = deque(maxlen=250)
        self._speeds: deque[float] = deque(maxlen=50)
        self._node.create_subscription(PlannerStats, "planner/stats", self._on_stats, qos)
        self._node.create_subscription(
            Odometry, "odom", self._on_odom, QoSProfile(depth=1, reliability=qos.reliability)
        )
        self._node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=10)
        )
        self._first = 0.0
        self._says, self._level = "", b"\x00"
        self.alarms: deque[str] = deque()
        self.chosen_task = ""
        self._node.create_subscription(String, f"viewer/{TASK}", self._on_task, 1)

    def update(self) -> None:
        """Take what has arrived."""
        for _ in range(400):
            before = (self.plans, len(self._speeds), self._says, self.chosen_task)
            self._executor.spin_once(timeout_sec=0.0)
            if before == (self.plans, len(self._speeds), self._says, self.chosen_task):
                break

    @property
    def waiting(self) -> str:
        """Reason for which there is no plan yet."""
        return (
            f"no plan yet; the planner says: {self._says}"
            if self._says
            else "starting the nodes ..."
        )

    def text(self) -> Text:
        """The status line."""
        if not self._stats:
            return Text(self.waiting)
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
            parts.insert(
                2, f"{np.mean(self._speeds):5.2f} m/s (asked {newest.command.linear.x:.2f})"
            )
        return Text("  ".join(parts))

    def _on_stats(self, message: PlannerStats) -> None:
        if not self._stats:
            self._first = to_seconds(message.header.stamp)
        self._stats.append(message)
        self.plans += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("planner"):
                # That control is lost is told once, not with every try to get it back.
                if status.level == DiagnosticStatus.ERROR != self._level and self.plans:
                    self.alarms.append(status.message)
                self._says, self._level = status.message, status.level

    def _on_task(self, message: String) -> None:
        self.chosen_task = message.data

    def _on_odom(self, message: Odometry) -> None:
        self._speeds.append(message.twist.twist.linear.x)


class SoakObserver(Observer):
    """Takes down plans and commands."""

    def __init__(self) -> None:
        """Subscribe."""
        super().__init__("diffusion_mpc_soak")
        qos = QoSProfile(depth=500, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._node.create_subscription(PlannerStats, "planner/stats", self._on_stats, qos)
        self._node.create_subscription(JointCommand, "joint_command", self._on_command, qos)
        self._plan_times: list[float] = []
        self._delays: list[float] = []
        self._misses = self._safe = self._safe_since = 0
        self._before = (0, 0, 0)

    def spin(self, seconds: float) -> None:
        """Take what arrives."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

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
        return {
            "plans": self.plans - plans,
            "deadline_misses": self._misses - misses,
            "state_to_command_ms": delays,
        }

    def _on_stats(self, message: PlannerStats) -> None:
        # The planner's own counts: what is lost on the way here is not lost to them.
        self.plans, self._misses = message.plan_id, message.deadline_misses
        self._plan_times.append(message.plan_time)
        # What follows the last plan is the end: the simulation is gone, and the planner does what
        # it should without states.
        self._safe, self._safe_since = self._safe + self._safe_since, 0

    def _on_command(self, message: JointCommand) -> None:
        self._safe_since += message.safe
        if not message.safe:
            self._delays.append(to_seconds(message.header.stamp) - to_seconds(message.state_stamp))


def _percentiles(seconds: list[float]) -> dict[str, float] | None:
    found = percentiles(seconds, (50, 99), largest=True)
    return {
        name: round(1e3 * value, 3) for name, value in found.items() if value is not None
    } or None
