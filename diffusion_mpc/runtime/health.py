"""Health of a session: what is counted, and what level of alarm it makes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from diffusion_mpc.percentiles import percentiles
from diffusion_mpc.types import PlanStats, PolicyStats

WINDOW = 500
"""Number of plans that the figures of planning time are about."""


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


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
        """Planning time of the last plans, and what is known of the newest one.

        Empty before the first.
        """
        stats = self._newest
        if stats is None:
            return {}
        return {
            **{
                f"plan_ms_{name}": value
                for name, value in percentiles([1e3 * s for s in self._times], (50, 95, 99)).items()
            },
            "iterations": stats.iterations,
            "warm_started_fraction": sum(self._warm) / len(self._warm),
            "effective_sample_size": stats.effective_sample_size,
            "noise": stats.noise,
            "infeasible_fraction": stats.infeasible_fraction,
            "violation": stats.violation,
            "cost": stats.cost,
            **{f"cost.{name}": value for name, value in stats.term_costs.items()},
            **(_policy_values(stats.policy) if stats.policy is not None else {}),
        }


def _policy_values(stats: PolicyStats) -> dict[str, object]:
    return {
        "policy_rows": stats.rows,
        "policy_weight": stats.weight,
        "policy_cost": stats.cost,
        "planner_cost": stats.planner_cost,
        "policy_ms": 1e3 * stats.time,
        "policy_age_ms": 1e3 * stats.age,
    }


@dataclass
class Health:
    """Successes and failures of a session, and the level of alarm that they make.

    Attributes:
        plans, misses, rejected: since the session was made: plans, plans that came late, messages
            rejected
        last_rejection: why a message was rejected last
        rejected_since: why one was rejected after the last good state
        infeasible: why there is no plan newer than the one that stands
        policy_failures: plans that were made without the policy, for it failed
        policy_failure: why it failed at the newest plan; empty where it did not
    """

    plans: int = 0
    misses: int = 0
    rejected: int = 0
    last_rejection: str = ""
    rejected_since: str = ""
    infeasible: str = ""
    policy_failures: int = 0
    policy_failure: str = ""

    def reject(self, reason: str) -> None:
        """A message was rejected."""
        self.rejected += 1
        self.last_rejection = self.rejected_since = reason

    def note_policy(self, failure: str) -> str:
        """Note whether the policy failed at a plan.

        Args:
            failure: why; empty where it did not

        Returns:
            text of a warning, where a failure begins; else empty
        """
        before, self.policy_failure = self.policy_failure, failure
        self.policy_failures += bool(failure)
        return f"planning without the policy: {failure}" if failure and not before else ""

    def values(self) -> dict[str, object]:
        """The counters."""
        counts: dict[str, object] = {
            "plans": self.plans,
            "misses": self.misses,
            "rejected": self.rejected,
        }
        if self.policy_failures:
            counts["policy_failures"] = self.policy_failures
        return counts | ({"last_rejection": self.last_rejection} if self.last_rejection else {})

    def judge(
        self,
        live: bool,
        waiting: Sequence[str] | None,
        lost: str,
        warnings: Sequence[str],
        remark: str,
    ) -> tuple[Level, str]:
        """Level and text of a report.

        Args:
            live: whether the session controls
            waiting: what it waits for before it can control; None: nothing
            lost: why control is lost; empty while it is not
            warnings: what is wrong beside that; empty texts do not count
            remark: what is worth knowing where nothing is wrong; may be empty
        """
        rejected = f"; last message rejected: {self.rejected_since}" if self.rejected_since else ""
        because = f" ({self.infeasible})" if self.infeasible else ""
        if not live:
            return Level.OK, "inactive"
        if waiting is not None:
            return Level.WARN, f"waiting for {', '.join(waiting) or 'a state'}{rejected}"
        if lost:
            return Level.ERROR, f"safe command: {lost}{because}{rejected}"
        if because:
            return Level.WARN, f"previous plan stands{because}"
        if wrong := "; ".join(filter(None, warnings)):
            return Level.WARN, wrong
        return Level.OK, "; ".join(filter(None, ("following the plan", remark)))
