"""Generative processes: how data become noise, and how a network turns noise into data.

Both go by a noise level from 0 (data) to 1 (noise). A network predicts one quantity, from which the
others follow, since `x_level = signal * x + sigma * noise`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from diffusion_mpc.names import Prediction, ProcessName

Predictor = Callable[[Tensor, Tensor], Tensor]
"""From x (batch, length, channels) and level (batch,) to a prediction of the shape of x."""


@dataclass(frozen=True)
class SamplingStep:
    """A step of sampling, for whoever changes its result.

    Attributes:
        index: number of the step, from 0
        steps: number of steps
        signal: factor of the data in the result
        sigma: standard deviation of the noise in the result; 0 after the last step
        variance: of the DDPM posterior at this step (2006.11239, eq. 7); for a flow, sigma squared
        estimate: (batch, length, channels) the data that the network predicts
        before: the iterate of which it predicts them
        denoise: estimate at any iterate in place of `before`, for gradients through the network
    """

    index: int
    steps: int
    signal: float
    sigma: float
    variance: float
    estimate: Tensor
    before: Tensor
    denoise: Callable[[Tensor], Tensor]


Adjust = Callable[[Tensor, SamplingStep], Tensor]
"""Change the iterate after a step: guidance by a gradient, inpainting."""


class GenerativeProcess(ABC):
    """Noising process and its reversal.

    Attributes:
        prediction: quantity that the network predicts
    """

    predictions: ClassVar[tuple[Prediction, ...]]

    def __init__(self, prediction: Prediction = "sample") -> None:
        """Choose the predicted quantity.

        Raises:
            ValueError: the process has no such prediction
        """
        if prediction not in self.predictions:
            raise ValueError(
                f"prediction is '{prediction}'; {type(self).__name__} predicts "
                + " or ".join(self.predictions)
            )
        self.prediction = prediction

    @abstractmethod
    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels (count,) to train at."""

    @abstractmethod
    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and sigma of levels, of the shape of `level`."""

    @abstractmethod
    def grid(self, steps: int, level: float = 1.0) -> Tensor:
        """Levels (steps + 1,) of sampling, from `level` to 0."""

    def corrupt(self, x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Noisy data (batch, length, channels) at levels (batch,)."""
        signal, sigma = (s[:, None, None] for s in self.scales(level))
        return signal * x + sigma * noise

    def target(self, x: Tensor, noise: Tensor) -> Tensor:
        """Quantity to predict, of the shape of x; the velocity is that of a straight flow."""
        return {"sample": x, "noise": noise, "velocity": x - noise}[self.prediction]

    def estimate(self, predicted: Tensor, x: Tensor, signal: Tensor, sigma: Tensor) -> Tensor:
        """Data that a prediction stands for."""
        if self.prediction == "sample":
            return predicted
        if self.prediction == "noise":
            return (x - sigma * predicted) / signal
        return x + sigma * predicted

    def sample(
        self,
        predict: Predictor,
        noise: Tensor,
        steps: int,
        limit: float | None = 1.0,
        adjust: Adjust | None = None,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        level: float = 1.0,
    ) -> Tensor:
        """Data of noise, by DDIM (2010.02502, eq. 12), which for a flow is Euler's method.

        Args:
            predict: the network
            noise: (batch, length, channels) standard normal
            steps: number of evaluations of the network
            limit: estimates of the data are clipped to [-limit, limit]; None: they are not
            adjust: called with every iterate
            eta: 0 for DDIM, 1 for DDPM's ancestral sampling, which adds noise at each step; for the
                DDPM process only
            generator: source of the noise that `eta` adds
            level: level that sampling begins at; below 1, at zeros with that level's noise, as a
                previous plan is noised again in part (GPC, 2502.13406)

        Returns:
            (batch, length, channels)
        """
        levels = self.grid(steps, level).to(noise)
        signals, sigmas = self.scales(levels)
        x = noise if level == 1.0 else sigmas[0] * noise

        def denoise(i: int, x: Tensor) -> Tensor:
            predicted = predict(x, levels[i].expand(len(x)))
            estimate = self.estimate(predicted, x, signals[i], sigmas[i])
            return estimate if limit is None else estimate.clamp(-limit, limit)

        for i in range(steps):
            before, estimate = x, denoise(i, x)
            direction = (x - signals[i] * estimate) / sigmas[i]
            signal, sigma = signals[i + 1], sigmas[i + 1]
            variance = self.variance(i, signals, sigmas)
            ancestral = eta * math.sqrt(variance)
            x = signal * estimate + (sigma**2 - ancestral**2).clamp(min=0.0).sqrt() * direction
            if ancestral > 0.0:
                x = x + ancestral * torch.randn(
                    x.shape, generator=generator, dtype=x.dtype, device=x.device
                )
            if adjust is not None:
                scales = float(signal), float(sigma), variance
                x = adjust(
                    x, SamplingStep(i, steps, *scales, estimate, before, partial(denoise, i))
                )
        return x

    def variance(self, step: int, signals: Tensor, sigmas: Tensor) -> float:
        """Variance of `SamplingStep` at a step of the grid."""
        return float(sigmas[step + 1] ** 2)


