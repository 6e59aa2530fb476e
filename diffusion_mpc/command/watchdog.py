"""Decision, on a steady clock, between the plan and the safe command."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from diffusion_mpc.config import PlannerNodeConfig


@dataclass(frozen=True)
class Timeouts:
    """Ages of state, plan and poses of objects at which control counts as lost, s.

    After a loss of state or pose, they have to be fresh for `recovery` before control returns.
    """

    state: float
    plan: float
    object: float = math.inf
    recovery: float = 0.0

    @classmethod
    def of(cls, config: PlannerNodeConfig) -> Timeouts:
        """Those that the parameters ask for."""
        return cls(
            config.state_timeout, config.max_plan_age, config.objects.timeout, config.recovery_time
        )


class Freshness(NamedTuple):
    """Knowledge of the age of something that is measured again and again.

    Attributes:
        name: what is measured
        born: steady time of the newest measurement, s
        trusted: steady time from which it counts again after a loss, s
    """

    name: str
    born: float
    trusted: float = -math.inf

    def next(
        self, name: str, steady: float, age: float, limit: float, recovery: float
    ) -> Freshness:
        """The same after a measurement that arrived at a steady time, `age` seconds old.

        One that comes after a loss, or is too old itself, is the beginning of a new time of trial.
        """
        lost = steady - self.born > limit or age > limit
        trusted = steady + recovery if lost else self.trusted
        return Freshness(name, steady - max(age, 0.0), trusted)

    def lost(self, steady: float, limit: float, parameter: str) -> str:
        """Reason for which it cannot be relied on; empty where it can."""
        age = steady - self.born
        if age > limit:
            allowed = f"more than {parameter} of {limit * 1e3:.0f} ms"
            return f"{self.name} is {age * 1e3:.0f} ms old, {allowed}"
        if steady < self.trusted:
            left = (self.trusted - steady) * 1e3
            return f"{self.name} was too old; it has to be fresh for {left:.0f} ms more"
        return ""


class Watchdog:
    """Ages of state and plan.

    Ages grow with the steady clock, from the age that a message had on arrival: a ROS clock that
    stops or jumps cannot hide that nothing comes in any more.
    """

    def __init__(self) -> None:
        """Nothing has arrived."""
        self._state: Freshness | None = None
        self._plan_born: float | None = None
        self._objects: dict[str, Freshness] = {}
        self.fault = ""

    def object_arrived(self, topic: str, steady: float, age: float, timeouts: Timeouts) -> None:
        """A good pose of an object arrived at a steady time, `age` seconds old by its stamp."""
        before = self._objects.get(topic) or Freshness(topic, steady)
        new = before.next(topic, steady, age, timeouts.object, timeouts.recovery)
        # In one assignment: another thread may be looking.
        self._objects = {**self._objects, topic: new}

    def state_arrived(
        self, steady: float, age: float, timeouts: Timeouts, oldest: str = "state"
    ) -> None:
        """A good state arrived at a steady time.

        Args:
            steady: that time, s
            age: its age then by its stamp, s
            timeouts: what is too old
            oldest: name of its oldest part
        """
        before = self._state or Freshness("state", steady)
        name = oldest if age > timeouts.state else "state"
        self._state = before.next(name, steady, age, timeouts.state, timeouts.recovery)

    def plan_arrived(self, steady: float, until_start: float) -> None:
        """A plan arrived at a steady time; its first action is due in `until_start` seconds."""
        self._plan_born = steady + until_start
        self.fault = ""

    def plan_failed(self, reason: str) -> None:
        """Planning failed; the reason stands until a plan arrives."""
        self.fault = reason

    def reset(self) -> None:
        """Nothing has arrived any more.

        Poses of objects have: they come when they are measured, not when a state is.
        """
        self._state = self._plan_born = None
        self.fault = ""

    def state_age(self, steady: float) -> float | None:
        """Age of the newest good state, s; None before the first."""
        state = self._state
        return None if state is None else steady - state.born

    def lost(self, steady: float, timeouts: Timeouts) -> str:
        """Reason for which control is lost at a steady time; empty while it is not.

        Before the first state nothing is lost: there is nothing to control yet.
        """
        state, plan_born = self._state, self._plan_born
        if state is None:
            return ""
        if reason := state.lost(steady, timeouts.state, "state_timeout"):
            return reason
        for thing in self._objects.values():
            if reason := thing.lost(steady, timeouts.object, "objects.timeout"):
                return reason
        if self.fault:
            return self.fault
        if plan_born is not None and steady - plan_born > timeouts.plan:
            late = (steady - plan_born) * 1e3
            limit = timeouts.plan * 1e3
            return f"plan is {late:.0f} ms past its start, more than max_plan_age of {limit:.0f} ms"
        return ""

    def remaining(self, steady: float, timeouts: Timeouts) -> float:
        """Time (s) from a steady time until control is lost unless something arrives; 0: it is.

        Infinite before the first state.
        """
        if self.lost(steady, timeouts):
            return 0.0
        state, plan_born = self._state, self._plan_born
        if state is None:
            return math.inf
        ends = [state.born + timeouts.state]
        ends += [thing.born + timeouts.object for thing in self._objects.values()]
        if plan_born is not None:
            ends.append(plan_born + timeouts.plan)
        # A little later: at the very moment it is not lost yet.
        return min(ends) - steady + 1e-4
