"""Learners: from rows of data to a loss, one for each kind of checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffusion_mpc.learning.plan_rows import PLAN, SAMPLE, SYNTHETIC
from diffusion_mpc.names import BodyName, CheckpointKind, Prediction, ProcessName
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.diffuser import Diffuser, DiffuserConfig
from diffusion_mpc.policy.diffusion_policy import condition
from diffusion_mpc.policy.value import Value, ValueConfig

Rows = Mapping[str, NDArray[Any]]
"""Rows of a data set by field, see `learning/dataset.py`."""


@dataclass(frozen=True)
class NetworkOptions:
    """Network that is trained.

    Attributes:
        body: kind of network
        process: generative process
        prediction: quantity that the network predicts
        width: units of a hidden layer
        depth: hidden layers, blocks, or resolutions of the U-Net
        dropout: fraction of the rows whose label is left out
    """

    body: BodyName = "mlp"
    process: ProcessName = "flow"
    prediction: Prediction = "sample"
    width: int = 256
    depth: int = 3
    dropout: float = 0.1


class Learner(ABC):
    """Network and loss of one kind of checkpoint.

    Attributes:
        fields: fields of the data that it reads; of trajectories, those of `ExecutedTrajectories`
        trajectories: whether it learns from whole trajectories, not from rows
        history: observations that it sees, the newest ones
        module: the network
    """

    fields: ClassVar[tuple[str, ...]]
    trajectories: ClassVar[bool] = False
    history: int
    module: nn.Module

    @abstractmethod
    def network(self) -> dict[str, Any]:
        """Arguments of the network's configuration."""

    @abstractmethod
    def fit(self, rows: Rows) -> None:
        """Set the normalisation from rows of the data."""

    @abstractmethod
    def loss(self, rows: Rows, generator: torch.Generator, device: torch.device) -> Tensor:
        """Loss () of a batch."""

    @staticmethod
    def wanted(kind: NDArray[Any], failed: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether rows of these kinds (n,) are learnt from, of a robot that had `failed` (n,).

        What one plans that lies on the ground is no example; of synthetic states there is no plan.
        """
        return (kind != SAMPLE) & (kind != SYNTHETIC) & (failed == 0)


class PolicyLearner(Learner):
    """Denoiser of plans (2303.04137, eq. 5).

    Of the residual against the shifted previous plan, or of the plan itself, see
    `Description.residual`.
    """

    fields: ClassVar[tuple[str, ...]] = ("observation", "previous", "knots")

    def __init__(
        self,
        rows: Rows,
        options: NetworkOptions,
        residual: bool = True,
        history: int = 2,
        label: int = 0,
    ) -> None:
        """Build the network for data like these rows.

        Args:
            rows: rows of the data
            options: the network
            residual: see `Description.residual`
            history: observations that it sees, no more than the rows have
            label: size of the label
        """
        self.residual, self.history = residual, min(history, rows["observation"].shape[1])
        knots, actions = rows["knots"].shape[1:]
        seen = self._condition(rows).shape[1]
        self.config = DenoiserConfig(
            knots, actions, seen, label=label, symmetric=True, **asdict(options)
        )
        self.module = self.denoiser = Denoiser(self.config)

    def network(self) -> dict[str, Any]:
        """Arguments of the denoiser's configuration."""
        return asdict(self.config)

    def fit(self, rows: Rows) -> None:
        """Limits of residuals and conditions."""
        residual, seen = self._target(rows), self._condition(rows)
        flat = residual.reshape(-1, residual.shape[-1])
        self.denoiser.fit_limits(_limits(flat), _limits(seen))

    def loss(self, rows: Rows, generator: torch.Generator, device: torch.device) -> Tensor:
        """Denoising loss of the residuals."""
        return self.denoiser.loss(
            _tensor(self._target(rows), device),
            _tensor(self._condition(rows), device),
            generator,
            self.label(rows),
        )

    def label(self, rows: Rows) -> Tensor | None:
        """Label (batch, 1) of the rows; here none."""
        return None

    def _condition(self, rows: Rows) -> NDArray[Any]:
        return condition(
            rows["observation"][:, -self.history :], rows["previous"] if self.residual else None
        )

    def _target(self, rows: Rows) -> NDArray[Any]:
        return rows["knots"] - rows["previous"] if self.residual else rows["knots"]


class OptimalityLearner(PolicyLearner):
    """Plans with a label that they are better than their like (CFGRL, 2505.23458).

    The label is 1 where the advantage is positive. Rows without a positive one are learnt from as
    part of the unconditional distribution only, with a label of 0.
    """

    fields = (*PolicyLearner.fields, "advantage")

    def __init__(
        self, rows: Rows, options: NetworkOptions, residual: bool = True, history: int = 2
    ) -> None:
        """Build the network for data like these rows."""
        super().__init__(rows, options, residual, history, label=1)

    def label(self, rows: Rows) -> Tensor | None:
        """Whether the advantage is positive, (batch, 1)."""
        return torch.from_numpy(rows["advantage"] > 0.0).float()[:, None]

    @staticmethod
    def wanted(kind: NDArray[Any], failed: NDArray[Any]) -> NDArray[np.bool_]:
        """Samples as well: they are what the label tells apart."""
        return np.asarray((kind != SYNTHETIC) & (failed == 0))


class ValueLearner(Learner):
    """Cost to go of the executed states, from the newest observation."""

    fields = ("observation", "cost_to_go")
    history = 1

    def __init__(
        self, rows: Rows, options: NetworkOptions, residual: bool = True, history: int = 1
    ) -> None:
        """Build the network for data like these rows; it sees the newest observation alone."""
        seen = rows["observation"].shape[-1]
        self.config = ValueConfig(seen, options.width, options.depth)
        self.module = self.value = Value(self.config)

    def network(self) -> dict[str, Any]:
        """Arguments of the value's configuration."""
        return asdict(self.config)

    def fit(self, rows: Rows) -> None:
        """Limits of observations, and units of costs."""
        self.value.given.fit(*_limits(rows["observation"][:, -1]))
        self.value.cost.fit(_tensor(rows["cost_to_go"]))

    def loss(self, rows: Rows, generator: torch.Generator, device: torch.device) -> Tensor:
        """Mean squared error."""
        seen = rows["observation"][:, -1]
        return self.value.loss(_tensor(seen, device), _tensor(rows["cost_to_go"], device))

    @staticmethod
    def wanted(kind: NDArray[Any], failed: NDArray[Any]) -> NDArray[np.bool_]:
        """Executed and synthetic states, and of a fallen robot as well: a fall has to be dear."""
        return np.asarray((kind == PLAN) | (kind == SYNTHETIC))


class DiffuserLearner(Learner):
    """Model of executed trajectories (2205.09991) under the observation at their start.

    The observation knows the reference, which states do not.
    """

    fields = ("states", "actions", "observation")
    trajectories = True
    history = 1

    def __init__(
        self, rows: Rows, options: NetworkOptions, residual: bool = True, history: int = 1
    ) -> None:
        """Build the network for data like these rows; it sees the newest observation alone.

        Raises:
            ValueError: the network is not to be what the paper's is
        """
        if (options.process, options.prediction) != ("ddpm", "sample"):
            raise ValueError(
                "a diffuser is a ddpm that predicts the sample; leave out --process and "
                "--prediction"
            )
        self.config = DiffuserConfig(
            states=rows["states"].shape[2],
            actions=rows["actions"].shape[2],
            horizon=rows["states"].shape[1],
            condition=rows["observation"].shape[2],
            body=options.body,
            width=options.width,
            depth=options.depth,
        )
        self.module = self.diffuser = Diffuser(self.config)

    def network(self) -> dict[str, Any]:
        """Arguments of the diffuser's configuration."""
        return asdict(self.config)

    def fit(self, rows: Rows) -> None:
        """Limits of states, actions and observations."""
        self.diffuser.fit_limits(self._trajectories(rows), self._seen(rows))

    def loss(self, rows: Rows, generator: torch.Generator, device: torch.device) -> Tensor:
        """Denoising loss of the trajectories."""
        return self.diffuser.loss(
            self._trajectories(rows, device), generator, self._seen(rows, device)
        )

    @staticmethod
    def _trajectories(rows: Rows, device: torch.device | str = "cpu") -> Tensor:
        return _tensor(np.concatenate((rows["states"], rows["actions"]), axis=2), device)

    @staticmethod
    def _seen(rows: Rows, device: torch.device | str = "cpu") -> Tensor:
        return _tensor(rows["observation"][:, -1], device)


LEARNERS: dict[
    CheckpointKind,
    type[PolicyLearner] | type[OptimalityLearner] | type[ValueLearner] | type[DiffuserLearner],
] = {
    "policy": PolicyLearner,
    "optimality": OptimalityLearner,
    "value": ValueLearner,
    "diffuser": DiffuserLearner,
}


def _limits(values: NDArray[Any]) -> tuple[Tensor, Tensor]:
    return _tensor(values.min(0)), _tensor(values.max(0))


def _tensor(values: NDArray[Any], device: torch.device | str = "cpu") -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)
