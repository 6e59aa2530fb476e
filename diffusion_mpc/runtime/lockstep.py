"""A session in lockstep with a simulation, which waits for every command."""

from __future__ import annotations

import gc
import math
import threading

from diffusion_mpc.runtime.output import PlanTiming
from diffusion_mpc.runtime.session import PlannerSession

TRIES = 5
"""Plans that may fail one after the other before a run is given up: nothing changes between them.

With the times between them, some 3 s.
"""


class LockstepSession(PlannerSession):
    """Answers every state of a simulation that waits for it.

    Results do not depend on the machine's speed.

    A plan's first command is due a fixed time after the state's stamp. Nothing moves while nobody
    plans, so nothing can be too old. Where no plan can be made, nothing moves any more: the run is
    given up.
    """

    _failures = 0

    def plan_once(self, stopping: threading.Event) -> None:
        """Wait for a state, plan from it, report and command (thread: planner)."""
        arrival = self._mailbox.get(self._seen, -math.inf, timeout=0.1)
        if arrival is None:
            return
        state, self._seen = arrival.state, arrival.number
        previous = self.controller.current
        if previous is not None and previous.stamp == state.stamp:
            # The simulation asks again for the answer to a state: it has not seen our command.
            self.command_at(self._due(previous))
            return
        due = state.stamp + self.config.lockstep_lead
        # There is no hurry, and a plan must not depend on how fast the machine is.
        plan = self._plan(state, due, math.inf, stopping)
        if plan is None:
            return
        self._failures = 0
        due = self._due(plan)
        # The clock of ROS is meant to stop while a plan is made.
        timing = PlanTiming(state_age=due - plan.stamp, allowed=math.inf, missed=False)
        self._take(plan, due - self._now(), timing)
        self.command_at(due)
        self._prepare()
        gc.collect()

    def _no_plan(self, reason: str) -> None:
        self._failures += 1
        if self._failures >= TRIES:
            self.given_up = f"no plan in {TRIES} tries: {reason}"

    def _complete(self) -> bool:
        # The simulation asks again for a state that was not answered.
        return self.estimator.consistent() and self._output.all_listen()

    def _age(self, stamp: float, now: float) -> float:
        return 0.0

    def _stamp(self, due: float) -> float:
        return due

    def _lost(self) -> str:
        return ""

    def _alarm(self) -> None:
        """Nobody waits for the next command's time."""
