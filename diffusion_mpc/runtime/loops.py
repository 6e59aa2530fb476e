"""Pacing of plans and commands by time, and the threads that they are made in."""

from __future__ import annotations

import gc
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from diffusion_mpc.runtime.trace_events import span
from diffusion_mpc.types import State

Now = Callable[[], float]


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
        """The newest state.

        None where none beyond number `seen` arrives after time `after` (s) within `timeout`
        seconds.
        """

        def news() -> Arrival | None:
            newest = self._newest
            return (
                newest
                if newest is not None and newest.number > seen and newest.time > after
                else None
            )

        with self._changed:
            self._changed.wait_for(news, timeout)
            return news()


class Pacer:
    """Even grid of times at which plans begin, locked to the phase at which states arrive.

    Plans that begin evenly make commands that leave evenly. The grid follows the arrivals slowly (a
    phase-locked loop), so that the jitter of single messages does not reach the commands, and a
    state does not wait on the shelf until its plan begins.
    """

    def __init__(self, period: float) -> None:
        """Grid with a period in s."""
        self.period = period
        self.due: float | None = None

    def next(self, arrival: float, now: float) -> float:
        """Grid time of the plan that begins now, from a state that arrived at `arrival` (s)."""
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
        """Time in s to wait before looking for the next state.

        A tenth of a period early counts as due.
        """
        return (
            0.0
            if self.due is None
            else max(0.0, min(self.due + 0.9 * self.period - now, self.period))
        )

    def oldest(self, now: float) -> float:
        """Arrival (s) from which a state is meant for the next plan.

        One that is older belongs to a plan that was left out.
        """
        if self.due is None or abs(now - self.due) > 3.0 * self.period:
            return -math.inf
        return self.due + 0.5 * self.period


class Lead:
    """Time from the beginning of a plan to its first command.

    The longest of the recent plans' times, a period at most.

    A command that leaves as soon as its plan is there acts on a fresher state than one that waits
    for the end of the period.
    """

    WINDOW = 2000
    """Plans that are remembered.

    The next one is longer than all `n` before it once in `n + 1` times, if they are alike.
    """

    def __init__(self, period: float) -> None:
        """Nothing is known of plans that are made once in a period (s): they get all of it."""
        self._period = self._lead = period
        self._taken: deque[float] = deque(maxlen=self.WINDOW)

    def note(self, taken: float) -> None:
        """Take down the time (s) from a grid time to the end of its plan."""
        self._taken.append(taken)
        # What takes longer than a period is late with any lead; such a hiccup does not set the
        # pace.
        longest = max(
            (taken for taken in self._taken if taken <= self._period), default=self._period
        )
        wanted = min(longest + 0.05 * self._period, self._period)
        # Longer at once, or plans would be late; shorter slowly, for commands are to leave evenly.
        self._lead = max(wanted, self._lead - 0.01 * self._period)

    def next(self, asked: float) -> float:
        """Time (s) from the grid time of the next plan to its first command.

        `asked` is kept to, unless it is 0.
        """
        return min(asked, self._period) or self._lead


class Loop(threading.Thread):
    """A thread that repeats `turn` until it is stopped."""

    def __init__(self, name: str, turn: Callable[[threading.Event], None]) -> None:
        """Not started yet.

        Args:
            name: name of the thread
            turn: called again and again, with the event that tells it to return; must return within
                a fraction of a second
        """
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._turn = turn

    def stop(self) -> None:
        """Stop after the turn in progress."""
        self.stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Repeat until stopped."""
        while not self.stopping.is_set():
            self._turn(self.stopping)


class CommandLoop(Loop):
    """Sends commands at an even rate, in phase with the plans, and when control is lost."""

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
        super().__init__("commands", lambda stopping: self.turn())
        self._send, self._phase, self._remaining, self._now, self._period = (
            send,
            phase,
            remaining,
            now,
            period,
        )
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
        # The wait is on the steady clock and never longer than a period: commands go on when the
        # ROS clock stops.
        wait = min(max(due - self._now(), 0.0), self._period)
        # Once lost, commands go on at their own time; that it was lost while the last one was sent
        # nobody has been told yet.
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


def quiet_garbage_collector() -> None:
    """Collect once, and from now on only where `gc.collect` is called.

    A collection takes longer than a command period is late.
    """
    gc.collect()
    gc.freeze()
    gc.disable()


def release_garbage() -> None:
    """Undo `quiet_garbage_collector`: nobody plans, and what was frozen is to be given back."""
    gc.unfreeze()
    gc.collect()
    gc.enable()
