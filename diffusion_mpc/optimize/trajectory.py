"""Open-loop trajectory optimisation of a task.

A full reverse pass over its knots (Pan et al., 2407.01573, Algorithm 2).
"""

from __future__ import annotations

import torch

from diffusion_mpc.optimize.reverse_diffusion import OnLevel, Result, Settings, reverse_pass
from diffusion_mpc.planner.objective import Objective, Problem
from diffusion_mpc.planner.score import Evaluation


class TrajectoryProblem:
    """Cost of a task over one horizon as a function of flattened knots in [-1, 1]^(num_knots * nu).

    With as many knots as horizon steps, each control is a coordinate of its own, as in the paper.
    """

    def __init__(self, objective: Objective, problem: Problem) -> None:
        """Fix everything but the knots.

        Args:
            objective: what is minimised
            problem: state that all trajectories start from, what to track, and a demonstration to
                be drawn to, if any
        """
        self.objective, self.problem = objective, problem

    @property
    def origin(self) -> torch.Tensor:
        """The point (d,) that stands for the middle of all control ranges."""
        return self.objective.origin.flatten()

    def controls(self, points: torch.Tensor) -> torch.Tensor:
        """Controls (..., horizon, nu) in actuator units of points (..., d)."""
        return self.objective.controls(
            points.reshape(*points.shape[:-1], *self.objective.origin.shape)
        )

    def evaluate(self, points: torch.Tensor) -> Evaluation:
        """Mean weighted cost over the horizon of points (samples, d).

        Infinite where the simulator could not finish.
        """
        return self.objective.evaluate(
            self.problem, points.reshape(*points.shape[:-1], *self.objective.origin.shape)
        )


def optimize_trajectory(
    problem: TrajectoryProblem, settings: Settings, on_level: OnLevel | None = None
) -> Result:
    """Denoise a whole trajectory, from noise, over all levels.

    `problem.controls(result.best.point)` are its controls.

    Raises:
        NoFeasibleSampleError: every trajectory of a level has a NaN or infinite cost
    """
    return reverse_pass(problem.evaluate, problem.origin, settings, on_level)
