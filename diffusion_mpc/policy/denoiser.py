"""A denoiser: body, process and normalisation, for sequences under a condition.

One for plans' knots (Diffusion Policy), for optimality-conditioned plans (CFGRL) and for
trajectories (Diffuser, Policy-Guided Diffusion).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion_mpc.names import BodyName, Prediction, ProcessName
from diffusion_mpc.policy.body import Body
from diffusion_mpc.policy.generative_processes import Adjust, make_process
from diffusion_mpc.policy.mlp import MLP
from diffusion_mpc.policy.normaliser import Limits
from diffusion_mpc.policy.transformer import Transformer
from diffusion_mpc.policy.unet import UNet

WITHIN = 2.0
"""Largest normalised value of a condition that the body sees: further out it was not trained."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes and kinds of a denoiser.

    Attributes:
        length: rows of a sequence
        channels: columns of a sequence
        condition: size of the condition, which is always there
        label: size of the label, which is left out at random in training and steers by guidance
        body: kind of network
        process: generative process
        prediction: quantity that the network predicts. With "sample" an untrained network proposes
            zeros; with the others, noise
        levels: noise levels of DDPM
        width: units of a hidden layer; of the U-Net, channels at the first resolution
        depth: hidden layers, blocks, or resolutions of the U-Net
        dropout: fraction of the training rows whose label is left out
        symmetric: normalise sequences so that 0 stays 0, as residuals need it
    """

    length: int
    channels: int
    condition: int
    label: int = 0
    body: BodyName = "mlp"
    process: ProcessName = "flow"
    prediction: Prediction = "sample"
    levels: int = 100
    width: int = 256
    depth: int = 3
    dropout: float = 0.1
    symmetric: bool = False


def make_body(config: DenoiserConfig) -> Body:
    """The network of a configuration, untrained."""
    c = config
    # One column says whether there is a label.
    seen = c.condition + (c.label + 1 if c.label else 0)
    if c.body == "unet":
        widths = tuple(c.width * 2**i for i in range(c.depth))
        return UNet(c.length, c.channels, seen, widths)
    kind = MLP if c.body == "mlp" else Transformer
    return kind(c.length, c.channels, seen, c.width, c.depth)


class Denoiser(nn.Module):
    """Conditional generative model of sequences (batch, length, channels).

    Sequences, conditions and labels come and go in their own units.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        """Build it untrained, without normalisation."""
        super().__init__()
        self.config = config
        self.body = make_body(config)
        self.process = make_process(config.process, config.prediction, config.levels)
        self.sequence = Limits(config.channels)
        self.given = Limits(config.condition)

    def fit_limits(
        self, sequences: tuple[Tensor, Tensor], conditions: tuple[Tensor, Tensor]
    ) -> None:
        """Set the normalisation from least and largest values, (channels,) and (condition,)."""
        self.sequence.fit(*sequences, symmetric=self.config.symmetric)
        self.given.fit(*conditions)

    def loss(
        self,
        sequences: Tensor,
        condition: Tensor,
        generator: torch.Generator,
        label: Tensor | None = None,
        weight: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Training loss (), `mean ||prediction - target||^2` (2006.11239, eq. 14).

        Args:
            sequences: (batch, length, channels)
            condition: (batch, condition)
            generator: source of levels, noise and dropout, on the CPU
            label: (batch, label), where the configuration has one
            weight: (batch,) of the rows; None: all 1
            known: (batch, length, channels) entries that are given when sampling, and so are shown
                without noise; None: none
        """
        x, count = self.sequence.normalise(sequences), len(sequences)
        level = self.process.draw_levels(count, generator).to(x)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        keep = (torch.rand(count, generator=generator) >= self.config.dropout).to(x)
        noisy = self.process.corrupt(x, noise, level)
        if known is not None:
            noisy = torch.where(known.to(x.device), x, noisy)
        predicted = self.body(noisy, level, self._seen(condition, label, keep[:, None]))
        errors = (predicted - self.process.target(x, noise)).square().mean((1, 2))
        return errors.mean() if weight is None else (weight * errors).mean()

    def sample(
        self,
        condition: Tensor,
        noise: Tensor,
        steps: int,
        label: Tensor | None = None,
        guidance: float = 1.0,
        limit: float | None = 1.0,
        adjust: Adjust | None = None,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sequences (batch, length, channels) of noise of that shape.

        Args:
            condition: (batch, condition)
            noise: (batch, length, channels) standard normal; `length` may differ from the
                configuration's where the body is a U-Net
            steps: evaluations of the network
            label: (batch, label); None: without one
            guidance: weight w of `prediction(none) + w (prediction(label) - prediction(none))`
                (2207.12598, eq. 6, with w counted from 0); 1: the conditional prediction
            limit: see `GenerativeProcess.sample`, in normalised units
            adjust: see `GenerativeProcess.sample`, on normalised sequences
            eta: see `GenerativeProcess.sample`
            generator: see `GenerativeProcess.sample`
        """
        keep = condition.new_ones((len(condition), 1))
        none = self._seen(condition, None, 0.0 * keep)
        seen = none if label is None else self._seen(condition, label, keep)

        def predict(x: Tensor, level: Tensor) -> Tensor:
            if label is None or guidance == 1.0:
                return self.body(x, level, seen)
            both = self.body(torch.cat((x, x)), torch.cat((level, level)), torch.cat((none, seen)))
            without, with_label = both.chunk(2)
            return without + guidance * (with_label - without)

        x = self.process.sample(predict, noise, steps, limit, adjust, eta, generator)
        return self.sequence.restore(x)

    def _seen(self, condition: Tensor, label: Tensor | None, keep: Tensor) -> Tensor:
        """Condition and label as the body sees them."""
        given = self.given.normalise(condition).clamp(-WITHIN, WITHIN)
        if not self.config.label:
            return given
        shown = condition.new_zeros((len(condition), self.config.label)) if label is None else label
        return torch.cat((given, shown * keep, keep), dim=-1)


class MovingAverage:
    """Exponential moving average of parameters, with decay `min(1 - (1 + n)^-0.75, 0.9999)`.

    The decay is Diffusion Policy's (2303.04137, authors' code).

    Attributes:
        steps: number of updates
        values: averages by name
    """

    def __init__(self, module: nn.Module) -> None:
        """Begin with the module's parameters."""
        self.steps = 0
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present parameters in."""
        self.steps += 1
        decay = min(1.0 - (1.0 + self.steps) ** -0.75, 0.9999)
        for name, parameter in module.named_parameters():
            self.values[name].lerp_(parameter, 1.0 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Give the averages to a module."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.values[name])
