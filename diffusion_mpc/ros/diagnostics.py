"""Health of the planner node as a diagnostic message."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from diffusion_mpc.percentiles import percentiles
from diffusion_mpc.types import PlanStats

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

WINDOW = 500
"""Number of plans that the figures of planning time are about."""


class PlanFigures:
    """Figures of the last plans; plans come from one thread, and another one reads."""

    def __init__(self) -> None:
        """No plan yet."""
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._warm: deque[bool] = deque(maxlen=WINDOW)
        self._newest: PlanStats | None = None

    def add(self, stats: PlanStats) -> None:
        """Note a plan."""
        self._times.append(stats.plan_time)
        self._warm.append(stats.warm_start != "none")
        self._newest = stats

    def values(self) -> dict[str, object]:
        """Planning time of the last plans, and what is known of the newest one; empty before the first."""
        stats = self._newest
        if stats is None:
            return {}
        return {
            **{f"plan_ms_{name}": value for name, value in percentiles([1e3 * s for s in self._times], (50, 95, 99)).items()},
            "iterations": stats.iterations,
            "warm_started_share": sum(self._warm) / len(self._warm),
            "effective_sample_size": stats.effective_sample_size,
            "noise": stats.noise,
            "infeasible_share": stats.infeasible_share,
            "violation": stats.violation,
            "cost": stats.cost,
            **{f"cost.{name}": value for name, value in stats.term_costs.items()},
        }


@dataclass
class Health:
    """What went well and what did not, and what to make of it.

    Attributes:
        plans, misses, rejected: since the node was configured: plans, plans that came late, messages rejected
        last_rejection: why a message was rejected last
        rejected_since: why one was rejected after the last good state
        infeasible: why there is no plan newer than the one that stands
        level: at the last report
    """

    plans: int = 0
    misses: int = 0
    rejected: int = 0
    last_rejection: str = ""
    rejected_since: str = ""
    infeasible: str = ""
    level: bytes = OK

    def reject(self, reason: str) -> None:
        """A message was rejected."""
        self.rejected += 1
        self.last_rejection = self.rejected_since = reason

    def values(self) -> dict[str, object]:
        """What there is to count."""
        counts: dict[str, object] = {"plans": self.plans, "misses": self.misses, "rejected": self.rejected}
        return counts | ({"last_rejection": self.last_rejection} if self.last_rejection else {})

    def judge(self, live: bool, waiting: Sequence[str] | None, lost: str, heard: bool, outdated: str) -> tuple[bytes, str]:
        """Level and text of a report.

        Args:
            live: whether the node is active
            waiting: what it waits for before it can control; None: nothing
            lost: why control is lost; empty while it is not
            heard: whether anybody listens to its commands
            outdated: why the planner is not what the parameters ask for; empty where it is
        """
        rejected = f"; last message rejected: {self.rejected_since}" if self.rejected_since else ""
        because = f" ({self.infeasible})" if self.infeasible else ""
        if not live:
            return OK, "inactive"
        if waiting is not None:
            return WARN, f"waiting for {', '.join(waiting) or 'a state'}{rejected}"
        if lost:
            return ERROR, f"safe command: {lost}{because}{rejected}"
        if because:
            return WARN, f"previous plan stands{because}"
        if not heard:
            return WARN, "nobody listens to joint_command"
        if outdated:
            return WARN, outdated
        return OK, "following the plan"

    def reported(self, level: bytes, text: str, logger: Any) -> None:  # noqa: ANN401  (rclpy's loggers have no public type)
        """Note the level of a report; a new one is logged."""
        if level != self.level:
            # rclpy ties a severity to a line of code.
            if level == ERROR:
                logger.error(text)
            elif level == WARN:
                logger.warning(text)
            else:
                logger.info(text)
        self.level = level


def diagnostic(stamp: Time, name: str, level: bytes, text: str, values: Mapping[str, object]) -> DiagnosticArray:
    """One status, with key-value pairs."""
    status = DiagnosticStatus(level=level, name=name, message=text, hardware_id="diffusion_mpc")
    status.values = [
        KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value)) for key, value in values.items()
    ]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
