"""Whether plans stagnate: they cost more than usual, and no sample leads back."""

from __future__ import annotations

from collections import deque
from statistics import median


class StagnationDetector:
    """Tells when a plan is worse than usual by more than its samples differ.

    None of them leads back then, and the next search must reach further. Left to itself, a search
    that narrows where nothing beats the plan settles into whatever it is in. An ant that had come
    to stand on the tips of stretched legs stayed there for most of a second, at ten times its usual
    cost and with almost the least noise there can be.

    Attributes:
        stagnated: whether the last plan was one
    """

    def __init__(self) -> None:
        """Begin with no plan."""
        self.stagnated = False
        self._costs: deque[float] = deque(maxlen=100)

    def note(self, cost: float, mean_cost: float) -> None:
        """Take note of a plan, by the cost of its cheapest sample and the mean of them all.

        The first ten say what is usual.
        """
        self.stagnated = len(self._costs) >= 10 and cost - median(self._costs) > mean_cost - cost
        self._costs.append(cost)
