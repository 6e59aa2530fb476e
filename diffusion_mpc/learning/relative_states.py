"""States as a model of trajectories sees them: relative to where their trajectory begins."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array


class RelativeStates:
    """States of a task in the heading frame of the first one, as numbers without constraints.

    Of a floating base: the frame is level, its origin below the first base, its x axis below that
    base's forward axis. A robot that starts elsewhere and faces elsewhere has the same numbers.

    Rotations are rotation vectors, rad, from the model's reference configuration; so positions are
    as many as velocities, as in `mj_differentiatePos`.

    Attributes:
        size: numbers of a state, nv positions and nv velocities
    """

    def __init__(self, task: Task) -> None:
        """Find the joints."""
        model, kinds = task.model, mujoco.mjtJoint
        self.size = 2 * model.nv
        self._nq, self._nv = model.nq, model.nv
        self._base = task.observed.base
        self._reference = model.qpos0.copy()
        self._quaternions = list[tuple[int, int]]()
        self._scalars = list[tuple[int, int]]()
        for joint in range(model.njnt):
            q, v = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
            if model.jnt_type[joint] == kinds.mjJNT_FREE:
                self._scalars += [(q + i, v + i) for i in range(3)]
                self._quaternions.append((q + 3, v + 3))
            elif model.jnt_type[joint] == kinds.mjJNT_BALL:
                self._quaternions.append((q, v))
            else:
                self._scalars.append((q, v))
        if self._base is not None:
            q = self._base[0]
            self._reference[q : q + 7] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)

    def encode(self, states: Array, first: Array) -> Array:
        """Numbers (..., T, size) of trajectories (..., T, nq + nv).

        Args:
            states: the trajectories
            first: as `decode`
        """
        seen = self._seen_from(states, first)
        qpos, qvel = seen[..., : self._nq], seen[..., self._nq :]
        encoded = np.empty((*states.shape[:-1], self.size))
        encoded[..., self._nv :] = qvel
        q, v = np.array(self._scalars, int).reshape(-1, 2).T
        encoded[..., v] = qpos[..., q] - self._reference[q]
        for place, column in self._quaternions:
            encoded[..., column : column + 3] = _vector(
                _inverse(self._reference[place : place + 4]), qpos[..., place : place + 4]
            )
        return encoded

    def decode(self, encoded: Array, first: Array) -> Array:
        """Trajectories (..., T, nq + nv) of numbers (..., T, size).

        Args:
            encoded: the numbers
            first: (..., nq + nv) state whose place and heading they are relative to
        """
        states = np.empty((*encoded.shape[:-1], self._nq + self._nv))
        states[..., self._nq :] = encoded[..., self._nv :]
        q, v = np.array(self._scalars, int).reshape(-1, 2).T
        states[..., q] = encoded[..., v] + self._reference[q]
        for place, column in self._quaternions:
            turned = Rotation.from_rotvec(encoded[..., column : column + 3].reshape(-1, 3))
            states[..., place : place + 4] = _product(
                self._reference[place : place + 4],
                _wxyz(turned).reshape(*encoded.shape[:-1], 4),
            )
        return self._placed_at(states, first)

    def _seen_from(self, states: Array, first: Array) -> Array:
        """States (..., T, nq + nv) in the heading frame of states (..., nq + nv)."""
        if self._base is None:
            return states
        q, _ = self._base
        seen = states.copy()
        seen[..., q : q + 2] -= first[..., None, q : q + 2]
        return self._turned(seen, -self._yaw(first))

    def _placed_at(self, states: Array, first: Array) -> Array:
        if self._base is None:
            return states
        q, _ = self._base
        placed = self._turned(states, self._yaw(first))
        placed[..., q : q + 2] += first[..., None, q : q + 2]
        return placed

    def _yaw(self, first: Array) -> Array:
        assert self._base is not None
        w, x, y, z = np.moveaxis(first[..., self._base[0] + 3 : self._base[0] + 7], -1, 0)
        return np.asarray(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))

    def _turned(self, states: Array, yaw: Array) -> Array:
        """States (..., T, nq + nv) turned about the vertical by angles (...), rad."""
        assert self._base is not None
        (q, v), angle, turned = self._base, yaw[..., None], states.copy()
        cosine, sine = np.cos(angle), np.sin(angle)
        for place in (q, self._nq + v):
            x, y = states[..., place], states[..., place + 1]
            turned[..., place] = cosine * x - sine * y
            turned[..., place + 1] = sine * x + cosine * y
        half, zero = 0.5 * angle, np.zeros_like(angle)
        about = np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)
        turned[..., q + 3 : q + 7] = _product(about, states[..., q + 3 : q + 7])
        return turned


def _inverse(quaternion: Array) -> Array:
    return quaternion * (1.0, -1.0, -1.0, -1.0)


def _product(a: Array, b: Array) -> Array:
    """Products (..., 4) of quaternions wxyz."""
    (aw, ax, ay, az), (bw, bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def _vector(a: Array, b: Array) -> Array:
    """Rotation vectors (..., 3), rad, of products of quaternions wxyz."""
    both = _product(a, b)
    flat = Rotation.from_quat(both.reshape(-1, 4)[:, [1, 2, 3, 0]]).as_rotvec()
    return np.asarray(flat).reshape(*both.shape[:-1], 3)


def _wxyz(rotation: Rotation) -> Array:
    return np.asarray(rotation.as_quat())[:, [3, 0, 1, 2]]
