"""From joint states and odometry, matched by name, to the state of the robot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from diffusion_mpc.estimation.frames import odometry_to_qpos_qvel
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import Array, State

JOINTS, ODOMETRY = "joint_states", "odom"


class MessageRejectedError(ValueError):
    """A message cannot be used; the text says which field and why."""


class Estimator:
    """Holds the newest good message of each kind and puts them together.

    A message that is rejected changes nothing: the last good state ages on, and whoever reads it
    decides when it is too old.
    """

    def __init__(self, model: mujoco.MjModel, base: str | None) -> None:
        """Find the joints.

        Args:
            model: any model of the robot; joints are matched by name
            base: body whose free joint `odom` measures; None: the robot has a fixed base

        Raises:
            TaskError: the model has joints that no message measures
        """
        self.model = model
        self._qpos, self._qvel = np.zeros(model.nq), np.zeros(model.nv)
        self._stamps: dict[str, float] = {}
        self._fresh: set[str] = set()
        self._free: tuple[slice, slice] | None = None
        self.addresses: dict[str, tuple[int, int]] = {}
        for i in range(model.njnt):
            joint, qpos, qvel = model.joint(i), int(model.jnt_qposadr[i]), int(model.jnt_dofadr[i])
            kind = mujoco.mjtJoint(int(model.jnt_type[i]))
            if kind in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
                self.addresses[joint.name] = (qpos, qvel)
            elif (
                kind == mujoco.mjtJoint.mjJNT_FREE
                and model.body(int(model.jnt_bodyid[i])).name == base
            ):
                self._free = (slice(qpos, qpos + 7), slice(qvel, qvel + 6))
            else:
                raise TaskError(
                    f"joint '{joint.name or i}' is neither a hinge, a slide nor the free joint "
                    f"of body '{base}'"
                )
        if base is not None and self._free is None:
            raise TaskError(f"body '{base}', the task's base, has no free joint in the model")
        self.required = ((JOINTS,) if self.addresses else ()) + ((ODOMETRY,) if self._free else ())

    def update_joints(
        self,
        stamp: float,
        names: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float],
    ) -> None:
        """Take joint positions (rad or m) and velocities (rad/s or m/s) in any order.

        Raises:
            MessageRejectedError: wrong length, unknown, repeated or missing joint, NaN or infinite
                value
        """
        if not len(names) == len(position) == len(velocity):
            raise MessageRejectedError(
                f"{JOINTS}: {len(names)} names, {len(position)} positions, {len(velocity)} "
                "velocities; all three must be equal"
            )
        require_finite(JOINTS, (stamp, *position, *velocity))
        unknown = [name for name in names if name not in self.addresses]
        missing = [name for name in self.addresses if name not in names]
        if unknown or missing or len(set(names)) != len(names):
            reason = (
                f"unknown joint '{unknown[0]}'"
                if unknown
                else f"joint '{missing[0]}' is missing"
                if missing
                else "a joint twice"
            )
            raise MessageRejectedError(f"{JOINTS}: {reason}")
        self._note(JOINTS, stamp)
        for name, q, v in zip(names, position, velocity, strict=True):
            qpos, qvel = self.addresses[name]
            self._qpos[qpos], self._qvel[qvel] = q, v

    def update_odometry(
        self,
        stamp: float,
        position: Array,
        quaternion_xyzw: Array,
        linear_body: Array,
        angular_body: Array,
    ) -> None:
        """Take the pose and twist of the base, in ROS's frames (see `frames`).

        Raises:
            MessageRejectedError: NaN or infinite value, or a quaternion that is not of unit length
                to within 1 %
        """
        if self._free is None:
            raise MessageRejectedError(f"{ODOMETRY}: the task has a fixed base")
        require_finite(ODOMETRY, (stamp, *position, *quaternion_xyzw, *linear_body, *angular_body))
        quaternion = normalised(ODOMETRY, quaternion_xyzw)
        self._note(ODOMETRY, stamp)
        qpos, qvel = odometry_to_qpos_qvel(position, quaternion, linear_body, angular_body)
        self._qpos[self._free[0]], self._qvel[self._free[1]] = qpos, qvel

    def take(self) -> State | None:
        """The state, once every part of it is newer than when it was last taken; None until then.

        A state made of this period's joints and the last period's odometry would be a robot that
        never was.
        """
        if len(self._fresh) < len(self.required):
            return None
        self._fresh.clear()
        return self.state()

    def state(self) -> State | None:
        """The newest state, stamped with its oldest part; None as long as a part is missing."""
        if self.waiting_for():
            return None
        return State(
            min(self._stamps[topic] for topic in self.required),
            self._qpos.copy(),
            self._qvel.copy(),
        )

    def consistent(self) -> bool:
        """Whether all parts of the state carry the same stamp."""
        return len({self._stamps.get(topic) for topic in self.required}) == 1

    def waiting_for(self) -> list[str]:
        """Topics that no good message has come from yet."""
        return [topic for topic in self.required if topic not in self._stamps]

    def reset(self) -> None:
        """Forget all messages."""
        self._stamps.clear()
        self._fresh.clear()

    def _note(self, topic: str, stamp: float) -> None:
        if stamp < self._stamps.get(topic, -np.inf):
            # Time began anew (a simulation was reset, a clock was set): nothing held from before
            # belongs to the new time.
            self.reset()
        self._stamps[topic] = stamp
        self._fresh.add(topic)


def require_finite(topic: str, values: Sequence[float]) -> None:
    """Check the numbers of a message.

    Raises:
        MessageRejectedError: `bad_number` found one
    """
    if reason := bad_number(values):
        raise MessageRejectedError(f"{topic}: {reason}")


def bad_number(values: Sequence[float] | Array) -> str:
    """Fault of numbers that should be a robot's; empty where there is none.

    MuJoCo gives up at `mjMAXVAL`, too.
    """
    if not np.isfinite(values).all():
        return "NaN or infinite value"
    largest = float(np.abs(values).max(initial=0.0))
    return (
        f"a value of {largest:.3g}; it must be below {mujoco.mjMAXVAL:g}"
        if largest >= mujoco.mjMAXVAL
        else ""
    )


def normalised(topic: str, quaternion: Array) -> Array:
    """The quaternion (4,) of a message, rid of its rounding.

    Raises:
        MessageRejectedError: it is not of unit length to within 1 %
    """
    length = math.hypot(*quaternion)
    if abs(length - 1.0) > 0.01:
        raise MessageRejectedError(f"{topic}: quaternion of length {length:.3g}; it must be 1")
    return np.asarray(quaternion / length)
