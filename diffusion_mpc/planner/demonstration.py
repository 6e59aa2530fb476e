"""Demonstrations.

A path of positions over time, and the part of it that lies ahead of the robot.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import torch

from diffusion_mpc.config import SearchConfig
from diffusion_mpc.planner.objective import Demonstration, Objective, Problem, Trajectories
from diffusion_mpc.tasks.cost import columns
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
        """Positions (len(times), k) at times in s.

        Before the first row and after the last, those of that row.
        """
        return np.stack(
            [np.interp(times, self.times, column) for column in self.positions.T], axis=1
        )


class Guide:
    """A demonstrated path at the pace of a planner.

    The part that lies ahead of the robot, and its cost.

    By the max rule a demonstration draws the search only while it costs less than the samples: the
    horizon has to reach to where following it pays.
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
        speeds = (
            np.gradient(self._rows, config.control_dt, axis=0)
            if count > 1
            else np.zeros_like(self._rows)
        )
        self._batch = _batch(
            objective, self._rows, speeds, [addresses[name] for name in path.names]
        )

    def nearest(self, state: State) -> int:
        """Row of the path that is nearest to a state, the earliest of equals.

        Who falls behind is waited for.
        """
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


class ChunkGuide:
    """A policy's plan as a demonstration: where it rolls out, and what it costs there."""

    def __init__(self, objective: Objective, distance: float) -> None:
        """Take all positions but rotations of free bodies.

        Args:
            objective: what the planner minimises
            distance: distance from which a position counts as far off, m or rad
        """
        self._objective, self._distance = objective, distance
        self._columns = tuple(q for q, _ in positions_of(objective.backend.model).values())

    def ahead(self, chunk: torch.Tensor, mean: torch.Tensor, problem: Problem) -> Demonstration:
        """The plan's own trajectory in a problem.

        Args:
            chunk: (1, num_knots, nu) knots of the plan; the mean itself demonstrates nothing
            mean: (num_knots, nu) where the search starts
            problem: the problem, without a demonstration
        """
        made = self._objective.evaluate(problem, chunk)
        something = (chunk[0] != mean).any()
        # The backend may use the memory of the trajectory again.
        positions = columns(made.qpos[0], self._columns).nan_to_num().clone()
        cost = made.costs[0].where(something & made.costs[0].isfinite(), torch.inf)
        return Demonstration(positions, self._columns, self._distance, cost)

    @staticmethod
    def figures(
        problem: Problem, trajectories: Trajectories, weights: torch.Tensor
    ) -> torch.Tensor:
        """Figures (4,) of a plan in a denoising step, as `take_proposal` has them.

        The number of plans, the weight of the samples that are granted its cost, its cost, and the
        least of the samples'.
        """
        assert problem.demonstration is not None
        assert trajectories.demo_costs is not None
        cost = problem.demonstration.cost
        assert isinstance(cost, torch.Tensor), "of `ahead`; nothing here waits for the device"
        there = cost.isfinite()
        drawn = (trajectories.demo_costs < trajectories.costs).to(weights.dtype)
        return torch.stack(
            (
                there.to(weights.dtype),
                (weights * drawn).sum(),
                cost.where(there, 0.0),
                trajectories.costs.nan_to_num(nan=torch.inf).amin(),
            )
        )


def _batch(
    objective: Objective, positions: Array, speeds: Array, addresses: list[tuple[int, int]]
) -> RolloutBatch:
    """A trajectory of one sample along the path.

    Joints not demonstrated are as in the initial state, and no effort is made.
    """
    task, backend = objective.task, objective.backend
    data = task.initial_data(backend.model)
    qpos, qvel = (np.tile(values, (len(positions), 1)) for values in (data.qpos, data.qvel))
    qpos[:, [q for q, _ in addresses]], qvel[:, [v for _, v in addresses]] = positions, speeds
    controls = np.tile(task.action_centre, (len(positions), 1))
    return trajectory(backend.model, qpos, qvel, controls, backend.dtype, backend.device)


def positions_of(model: mujoco.MjModel) -> dict[str, tuple[int, int]]:
    """Addresses in qpos and qvel of all positions that can be demonstrated, by name."""
    addresses = {}
    for i in range(model.njnt):
        name, kind = (
            model.joint(i).name or model.body(model.jnt_bodyid[i]).name,
            int(model.jnt_type[i]),
        )
        q, v = int(model.jnt_qposadr[i]), int(model.jnt_dofadr[i])
        if kind == int(mujoco.mjtJoint.mjJNT_FREE):
            addresses.update({f"{name}.{axis}": (q + k, v + k) for k, axis in enumerate("xyz")})
        elif kind != int(mujoco.mjtJoint.mjJNT_BALL):
            addresses[name] = (q, v)
    return addresses
