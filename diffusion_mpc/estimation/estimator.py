"""From joint states, odometry and poses of objects, matched by name, to the state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from diffusion_mpc.config import ObjectsConfig
from diffusion_mpc.estimation.frames import odometry_to_qpos_qvel
from diffusion_mpc.estimation.objects import MeasuredObject, object_topic
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import Array, State

JOINTS, ODOMETRY = "joint_states", "odom"


class MessageRejectedError(ValueError):
    """A message cannot be used; the text says which field and why."""


class Estimator:
    """Holds the newest good message of each kind and puts them together.

    The robot's own messages make a state; objects are moved on to its time. A message that is
    rejected changes nothing: the last good state ages on, and whoever reads it decides when it is
    too old.

    Attributes:
        model: model of the robot
        addresses: addresses of the joints in qpos and qvel, by name
        objects: addresses of the free bodies other than the base, by topic
        required: topics of the robot's own state
        motion: how objects move between their messages; may be replaced
        together: whether objects are measured with every state, as in lockstep
    """

    def __init__(self, model: mujoco.MjModel, base: str | None, together: bool = False) -> None:
        """Find the joints.

        Args:
            model: any model of the robot; joints are matched by name
            base: body whose free joint `odom` measures; None: the robot has a fixed base
            together: see above

        Raises:
            TaskError: the model has joints that no message measures
        """
        self.model, self.together, self.motion = model, together, ObjectsConfig()
        self._qpos, self._qvel = np.zeros(model.nq), np.zeros(model.nv)
        self._stamps: dict[str, float] = {}
        self._fresh: set[str] = set()
        self._free: tuple[slice, slice] | None = None
        self.addresses: dict[str, tuple[int, int]] = {}
        self.objects: dict[str, tuple[slice, slice]] = {}
        for i in range(model.njnt):
            qpos, qvel = int(model.jnt_qposadr[i]), int(model.jnt_dofadr[i])
            if int(model.jnt_type[i]) != int(mujoco.mjtJoint.mjJNT_FREE):
                self.addresses[measured_name(model, i)] = (qpos, qvel)
                continue
            addresses, body = (slice(qpos, qpos + 7), slice(qvel, qvel + 6)), model.jnt_bodyid[i]
            if model.body(body).name == base:
                self._free = addresses
            else:
                self.objects[object_topic(model, int(body))] = addresses
        if base is not None and self._free is None:
            raise TaskError(f"body '{base}', the task's base, has no free joint in the model")
        self._measured = {topic: MeasuredObject() for topic in self.objects}
        self.required = ((JOINTS,) if self.addresses else ()) + ((ODOMETRY,) if self._free else ())

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that the state comes from."""
        return (*self.required, *self.objects)

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

    def update_object(
        self,
        topic: str,
        stamp: float,
        position: Array,
        quaternion_xyzw: Array,
        twist: tuple[Array, Array] | None = None,
    ) -> None:
        """Take the pose of a free body, in the frame of the odometry.

        Args:
            topic: what measures it
            stamp: time of the measurement, s
            position: (3,) m
            quaternion_xyzw: (4,) unit quaternion, world from body
            twist: linear (3,) and angular (3,) velocity in the frame of the body, m/s and rad/s;
                None: they are found from the poses

        Raises:
            MessageRejectedError: as `update_odometry`
        """
        require_finite(topic, (stamp, *position, *quaternion_xyzw, *np.ravel(twist or ())))
        quaternion, thing = normalised(topic, quaternion_xyzw), self._measured[topic]
        if twist is None:
            thing.update_pose(stamp, position, quaternion, self.motion)
        else:
            thing.update_odometry(stamp, position, quaternion, *twist)
        self._stamps[topic] = stamp
        self._fresh.add(topic)

    def take(self) -> State | None:
        """The state, once every part of it is newer than when it was last taken; None until then.

        A state made of this period's joints and the last period's odometry would be a robot that
        never was. Objects have a pace of their own, unless `together` says otherwise, or there is
        nothing else.
        """
        pacing = self.topics if self.together or not self.required else self.required
        if not self._fresh.issuperset(pacing):
            return None
        self._fresh.clear()
        return self.state()

    def state(self) -> State | None:
        """The newest state, stamped with the robot's oldest part; None as long as one is missing.

        Objects are where they are at that time, see `MeasuredObject.at`.
        """
        if self.waiting_for():
            return None
        stamp = min(self._stamps[topic] for topic in self.required or self.topics)
        qpos, qvel = self._qpos.copy(), self._qvel.copy()
        for topic, (positions, velocities) in self.objects.items():
            qpos[positions], qvel[velocities] = self._measured[topic].at(stamp, self.motion)
        return State(stamp, qpos, qvel)

    def consistent(self) -> bool:
        """Whether all parts of the state carry the same stamp."""
        return len({self._stamps.get(topic) for topic in self.topics}) == 1

    def waiting_for(self) -> list[str]:
        """Topics that no good message has come from yet."""
        return [topic for topic in self.topics if topic not in self._stamps]

    def reset(self) -> None:
        """Forget all messages."""
        self.forget_robot()
        for topic in self.objects:
            self._forget_object(topic)

    def forget_robot(self) -> None:
        """Forget the messages of the robot's own state."""
        for topic in self.required:
            self._stamps.pop(topic, None)
            self._fresh.discard(topic)

    def _forget_object(self, topic: str) -> None:
        self._measured[topic].reset()
        self._stamps.pop(topic, None)
        self._fresh.discard(topic)

    def _note(self, topic: str, stamp: float) -> None:
        if stamp < self._stamps.get(topic, -np.inf):
            # Time began anew (a simulation was reset, a clock was set): nothing held from before
            # belongs to the new time.
            self.forget_robot()
            for other in self.objects:
                if self._stamps.get(other, -np.inf) > stamp:
                    self._forget_object(other)
        self._stamps[topic] = stamp
        self._fresh.add(topic)


def measured_name(model: mujoco.MjModel, joint: int) -> str:
    """Name by which `joint_states` measures a joint that is not free.

    Raises:
        TaskError: no message can measure it
    """
    name, body = model.joint(joint).name, model.body(model.jnt_bodyid[joint]).name
    where = f"body '{body}'" if body else f"body {int(model.jnt_bodyid[joint])}, which has no name,"
    if int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_BALL):
        called = f"'{name}' " if name else ""
        raise TaskError(
            f"the joint {called}of {where} is a ball joint, which {JOINTS} cannot carry; put three "
            "hinges in its place"
        )
    if flex := "" if name else flex_at(model, int(model.jnt_bodyid[joint])):
        raise TaskError(
            f"flex '{flex}' is soft, and no message measures where its vertices are; make it rigid "
            "or take it out of the model"
        )
    if not name:
        raise TaskError(
            f"a joint of {where} has no name, so {JOINTS} cannot carry it; give it one: "
            '<joint name="..."/>'
        )
    return name


def flex_at(model: mujoco.MjModel, body: int) -> str:
    """Name of the flex that has a body for a vertex or node; empty where there is none."""
    for i in range(model.nflex):
        vertices = model.flex_vertbodyid[model.flex_vertadr[i] :][: model.flex_vertnum[i]]
        nodes = model.flex_nodebodyid[model.flex_nodeadr[i] :][: model.flex_nodenum[i]]
        if body in vertices or body in nodes:
            return mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_FLEX, i) or str(i)
    return ""


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
