"""Parts of recorded episodes, as a model of trajectories learns from them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.learning.dataset import Dataset, DatasetError, Rows
from diffusion_mpc.learning.plan_rows import PLAN
from diffusion_mpc.learning.relative_states import RelativeStates
from diffusion_mpc.learning.teacher_of_data import task_of


class ExecutedTrajectories:
    """Executed states and actions of consecutive steps under one reference, without a failure.

    Attributes:
        first: (n,) numbers of the rows in the data at which such a part begins
        executed: (m,) numbers of the rows of all executed steps
        horizon: steps of a part
    """

    def __init__(self, data: Dataset, horizon: int) -> None:
        """Find them.

        Args:
            data: the data
            horizon: steps of a part

        Raises:
            DatasetError: no episode has as many
        """
        self._data = data
        columns = data.columns("kind", "failed", "episode", "step", "reference")
        executed = np.flatnonzero((columns["kind"] == PLAN) & (columns["failed"] == 0))
        before, after = executed[: 1 - horizon or None], executed[horizon - 1 :]
        whole = columns["episode"][before] == columns["episode"][after]
        # Rows of an episode are in the order of its steps; one without a plan is missing.
        whole &= columns["step"][after] - columns["step"][before] == horizon - 1
        whole &= (columns["reference"][before] == columns["reference"][after]).all(1)
        self.first = before[whole]
        if not len(self.first):
            raise DatasetError(
                f"no episode in '{data.folders[0]}' has {horizon} steps under one reference; "
                "collect longer ones, or lower --horizon"
            )
        self._steps = np.zeros(len(data), np.int64)
        self._steps[executed] = np.arange(len(executed))
        self.executed, self.horizon = executed, horizon

    @cached_property
    def relative(self) -> RelativeStates:
        """Numbers of the states.

        Raises:
            DatasetError: the robot has actuators with states, which the data do not have
        """
        task = task_of(self._data.index)
        if task.model.na:
            raise DatasetError(
                f"actuators of task '{task.name}' have states, which the data do not have; "
                "trajectories of them are not modelled"
            )
        return RelativeStates(task)

    def rows(self, first: NDArray[np.intp]) -> Rows:
        """Parts that begin at some of the rows `first`, (n,).

        Returns:
            `states` (n, horizon, states), see `RelativeStates`; `actions` (n, horizon, nu),
            normalised; `observation` (n, history, obs) at the first step
        """
        found = self._data.rows(self.within(first).ravel(), ("state", "action"))
        shape = (len(first), self.horizon, -1)
        states = found["state"].reshape(shape)
        return {
            "states": self.relative.encode(states, states[:, 0]).astype(np.float32),
            "actions": found["action"].reshape(shape),
            "observation": self._data.rows(first, ("observation",))["observation"],
        }

    def actions(self, first: NDArray[np.intp]) -> NDArray[np.float32]:
        """Actions (n, horizon, nu) of `rows`."""
        found = self._data.rows(self.within(first).ravel(), ("action",))["action"]
        return found.reshape(len(first), self.horizon, -1)

    def within(self, first: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers (n, horizon) of the rows of all steps of parts that begin at `first`, (n,)."""
        return np.asarray(self.executed[self._steps[first][:, None] + np.arange(self.horizon)])
