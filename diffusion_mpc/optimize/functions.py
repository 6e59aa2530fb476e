"""Functions to try black-box optimisers on, each with its usual domain and its known minimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Function:
    """A function of any dimension, over the cube [low, high]^d.

    Attributes:
        value: (samples, d) -> (samples,)
        low, high: domain of each coordinate; off centre, so that a search that begins in the middle
            begins at no minimum, nor at one of Rastrigin's local ones
        minimiser: each coordinate of the minimum, where the value is 0
    """

    value: Callable[[torch.Tensor], torch.Tensor]
    low: float
    high: float
    minimiser: float

    def normalised(self, points: torch.Tensor) -> torch.Tensor:
        """Values (samples,) at points (samples, d) of the cube [-1, 1]^d."""
        return self.value(self.scale(points))

    def scale(self, points: torch.Tensor) -> torch.Tensor:
        """Points of [-1, 1]^d in the function's own domain."""
        return 0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * points


def ackley(x: torch.Tensor) -> torch.Tensor:
    """`-20 exp(-0.2 sqrt(mean x^2)) - exp(mean cos(2 pi x)) + 20 + e`.

    A funnel covered with dimples.
    """
    return (
        20.0
        + math.e
        - 20.0 * (-0.2 * x.square().mean(-1).sqrt()).exp()
        - (2.0 * math.pi * x).cos().mean(-1).exp()
    )


def rastrigin(x: torch.Tensor) -> torch.Tensor:
    """`sum x^2 + 10 (1 - cos(2 pi x))`: a bowl with a local minimum near each integer."""
    return (x.square() + 10.0 * (1.0 - (2.0 * math.pi * x).cos())).sum(-1)


def levy(x: torch.Tensor) -> torch.Tensor:
    """Levy's function of `w = 1 + (x - 1)/4`: flat valleys with ripples across them."""
    w = 1.0 + (x - 1.0) / 4.0
    first = (math.pi * w[..., 0]).sin().square()
    inner = (
        (w[..., :-1] - 1.0).square() * (1.0 + 10.0 * (math.pi * w[..., :-1] + 1.0).sin().square())
    ).sum(-1)
    last = (w[..., -1] - 1.0).square() * (1.0 + (2.0 * math.pi * w[..., -1]).sin().square())
    return first + inner + last


FUNCTIONS: dict[str, Function] = {
    "ackley": Function(ackley, -5.0, 10.0, 0.0),
    "rastrigin": Function(rastrigin, -4.0, 6.5, 0.0),
    "levy": Function(levy, -5.0, 10.0, 1.0),
}
