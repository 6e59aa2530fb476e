"""A car finds its way out of a U-shaped maze, to a goal behind its back wall."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import torch

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks.base import Task, TaskError, cost
from diffusion_mpc.tasks.cost import constant
from diffusion_mpc.tasks.model_file import ModelFile
from diffusion_mpc.tasks.observation import direction, in_frame
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor


class Car(Task):
    """Drive out of a U-shaped maze and round it to the goal.

    Maze, motion and reward are those of the car in MBD (arXiv 2407.01573, A.5.1, and the authors'
    code), whose reward of a step is one minus the cost here. The cost is flat wherever the goal is
    more than 0.2 m away: without a demonstration there is nothing to follow.
    """

    name = "car"
    model_path = MODELS / "car" / "car.xml"
    keyframe = "start"
    demonstrated = ("x", "y")
    defaults = {
        "backend.name": "function",
        "model.timestep": 0.1,
        "prediction.timestep": 0.1,
        "planner.control_dt": 0.1,
        "planner.horizon_steps": 50,
        "planner.num_knots": 50,
        "planner.spline": "zero",
        "planner.rate": 10.0,
        "planner.num_samples": 256,
        "planner.iterations": 3,
        "planner.noise_start": 0.4,
        "planner.noise_end": 0.05,
        "planner.noise_growth": 1.0,
        "planner.temperature": 0.05,
        # Near a demonstration many samples beat the plan to the end, and the noise would only grow.
        "planner.scale_rate": 0.0,
        "planner.shape_rate": 0.0,
        "planner.demonstration": "round_the_wall.csv",
        "state_timeout": 0.5,
        "max_plan_age": 0.5,
        "sim.model.timestep": 0.1,
        "sim.rate": 10.0,
        "sim.command_timeout": 0.5,
    }

    REACHED = 0.2
    """Distance of the goal within which the cost falls, m."""

    def __init__(self, model_path: str | Path | ModelFile = "") -> None:
        """Read goal and walls off the model."""
        super().__init__(model_path)
        model = self.model
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "goal") < 0:
            raise TaskError(
                f"model file '{self.path}' has no site 'goal', which task '{self.name}' drives to"
            )
        walls = [i for i in range(model.ngeom) if model.geom(i).name.startswith("wall")]
        self._goal = tuple(model.site("goal").pos[:2].tolist())
        self._walls = tuple(map(tuple, model.geom_pos[walls, :2].tolist()))
        self._radii = tuple(model.geom_size[walls, 0].tolist())

    def dynamics(
        self, qpos: Tensor, qvel: Tensor, ctrl: Tensor, dt: float
    ) -> tuple[Tensor, Tensor]:
        """`x' = v sin(heading), y' = v cos(heading), heading' = w`, controls (w, v), rad/s and m/s.

        A step that would end inside a wall is not taken. The velocity is the mean one of the step.
        """
        turn, speed = ctrl.unbind(-1)
        angle = turn * dt
        # At constant turn rate and speed the car drives an arc; this is its chord.
        chord = speed * dt * torch.sinc(angle / (2.0 * torch.pi))
        direction = qpos[..., 2] + angle / 2.0
        moved = qpos + torch.stack([chord * direction.sin(), chord * direction.cos(), angle], -1)
        apart = (moved[..., None, :2] - constant(self._walls, moved.dtype, moved.device)).norm(
            dim=-1
        )
        blocked = (apart < constant(self._radii, moved.dtype, moved.device)).any(-1, keepdim=True)
        moved = torch.where(blocked, qpos, moved)
        return moved, (moved - qpos) / dt

    @cost(weight=1.0)
    def goal(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance from the goal as a fraction of 0.2 m, 1 at most."""
        return self._apart(x).clamp(max=self.REACHED) / self.REACHED

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the car ends at the goal, within 0.2 m."""
        return self._apart(x)[:, -1] < self.REACHED

    def observation(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Place and heading in the maze, velocities, and the goal in the car's frame."""
        to_goal = constant(self._goal, x.qpos.dtype, x.qpos.device) - x.qpos[..., :2]
        # It heads along y at angle 0, and turns clockwise.
        ahead = direction(torch.pi / 2.0 - x.qpos[..., 2])
        return torch.cat([super().observation(x, reference), in_frame(ahead, to_goal)], dim=-1)

    def _apart(self, x: RolloutBatch) -> Tensor:
        return (x.qpos[..., :2] - constant(self._goal, x.qpos.dtype, x.qpos.device)).norm(dim=-1)
