"""Sizes on a GPU and in a rehearsal, and what a rehearsal does not judge. Imports no library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budget import Result


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    All of it on a GPU, next to nothing in a rehearsal on Warp's cpu device.
    """

    rehearsal: bool

    @property
    def device(self) -> str:
        return "cpu" if self.rehearsal else "cuda"

    def samples(self, on_gpu: int) -> int:
        return max(4, on_gpu // 1024) if self.rehearsal else on_gpu

    def horizon(self, on_gpu: int) -> int:
        """Control steps; enough for the knots of every task here."""
        return 4 + on_gpu // 5 if self.rehearsal else on_gpu

    def count(self, on_gpu: int) -> int:
        """Repetitions: plans, or passes."""
        return 2 if self.rehearsal else on_gpu

    def seconds(self, on_gpu: float) -> float:
        """Simulated time."""
        return 0.06 if self.rehearsal else on_gpu

    def timed(
        self, what: str, measured: str, aim: str, met: bool, row: Mapping[str, Any] | None = None
    ) -> Result:
        """A result whose aim is one of time, which the cpu device cannot be held to."""
        return Result(what, measured, aim, None if self.rehearsal else met, row)


def absent(what: str) -> Result:
    """A result that Warp's cpu device cannot have."""
    return Result(what, "only on a GPU, not on Warp's cpu device")
