"""Left-right symmetry of a robot: reflected states, actions and observations.

Every row of data shows its mirror image for nothing. Signs follow from the model: a mirror in the
plane of x and z keeps x and z of places and forces, and y of axes of rotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.measured import observe
from diffusion_mpc.types import Array, Reference, State

PLACE, AXIS = np.array([1.0, -1.0, 1.0]), np.array([-1.0, 1.0, -1.0])
"""Signs of a reflected place, velocity or force, and of a reflected axis of rotation."""

TOLERANCE = 1e-6


@dataclass(frozen=True)
class SignedPermutation:
    """Order and signs of reflected values: `values[..., order] * signs`.

    Attributes:
        order: (k,)
        signs: (k,) 1 or -1
    """

    order: NDArray[np.int64]
    signs: Array

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Reflected values (..., k), of the type of the given ones."""
        reflected: NDArray[np.floating] = values[..., self.order] * self.signs.astype(values.dtype)
        return reflected


class Mirror:
    """Mirror images of a task whose `sides` say which names are exchanged.

    Attributes:
        actions: of normalised actions and knots (..., nu)
        observations: of observations (..., obs)
    """

    def __init__(self, task: Task) -> None:
        """Find signs and order.

        Raises:
            TaskError: the robot or the task is not symmetric, or is more than a floating base and
                its hinges and slides
        """
        self._task, model = task, task.model
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        kinds = mujoco.mjtJoint
        moving = [j for j in range(model.njnt) if model.jnt_type[j] != kinds.mjJNT_FREE]
        if task.base is None or len(moving) != model.njnt - 1:
            raise TaskError(f"task '{task.name}' has sides, but not one floating base with joints")
        if any(model.jnt_type[j] == kinds.mjJNT_BALL for j in moving):
            raise TaskError(f"task '{task.name}' has sides and ball joints; these have no mirror")
        if np.isnan(task.mirror_time):
            raise TaskError(f"the gait of task '{task.name}' is not the same on both sides")
        names = [model.joint(j).name for j in moving]
        twins = [moving[names.index(name)] for name in self._swapped(names)]
        signs = []
        for joint, twin in zip(moving, twins, strict=True):
            kept = PLACE if model.jnt_type[joint] == kinds.mjJNT_SLIDE else AXIS
            sign = float(data.xaxis[twin] @ (kept * data.xaxis[joint]))
            if abs(abs(sign) - 1.0) > TOLERANCE:
                raise TaskError(
                    f"joint '{model.joint(joint).name}' is not the mirror image of "
                    f"'{model.joint(twin).name}'; leave out `sides` of task '{task.name}'"
                )
            signs.append(round(sign))
        self._q, self._v = model.jnt_qposadr[moving], model.jnt_dofadr[moving]
        self._twin_q, self._twin_v = model.jnt_qposadr[twins], model.jnt_dofadr[twins]
        self._signs = np.array(signs, float)
        self.actions = self._actions(dict(zip(moving, signs, strict=True)))
        self.observations = self._observations()

    def state(self, state: State) -> State:
        """Mirror image of a state, half a cycle later where the gait asks for that."""
        qpos, qvel = state.qpos.copy(), state.qvel.copy()
        q, v = self._base
        qpos[q : q + 3] *= PLACE
        qpos[q + 4 : q + 7] *= AXIS
        qvel[v : v + 3] *= PLACE
        qvel[v + 3 : v + 6] *= AXIS
        qpos[self._twin_q] = self._signs * state.qpos[self._q]
        qvel[self._twin_v] = self._signs * state.qvel[self._v]
        return State(state.stamp + self._task.mirror_time, qpos, qvel, state.act)

    @staticmethod
    def reference(reference: Reference) -> Reference:
        """Mirror image of a reference."""
        velocity, pose = reference.velocity * (1.0, -1.0, -1.0), reference.pose.copy()
        pose[:3] *= PLACE
        pose[4:] *= AXIS
        return replace(reference, velocity=velocity, pose=pose)

    def rows(self, rows: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
        """Mirror images of rows of data, see `learning/collect.py`; costs stay as they are."""
        signs = {"observation": self.observations, "previous": self.actions, "knots": self.actions}
        return {name: signs[name](x) if name in signs else x for name, x in rows.items()}

    @property
    def _base(self) -> tuple[int, int]:
        assert self._task.observed.base is not None
        return self._task.observed.base

    def _swapped(self, names: Sequence[str]) -> list[str]:
        assert self._task.sides is not None
        left, right = self._task.sides
        swapped = []
        for name in names:
            here, there = (left, right) if left in name else (right, left)
            swapped.append(name.replace(here, there))
            if swapped[-1] not in names:
                raise TaskError(
                    f"'{name}' has no '{swapped[-1]}' on the other side; correct `sides` of task "
                    f"'{self._task.name}'"
                )
        return swapped

    def _actions(self, joint_signs: Mapping[int, int]) -> SignedPermutation:
        task, model = self._task, self._task.model
        names = [model.actuator(i).name for i in range(model.nu)]
        order = np.array([names.index(name) for name in self._swapped(names)])
        signs = np.empty(model.nu)
        for i, twin in enumerate(order):
            if model.actuator_trntype[i] != mujoco.mjtTrn.mjTRN_JOINT:
                raise TaskError(f"actuator '{names[i]}' acts on no joint, and so has no mirror")
            gears = model.actuator_gear[[i, twin], 0]
            signs[i] = joint_signs[int(model.actuator_trnid[i, 0])] * np.sign(gears.prod())
        centre, reach = task.action_centre, task.action_reach
        uneven = abs(centre[order] * signs - centre) + abs(reach[order] - reach)
        if (uneven > TOLERANCE).any():
            raise TaskError(
                f"actions of '{names[int(uneven.argmax())]}' are not those of its twin; leave out "
                f"`sides` of task '{task.name}'"
            )
        return SignedPermutation(order, signs)

    def _observations(self) -> SignedPermutation:
        """Order and signs that turn observations of states into those of their mirror images.

        Found by trying: whatever a task observes, this is its mirror image, or there is none.
        """
        task, random = self._task, np.random.default_rng(0)
        seen, reflected = [], []
        start = task.initial_data(task.model)
        for _ in range(24):
            qpos, qvel = start.qpos.copy(), random.normal(size=task.model.nv)
            mujoco.mj_integratePos(task.model, qpos, random.normal(size=task.model.nv), 0.3)
            state = State(float(random.uniform(0.0, 9.0)), qpos, qvel)
            quaternion = random.normal(size=4)
            reference = Reference(
                velocity=random.normal(size=3),
                pose=np.concatenate(
                    [random.normal(size=3), quaternion / np.linalg.norm(quaternion)]
                ),
            )
            seen.append(observe(task, task.model, state, reference))
            reflected.append(
                observe(task, task.model, self.state(state), self.reference(reference))
            )
        here, there = np.array(seen), np.array(reflected)
        order, signs = np.empty(here.shape[1], np.int64), np.empty(here.shape[1])
        for column in range(here.shape[1]):
            for sign in (1.0, -1.0):
                apart = abs(sign * here - there[:, column, None]).max(0)
                if apart.min() < TOLERANCE:
                    order[column], signs[column] = apart.argmin(), sign
                    break
            else:
                raise TaskError(
                    f"number {column} of the observation of task '{task.name}' has no mirror "
                    "image; leave out its `sides`"
                )
        return SignedPermutation(order, signs)
