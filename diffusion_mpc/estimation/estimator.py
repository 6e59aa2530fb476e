"""From joint states, odometry and poses of objects, matched by name, to the state."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import mujoco
import numpy as np

from diffusion_mpc.config import InputConfig, ObjectsConfig
from diffusion_mpc.estimation.checks import MessageRejectedError, normalised, require_finite
from diffusion_mpc.estimation.frames import odometry_to_qpos_qvel, pose_to_goal, twist_to_child
from diffusion_mpc.estimation.joints import JOINTS, Inform, MeasuredJoints, measured_name
from diffusion_mpc.estimation.objects import MeasuredObject, object_topic
from diffusion_mpc.estimation.transforms import ODOM, Transforms
from diffusion_mpc.estimation.twist_frame import TwistFrameCheck
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import Array, State

ODOMETRY = "odom"


class Estimator:
    """Holds the newest good measurement of each part and puts them together.

    The robot's own messages make a state; objects are moved on to its time. A message that is
    rejected changes nothing: the last good state ages on, and whoever reads it decides when it is
    too old.

    Each joint, the odometry and each object is a part, with a stamp of its own. A message that
    comes after a newer one of its part is dropped; where its stamp lies further back than
    `InputConfig.time_jump`, time began anew.

    Attributes:
        model: model of the robot
        addresses: addresses of the joints in qpos and qvel, by name
        objects: addresses of the free bodies other than the base, by topic
        required: topics of the robot's own state
        joints: what `joint_states` measures
        transforms: the frames that poses come in
        motion, input: parameters; may be replaced
        together: whether objects are measured with every state, as in lockstep
        dropped: number of messages that came after a newer one
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        base: str | None,
        together: bool = False,
        prefix: str = "",
        config: InputConfig | None = None,
        inform: Inform = lambda text: None,
    ) -> None:
        """Find the joints.

        Args:
            model: any model of the robot; joints are matched by name
            base: body whose free joint `odom` measures; None: the robot has a fixed base
            together: see above
            prefix: prefix of names in messages, before the model's own
            config: parameters of the messages that come in
            inform: called with what is worth knowing

        Raises:
            TaskError: the model has joints that no message measures
        """
        self.model, self.together, self.motion = model, together, ObjectsConfig()
        self.input = config or InputConfig()
        self._base_qpos, self._base_qvel = np.zeros(7), np.zeros(6)
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
        self.joints = MeasuredJoints(self.addresses, prefix, inform)
        self._measured = {topic: MeasuredObject() for topic in self.objects}
        self.required = ((JOINTS,) if self.addresses else ()) + ((ODOMETRY,) if self._free else ())
        self.transforms = Transforms(self.input.world_frame or (None if self._free else ""))
        self._twist_frame = TwistFrameCheck()
        self.dropped = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that the state comes from."""
        return (*self.required, *self.objects)

    @property
    def suspicion(self) -> str:
        """Objection of the measurements to the parameters; empty where there is none."""
        if not self._twist_frame.contradicted:
            return ""
        other = "header" if self.input.twist_frame == "child" else "child"
        return (
            f"{ODOMETRY}: the base moves as if its twist were in the {other} frame; set "
            f"input.twist_frame to {other}"
        )

    def configure(self, config: InputConfig) -> None:
        """Change live parameters."""
        if config.twist_frame != self.input.twist_frame:
            self._twist_frame.reset()
        self.input = config

    def update_joints(
        self,
        stamp: float,
        names: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float],
    ) -> None:
        """Take joint positions (rad or m) and velocities (rad/s or m/s) in any order.

        Those that the model does not have are ignored, and those that it has may come in several
        messages.

        Raises:
            MessageRejectedError: as `MeasuredJoints.read`
        """
        values = self.joints.read(names, position, velocity)
        if not len(values.joints):
            return
        require_finite(JOINTS, (stamp,))
        if self._is_in_order(stamp, self.joints.last(values)):
            self.joints.take_in(stamp, values)

    def update_odometry(
        self,
        stamp: float,
        position: Array,
        quaternion_xyzw: Array,
        linear: Array,
        angular: Array,
        frames: tuple[str, str] = ("", ""),
    ) -> None:
        """Take the pose and twist of the base, in ROS's frames (see `frames`).

        Args:
            stamp: time of the measurement, s
            position: (3,) m
            quaternion_xyzw: (4,) unit quaternion, header frame from child frame
            linear: (3,) velocity, m/s, in the frame that `InputConfig.twist_frame` names
            angular: (3,) angular velocity, rad/s, in the same
            frames: names of the header's frame and of the child's

        Raises:
            MessageRejectedError: NaN or infinite value, a quaternion that is not of unit length to
                within 1 %, or a frame other than `InputConfig.world_frame`
        """
        if self._free is None:
            raise MessageRejectedError(f"{ODOMETRY}: the task has a fixed base")
        numbers = np.concatenate([position, quaternion_xyzw, linear, angular])
        require_finite(ODOMETRY, (stamp, *numbers.tolist()))
        quaternion = normalised(ODOMETRY, quaternion_xyzw)
        world, (header, child) = self.input.world_frame, frames
        header = header.removeprefix("/") or world or ODOM
        if world and header != world:
            raise MessageRejectedError(
                f"{ODOMETRY}: in frame '{header}', and input.world_frame is '{world}'; leave the "
                "parameter empty, or correct it"
            )
        if not self._is_in_order(stamp, self._stamps.get(ODOMETRY, -np.inf)):
            return
        frame = self.input.twist_frame
        twist = twist_to_child(quaternion, linear, angular, frame)
        qpos, qvel = odometry_to_qpos_qvel(position, quaternion, *twist)
        self._twist_frame.update(stamp, qpos[:3], qpos[3:], linear, frame)
        self.transforms.world = header
        self.transforms.update(child, header, qpos)
        self._base_qpos, self._base_qvel = qpos, qvel
        self._note(ODOMETRY, stamp)

    def update_object(
        self,
        topic: str,
        stamp: float,
        position: Array,
        quaternion_xyzw: Array,
        twist: tuple[Array, Array] | None = None,
        frame: str = "",
    ) -> None:
        """Take the pose of a free body.

        Args:
            topic: what measures it
            stamp: time of the measurement, s
            position: (3,) m
            quaternion_xyzw: (4,) unit quaternion, `frame` from body
            twist: linear (3,) and angular (3,) velocity in the frame of the body, m/s and rad/s;
                None: they are found from the poses
            frame: frame of the pose; empty: the odometry's. While that has no name yet, a pose in
                a frame with one is left out

        Raises:
            MessageRejectedError: as `update_odometry`, or `frame` leads nowhere
        """
        require_finite(topic, (stamp, *position, *quaternion_xyzw, *np.ravel(twist or ())))
        quaternion, thing = normalised(topic, quaternion_xyzw), self._measured[topic]
        if frame and self.transforms.world is None:
            return
        pose = self.transforms.require(topic, frame, pose_to_goal(position, quaternion))
        if self._is_late(stamp, self._stamps.get(topic, -np.inf)):
            return
        if twist is None:
            thing.update_pose(stamp, pose, self.motion)
        else:
            thing.update_odometry(stamp, pose, *twist)
        self._note(topic, stamp)

    def take(self) -> State | None:
        """The state, once every part of it is newer than when it was last taken; None until then.

        A state made of this period's joints and the last period's odometry would be a robot that
        never was. Objects have a pace of their own, unless `together` says otherwise, or there is
        nothing else.
        """
        pacing = self.topics if self.together or not self.required else self.required
        if not all(map(self._is_fresh, pacing)):
            return None
        self._fresh.clear()
        self.joints.take_out()
        return self.state()

    def state(self) -> State | None:
        """The newest state, stamped with the robot's oldest part; None as long as one is missing.

        Objects are where they are at that time, see `MeasuredObject.at`.
        """
        if min(map(self.stamp, self.topics)) == -np.inf:
            return None
        stamp = min(map(self.stamp, self.required or self.objects))
        qpos, qvel = np.zeros(self.model.nq), np.zeros(self.model.nv)
        self.joints.write(qpos, qvel)
        if self._free is not None:
            qpos[self._free[0]], qvel[self._free[1]] = self._base_qpos, self._base_qvel
        for topic, (positions, velocities) in self.objects.items():
            qpos[positions], qvel[velocities] = self._measured[topic].at(stamp, self.motion)
        return State(stamp, qpos, qvel)

    def stamp(self, topic: str) -> float:
        """Time (s) of what a topic measured last, of the oldest joint; -inf: nothing."""
        if topic == JOINTS:
            return self.joints.oldest
        return self._stamps.get(topic, -np.inf)

    def oldest(self) -> str:
        """Name of the oldest part of a state that is there."""
        return min(self._parts(), key=itemgetter(1))[0]

    def incoherence(self, limit: float) -> str:
        """Reason for which the parts of a state are of a robot that never was; empty: none.

        Their stamps may lie `limit` seconds apart.
        """
        parts = self._parts()
        (older, first), (newer, last) = (f(parts, key=itemgetter(1)) for f in (min, max))
        if last - first <= limit:
            return ""
        return (
            f"{older}: stamp is {last - first:.3g} s behind that of {newer}, more than "
            f"state_timeout of {limit:g} s; synchronise their clocks"
        )

    def _parts(self) -> list[tuple[str, float]]:
        """Parts that a state takes its stamp from, by name, with their stamps in s."""
        rest = [t for t in self.required or self.objects if t != JOINTS]
        return [*self.joints.extremes(), *((t, self._stamps[t]) for t in rest)]

    def consistent(self) -> bool:
        """Whether all parts of the state carry the same stamp."""
        stamps = {self._stamps.get(topic) for topic in self.topics if topic != JOINTS}
        return len(stamps | set(self.joints.stamps.tolist())) == 1

    def waiting_for(self) -> list[str]:
        """Topics that no good message has come from yet, with the joints that it lacked."""
        missing = self.joints.missing()
        return [
            f"{topic} (missing: {missing})" if topic == JOINTS and missing else topic
            for topic in self.topics
            if self.stamp(topic) == -np.inf
        ]

    def late(self) -> str:
        """Parts that have not come since the last state, where others have; empty: all or none."""
        late = [topic for topic in self.required if not self._is_fresh(topic)]
        joints = self.joints.late()
        if len(late) == len(self.required) and not joints:
            return ""
        return " and ".join(f"{joints} of {JOINTS}" if t == JOINTS and joints else t for t in late)

    def reset(self) -> None:
        """Forget all messages."""
        self.forget_robot()
        for topic in self.objects:
            self._forget_object(topic)

    def forget_robot(self) -> None:
        """Forget the messages of the robot's own state."""
        self.joints.reset()
        self._stamps.pop(ODOMETRY, None)
        self._fresh.discard(ODOMETRY)

    def _forget_object(self, topic: str) -> None:
        self._measured[topic].reset()
        self._stamps.pop(topic, None)
        self._fresh.discard(topic)

    def _is_fresh(self, topic: str) -> bool:
        return self.joints.complete if topic == JOINTS else topic in self._fresh

    def _is_in_order(self, stamp: float, last: float) -> bool:
        """Whether a measurement of the robot is to be taken, after one of `last` (s)."""
        if self._is_late(stamp, last):
            return False
        if stamp < last:
            # Time began anew (a simulation was reset, a clock was set): nothing held from before
            # belongs to the new time.
            self.forget_robot()
            for other in self.objects:
                if self._stamps.get(other, -np.inf) > stamp:
                    self._forget_object(other)
        return True

    def _is_late(self, stamp: float, last: float) -> bool:
        # In lockstep nothing is late: a simulation sends one state after the other.
        late = 0.0 < last - stamp <= self.input.time_jump and not self.together
        self.dropped += late
        return late

    def _note(self, topic: str, stamp: float) -> None:
        self._stamps[topic] = stamp
        self._fresh.add(topic)
