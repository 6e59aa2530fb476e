"""Number of denoising steps that there is time for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median


class StepBudget:
    """Denoising steps that fit into a time, by what recent ones took."""

    def __init__(self, most: int) -> None:
        """Begin with no step taken: all that are wanted, `most`, are thought to fit."""
        self._most = self._fit = most
        # Few, so that slow steps, such as those while other nodes start, are soon forgotten: as
        # long as they count, plans have one step in place of two.
        self._times: deque[float] = deque(maxlen=20)

    def note(self, times: Sequence[float]) -> None:
        """Take note of steps, by the time that each took, s."""
        self._times.extend(times)

    def steps_within(self, budget: float) -> int:
        """Steps to plan for within a time, s, so that the last one has the least noise."""
        if math.isinf(budget) or not self._times:
            return self._most
        fit = self._fitting(budget)
        if fit > self._fit:
            # Only with time to spare: if plans had now one step and now two, commands would have to
            # wait for the longer ones.
            fit = max(self._fitting(0.9 * budget), self._fit)
        self._fit = fit
        return min(fit, self._most)

    def slow_step(self) -> float:
        """Time that nine of ten recent steps ended within, s; 0 before the first."""
        return sorted(self._times)[int(0.9 * (len(self._times) - 1))] if self._times else 0.0

    def _fitting(self, budget: float) -> int:
        # Only the last step has to allow for being slow: if all did, one slow moment would leave
        # half of the time idle.
        return 1 + max(int((budget - self.slow_step()) / median(self._times)), 0)
