"""The two threads of the planner node: one plans, one sends commands. Both are driven by time, and exchange whole snapshots."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.ros.trace import span
from diffusion_mpc.types import Plan, State

Now = Callable[[], float]
MAX_BACK_OFF = 2.0


@dataclass(frozen=True)
class Arrival:
    """A state, the time (s) it arrived at, and its number."""

    state: State
    time: float
    number: int


class Mailbox:
    """Holds the newest state only; a reader waits for one that it has not seen."""

    def __init__(self) -> None:
        """Empty."""
        self._changed = threading.Condition()
        self._newest: Arrival | None = None

    def put(self, state: State, time: float) -> None:
        """Replace the state by one that arrived at `time` (s)."""
        with self._changed:
            self._newest = Arrival(state, time, self._newest.number + 1 if self._newest else 1)
            self._changed.notify_all()

    def get(self, seen: int, after: float, timeout: float) -> Arrival | None:
        """The newest state; None where none beyond number `seen` arrives after time `after` (s) within `timeout` seconds."""

        def news() -> Arrival | None:
            newest = self._newest
            return newest if newest is not None and newest.number > seen and newest.time > after else None

        with self._changed:
            self._changed.wait_for(news, timeout)
            return news()


class Pacer:
    """Even grid of times at which plans begin, locked to the phase at which states arrive.

    Plans that begin evenly make commands that leave evenly. The grid follows the arrivals slowly (a phase-locked loop), so that the
    jitter of single messages does not reach the commands, and a state does not wait on the shelf until its plan begins.
    """

    def __init__(self, period: float) -> None:
        """Grid with a period in s."""
        self.period = period
        self.due: float | None = None

    def next(self, arrival: float, now: float) -> float:
        """Grid time of the plan that begins now, from a state that arrived at `arrival` (both s)."""
        if self.due is None or abs(now - self.due) > 3.0 * self.period:
            self.due = arrival
            return self.due
        due = self.due + self.period
        error = (arrival - due + 0.5 * self.period) % self.period - 0.5 * self.period
        due += max(-0.01 * self.period, min(0.01 * self.period, 0.1 * error))
        if now - due > 0.5 * self.period:
            # Half of the time is gone already: plan for one period later rather than miss this one.
            due += self.period
        self.due = due
        return due

    def wait(self, now: float) -> float:
        """Time in s to wait before looking for the next state; a tenth of a period early counts as due."""
        return 0.0 if self.due is None else max(0.0, min(self.due + 0.9 * self.period - now, self.period))

    def oldest(self, now: float) -> float:
        """Arrival (s) from which a state is meant for the next plan; one that is older belongs to a plan that was left out."""
        if self.due is None or abs(now - self.due) > 3.0 * self.period:
            return -math.inf
        return self.due + 0.5 * self.period


class Lead:
    """How long before its first command a plan begins: as long as the longest of the recent plans took, a period at most.

    A command that leaves as soon as its plan is there acts on a fresher state than one that waits for the end of the period.
    """

    WINDOW = 2000
    """Plans that are remembered. The next one is longer than all `n` before it once in `n + 1` times, if they are alike."""

    def __init__(self, period: float) -> None:
        """Nothing is known of plans that are made once in a period (s): they get all of it."""
        self._period = self._lead = period
        self._taken: deque[float] = deque(maxlen=self.WINDOW)

    def note(self, taken: float) -> None:
        """Take down the time (s) from a grid time to the end of its plan."""
        self._taken.append(taken)
        # What takes longer than a period is late with any lead; such a hiccup does not set the pace.
        longest = max((taken for taken in self._taken if taken <= self._period), default=self._period)
        wanted = min(longest + 0.05 * self._period, self._period)
        # Longer at once, or plans would be late; shorter slowly, for commands are to leave evenly.
        self._lead = max(wanted, self._lead - 0.01 * self._period)

    def next(self, asked: float) -> float:
        """Time (s) from the grid time of the next plan to its first command; `asked` is kept to, unless it is 0."""
        return min(asked, self._period) or self._lead


class Loop(threading.Thread):
    """A thread that repeats `turn` until it is stopped."""

    def __init__(self, name: str) -> None:
        """Not started yet."""
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Stop after the turn in progress."""
        self.stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Repeat until stopped."""
        while not self.stopping.is_set():
            self.turn()

    def turn(self) -> None:
        """One turn; must return within a fraction of a second."""
        raise NotImplementedError


class PlanLoop(Loop):
    """Plans from every new state, no faster than its rate.

    In real time a plan begins at a grid time `t` and is meant for `t + lead`, see `Lead`; planning may take all of the period. In
    lockstep the plan is meant for a fixed time after the state's stamp, and the simulation waits for it. What a plan is meant for
    is the time at which its first command is sent; when the actuators obey is not known here.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        plan: Callable[[State, float, float], Plan],
        done: Callable[[Plan, float, float], None],
        infeasible: Callable[[str], None],
        failed: Callable[[str], None],
        repeat: Callable[[State], bool],
        now: Now,
        period: float,
        lead: Callable[[], float],
        lockstep: float | None,
    ) -> None:
        """Prepare the loop.

        Args:
            mailbox: where states come in
            plan: (state, time at which the first command is due, time at which planning has to end at the latest, both s) -> plan
            done: called with a plan, the time (s) at which planning began and the time it had left then
            infeasible: called with the reason when every sample was infeasible
            failed: called with the reason when planning raised
            repeat: in lockstep, called with a state that was planned from already; says whether it was answered again
            now: ROS time, s
            period: time between two plans, s
            lead: time from the beginning of a plan to its first command, s; 0: measured
            lockstep: in lockstep, time from a state's stamp to its plan's first command, s; None: real time
        """
        super().__init__("planner")
        self._mailbox, self._plan, self._done, self._repeat = mailbox, plan, done, repeat
        self._infeasible, self._failed = infeasible, failed
        self._now, self._asked, self._lockstep = now, lead, lockstep
        self._pacer, self._lead = Pacer(period), Lead(period)
        self._seen = 0
        self._back_off = 0.0

    def turn(self) -> None:
        """Wait for a state, plan, report."""
        real_time = self._lockstep is None
        if real_time:
            self.stopping.wait(self._pacer.wait(self._now()))
        after = self._pacer.oldest(self._now()) if real_time else -math.inf
        arrival = self._mailbox.get(self._seen, after, timeout=0.1)
        if arrival is None:
            return
        state, self._seen = arrival.state, arrival.number
        if not real_time and self._repeat(state):
            return
        begin = self._now()
        if self._lockstep is None:
            grid = self._pacer.next(arrival.time, begin)
            start, end = grid + self._lead.next(self._asked()), grid + self._pacer.period
        else:
            grid = begin
            start = end = state.stamp + self._lockstep
        try:
            with span("plan", usage=True) as about:
                plan = self._plan(state, start, end)
                about |= _timing(arrival, grid, begin, start, self._now(), plan)
        except NoFeasibleSampleError as error:
            self._infeasible(str(error))
            return
        except Exception as error:
            self._back_off = min(max(2.0 * self._back_off, 0.1), MAX_BACK_OFF)
            self._failed(f"planner raised {type(error).__name__}: {error}; next try in {self._back_off:g} s")
            self.stopping.wait(self._back_off)
            return
        self._back_off = 0.0
        self._lead.note(self._now() - grid)
        with span("report"):
            self._done(plan, begin, start - begin)
        # The collector is off while a plan is made; the slack at the end of the period is the place for it. What there was at the
        # start is frozen, so that this takes well below a millisecond.
        gc.collect()


