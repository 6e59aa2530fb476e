"""Enlarge data with synthetic trajectories near a policy (Policy-Guided Diffusion, 2404.06356).

Rows are steps of the trajectories, with the fields of `learning/collect.py` but those of a plan
that nobody made (`knots`, `plan_cost`, `advantage`), and two more:

- `dynamics_error` (): of the step to the next state, see `Synthesis.check`
- `policy_distance` (): root mean square of the difference to the policy's action

`previous` are knots that give the trajectory's own actions from there on, as nearly as they can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_mpc.config import Value
from diffusion_mpc.learning.collect import parse_given
from diffusion_mpc.learning.dataset import (
    DatasetError,
    Rows,
    open_shard,
    read_index,
    shard_name,
    write_index,
)
from diffusion_mpc.learning.executed import costs_to_go
from diffusion_mpc.learning.plan_rows import SYNTHETIC, TYPES
from diffusion_mpc.learning.shard_folder import begin_folder, make_missing
from diffusion_mpc.learning.synthesis import Synthesis
from diffusion_mpc.policy.checkpoint import locate
from diffusion_mpc.versions import revision, versions

TRAJECTORIES = 64
"""Trajectories of a shard."""


@dataclass(frozen=True)
class AugmentOptions:
    """Synthetic trajectories that are wanted.

    Attributes:
        data: folder of the recorded data
        diffuser: checkpoint of the model of their trajectories
        trajectories: number of them; a multiple of those of a shard is made
        strength: lambda of the guidance to the policy; 0: the data's own behaviour
        duration: of a trajectory, s; 0: as the model was trained on
        largest_error: error of the dynamics from which on a trajectory is cut off; 0: none is
        processes: worker processes; 0: one per core
        ray_address: as `CollectOptions`
        seed: same seed, same data
    """

    data: Path
    diffuser: str
    trajectories: int = 1024
    strength: float = 1.0
    duration: float = 0.0
    largest_error: float = 0.0
    processes: int = 0
    ray_address: str = ""
    seed: int = 0


def augment(
    task: str, folder: Path, given: Mapping[str, str], options: AugmentOptions
) -> dict[str, Any]:
    """Make the synthetic trajectories that are not there yet.

    Args:
        task: name of a task, or its file
        folder: where they go
        given: texts of parameters that differ from those of the data, `policy.checkpoint` of the
            target policy among them
        options: trajectories that are wanted

    Returns:
        figures: trajectories, rows, and over all rows the errors of the dynamics, beside those of
        the recorded trajectories, the distance to the policy, cost and failures

    Raises:
        CheckpointError, DatasetError, ValueError: as `Synthesis`
        ConfigError, TaskError: a parameter is not one
    """
    if options.trajectories < 1:
        raise ValueError("--episodes is 0; --augment makes that many trajectories, 1 at least")
    index = read_index(options.data)
    settings = {**augment_settings(options.data, given), "task": task}
    # What does not fit ends here, in one line, not in every worker.
    synthesis = Synthesis(options.data, options.diffuser, settings, options.duration)
    said = {
        "data": str(options.data),
        "diffuser": str(locate(options.diffuser)),
        **{
            name: value
            for name, value in asdict(options).items()
            if name not in ("data", "diffuser", "trajectories", "processes", "ray_address")
        },
    }
    about = {
        "task": index["task"],
        "model_sha256": index["model_sha256"],
        "parameters": settings,
        "options": said,
        "revision": revision(),
        "versions": versions(),
    }
    begin_folder(folder, about, ("task", "model_sha256", "parameters", "options"))
    shards = -(-options.trajectories // TRAJECTORIES)
    work = partial(synthetic_rows, settings, options)
    made = make_missing(folder, work, shards, options.processes, options.ray_address)
    write_index(folder, about, range(shards))
    fields = [open_shard(folder / shard_name(number)).fields for number in range(shards)]
    whole = {
        name: np.concatenate([np.asarray(f[name]) for f in fields])
        for name in ("dynamics_error", "policy_distance", "cost", "failed")
    }
    return {
        "task": about["task"],
        "folder": str(folder),
        "trajectories": shards * TRAJECTORIES,
        "rows": len(whole["cost"]),
        "new_rows": made,
        "dynamics_error": float(whole["dynamics_error"].mean()),
        "dynamics_error_recorded": synthesis.recorded_error(options.seed),
        "policy_distance": float(np.sqrt((whole["policy_distance"] ** 2).mean())),
        "mean_cost": float(whole["cost"].mean()),
        "failed": float(whole["failed"].mean()),
    }


def augment_settings(data: Path, given: Mapping[str, str]) -> dict[str, Value]:
    """Parameters of the data, but for those given, and of a policy that plans alone.

    Raises:
        ConfigError, TaskError: a parameter is not one
        DatasetError: there are no such data
    """
    recorded = read_index(data)["parameters"]
    given_values = parse_given(str(recorded["task"]), given)
    # Not the policy that may have controlled when the data were collected.
    none: dict[str, Value] = {"policy.checkpoint": ""}
    return {**recorded, **none, **given_values, "planner.algorithm": "policy"}


def synthetic_rows(settings: Mapping[str, Value], options: AugmentOptions, number: int) -> Rows:
    """Rows of one shard; called in other processes."""
    made = Synthesis(options.data, options.diffuser, settings, options.duration)
    random = np.random.default_rng((options.seed, number))
    first = made.executed.first
    count = min(TRAJECTORIES, len(first))
    starts = made.starts(np.sort(random.choice(first, count, replace=False)))
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    states, actions = made.sample(starts, options.strength, generator)
    errors = made.check(states, actions)
    seen = made.observations(starts, states)
    wanted = made.policy_actions(starts, states)
    apart = np.sqrt(np.square(actions - wanted).mean(-1))
    discount = made.data.index["options"]["discount"]
    parts = list[dict[str, NDArray[Any]]]()
    for i in range(count):
        reference = starts.references[i]
        cost, failed = made.costs(starts.times[i], reference, states[i], actions[i])
        # The last state has no next one.
        kept = len(errors[i])
        if options.largest_error:
            wrong = np.flatnonzero(errors[i] > options.largest_error)
            kept = int(wrong[0]) if len(wrong) else kept
        parts.append(
            {
                "observation": seen[i, :kept],
                "reference": np.tile(
                    np.concatenate([reference.velocity, reference.pose]), (kept, 1)
                ),
                "previous": made.knots(actions[i])[:kept],
                "action": actions[i, :kept],
                "cost": cost[:kept],
                "cost_to_go": costs_to_go(cost, discount, 1.0 / made.period)[:kept],
                "kind": np.full(kept, SYNTHETIC),
                "episode": np.full(kept, number * TRAJECTORIES + i),
                "step": np.arange(kept),
                "time": starts.times[i] + made.period * np.arange(kept),
                "state": states[i, :kept],
                "failed": failed[:kept],
                "dynamics_error": errors[i, :kept],
                "policy_distance": apart[i, :kept],
            }
        )
    if not any(len(part["kind"]) for part in parts):
        raise DatasetError(
            f"no step of {count} trajectories has an error below {options.largest_error:g}; train "
            "the diffuser for longer, or raise --largest-error"
        )
    return {
        name: np.concatenate([part[name] for part in parts]).astype(TYPES.get(name, np.float32))
        for name in parts[0]
    }
