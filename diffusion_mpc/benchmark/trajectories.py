"""`benchmark trajectory-diffusion`: Diffuser in a maze, Policy-Guided Diffusion on two systems."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from cyclopts.types import PositiveInt
from rich.table import Table

from diffusion_mpc.benchmark import linear_gaussian, stopped_pendulum
from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.figures import Row, number, table
from diffusion_mpc.benchmark.maze_plans import maze_figures
from diffusion_mpc.benchmark.policy_trajectories import (
    STEPS,
    learn_system,
    linear_figures,
    pendulum_dynamics,
    pendulum_policies,
)

TRAJECTORIES = {"linear": 4000, "pendulum": 1000}
"""Trajectories of the behaviour that models are trained on."""


@dataclass(frozen=True, kw_only=True)
class TrajectoryDiffusion(Benchmark):
    """Train and judge generative models of trajectories on systems with known answers.

    A point robot finds its way through a U-shaped corridor (Diffuser), and trajectories of one
    policy are tilted to another one's (Policy-Guided Diffusion).

    example: diffusion-mpc benchmark trajectory-diffusion --json trajectories.json

    Attributes:
        training_steps: gradient steps of each generative model
        policy_steps: gradient steps of each policy that is learned from data
        problems: starts and goals in the maze
        samples: trajectories by which a distribution is judged
        width: channels of the U-Net at the first resolution
        scale: scale of the guidance in the maze
        seed: seed of data, networks and samples
        threads: threads of torch
    """

    training_steps: PositiveInt = 2000
    policy_steps: PositiveInt = 1500
    problems: PositiveInt = 32
    samples: PositiveInt = 500
    width: PositiveInt = 16
    scale: float = 100.0
    seed: int = 0
    threads: PositiveInt = 1

    def report(self) -> Report:
        """Figures: rows of the maze, distances of the linear system, errors and policies."""
        torch.set_num_threads(self.threads)
        return {"complete": True, **self.maze(), **self.linear(), **self.pendulum()}

    def maze(self) -> Report:
        """Plans in the maze, "rows"."""
        settings = self.training_steps, self.problems, self.width, self.scale
        return {"rows": maze_figures(*settings, self._seeded())}

    def linear(self) -> Report:
        """Distances, "policy_guided", and "dynamics" of the linear system."""
        generator = self._seeded()
        count = TRAJECTORIES["linear"]
        learned = learn_system(linear_gaussian, count, self.training_steps, generator)
        return {**linear_figures(learned, self.samples, generator)}

    def pendulum(self) -> Report:
        """Errors "pendulum_dynamics" and learned "policies" of the pendulum."""
        generator = self._seeded()
        count = TRAJECTORIES["pendulum"]
        learned = learn_system(stopped_pendulum, count, self.training_steps, generator)
        return {
            "pendulum_dynamics": pendulum_dynamics(learned, self.samples, generator),
            "policies": pendulum_policies(learned, self.policy_steps, generator),
        }

    def tables(self, report: Report) -> list[Table]:
        """Plans in the maze, distances to the target policy, errors of the dynamics, policies."""
        dynamics = "error of the states against the system's own under the same actions"
        left = ("trajectories",)
        return [
            table("plans in the maze", report["rows"], _maze_cells, left=("plans",), wrap=True),
            table("distance to trajectories", report["policy_guided"], _guided_cells),
            table(f"linear system: {dynamics}", report["dynamics"], _dynamics_cells, left=left),
            table(f"pendulum: {dynamics}", report["pendulum_dynamics"], _dynamics_cells, left=left),
            table("policies learned from data", report["policies"], _policy_cells, left=("data",)),
        ]

    def _seeded(self) -> torch.Generator:
        """Source of the randomness of a part, which is the same with and without the others."""
        torch.manual_seed(self.seed)
        return torch.Generator().manual_seed(self.seed)


def _maze_cells(row: Row) -> dict[str, str]:
    return {
        "rows": str(row["horizon"]),
        "plans": row["plans"],
        "start error": number(row["start_error"]),
        "goal, sampled": f"{row['goal_as_sampled']:.0%}",
        "no wall, sampled": f"{row['free_as_sampled']:.0%}",
        "goal": f"{row['goal']:.0%}",
        "no wall": f"{row['free']:.0%}",
        "both": f"{row['both']:.0%}",
        "outside disc": f"{row['outside_zone']:.0%}",
        "all three": f"{row['all']:.0%}",
        "goal, open loop": f"{row['open_loop_goal']:.0%}",
        "no wall, open loop": f"{row['open_loop_free']:.0%}",
        "sampled to followed": number(row["distance"]),
    }


def _guided_cells(row: Row) -> dict[str, str]:
    strength = row["strength"]
    return {
        "lambda": strength if isinstance(strength, str) else f"{strength:g}",
        "of the target policy": number(row["target"]),
        "exact tilt": number(row["exact"]) if "exact" in row else "",
        "of the behaviour": number(row["behaviour"]) if "behaviour" in row else "",
    }


def _dynamics_cells(row: Row) -> dict[str, str]:
    after = {f"after {t}": number(row[f"step_{t}"]) for t in STEPS if f"step_{t}" in row}
    return {"trajectories": row["trajectories"], "one step": number(row["one_step"]), **after}


def _policy_cells(row: Row) -> dict[str, str]:
    return {
        "data": row["data"],
        "reward of a step": number(row["reward"]),
        "deviation over learners": number(row["over_learners"]),
        "over starts": number(row["over_starts"]),
    }
