"""Measured states in a bag as arrays, in MuJoCo's order and frames."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.bags.bag_reader import BagError, Message, Messages, read_messages
from diffusion_mpc.estimation.checks import MessageRejectedError
from diffusion_mpc.estimation.estimator import ODOMETRY, Estimator
from diffusion_mpc.estimation.joints import JOINTS
from diffusion_mpc.message_fields import pose_and_twist, to_seconds
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array, State

STATE_TYPES = {JOINTS: ("sensor_msgs/msg/JointState",), ODOMETRY: ("nav_msgs/msg/Odometry",)}
"""Message types of the topics that the robot's own state comes from."""

OBJECT_TYPES = ("geometry_msgs/msg/PoseStamped", "nav_msgs/msg/Odometry")
"""Message types of the topics that measure objects."""

PAIRING = 0.005
"""Joint states and odometry belong together if their stamps (s) differ by no more than this."""


@dataclass(frozen=True)
class RecordedStates:
    """Measured states, in the order of their stamps.

    Attributes:
        stamps: (T,) times of measurement, s
        qpos: (T, nq)
        qvel: (T, nv)
    """

    stamps: Array
    qpos: Array
    qvel: Array


def read_states(bag: Path, task: Task) -> RecordedStates:
    """Read the states of a robot; messages that cannot be used are left out.

    Args:
        bag: rosbag2 folder or .mcap file
        task: task whose model names the joints

    Raises:
        BagError: nothing can be read, or the bag has no states, or those of several robots
        TaskError: the task's model has joints that no message describes
    """
    kinds = {kind for types in (*STATE_TYPES.values(), OBJECT_TYPES) for kind in types}
    messages = read_messages(bag, lambda topic, kind: kind in kinds).of_robot(bag)
    problems: list[str] = []
    states = states_of(messages, task, problems)
    if not len(states.stamps) and problems:
        raise BagError(f"bag '{bag}' holds no states of the task: {problems[0]}")
    return states


def states_of(messages: Messages, task: Task, problems: list[str]) -> RecordedStates:
    """States that the messages of a bag describe.

    Args:
        messages: messages of the bag, those of `STATE_TYPES` among them
        task: task whose model names the joints
        problems: gets a line for each reason for which messages are left out

    Raises:
        TaskError: the task's model has joints that no message describes
    """
    estimator = Estimator(task.model, task.base)
    rejected: Counter[str] = Counter()
    found = [
        messages.on(messages.find_topic(name, STATE_TYPES[name], problems))
        for name in estimator.required
    ]
    names = tuple(estimator.addresses)
    if names and (prefix := name_prefix(_names(found), names)):
        estimator = Estimator(task.model, task.base, prefix=prefix)
    objects = _Objects(messages, estimator, problems)
    rows: list[State] = []
    together: Iterable[tuple[Message, ...]]
    together = _pairs(found[0], found[1], rejected) if len(found) > 1 else zip(*found, strict=True)
    whole = True
    for parts in together:
        # Joints of several publishers make one state.
        if whole:
            estimator.forget_robot()
        stamp = _stamp(parts[0])
        try:
            for topic, message in zip(estimator.required, parts, strict=True):
                _update(estimator, topic, stamp, message.content)
        except MessageRejectedError as error:
            rejected[str(error)] += 1
            continue
        whole = estimator.joints.complete
        if not whole:
            continue
        objects.take_until(stamp + PAIRING, rejected)
        state = estimator.state()
        if state is not None and rows and stamp and stamp == rows[-1].stamp:
            # In lockstep, a simulation repeats a state until it is answered.
            continue
        if state is None:
            rejected[f"no {' or '.join(estimator.waiting_for())} before joint_states"] += 1
        else:
            rows.append(state)
    problems += [f"{reason} ({count} messages)" for reason, count in rejected.items()]
    if not whole and not rows:
        problems.append(f"{JOINTS} never have {estimator.joints.missing()}")
    stamps = np.array([s.stamp for s in rows])
    if (np.diff(stamps) < 0).any():
        problems.append(
            "stamps of joint_states jump back; the states are put in the order of their stamps"
        )
    order = np.argsort(stamps, kind="stable")
    qpos = np.array([s.qpos for s in rows]).reshape(-1, task.model.nq)
    qvel = np.array([s.qvel for s in rows]).reshape(-1, task.model.nv)
    return RecordedStates(stamps[order], qpos[order], qvel[order])


def name_prefix(names: Collection[str], wanted: Sequence[str]) -> str:
    """Prefix that all the names wanted have among `names`; empty where there is none."""
    prefixes = {name.removesuffix(wanted[0]) for name in names if name.endswith(wanted[0])}
    # Sorted: the names without a prefix come first.
    return next((p for p in sorted(prefixes) if all(p + each in names for each in wanted)), "")


def _names(found: Sequence[Sequence[Message]]) -> set[str]:
    """Names of joints in the messages of the robot's own state."""
    return {name for each in found for m in each for name in getattr(m.content, "name", ())}


def _update(estimator: Estimator, topic: str, stamp: float, content: Any) -> None:  # noqa: ANN401
    """Run an update of the robot's own state."""
    if topic == JOINTS:
        estimator.update_joints(stamp, content.name, content.position, content.velocity)
        return
    position, quaternion, twist = pose_and_twist(content)
    assert twist is not None, "an odometry has a twist"
    estimator.update_odometry(stamp, position, quaternion, *twist)


class _Objects:
    """Poses of objects, taken in by the estimator in the order of their stamps."""

    def __init__(self, messages: Messages, estimator: Estimator, problems: list[str]) -> None:
        self._estimator = estimator
        self._waiting = deque(
            sorted(
                (
                    (_stamp(message), topic, message)
                    for topic in estimator.objects
                    for message in messages.on(messages.find_topic(topic, OBJECT_TYPES, problems))
                ),
                key=lambda entry: entry[0],
            )
        )

    def take_until(self, time: float, rejected: Counter[str]) -> None:
        """Take those measured up to a time, s."""
        while self._waiting and self._waiting[0][0] <= time:
            stamp, topic, message = self._waiting.popleft()
            try:
                self._estimator.update_object(topic, stamp, *pose_and_twist(message.content))
            except MessageRejectedError as error:
                rejected[str(error)] += 1


def _pairs(
    joints: Sequence[Message], odometry: Sequence[Message], rejected: Counter[str]
) -> Iterable[tuple[Message, Message]]:
    """Each joint state with the odometry of the same time."""
    if not odometry:
        return
    odometry = sorted(odometry, key=_stamp)
    stamps = np.array([_stamp(message) for message in odometry])
    unpaired = []
    for joint in joints:
        stamp = _stamp(joint)
        after = int(np.searchsorted(stamps, stamp))
        near = min(
            range(max(after - 1, 0), min(after + 1, len(stamps))),
            key=lambda i: abs(stamps[i] - stamp),
        )
        if abs(stamps[near] - stamp) <= PAIRING:
            yield joint, odometry[near]
        else:
            unpaired.append(stamp)
    # One at either end is where the recording began or ended between the two.
    if len(unpaired) > 2:
        rejected[f"joint_states without odom of the same time, first at {unpaired[0]:.3f} s"] = len(
            unpaired
        )


def _stamp(message: Message) -> float:
    return to_seconds(message.content.header.stamp)
