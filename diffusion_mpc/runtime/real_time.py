"""A session on the clock.

Plans begin on an even grid, commands leave at an even rate, and what is late or old is noticed.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping

from diffusion_mpc.config import Value
from diffusion_mpc.runtime.loops import Arrival, CommandLoop, Lead, Pacer
from diffusion_mpc.runtime.output import Output, PlanTiming
from diffusion_mpc.runtime.scheduling import scheduled
from diffusion_mpc.runtime.session import PlannerSession
from diffusion_mpc.runtime.trace_events import span
from diffusion_mpc.types import Plan


class RealTimeSession(PlannerSession):
    """Plans no faster than the rate, from the newest state.

    A plan begins at a grid time `t`, and its first command is due at `t + lead`, see `Lead`;
    planning may take all of the period.
    """

    def __init__(
        self, values: Mapping[str, Value], output: Output, now: Callable[[], float]
    ) -> None:
        """See `PlannerSession`."""
        super().__init__(values, output, now)
        self._commands: CommandLoop | None = None

    def start(self) -> None:
        """Start planning and commanding (thread: messages)."""
        self._pacer, self._lead = Pacer(self._period), Lead(self._period)
        self._commands = CommandLoop(
            self.command_at, self._first_due, self._remaining, self._now, self._command_period
        )
        super().start()
        # Rollouts must not keep a command waiting.
        with scheduled(self.config.realtime, self._output.warn, above=1):
            self._commands.start()

    def stop(self) -> bool:
        """See `PlannerSession.stop` (thread: messages)."""
        if self._commands is not None:
            self._commands.stop()
        return super().stop()

    def plan_once(self, stopping: threading.Event) -> None:
        """Wait for a state, plan from it, report (thread: planner)."""
        stopping.wait(self._pacer.wait(self._now()))
        arrival = self._mailbox.get(self._seen, self._pacer.oldest(self._now()), timeout=0.1)
        if arrival is None:
            return
        state, self._seen = arrival.state, arrival.number
        begin = self._now()
        grid = self._pacer.next(arrival.time, begin)
        due, end = grid + self._lead.next(self.config.planner.lead), grid + self._period
        with span("plan", usage=True) as about:
            plan = self._plan(
                state, due, (end - self._now()) * self.config.planner.time_budget, stopping
            )
            now, allowed = self._now(), due - begin
            if plan is None:
                return
            about |= _timing(arrival, grid, begin, due, now, plan)
        self._lead.note(now - grid)
        timing = PlanTiming(
            state_age=begin - plan.stamp, allowed=allowed, missed=now > self._due(plan)
        )
        # Not by the clock of ROS, which may stop while a plan is made.
        with span("report"):
            self._take(plan, allowed - plan.stats.plan_time, timing)
        self._prepare()
        # The collector is off while a plan is made; the slack at the end of the period is the place
        # for it. What there was at the start is frozen, so that this takes well below a
        # millisecond.
        gc.collect()

    def _alarm(self) -> None:
        # The safe command does not wait for the time of the next one.
        if self.live and self._commands is not None:
            self._commands.alarm()

    def _complete(self) -> bool:
        return True

    def _age(self, stamp: float, now: float) -> float:
        return now - stamp

    def _stamp(self, due: float) -> float:
        return self._now()

    def _first_due(self) -> float | None:
        plan = self.controller.current
        return None if plan is None else self._due(plan)

    def _remaining(self) -> float:
        return self._watchdog.remaining(time.monotonic(), self._timeouts)


def _timing(
    arrival: Arrival, grid: float, begin: float, start: float, end: float, plan: Plan
) -> dict[str, float]:
    """Times of a plan for the trace."""
    return {
        "stamp": plan.stamp,
        "iterations": plan.stats.iterations,
        "late": end > start,
        "late_ms": (end - start) * 1e3,
        "lead_ms": (start - grid) * 1e3,
        "state_late_ms": (arrival.time - grid) * 1e3,
        "begin_late_ms": (begin - max(grid, arrival.time)) * 1e3,
    }