class CommandLoop(Loop):
    """Sends commands at an even rate, in phase with the plans, and at the moment at which control is lost."""

    def __init__(
        self,
        send: Callable[[float], None],
        phase: Callable[[], float | None],
        remaining: Callable[[], float],
        now: Now,
        period: float,
    ) -> None:
        """Prepare the loop.

        Args:
            send: called with the time (s) that a command is due for
            phase: time at which the newest plan's first command is due, s; None before the first
            remaining: time (s) until control is lost; 0 where it is lost
            now: ROS time, s
            period: time between two commands, s
        """
        super().__init__("commands")
        self._send, self._phase, self._remaining, self._now, self._period = send, phase, remaining, now, period
        self._last = now()
        self._told = False
        self._alarm = threading.Event()

    def alarm(self) -> None:
        """Do not wait for the next command's time: control is lost."""
        self._alarm.set()

    def stop(self) -> None:
        """Stop after the turn in progress."""
        self.stopping.set()
        self._alarm.set()
        super().stop()

    def turn(self) -> None:
        """Sleep until the next command is due, and send it."""
        due, remaining = self._next_due(), self._remaining()
        # The wait is on the steady clock and never longer than a period: commands go on when the ROS clock stops.
        wait = min(max(due - self._now(), 0.0), self._period)
        # Once lost, commands go on at their own time; that it was lost while the last one was sent nobody has been told yet.
        expires = remaining < wait and not (remaining == 0.0 and self._told)
        alarmed = self._alarm.wait(remaining if expires else wait)
        self._alarm.clear()
        if self.stopping.is_set():
            return
        self._told = self._remaining() == 0.0
        if not (alarmed or expires):
            self._last = due
            with span("command"):
                self._send(due)
        elif self._told:
            self._send(self._now())

    def _next_due(self) -> float:
        phase, earliest = self._phase(), self._last + 0.5 * self._period
        now = self._now()
        if now - self._last > 2.0 * self._period or self._last - now > 2.0 * self._period:
            self._last, earliest = now, now
        if phase is None:
            return self._last + self._period
        steps = -((phase - earliest) // self._period)
        return phase + steps * self._period


def _timing(arrival: Arrival, grid: float, begin: float, start: float, end: float, plan: Plan) -> dict[str, float]:
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


def quiet_garbage_collector() -> None:
    """Collect once, and from now on only where `gc.collect` is called: a collection takes longer than a command period is late."""
    gc.collect()
    gc.freeze()
    gc.disable()


def steady() -> float:
    """Steady time, s."""
    return time.monotonic()
