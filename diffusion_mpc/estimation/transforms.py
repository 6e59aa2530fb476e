"""Poses in other frames than the odometry's, as far as transforms lead from there to here."""

from __future__ import annotations

import mujoco
import numpy as np

from diffusion_mpc.estimation.checks import MessageRejectedError, normalised, require_finite
from diffusion_mpc.estimation.frames import pose_to_goal
from diffusion_mpc.types import Array

ODOM = "odom"
"""The frame of an odometry that names none, as REP-105 calls it."""

TF = "tf"


class Transforms:
    """The tree of frames, by the newest message about each.

    Poses (7,) are a position, m, and a unit quaternion wxyz.

    Attributes:
        world: the frame that states are in; None: the odometry has yet to name it; empty: nobody
            names it, and poses count as they are
    """

    def __init__(self, world: str | None) -> None:
        """No frame is known but the world's."""
        self.world = world
        self._parents: dict[str, tuple[str, Array]] = {}

    def update(self, child: str, parent: str, pose: Array) -> None:
        """Take the pose (7,) of a frame in its parent's."""
        child, parent = _bare(child), _bare(parent)
        if child and parent and child != parent:
            self._parents[child] = (parent, pose)

    def update_tf(self, child: str, parent: str, position: Array, quaternion_xyzw: Array) -> None:
        """Take a transform of a message: translation (3,), m, and quaternion (4,).

        Raises:
            MessageRejectedError: NaN or infinite value, or a quaternion that is not of unit length
                to within 1 %
        """
        require_finite(TF, (*position, *quaternion_xyzw))
        self.update(child, parent, pose_to_goal(position, normalised(TF, quaternion_xyzw)))

    def to_world(self, frame: str, pose: Array) -> Array | None:
        """A pose (7,) in a frame as one in the world's; None where that is not known (yet).

        A frame without a name is the world's.
        """
        world, frame = self.world, _bare(frame)
        if not frame or world == "" or frame == world:
            return pose
        if world is None:
            return None
        top, pose = self._climb(frame, pose, world)
        if top == world:
            return pose
        root, here = self._climb(world, np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]), top)
        return _product(_inverse(here), pose) if root == top else None

    def require(self, topic: str, frame: str, pose: Array) -> Array:
        """As `to_world`.

        Raises:
            MessageRejectedError: nothing leads from the frame to the world's
        """
        found = self.to_world(frame, pose)
        if found is None:
            raise MessageRejectedError(
                f"{topic}: in frame '{_bare(frame)}', and no transform leads from there to "
                f"'{self.world}'; publish it on /tf, or send poses in '{self.world}'"
            )
        return found

    def _climb(self, frame: str, pose: Array, top: str) -> tuple[str, Array]:
        """A pose in the frame `top` above, or in the root where that is not above."""
        passed = {frame}
        while frame != top and frame in self._parents:
            frame, above = self._parents[frame]
            pose = _product(above, pose)
            if frame in passed:
                break
            passed.add(frame)
        return frame, pose


def _bare(frame: str) -> str:
    # As tf names frames, some still begin with a slash.
    return frame.removeprefix("/")


def _product(a: Array, b: Array) -> Array:
    product = np.zeros(7)
    mujoco.mju_mulPose(product[:3], product[3:], a[:3], a[3:], b[:3], b[3:])
    return product


def _inverse(a: Array) -> Array:
    inverse = np.zeros(7)
    mujoco.mju_negPose(inverse[:3], inverse[3:], a[:3], a[3:])
    return inverse
