"""`benchmark augmentation`: a robot's synthetic trajectories against MuJoCo and recorded ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cyclopts.types import PositiveInt
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from diffusion_mpc.arguments import SetOption, parse_settings
from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.figures import Row, number, table
from diffusion_mpc.benchmark.network_training import batch, train
from diffusion_mpc.learning.augment import augment_settings
from diffusion_mpc.learning.synthesis import Starts, Synthesis
from diffusion_mpc.learning.training_rows import is_validated
from diffusion_mpc.policy.policy_guided import OneStepModel
from diffusion_mpc.run_file import Figures
from diffusion_mpc.types import Array

WIDTH = 256
"""Units of the hidden layers of the one-step model."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(Benchmark):
    """Judge what `collect --augment` makes of recorded data.

    By strength of the guidance: the error of the dynamics against MuJoCo, the distance of the
    actions to the policy's, and costs; beside the recorded trajectories that begin in the same
    states, and the same number from a one-step model of the same data that is rolled out under the
    policy.

    example: diffusion-mpc benchmark augmentation --data runs/data/ant --diffuser
        runs/data/ant_diffuser/best.safetensors --policy runs/data/ant_policy/best.safetensors

    Attributes:
        data: recorded data
        diffuser: model of their trajectories
        policy: target policy, trained with --no-residual
        strengths: lambdas of the guidance
        trajectories: number of each; they begin in episodes that the model was not trained on
        training_steps: gradient steps of the one-step model
        seed: seed of starts, networks and samples
        settings: planner parameter; can be repeated
    """

    data: Path
    diffuser: Path
    policy: Path
    strengths: tuple[float, ...] = (0.0, 1.0, 3.0, 10.0, 30.0)
    trajectories: PositiveInt = 64
    training_steps: PositiveInt = 5000
    seed: int = 0
    settings: SetOption = ()

    def report(self) -> Report:
        """Figures of each source of trajectories, "rows"."""
        torch.set_num_threads(1)
        given = {**parse_settings(self.settings), "policy.checkpoint": str(self.policy)}
        made = Synthesis(self.data, str(self.diffuser), augment_settings(self.data, given))
        first = made.executed.first
        episodes = made.data.rows(first, ("episode",))["episode"]
        kept = is_validated(episodes)
        random = np.random.default_rng(self.seed)
        unseen = first[kept] if kept.any() else first
        chosen = random.choice(unseen, min(self.trajectories, len(unseen)), replace=False)
        starts = made.starts(chosen)
        states, actions = made.recorded(chosen, starts)
        rows = [_figures("recorded", made, starts, states, actions)]
        for strength in self.strengths:
            sampled = made.sample(starts, strength, torch.Generator().manual_seed(self.seed))
            rows.append(_figures(f"diffuser, lambda {strength:g}", made, starts, *sampled))
        model = self._one_step_model(made, first[~kept])
        rows.append(_figures("one-step model", made, starts, *_rolled_out(model, made, starts)))
        return {"complete": True, "rows": rows}

    def tables(self, report: Report) -> list[Table]:
        """Errors, distances and costs."""
        title = "trajectories from the same states"
        return [table(title, report["rows"], _cells, left=("trajectories",))]

    def _one_step_model(self, made: Synthesis, first: NDArray[np.intp]) -> OneStepModel:
        """Model of the steps of the recorded trajectories that begin at some rows."""
        generator = torch.Generator().manual_seed(self.seed)
        torch.manual_seed(self.seed)
        found = made.executed.rows(first[:: made.horizon - 1])
        states = torch.from_numpy(found["states"])
        actions = torch.from_numpy(found["actions"]).float()
        moves = [x.flatten(0, 1) for x in (states[:, :-1], actions[:, :-1], states[:, 1:])]
        model = OneStepModel(states.shape[2], actions.shape[2], WIDTH)
        model.fit_limits(*moves)

        def loss() -> Tensor:
            rows = batch(torch.arange(len(moves[0])), 256, generator)
            return model.loss(*(x[rows] for x in moves))

        train(model, loss, self.training_steps)
        return model


@torch.no_grad()
def _rolled_out(model: OneStepModel, made: Synthesis, starts: Starts) -> tuple[Array, Array]:
    """States and actions of the one-step model under the policy."""
    numbers = made.encode(starts, starts.states[:, None])
    states, actions = [starts.states], list[Array]()
    for _ in range(made.horizon):
        so_far = np.stack(states, axis=1)
        actions.append(made.policy_actions(starts, so_far)[:, -1])
        given = torch.from_numpy(numbers[:, -1]).float(), torch.from_numpy(actions[-1]).float()
        moved = model(*given).double().numpy()
        numbers = np.concatenate([numbers, moved[:, None]], axis=1)
        states.append(made.decode(starts, moved[:, None])[:, 0])
    return np.stack(states[:-1], axis=1), np.stack(actions, axis=1)


def _figures(name: str, made: Synthesis, starts: Starts, states: Array, actions: Array) -> Figures:
    errors = made.check(states, actions)
    apart = actions - made.policy_actions(starts, states)
    costs, failed = zip(
        *(
            made.costs(*what)
            for what in zip(starts.times, starts.references, states, actions, strict=True)
        ),
        strict=True,
    )
    return {
        "trajectories": name,
        "error": float(errors.mean()),
        "first": float(errors[:, 0].mean()),
        "middle": float(errors[:, len(errors[0]) // 2].mean()),
        "last": float(errors[:, -1].mean()),
        "policy_distance": float(np.sqrt(np.square(apart).mean())),
        "cost": float(np.mean(costs)),
        "failed": float(np.mean(failed)),
    }


def _cells(row: Row) -> dict[str, str]:
    return {
        "trajectories": row["trajectories"],
        "error of a step": number(row["error"]),
        "of the first": number(row["first"]),
        "middle": number(row["middle"]),
        "last": number(row["last"]),
        "distance to the policy": number(row["policy_distance"]),
        "cost": number(row["cost"]),
        "failed": f"{row['failed']:.0%}",
    }
