"""Plans as state-action trajectories that a denoiser makes: Diffuser (2205.09991)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_mpc.names import BodyName
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.generative_processes import Adjust, SamplingStep
from diffusion_mpc.policy.purpose import Purpose, read_network

TrajectoryCost = Callable[[Tensor], Tensor]
"""Differentiable costs (batch,) of trajectories (batch, horizon, states + actions)."""

Execution = Callable[[Tensor], Tensor]
"""Trajectories (batch, horizon, states + actions) that a robot makes of planned ones, from the same
starts: under the planned actions, or under a controller that follows the planned states.
"""

KNOWN_FRACTION = 0.75
"""Fraction of the training rows whose start, and of those whose goal, is given."""

FLAGS = 3
"""Numbers of the network's condition that say what is given."""

COMMITTED_FRACTION = 0.25
"""Fraction of the training rows some of whose first actions are given."""

RECONSTRUCTION = 3.0
"""Weight of the guidance to trajectories that lead through what is given."""


@dataclass(frozen=True)
class DiffuserConfig:
    """Sizes of a Diffuser.

    Attributes:
        states: size of a state
        actions: size of an action
        horizon: rows (state, action) of a training trajectory
        goal: columns of the state that a goal fixes
        condition: size of what a trajectory depends on beside what is given of it, such as the
            observation at its start, which knows the reference
        body: kind of network; only the U-Net's horizon is free when sampling
        levels: noise levels
        width: channels of the U-Net at the first resolution, or units of a hidden layer
        depth: resolutions of the U-Net, or hidden layers
    """

    states: int
    actions: int
    horizon: int
    goal: tuple[int, ...] = ()
    condition: int = 0
    body: BodyName = "unet"
    levels: int = 20
    width: int = 32
    depth: int = 3


@dataclass(frozen=True)
class Guidance:
    """Guidance of samples down the gradient of costs (2205.09991, algorithm 1).

    Costs are those of the estimated trajectory, and their gradient is taken back through the
    network: the paper's cost of the noisy trajectory would be a learned function that knows noise.

    Attributes:
        costs: costs of trajectories in their own units; they add up
        scale: factor of `variance * gradient`
        unguided: last levels without guidance, where it would leave noise that nothing removes
    """

    costs: Sequence[TrajectoryCost]
    scale: float = 1.0
    unguided: int = 2


@dataclass(frozen=True)
class Known:
    """Entries of normalised trajectories that are given.

    Attributes:
        mask: (batch, horizon, channels) whether an entry is given
        values: of the same shape; of entries that are not given, any
    """

    mask: Tensor
    values: Tensor

    def put(self, x: Tensor) -> Tensor:
        """Trajectories with the given entries in their places."""
        return torch.where(self.mask, self.values, x)


@dataclass(frozen=True)
class Candidates:
    """Trajectories and what a robot makes of them.

    Attributes:
        trajectories: (batch, horizon, states + actions) as sampled
        executed: of the same shape, as rolled out
        costs: (batch,) of what was rolled out
        distances: (batch,) between sampled and rolled-out states, averaged over the horizon
    """

    trajectories: Tensor
    executed: Tensor
    costs: Tensor
    distances: Tensor

    @property
    def best(self) -> int:
        """Index of the least cost; a cost that is not a number is no candidate."""
        return int(self.costs.nan_to_num(nan=torch.inf).argmin())


