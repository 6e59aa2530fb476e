"""Observations: states as policies see them, the same wherever the robot is and faces.

One definition for data, training and planning, written with the batch that cost terms see. A task
that overrides `Task.observation` puts it together from the same parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import torch

from diffusion_mpc.tasks.cost import columns, constant
from diffusion_mpc.types import Array, ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_mpc.tasks.base import Task

LEVEL = 1e-6
"""Length below which the forward axis of a base that points straight up has no direction."""


@dataclass(frozen=True)
class ObservedColumns:
    """Columns of states that observations consist of.

    Attributes:
        base: first columns of the floating base in qpos and qvel; None: the base is fixed
        positions: columns in qpos of joints with one degree of freedom and an end
        nominal: what these are in the nominal pose
        turning: columns in qpos of hinges that turn without end
        velocities: columns in qvel of all but free joints
        balls: first columns in qpos of ball joints
        bodies: first columns in qpos and qvel of free bodies other than the base
    """

    base: tuple[int, int] | None
    positions: tuple[int, ...]
    nominal: tuple[float, ...]
    turning: tuple[int, ...]
    velocities: tuple[int, ...]
    balls: tuple[int, ...]
    bodies: tuple[tuple[int, int], ...]


def observed_columns(task: Task) -> ObservedColumns:
    """Columns that observations of a task consist of, read off its model."""
    model, kinds = task.model, mujoco.mjtJoint
    owner = model.body(task.base).id if task.base is not None else -1
    base: tuple[int, int] | None = None
    positions, turning, balls = list[int](), list[int](), list[int]()
    velocities, bodies = list[int](), list[tuple[int, int]]()
    for joint in range(model.njnt):
        kind = int(model.jnt_type[joint])
        q, v = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        if kind == kinds.mjJNT_FREE:
            if model.jnt_bodyid[joint] == owner:
                base = q, v
            else:
                bodies.append((q, v))
            continue
        velocities += range(v, v + (3 if kind == kinds.mjJNT_BALL else 1))
        if model.joint(joint).name in task.cyclic:
            continue
        if kind == kinds.mjJNT_BALL:
            balls.append(q)
        elif kind == kinds.mjJNT_HINGE and not model.jnt_limited[joint]:
            turning.append(q)
        else:
            positions.append(q)
    nominal: Array = task.initial_data(model).qpos
    return ObservedColumns(
        base,
        tuple(positions),
        tuple(nominal[positions].tolist()),
        tuple(turning),
        tuple(velocities),
        tuple(balls),
        tuple(bodies),
    )


def default_observation(task: Task, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
    """Observation (samples, horizon, obs) of a task that says nothing else.

    Of a floating base its height, the direction of gravity in its own frame, and its linear and
    angular velocity in the heading frame, which is level and turned as the base is; then joints and
    other free bodies; then the reference.
    """
    made = task.observed
    if made.base is None:
        return torch.cat([joints(made, x), *free_bodies(made, x), *_target(task, reference, x)], -1)
    q, v = made.base
    place, rotation = x.qpos[..., q : q + 3], rotation_matrix(x.qpos[..., q + 3 : q + 7])
    turn = heading(rotation)
    turning = (rotation @ x.qvel[..., v + 3 : v + 6, None])[..., 0]
    parts = [
        place[..., 2:],
        -rotation[..., 2, :],
        in_frame(turn, x.qvel[..., v : v + 3]),
        in_frame(turn, turning),
        joints(made, x),
        *free_bodies(made, x, place, turn),
        *_target(task, reference, x, place, turn),
    ]
    return torch.cat(parts, -1)


def joints(made: ObservedColumns, x: RolloutBatch) -> Tensor:
    """Positions of the joints against the nominal pose, and velocities, (samples, horizon, k).

    Sine and cosine of hinges without end, the rotation of ball joints as two axes.
    """
    parts = [columns(x.qpos, made.positions) - constant(made.nominal, x.qpos.dtype, x.qpos.device)]
    if made.turning:
        angles = columns(x.qpos, made.turning)
        parts += [angles.sin(), angles.cos()]
    parts += [_axes(rotation_matrix(x.qpos[..., q : q + 4])) for q in made.balls]
    return torch.cat([*parts, columns(x.qvel, made.velocities)], -1)


def free_bodies(
    made: ObservedColumns, x: RolloutBatch, origin: Tensor | None = None, turn: Tensor | None = None
) -> list[Tensor]:
    """Place, attitude as two axes, and velocities of free bodies other than the base.

    Args:
        made: columns of the task
        x: trajectories
        origin: (samples, horizon, 3) point that places count from, m, world; None: the world's
        turn: (samples, horizon, 2) heading of the frame that all is in; None: the world's
    """
    found: list[Tensor] = []
    for q, v in made.bodies:
        place, rotation = x.qpos[..., q : q + 3], rotation_matrix(x.qpos[..., q + 3 : q + 7])
        place = place if origin is None else place - origin
        turning = (rotation @ x.qvel[..., v + 3 : v + 6, None])[..., 0]
        vectors = [place, *rotation[..., :2].unbind(-1), x.qvel[..., v : v + 3], turning]
        found += vectors if turn is None else [in_frame(turn, vector) for vector in vectors]
    return found


def rotation_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions wxyz (..., 4)."""
    w, x, y, z = quaternion.unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def heading(rotation: Tensor) -> Tensor:
    """Direction (..., 2) on the ground of the forward axis of rotation matrices (..., 3, 3)."""
    forward = rotation[..., :2, 0]
    return forward / forward.norm(dim=-1, keepdim=True).clamp(min=LEVEL)


def in_frame(turn: Tensor, vector: Tensor) -> Tensor:
    """World vectors (..., 2 or 3) in a level frame whose forward axis is `turn` (..., 2)."""
    (cos, sin), x, y = turn.unbind(-1), vector[..., 0], vector[..., 1]
    level = torch.stack([cos * x + sin * y, cos * y - sin * x], -1)
    return torch.cat([level, vector[..., 2:]], -1)


def direction(angle: Tensor) -> Tensor:
    """Cosine and sine (..., 2) of angles (...), rad."""
    return torch.stack([angle.cos(), angle.sin()], -1)


def everywhere(values: Tensor, x: RolloutBatch) -> Tensor:
    """Values (k,), or (horizon, k), in every row of trajectories, (samples, horizon, k)."""
    return values.to(x.qpos.dtype).expand(*x.qpos.shape[:-1], values.shape[-1])


def _target(
    task: Task,
    reference: ReferenceTensors,
    x: RolloutBatch,
    place: Tensor | None = None,
    turn: Tensor | None = None,
) -> list[Tensor]:
    if task.reference == "cmd_vel":
        return [everywhere(reference.velocity, x)]
    if task.reference != "goal_pose":
        return []
    goal = everywhere(heading(rotation_matrix(reference.pose[3:])), x)
    position = everywhere(reference.pose[:3], x)
    if place is None or turn is None:
        return [position, goal]
    return [in_frame(turn, position - place), in_frame(turn, goal)]


def _axes(rotation: Tensor) -> Tensor:
    return rotation[..., :2].transpose(-1, -2).flatten(-2)
