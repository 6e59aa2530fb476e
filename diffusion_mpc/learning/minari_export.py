"""Data as a Minari dataset, the format of offline reinforcement learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.learning.dataset import Dataset, DatasetError
from diffusion_mpc.learning.plan_rows import PLAN


def export_to_minari(folder: Path, name: str) -> dict[str, Any]:
    """Write what was executed as a Minari dataset.

    It goes into the folder that the environment variable `MINARI_DATASETS_PATH` names. An
    observation is `Task.observation`, an action is normalised, a reward is the negative cost; a
    step after which the robot had failed is a termination. Infos hold `state` (T, nq + nv),
    `reference` (T, 10) and `plan` (T, num_knots, nu), the teacher's knots.

    Args:
        folder: data that `collect` wrote
        name: of the dataset, as Minari has it, e.g. `quadruped/teacher-v0`

    Returns:
        figures: name, episodes, steps, folder

    Raises:
        DatasetError: there are no such data, Minari is not there, or it has a dataset of that name
    """
    try:
        import minari
        from gymnasium.spaces import Box
        from minari.data_collector import EpisodeBuffer
    except ImportError:
        raise DatasetError("export needs Minari: pip install minari") from None
    data = Dataset(folder)
    names = ("kind", "episode", "step", "action", "cost", "failed")
    columns = data.columns(*names)
    executed = np.flatnonzero(columns["kind"] == PLAN)
    episodes = list[Any]()
    for number in np.unique(columns["episode"][executed]).tolist():
        mine = executed[columns["episode"][executed] == number]
        mine = mine[np.argsort(columns["step"][mine], kind="stable")]
        # A row that is missing, where no plan was feasible, ends an episode.
        for part in np.split(mine, np.flatnonzero(np.diff(columns["step"][mine]) != 1) + 1):
            if len(part) < 2:
                continue
            rows = data.rows(part, ("observation", "state", "reference", "knots"))
            steps = len(part) - 1
            terminations = columns["failed"][part[1:]].astype(bool)
            truncations = np.zeros(steps, bool)
            truncations[-1] = not terminations[-1]
            episodes.append(
                EpisodeBuffer(
                    id=len(episodes),
                    observations=rows["observation"][:, -1],
                    actions=columns["action"][part[:-1]],
                    rewards=(-columns["cost"][part[:-1]]).tolist(),
                    terminations=terminations.tolist(),
                    truncations=truncations.tolist(),
                    infos={
                        "state": rows["state"],
                        "reference": rows["reference"],
                        "plan": rows["knots"],
                    },
                )
            )
    size = data.fields["observation"][0][-1]
    actions = data.fields["action"][0]
    try:
        made = minari.create_dataset_from_buffers(
            dataset_id=name,
            buffer=episodes,
            observation_space=Box(-np.inf, np.inf, (size,), np.float32),
            action_space=Box(-1.0, 1.0, actions, np.float32),
            algorithm_name="diffusion_mpc teacher",
            description=f"Task {data.index['task']}, {data.index.get('revision') or 'released'}",
        )
    except ValueError as error:
        raise DatasetError(f"Minari: {error}; choose another name") from None
    return {
        "name": name,
        "episodes": int(made.total_episodes),
        "steps": int(made.total_steps),
        "folder": str(made.spec.data_path),
    }
