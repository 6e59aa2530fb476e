"""Pace of a session: whether plans keep up with the rate that is asked for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SPAN = 5.0
"""Time that the pace is judged by, s."""


@dataclass(frozen=True)
class PaceFigures:
    """Figures of the last `SPAN` seconds.

    Attributes:
        plans_per_s, states_per_s: rates, 1/s
        plans, misses: number of plans, and of those that came late
        iterations: mean number of denoising steps of a plan
    """

    plans_per_s: float
    states_per_s: float
    plans: int
    misses: int
    iterations: float

    def values(self) -> dict[str, object]:
        """The figures by their names in diagnostics."""
        return {
            "plans_per_s": self.plans_per_s,
            "states_per_s": self.states_per_s,
            "recent_misses": self.misses,
            "recent_iterations": self.iterations,
        }

    def too_slow(self, rate: float, iterations: int) -> str:
        """In what plans fall short, and what to change; empty where they do not.

        Args:
            rate: plans asked for, 1/s; where states come more slowly, as many as states
            iterations: denoising steps asked for
        """
        short = []
        if self.plans_per_s < 0.8 * min(rate, self.states_per_s):
            short.append(f"{self.plans_per_s:.3g} of {rate:.3g} plans a second")
        if self.misses > 0.2 * self.plans:
            short.append(f"{self.misses} of {self.plans} plans late")
        if self.plans and self.iterations < 0.6 * iterations:
            short.append(f"{self.iterations:.2g} of {iterations} denoising steps")
        if not short:
            return ""
        return (
            f"too slow: {', '.join(short)}; lower planner.num_samples, planner.horizon_steps, "
            "planner.iterations or planner.rate"
        )

    def slow_states(self, rate: float) -> str:
        """That states come more slowly than plans are asked for; empty where they do not."""
        if self.states_per_s > 0.9 * rate:
            return ""
        return f"{self.states_per_s:.3g} states a second, planner.rate is {rate:.3g} Hz"


class Pace:
    """Counts of the last seconds; plans come from one thread, states and readers from another.

    Times are on a steady clock, s.
    """

    def __init__(self) -> None:
        """No plan yet."""
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was before is not judged, nor is what comes in the first `SPAN`."""
        self._began: float | None = None
        self._states: deque[float] = deque()
        self._plans: deque[tuple[float, bool, int]] = deque()

    def state(self, now: float) -> None:
        """A state has come."""
        self._states.append(now)
        while self._states[0] < now - SPAN:
            self._states.popleft()

    def plan(self, now: float, missed: bool, iterations: int) -> None:
        """A plan has been made."""
        if self._began is None:
            self._began = now
        self._plans.append((now, missed, iterations))
        while self._plans[0][0] < now - SPAN:
            self._plans.popleft()

    def figures(self, now: float) -> PaceFigures | None:
        """The figures; None in the first seconds after the first plan."""
        if self._began is None or now - self._began < SPAN:
            return None
        plans = [plan for plan in list(self._plans) if plan[0] >= now - SPAN]
        return PaceFigures(
            plans_per_s=len(plans) / SPAN,
            states_per_s=sum(time >= now - SPAN for time in list(self._states)) / SPAN,
            plans=len(plans),
            misses=sum(missed for _, missed, _ in plans),
            iterations=sum(steps for _, _, steps in plans) / max(len(plans), 1),
        )
