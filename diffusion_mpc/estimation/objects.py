"""Free bodies other than the base, as topics measure them: where they are and how they move."""

from __future__ import annotations

import math
import re

import mujoco
import numpy as np

from diffusion_mpc.config import ObjectsConfig
from diffusion_mpc.rotations import rotation_matrix
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.types import Array

OBJECTS = "objects/"
"""What the topics of objects begin with; the name of the body follows."""

TOKEN = re.compile(r"(?!.*__)[A-Za-z_][A-Za-z0-9_]*")
"""What ROS takes for a part of a topic's name."""


def object_topic(model: mujoco.MjModel, body: int) -> str:
    """Topic that measures a free body.

    Raises:
        TaskError: its name cannot be a topic's
    """
    name = model.body(body).name
    if not name:
        raise TaskError(
            f"the free body {body} of the model has no name, so no topic can measure it; give it a "
            "name, or take its joint away"
        )
    if TOKEN.fullmatch(name) is None:
        raise TaskError(
            f"free body '{name}' would be measured by '{OBJECTS}{name}', which is no topic of ROS; "
            "give it a name of letters, digits and single _ that begins with no digit"
        )
    return OBJECTS + name


class MeasuredObject:
    """The newest pose of a free body, and its velocity.

    Attributes:
        stamp: time of that pose, s; None before the first
    """

    def __init__(self) -> None:
        """Nothing has been measured."""
        self.reset()

    def reset(self) -> None:
        """Forget all poses."""
        self.stamp: float | None = None
        self._qpos, self._qvel = np.zeros(7), np.zeros(6)
        self._moving = False

    def update_pose(self, stamp: float, pose: Array, config: ObjectsConfig) -> None:
        """Take a pose; the velocity is a difference of poses, through a first-order filter.

        After a gap of `config.timeout`, or where time jumped back, it begins anew, at rest.

        Args:
            stamp: time of the measurement, s
            pose: (7,) position, m, and unit quaternion wxyz, in the frame of the odometry
            config: how velocities are found
        """
        qpos, last = pose, self.stamp
        if last is not None and stamp == last:
            # Sent twice.
            self._qpos = qpos
            return
        if last is None or not 0.0 < stamp - last <= config.timeout:
            self._qvel, self._moving = np.zeros(6), False
        else:
            raw = velocity_between(self._qpos, qpos, stamp - last)
            fraction = (
                -math.expm1(-(stamp - last) / config.filter_time) if config.filter_time else 1.0
            )
            # The first difference has nothing before it to be filtered with.
            self._qvel = self._qvel + (fraction if self._moving else 1.0) * (raw - self._qvel)
            self._moving = True
        self.stamp, self._qpos = stamp, qpos

    def update_odometry(
        self, stamp: float, pose: Array, linear_body: Array, angular_body: Array
    ) -> None:
        """Take a pose, as `update_pose`, and a twist in the frame of the body, m/s and rad/s."""
        self.stamp, self._qpos = stamp, pose
        self._qvel = np.concatenate([rotation_matrix(pose[3:]) @ linear_body, angular_body])

    def at(self, stamp: float, config: ObjectsConfig) -> tuple[Array, Array]:
        """Position (7,) and velocity (6,) of the free joint at a time (s).

        At the velocity measured last, for `config.timeout` at most.
        """
        assert self.stamp is not None, "a pose has come"
        passed = min(max(stamp - self.stamp, -config.timeout), config.timeout)
        if passed == 0.0:
            return self._qpos, self._qvel
        qpos = self._qpos.copy()
        qpos[:3] += passed * self._qvel[:3]
        mujoco.mju_quatIntegrate(qpos[3:], self._qvel[3:], passed)
        return qpos, self._qvel


def velocity_between(before: Array, after: Array, duration: float) -> Array:
    """Velocity (6,) of a free joint that goes from one position (7,) to another in a time (s).

    Linear in the world frame, m/s, and angular in the frame of the body, rad/s.
    """
    angular = np.zeros(3)
    # Turn from one to the other, in the frame of the body.
    mujoco.mju_subQuat(angular, np.ascontiguousarray(after[3:]), np.ascontiguousarray(before[3:]))
    return np.concatenate([after[:3] - before[:3], angular]) / duration
