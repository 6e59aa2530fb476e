"""Receiver of what a session makes: commands, plans, and what is worth knowing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from diffusion_mpc.command.follower import Point
from diffusion_mpc.types import Plan


@dataclass(frozen=True)
class PlanTiming:
    """Timing of a plan.

    Attributes:
        state_age: age of the state when planning began, s
        allowed: time that planning was allowed to take, s; infinite in lockstep
        missed: whether the plan came after its first command was due
    """

    state_age: float
    allowed: float
    missed: bool


class Output(Protocol):
    """Receiver of a session's plans and commands. Any thread may call."""

    def send_command(
        self, points: Sequence[Point], stamp: float, state_stamp: float | None
    ) -> None:
        """Send commands; the first applies at `stamp` (s).

        `state_stamp` None: it is the safe command.
        """
        ...

    def send_plan(self, plan: Plan, timing: PlanTiming) -> None:
        """Publish a plan and its figures."""
        ...

    def is_heard(self) -> bool:
        """Whether anybody listens to the commands."""
        ...

    def other_commanders(self) -> Sequence[str]:
        """Names of other nodes that publish commands for the same robot."""
        ...

    def all_listen(self) -> bool:
        """Whether all who are waited for in lockstep listen."""
        ...

    def health_changed(self) -> None:
        """Publish the health now."""
        ...

    def warn(self, text: str) -> None:
        """Log a warning."""
        ...

    def error(self, text: str) -> None:
        """Log an error."""
        ...

    def inform(self, text: str) -> None:
        """Log what is worth knowing."""
        ...
