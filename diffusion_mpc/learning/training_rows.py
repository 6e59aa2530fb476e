"""Rows that a network is trained and validated on, and how they are shown to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_mpc.learning.dataset import Dataset, DatasetError, Rows
from diffusion_mpc.learning.executed_advantages import executed_advantages
from diffusion_mpc.learning.executed_trajectories import ExecutedTrajectories
from diffusion_mpc.learning.learners import Learner
from diffusion_mpc.learning.teacher_of_data import task_of, teacher_of
from diffusion_mpc.names import PlanTarget
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.policy.trajectory_policy import steps_of_controls
from diffusion_mpc.tasks.mirror import Mirror
from diffusion_mpc.types import Array

BUFFER = 64
"""Batches that are read from the data at once."""

FITTED = 100_000
"""Rows that the normalisation is taken from, at most."""

VALIDATED = 4096
"""Rows that are validated on, about."""

TRAJECTORIES = 16
"""Factor by which trajectories that are fitted to, validated on or read at once are fewer."""

VALIDATION = 10
"""One episode in so many is kept for validation."""


class TrainingRows:
    """Rows of a data set that a kind of network learns from, and those kept for validation.

    Attributes:
        train, validation: (n,) their numbers in the data
    """

    def __init__(
        self,
        data: Dataset,
        kind: type[Learner],
        mirror: bool,
        horizon: int,
        target: PlanTarget = "planned",
        value: Path | None = None,
    ) -> None:
        """Choose the rows.

        Args:
            data: the data
            kind: what learns from them
            mirror: show mirror images of half of the rows, where the task says its sides;
                trajectories have none
            horizon: steps of a trajectory, where it learns from those
            target: plans that a policy learns
            value: checkpoint of a value, by which what was executed has its advantages; None: those
                of the data

        Raises:
            DatasetError: the data have no such trajectories
            CheckpointError: the value cannot be read, or is for something else
        """
        self._data, self._fields = data, kind.fields
        missing = [] if kind.trajectories else sorted(set(kind.fields) - set(data.fields))
        if missing:
            raise DatasetError(
                f"some of the data have no field '{missing[0]}'; leave synthetic data out"
            )
        columns = data.columns("kind", "failed", "episode")
        self._to_knots: Array | None = None
        if target == "executed":
            search = teacher_of(data.index).planner
            dt, count = search.control_dt, search.horizon_steps
            self._steps = steps_of_controls(count, dt, 1.0 / search.rate)
            self._to_knots = Spline(search.num_knots, count, dt, search.spline).to_knots
            horizon = int(self._steps[-1]) + 1
        by_trajectory = kind.trajectories or target == "executed"
        self._trajectories = ExecutedTrajectories(data, horizon) if by_trajectory else None
        self._fewer = TRAJECTORIES if by_trajectory else 1
        self._advantages: NDArray[np.float32] | None = None
        if value is not None and self._trajectories is not None:
            self._advantages = executed_advantages(data, self._trajectories, value)
        wanted = (
            np.flatnonzero(kind.wanted(columns["kind"], columns["failed"]))
            if self._trajectories is None
            else self._trajectories.first
        )
        validated = is_validated(columns["episode"][wanted])
        self.train, self.validation = wanted[~validated], wanted[validated]
        self._mirror = self._find_mirror() if mirror and not kind.trajectories else None

    def to_fit(self) -> Rows:
        """Some of the rows, for sizes and normalisation."""
        return self._read(_thinned(self.train, FITTED // self._fewer))

    def with_images(self, rows: Rows) -> Rows:
        """Rows, followed by their mirror images where those are shown."""
        if self._mirror is None:
            return rows
        images = self._mirror.rows(rows)
        return {name: np.concatenate([x, images[name]]) for name, x in rows.items()}

    def to_validate(self) -> Rows:
        """Some rows of the episodes kept for validation, or of the others where there are none."""
        kept = self.validation if len(self.validation) else self.train
        return self._read(_thinned(kept, VALIDATED // self._fewer))

    def batches(self, order: NDArray[np.intp], size: int, part: slice) -> Iterator[Rows]:
        """Whole batches of rows in an order.

        Args:
            order: numbers of the rows
            size: rows of a batch
            part: rows of each batch that are wanted
        """
        order = order[: len(order) // size * size]
        most = BUFFER // self._fewer * size
        for begin in range(0, len(order), most):
            rows = self._read(order[begin : begin + most])
            for first in range(0, len(order[begin : begin + most]), size):
                yield {name: x[first : first + size][part] for name, x in rows.items()}

    def shown(self, rows: Rows, generator: torch.Generator) -> Rows:
        """Rows of a batch, half of them, by chance, as their mirror images."""
        if self._mirror is None:
            return rows
        count = len(next(iter(rows.values())))
        chosen = (torch.rand(count, generator=generator) < 0.5).numpy()
        reflected = self._mirror.rows({name: x[chosen] for name, x in rows.items()})
        shown = {name: x.copy() for name, x in rows.items()}
        for name, x in reflected.items():
            shown[name][chosen] = x
        return shown

    def _read(self, numbers: NDArray[np.intp]) -> Rows:
        if self._trajectories is None:
            return self._data.rows(numbers, self._fields)
        if self._to_knots is None:
            return self._trajectories.rows(numbers)
        rows = self._data.rows(numbers, self._fields)
        executed = self._trajectories.actions(numbers)[:, self._steps]
        rows["knots"] = (self._to_knots @ executed).clip(-1.0, 1.0).astype(np.float32)
        if self._advantages is not None:
            rows["advantage"] = self._advantages[numbers]
        return rows

    def _find_mirror(self) -> Mirror | None:
        task = task_of(self._data.index)
        return Mirror(task) if task.sides is not None else None


def is_validated(episodes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether episodes (n,) are kept for validation."""
    return np.asarray(episodes % VALIDATION == VALIDATION - 1)


def _thinned(numbers: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Every so many of some numbers, so that they are no more than `most`."""
    return numbers[:: max(1, math.ceil(len(numbers) / most))]
