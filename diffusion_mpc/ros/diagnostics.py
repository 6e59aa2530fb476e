"""Health of the planner node as a diagnostic message."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from diffusion_mpc.types import PlanStats

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

WINDOW = 500
"""Number of plans that the figures of planning time are about."""


class PlanFigures:
    """Figures of the last plans; plans come from one thread, and another one reads."""

    def __init__(self) -> None:
        """No plan yet."""
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._newest: PlanStats | None = None

    def add(self, stats: PlanStats) -> None:
        """Note a plan."""
        self._times.append(stats.plan_time)
        self._newest = stats

    def values(self) -> dict[str, object]:
        """Planning time of the last plans, and what is known of the newest one; empty before the first."""
        stats = self._newest
        if stats is None:
            return {}
        p50, p95, p99 = np.percentile(tuple(self._times), (50, 95, 99)) * 1e3
        return {
            "plan_ms_p50": float(p50),
            "plan_ms_p95": float(p95),
            "plan_ms_p99": float(p99),
            "iterations": stats.iterations,
            "effective_sample_size": stats.effective_sample_size,
            "noise": stats.noise,
            "infeasible_share": stats.infeasible_share,
            "violation": stats.violation,
            "cost": stats.cost,
            **{f"cost.{name}": value for name, value in stats.term_costs.items()},
        }


def diagnostic(stamp: Time, name: str, level: bytes, text: str, values: Mapping[str, object]) -> DiagnosticArray:
    """One status, with key-value pairs."""
    status = DiagnosticStatus(level=level, name=name, message=text, hardware_id="diffusion_mpc")
    status.values = [
        KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value)) for key, value in values.items()
    ]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
