"""Evidence of the frame that an odometry's twist is in: differences of its poses."""

from __future__ import annotations

import numpy as np

from diffusion_mpc.names import TwistFrame
from diffusion_mpc.rotations import rotation_matrix
from diffusion_mpc.types import Array

SAMPLE = 0.01
"""Shortest time between two messages that are looked at, s."""

INTERVAL = 0.1
"""Time over which a displacement is compared, s; longer than the noise of a pose matters."""

GAP = 0.5
"""Time without a message after which a displacement begins anew, s."""

ENOUGH = 0.5
"""Path, m, by which the two frames have to disagree before a judgement."""

RATIO = 3.0
"""How much better the other frame has to explain the displacements, in m."""


class TwistFrameCheck:
    """Compares how far the base moved with what its twist says in either frame.

    A robot that has not turned from the odometry's axes, or stands, tells nothing. Nothing is said
    either where neither frame explains its motion.

    Attributes:
        contradicted: whether the last judgement was for the other frame than the configured one
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self.reset()

    def reset(self) -> None:
        """Forget all evidence."""
        self.contradicted = False
        self._last: tuple[float, Array, Array] | None = None
        self._told, self._errors = np.zeros((2, 3)), np.zeros(2)
        self._judge_anew()

    def update(
        self, stamp: float, position: Array, quaternion: Array, linear: Array, frame: TwistFrame
    ) -> None:
        """Take an odometry.

        Args:
            stamp: time of the measurement, s
            position: (3,) m
            quaternion: (4,) wxyz, world from base
            linear: (3,) linear velocity of the message, m/s
            frame: frame that it is configured to be in
        """
        last = self._last
        if last is not None and 0.0 <= stamp - last[0] < SAMPLE:
            return
        # (2, 3): in the world if the twist is in the child's frame, and if it is in the header's.
        velocities = np.array([rotation_matrix(quaternion) @ linear, linear])
        self._last = (stamp, position, velocities)
        if last is None or not 0.0 < stamp - last[0] < GAP:
            self._begin(stamp, position)
            return
        self._told = self._told + 0.5 * (stamp - last[0]) * (last[2] + velocities)
        if stamp - self._since >= INTERVAL:
            self._compare(position - self._from, frame)
            self._begin(stamp, position)

    def _begin(self, stamp: float, position: Array) -> None:
        self._since, self._from, self._told = stamp, position, np.zeros((2, 3))

    def _compare(self, moved: Array, frame: TwistFrame) -> None:
        self._disagreement += float(np.linalg.norm(self._told[0] - self._told[1]))
        self._errors = self._errors + np.linalg.norm(self._told - moved, axis=1)
        if self._disagreement < ENOUGH:
            return
        child, header = self._errors.tolist()
        mine, other = (child, header) if frame == "child" else (header, child)
        self.contradicted = mine > RATIO * other
        self._judge_anew()

    def _judge_anew(self) -> None:
        self._disagreement, self._errors = 0.0, np.zeros(2)
