"""Actions of people on the page, as whoever speaks to the robot carries them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from diffusion_mpc.config import Value
from diffusion_mpc.types import Array

Post = Callable[[Callable[[], None]], None]
"""Hands work to the thread that owns the page."""


class Actions(Protocol):
    """The robot, its planner and its simulation, as the page acts on them."""

    def set_parameter(
        self, node: str, name: str, value: Value, settled: Callable[[str], None]
    ) -> None:
        """Set a parameter of a node; `settled` is called with why not, empty where it is set."""
        ...

    def drive(self, velocity: Array) -> None:
        """Command a velocity (3,): forward and left in m/s, turning left in rad/s."""
        ...

    def pursue(self, position: Array, quaternion: Array) -> None:
        """Command a goal: position (3,) in m and quaternion wxyz (4,), in the world frame."""
        ...

    def push(self, force: Array) -> None:
        """Push the simulated robot's base with a force (3,), N, in the world frame."""
        ...

    def choose_task(self, task: str) -> None:
        """Have the nodes of another task take the place of those that run."""
        ...

    def record(self) -> None:
        """Begin a recording, or end the one that goes on."""
        ...

    def call(self, service: str, told: Callable[[str], None]) -> None:
        """Call a service by its relative name; `told` is called with what it answers."""
        ...
