"""Decision, on a steady clock, between the plan and the safe command."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Ages of state, plan and poses of objects at which control counts as lost, s."""

    state: float
    plan: float
    object: float = math.inf


class Watchdog:
    """Ages of state and plan.

    Ages grow with the steady clock, from the age that a message had on arrival: a ROS clock that
    stops or jumps cannot hide that nothing comes in any more.
    """

    def __init__(self) -> None:
        """Nothing has arrived."""
        self._state_born: float | None = None
        self._plan_born: float | None = None
        self._objects_born: dict[str, float] = {}
        self.fault = ""

    def object_arrived(self, topic: str, steady: float, age: float) -> None:
        """A good pose of an object arrived at a steady time, `age` seconds old by its stamp."""
        # In one assignment: another thread may be looking.
        self._objects_born = {**self._objects_born, topic: steady - max(age, 0.0)}

    def state_arrived(self, steady: float, age: float) -> None:
        """A good state arrived at a steady time, already `age` seconds old by its stamp."""
        self._state_born = steady - max(age, 0.0)

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
        self._state_born = self._plan_born = None
        self.fault = ""

    def state_age(self, steady: float) -> float | None:
        """Age of the newest good state, s; None before the first."""
        return None if self._state_born is None else steady - self._state_born

    def lost(self, steady: float, timeouts: Timeouts) -> str:
        """Reason for which control is lost at a steady time; empty while it is not.

        Before the first state nothing is lost: there is nothing to control yet.
        """
        if self._state_born is None:
            return ""
        age = steady - self._state_born
        if age > timeouts.state:
            limit = timeouts.state * 1e3
            return f"state is {age * 1e3:.0f} ms old, more than state_timeout of {limit:.0f} ms"
        for topic, born in self._objects_born.items():
            if steady - born > timeouts.object:
                limit = timeouts.object * 1e3
                return (
                    f"{topic} is {(steady - born) * 1e3:.0f} ms old, more than objects.timeout of "
                    f"{limit:.0f} ms"
                )
        if self.fault:
            return self.fault
        if self._plan_born is not None and steady - self._plan_born > timeouts.plan:
            late = (steady - self._plan_born) * 1e3
            limit = timeouts.plan * 1e3
            return f"plan is {late:.0f} ms past its start, more than max_plan_age of {limit:.0f} ms"
        return ""

    def remaining(self, steady: float, timeouts: Timeouts) -> float:
        """Time (s) from a steady time until control is lost unless something arrives; 0: it is.

        Infinite before the first state.
        """
        if self.lost(steady, timeouts):
            return 0.0
        if self._state_born is None:
            return math.inf
        ends = [self._state_born + timeouts.state]
        ends += [born + timeouts.object for born in self._objects_born.values()]
        if self._plan_born is not None:
            ends.append(self._plan_born + timeouts.plan)
        # A little later: at the very moment it is not lost yet.
        return min(ends) - steady + 1e-4
