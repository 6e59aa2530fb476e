"""Demonstrations from files and bags: a path of positions over time, and the part of it that lies ahead of the robot.

A file is CSV with a header: a column `time` (s) and one column for each demonstrated position, by joint name (rad or m; the place
of a floating base is `<joint>.x`, `<joint>.y` and `<joint>.z`, world frame, m). Between its rows the path is straight, and after
the last one it stays. A bag is a recorded run.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch

from diffusion_mpc.bags.recorded_states import read_states
from diffusion_mpc.config import SearchConfig
from diffusion_mpc.names import hint
from diffusion_mpc.planner.objective import Demonstration, Objective, Problem
from diffusion_mpc.tasks.base import Task, columns
from diffusion_mpc.tasks.measured import rows_of, trajectory
from diffusion_mpc.types import Array, RolloutBatch, State


class DemonstrationError(ValueError):
    """A demonstration cannot be used; the message is one line that names the file and the cause."""


@dataclass(frozen=True)
class DemonstratedPath:
    """Positions over time.

    Attributes:
        names: the k demonstrated positions, see `positions_of`
        times: (rows,) s, from 0 on, rising
        positions: (rows, k)
    """

    names: tuple[str, ...]
    times: Array
    positions: Array

    def at(self, times: Array) -> Array:
        """Positions (len(times), k) at times in s; before the first row and after the last, those of that row."""
        return np.stack([np.interp(times, self.times, column) for column in self.positions.T], axis=1)


class Guide:
    """A demonstrated path at the pace of a planner: the part that lies ahead of the robot, and its cost.

    By the max rule a demonstration draws the search only while it costs less than the samples: the horizon has to reach to where
    following it pays.
    """

    def __init__(self, objective: Objective, config: SearchConfig, path: DemonstratedPath) -> None:
        """Resample the path to the control step.

        Args:
            objective: what the planner minimises
            config: horizon, control step, and the distance from which a position counts as far off
            path: the path
        """
        self._objective, self._config = objective, config
        addresses = positions_of(objective.backend.model)
        self._columns = tuple(addresses[name][0] for name in path.names)
        count = int(np.ceil(path.times[-1] / config.control_dt - 1e-6)) + 1
        self._rows = path.at(np.arange(count, dtype=np.float64) * config.control_dt)
        speeds = np.gradient(self._rows, config.control_dt, axis=0) if count > 1 else np.zeros_like(self._rows)
        self._batch = _batch(objective, self._rows, speeds, [addresses[name] for name in path.names])

    def nearest(self, state: State) -> int:
        """Row of the path that is nearest to a state, the earliest of equals: who falls behind is waited for."""
        return int(np.linalg.norm(self._rows - state.qpos[list(self._columns)], axis=1).argmin())

    def ahead(self, row: int | torch.Tensor, problem: Problem) -> Demonstration:
        """The path after a row, and the cost of following it in a problem."""
        steps = torch.arange(1, self._config.horizon_steps + 1, device=self._batch.qpos.device)
        x = rows_of(self._batch, (row + steps).clamp(max=len(self._rows) - 1))
        return Demonstration(
            positions=columns(x.qpos[0], self._columns),
            columns=self._columns,
            distance=self._config.demonstration_distance,
            cost=self._objective.terms(x, problem).sum(),
        )


def _batch(objective: Objective, positions: Array, speeds: Array, addresses: list[tuple[int, int]]) -> RolloutBatch:
    """A trajectory of one sample along the path: joints not demonstrated are as in the initial state, and no effort is made."""
    task, backend = objective.task, objective.backend
    data = task.initial_data(backend.model)
    qpos, qvel = (np.tile(values, (len(positions), 1)) for values in (data.qpos, data.qvel))
    qpos[:, [q for q, _ in addresses]], qvel[:, [v for _, v in addresses]] = positions, speeds
    controls = np.tile(np.clip(0.0, *task.ctrl_limits), (len(positions), 1))
    return trajectory(backend.model, qpos, qvel, controls, backend.dtype, backend.device)


def positions_of(model: mujoco.MjModel) -> dict[str, tuple[int, int]]:
    """Addresses in qpos and qvel of all positions that can be demonstrated, by name as in the module's docstring."""
    addresses = {}
    for i in range(model.njnt):
        name, kind = model.joint(i).name or model.body(model.jnt_bodyid[i]).name, int(model.jnt_type[i])
        q, v = int(model.jnt_qposadr[i]), int(model.jnt_dofadr[i])
        if kind == int(mujoco.mjtJoint.mjJNT_FREE):
            addresses.update({f"{name}.{axis}": (q + k, v + k) for k, axis in enumerate("xyz")})
        elif kind != int(mujoco.mjtJoint.mjJNT_BALL):
            addresses[name] = (q, v)
    return addresses


def read_demonstration(source: str | Path, task: Task) -> DemonstratedPath:
    """Read a demonstration of a task.

    Args:
        source: CSV file, or bag (rosbag2 folder or .mcap file); a relative path is looked for in the current folder, then beside
            the task's model
        task: task that is demonstrated

    Raises:
        DemonstrationError: it cannot be read, or names, times or values are not as they should be
        BagError: the bag cannot be read
    """
    folders = (Path(), task.path.parent, task.model_path.parent)
    here = [folder / source for folder in folders if (folder / source).exists()]
    if not here:
        raise DemonstrationError(f"demonstration '{source}' does not exist; give a CSV file or a bag")
    path = _from_csv(here[0], task) if here[0].suffix == ".csv" else _from_bag(here[0], task)
    if len(path.times) < 2:
        raise DemonstrationError(f"demonstration '{source}' has fewer than two rows")
    if not (np.isfinite(path.times).all() and np.isfinite(path.positions).all()):
        row = int(np.argmin(np.isfinite(np.column_stack([path.times, path.positions])).all(axis=1)))
        raise DemonstrationError(f"demonstration '{source}' has a NaN or infinite value in row {row + 1}")
    if (np.diff(path.times) <= 0.0).any():
        row = int(np.argmax(np.diff(path.times) <= 0.0)) + 2
        raise DemonstrationError(f"demonstration '{source}': the time of row {row} is not after that of the row before")
    return path


def _from_csv(file: Path, task: Task) -> DemonstratedPath:
    with file.open(newline="") as stream:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row] or [[]]
    names, known = [name for name in header if name != "time"], positions_of(task.model)
    if len(names) == len(header) or not names or len(set(header)) < len(header):
        begins = ",".join(header)
        raise DemonstrationError(f"demonstration '{file}' needs a header 'time,NAME,...', each name once; it begins '{begins}'")
    for name in names:
        if name not in known:
            raise DemonstrationError(f"demonstration '{file}' has a column '{name}'; {hint(name, known)}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DemonstrationError(f"demonstration '{file}': row {number} has {len(row)} values, the header {len(header)}")
    try:
        values = np.array(rows, dtype=float).reshape(-1, len(header))
    except ValueError as error:
        raise DemonstrationError(f"demonstration '{file}': {error}") from None
    times = values[:, header.index("time")]
    return DemonstratedPath(tuple(names), times - times[:1], values[:, [header.index(name) for name in names]])


def _from_bag(bag: Path, task: Task) -> DemonstratedPath:
    states = read_states(bag, task)
    known = positions_of(task.model)
    names = task.demonstrated or tuple(known)
    # Of states with the same stamp the first one counts.
    times, rows = np.unique(states.stamps, return_index=True)
    return DemonstratedPath(names, times - times[:1], states.qpos[rows][:, [known[name][0] for name in names]])