class Diffuser(nn.Module):
    """Generative model of trajectories, rows (state, action), in their own units.

    A U-Net convolves over time, so that the horizon is chosen when sampling.
    """

    def __init__(self, config: DiffuserConfig) -> None:
        """Build it untrained, without normalisation."""
        super().__init__()
        self.config = config
        self.denoiser = Denoiser(
            DenoiserConfig(
                length=config.horizon,
                channels=config.states + config.actions,
                # Whether start and goal are given, and the fraction of the actions that are.
                condition=FLAGS + config.condition,
                body=config.body,
                process="ddpm",
                prediction="sample",
                levels=config.levels,
                width=config.width,
                depth=config.depth,
            )
        )

    def fit_limits(self, trajectories: Tensor, conditions: Tensor | None = None) -> None:
        """Set the normalisation from training data.

        Args:
            trajectories: (count, horizon, channels)
            conditions: (count, condition); None where there are none
        """
        rows = trajectories.flatten(0, 1)
        self.denoiser.sequence.fit(rows.amin(0), rows.amax(0))
        if conditions is not None:
            # What says what is given stays as it is.
            low, high = -torch.ones(FLAGS), torch.ones(FLAGS)
            self.denoiser.given.fit(
                torch.cat((low, conditions.amin(0))), torch.cat((high, conditions.amax(0)))
            )

    def loss(
        self,
        trajectories: Tensor,
        generator: torch.Generator,
        conditions: Tensor | None = None,
    ) -> Tensor:
        """Training loss (), on trajectories some of whose entries are given and free of noise.

        Args:
            trajectories: (batch, horizon, channels)
            generator: source of levels, noise, and of what is given, on the CPU
            conditions: (batch, condition); None where there are none
        """
        count, length, _ = trajectories.shape
        draws = torch.rand((3, count), generator=generator)
        lengths = torch.randint(1, max(2, length // 2), (count,), generator=generator)
        start, goal = draws[:2] < KNOWN_FRACTION
        committed = lengths * (draws[2] < COMMITTED_FRACTION)
        mask = self._mask(length, start, goal, committed)
        seen = _condition(start, goal, committed / length, conditions).to(trajectories)
        return self.denoiser.loss(trajectories, seen, generator, known=mask)

    # Gradients go back through the network, where tensors of inference mode take no part.
    @torch.inference_mode(False)
    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: torch.Generator,
        horizon: int | None = None,
        start: Tensor | None = None,
        goal: Tensor | None = None,
        committed: Tensor | None = None,
        guidance: Guidance | None = None,
        adjust: Adjust | None = None,
        reconstruction: float = RECONSTRUCTION,
        conditions: Tensor | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """Trajectories (count, horizon, states + actions) by DDPM's ancestral sampling.

        What is given is put in its place, and what the network expects there is guided to it, or
        the trajectory would jump beside it: reconstruction guidance (2204.03458, eq. 7).

        Args:
            count: number of trajectories
            generator: source of noise, on the network's device
            horizon: rows; None: as trained
            start: (states,) or (count, states) first state, which is kept exactly
            goal: (len(config.goal),) or (count, ...) of the goal's columns of the last state
            committed: (k, actions) or (count, k, actions) first actions, kept exactly
            guidance: costs to descend
            adjust: called with every iterate, normalised, after guidance and before what is given
                is put in its place
            reconstruction: weight of the guidance to what is given; 0: none
            conditions: (count, condition), where the configuration has one
            steps: evaluations of the network; None: one at each of its levels

        Raises:
            ValueError: more actions are committed than the horizon has, a goal is given to a
                network without, or the condition is not there
        """
        c, length = self.config, horizon or self.config.horizon
        prefix = 0 if committed is None else committed.shape[-2]
        if prefix > length:
            raise ValueError(f"{prefix} actions are committed, more than the horizon of {length}")
        if goal is not None and not c.goal:
            raise ValueError("this network was trained without goals; sample without one")
        if (0 if conditions is None else conditions.shape[-1]) != c.condition:
            raise ValueError(f"this network was trained with {c.condition} conditions; give those")
        limits = self.denoiser.sequence
        noise = torch.randn(
            (count, length, c.states + c.actions), generator=generator, device=limits.centre.device
        )
        values = torch.zeros_like(noise)
        if start is not None:
            values[:, 0, : c.states] = start
        if goal is not None:
            values[:, -1, list(c.goal)] = goal
        if committed is not None:
            values[:, :prefix, c.states :] = committed
        ones = torch.ones(count, dtype=torch.bool)
        flags = ones & (start is not None), ones & (goal is not None)
        mask = self._mask(length, *flags, prefix * ones).to(noise.device)
        known = Known(mask, limits.normalise(values))
        x = self.denoiser.sample(
            _condition(*flags, ones * (prefix / length), conditions).to(noise),
            known.put(noise),
            steps or c.levels,
            adjust=self._adjust(known, guidance, adjust, reconstruction),
            eta=1.0,
            generator=generator,
        )
        # Normalising and back rounds: what is given is given to the last digit.
        return torch.where(mask, values, x)

    def split(self, trajectories: Tensor) -> tuple[Tensor, Tensor]:
        """States and actions of trajectories."""
        size = self.config.states
        return trajectories[..., :size], trajectories[..., size:]

    def roll_out(
        self, trajectories: Tensor, execute: Execution, cost: TrajectoryCost
    ) -> Candidates:
        """Judge trajectories by what a robot makes of them."""
        executed = execute(trajectories)
        apart = self.split(trajectories)[0] - self.split(executed)[0]
        return Candidates(trajectories, executed, cost(executed), apart.norm(dim=-1).mean(-1))

    def _mask(self, length: int, start: Tensor, goal: Tensor, committed: Tensor) -> Tensor:
        """Given entries (batch, length, channels), from flags and counts (batch,)."""
        c = self.config
        mask = torch.zeros((len(start), length, c.states + c.actions), dtype=torch.bool)
        mask[:, 0, : c.states] = start[:, None]
        if c.goal:
            mask[:, -1, list(c.goal)] |= goal[:, None]
        mask[..., c.states :] = (torch.arange(length) < committed[:, None])[..., None]
        return mask

    def _adjust(
        self, known: Known, guidance: Guidance | None, adjust: Adjust | None, reconstruction: float
    ) -> Adjust:
        """Guidance, then what is given."""
        restore = self.denoiser.sequence.restore
        weight = reconstruction if bool(known.mask.any()) else 0.0

        def change(x: Tensor, step: SamplingStep) -> Tensor:
            guided = (
                guidance is not None
                and bool(guidance.costs)
                and step.index < step.steps - guidance.unguided
            )

            def total(y: Tensor) -> Tensor:
                estimate = step.denoise(y)
                apart = torch.where(known.mask, estimate - known.values, 0.0)
                found = weight * step.signal * apart.square().sum((1, 2))
                if guidance is not None and guided:
                    # A cost sees the trajectory with its start and goal.
                    made = restore(known.put(estimate))
                    costs = torch.stack([cost(made) for cost in guidance.costs]).sum(0)
                    found = found + guidance.scale * step.variance * costs
                return found

            if guided or (weight > 0.0 and step.index < step.steps - 1):
                x = x - gradient(total, step.before)
            if adjust is not None:
                x = adjust(x, step)
            return known.put(x)

        return change


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of a function (batch,) at x, of its shape; also where gradients are off."""
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor of inference mode takes no part in gradients; its clone does.
        leaf = x.clone().detach().requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def _condition(start: Tensor, goal: Tensor, committed: Tensor, others: Tensor | None) -> Tensor:
    flags = torch.stack((start.float(), goal.float(), committed.float()), dim=-1)
    return flags if others is None else torch.cat((flags.to(others), others), dim=-1)


def read_diffuser(path: Path, purpose: Purpose) -> tuple[Diffuser, float]:
    """Diffuser of a checkpoint, and the time between two rows of its trajectories, s.

    Raises:
        CheckpointError: it cannot be read, or is for something else
    """
    model, period = read_network(
        path,
        purpose,
        "diffuser",
        lambda network: Diffuser(DiffuserConfig(**{**network, "goal": tuple(network["goal"])})),
    )
    return model.eval(), period