class DDPM(GenerativeProcess):
    """Denoising diffusion (Ho et al., 2006.11239) with the squared-cosine schedule of 2102.09672.

    `x_k = sqrt(abar_k) x + sqrt(1 - abar_k) noise` at levels k / K, k from 1 to K.
    """

    predictions = ("sample", "noise")

    def __init__(self, prediction: Prediction = "noise", levels: int = 100) -> None:
        """Make the schedule of K = `levels` levels."""
        super().__init__(prediction)
        self.levels = levels
        k = torch.arange(levels + 1, dtype=torch.float64) / levels
        f = ((k + 0.008) / 1.008 * (math.pi / 2.0)).cos().square()
        beta = (1.0 - f[1:] / f[:-1]).clamp(max=0.999)
        self.alpha_bar = torch.cat((torch.ones(1, dtype=torch.float64), (1.0 - beta).cumprod(0)))

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """One of the K levels, all equally likely."""
        k = torch.randint(1, self.levels + 1, (count,), generator=generator)
        return k.to(torch.get_default_dtype()) / self.levels

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Signal sqrt(abar) and sigma sqrt(1 - abar)."""
        k = (level.double() * self.levels).round().long()
        abar = self.alpha_bar.to(level.device)[k]
        return abar.sqrt().to(level.dtype), (1.0 - abar).sqrt().to(level.dtype)

    def grid(self, steps: int, level: float = 1.0) -> Tensor:
        """Evenly spaced levels, rounded to those of training.

        Raises:
            ValueError: more steps than levels
        """
        first = max(1, round(level * self.levels))
        if not 1 <= steps <= first:
            raise ValueError(f"{steps} sampling steps; this network has 1 to {first}")
        return torch.linspace(first, 0, steps + 1, dtype=torch.float64).round() / self.levels

    def variance(self, step: int, signals: Tensor, sigmas: Tensor) -> float:
        """Posterior variance `(1 - abar_next)/(1 - abar) (1 - abar/abar_next)` (eq. 7)."""
        ratio = (signals[step] / signals[step + 1]) ** 2
        return float((sigmas[step + 1] / sigmas[step]) ** 2 * (1.0 - ratio))


class Flow(GenerativeProcess):
    """Flow matching along straight lines (Lipman et al., 2210.02747): `(1 - l) x + l noise`."""

    predictions = ("sample", "velocity")

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Levels that are uniform in [0, 1]."""
        return torch.rand(count, generator=generator)

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Signal `1 - level` and sigma `level`."""
        return 1.0 - level, level

    def grid(self, steps: int, level: float = 1.0) -> Tensor:
        """Evenly spaced levels."""
        return torch.linspace(level, 0.0, steps + 1, dtype=torch.float64)


def make_process(name: ProcessName, prediction: Prediction, levels: int = 100) -> GenerativeProcess:
    """The process of a name; `levels` are those of DDPM."""
    return DDPM(prediction, levels) if name == "ddpm" else Flow(prediction)
