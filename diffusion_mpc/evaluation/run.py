"""A recorded run as arrays, in MuJoCo's order and frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.types import Array

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class States:
    """Measured states.

    Attributes:
        stamps: (T,) times of measurement, s
        qpos: (T, nq)
        qvel: (T, nv)
    """

    stamps: Array
    qpos: Array
    qvel: Array


@dataclass(frozen=True)
class Commands:
    """Commands sent.

    Attributes:
        stamps: (N,) times from which they apply, s; for messages without a stamp, the time of recording
        state_stamps: (N,) stamps of the states that they follow from, s; NaN for a safe command or where unknown
        values: (N, nu) in actuator units and MuJoCo's order; the gains of a safe command are left out
        safe: (N,) whether it is the watchdog's safe command
    """

    stamps: Array
    state_stamps: Array
    values: Array
    safe: Flags


@dataclass(frozen=True)
class Plans:
    """What the planner said about its plans; see msg/PlannerStats.msg for the meaning of the figures.

    Attributes:
        stamps: (P,) stamps of the states planned from, s
        plan_time, deadline: (P,) s
        missed: (P,) whether the plan came too late
        cost, cost_mean, effective_sample_size, infeasible_share: (P,)
        term_names: cost terms
        term_costs: (P, terms) weighted
        velocity: (P, 3) commanded forward and lateral velocity, m/s, and yaw rate, rad/s
        goal: (P, 7) goal position, m, and unit quaternion (wxyz), world frame
        algorithm, backend, num_samples, horizon_steps, iterations: of the last plan
    """

    stamps: Array
    plan_time: Array
    deadline: Array
    missed: Flags
    cost: Array
    cost_mean: Array
    effective_sample_size: Array
    infeasible_share: Array
    term_names: tuple[str, ...]
    term_costs: Array
    velocity: Array
    goal: Array
    algorithm: str | None
    backend: str | None
    num_samples: int | None
    horizon_steps: int | None
    iterations: int | None


@dataclass(frozen=True)
class Run:
    """One recorded run.

    Attributes:
        bag: where it was read from
        states: measured states
        commands: commands sent
        plans: figures of the plans
        topics: number of messages on every topic of the bag
        problems: what could not be read or used, one line each
    """

    bag: Path
    states: States
    commands: Commands
    plans: Plans
    topics: Mapping[str, int]
    problems: tuple[str, ...]
