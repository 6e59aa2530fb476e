"""Advantages of executed actions, from the costs that followed and a learned value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_mpc.learning.dataset import Dataset
from diffusion_mpc.learning.executed_trajectories import ExecutedTrajectories
from diffusion_mpc.learning.teacher_of_data import teacher_of
from diffusion_mpc.policy.purpose import Purpose
from diffusion_mpc.policy.value import read_value

BATCH = 4096


def executed_advantages(
    data: Dataset, parts: ExecutedTrajectories, value: Path
) -> NDArray[np.float32]:
    """Advantage of executed parts of runs, by row of the data at which they begin.

    How much less the run cost than its first state promised, over the horizon of a part with h + 1
    steps (n-step advantage, as 2505.23458 labels by):

        A = V(o_0) - sum_{k < h} gamma^k c_k - gamma^h V(o_h)

    Args:
        data: the data
        parts: parts of its runs
        value: checkpoint of a value of the same task

    Returns:
        (rows of the data,); NaN where no part begins

    Raises:
        CheckpointError: the value cannot be read, or is for something else
    """
    index, shape = data.index, data.fields["observation"][0]
    purpose = Purpose(
        task=index["task"],
        model_sha256=index["model_sha256"],
        observation=shape[1],
        actions=data.fields["action"][0][0],
        plan={"rate": teacher_of(index).planner.rate},
    )
    network, _ = read_value(value, purpose)
    costs_to_go = np.full(len(data), np.nan)
    rows = parts.executed
    with torch.no_grad():
        for begin in range(0, len(rows), BATCH):
            some = rows[begin : begin + BATCH]
            seen = data.rows(some, ("observation",))["observation"][:, -1]
            costs_to_go[some] = network(torch.from_numpy(seen)).numpy()
    discount = float(index["options"]["discount"])
    found = np.full(len(data), np.nan, np.float32)
    for begin in range(0, len(parts.first), BATCH):
        first = parts.first[begin : begin + BATCH]
        steps = parts.within(first)
        costs = data.rows(steps[:, :-1].ravel(), ("cost",))["cost"].reshape(len(first), -1)
        weights = discount ** np.arange(parts.horizon)
        ahead = costs @ weights[:-1] + weights[-1] * costs_to_go[steps[:, -1]]
        found[first] = costs_to_go[first] - ahead
    return found
