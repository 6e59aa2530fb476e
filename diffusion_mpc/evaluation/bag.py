"""From the messages of a bag to a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.commands import Actuator, actuators
from diffusion_mpc.estimation.estimator import Estimator, MessageRejectedError
from diffusion_mpc.estimation.frames import pose_to_goal
from diffusion_mpc.evaluation.messages import BagError, Message, read_messages
from diffusion_mpc.evaluation.run import Commands, Plans, Run, States
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array

JOINTS, ODOMETRY, COMMANDS, STATS = "joint_states", "odom", "joint_command", "planner/stats"
TYPES = {
    JOINTS: ("sensor_msgs/msg/JointState",),
    ODOMETRY: ("nav_msgs/msg/Odometry",),
    COMMANDS: (
        "diffusion_mpc/msg/JointCommand",
        "std_msgs/msg/Float64MultiArray",
        "trajectory_msgs/msg/JointTrajectory",
    ),
    STATS: ("diffusion_mpc/msg/PlannerStats",),
}
"""Message types by the end of the topic's name; what is in front of it is the robot's namespace."""

PAIRING = 0.005
"""Joint states and odometry belong together if their stamps (s) differ by no more than this."""


def read_run(bag: Path, task: Task) -> Run:
    """Read a bag as a run of a task.

    Args:
        bag: rosbag2 folder or .mcap file
        task: task that was run; joints and actuators are those of its model

    Raises:
        BagError: nothing can be read, or nothing in the bag is of use
        TaskError: the task's model has joints or actuators that no message describes
    """
    kinds = {kind for types in TYPES.values() for kind in types}
    found = read_messages(bag, lambda topic, kind: kind in kinds)
    problems = list(found.problems)
    required = (JOINTS, ODOMETRY, COMMANDS, STATS) if task.base else (JOINTS, COMMANDS, STATS)
    topics = {name: _topic(name, found.types, problems) for name in required}
    if not any(topics.values()):
        raise BagError(f"bag '{bag}' holds nothing of a run; its topics are: {', '.join(found.types)}")
    of: dict[str, list[Message]] = {name: [m for m in found.messages if m.topic == topics.get(name)] for name in TYPES}
    states = _states(of[JOINTS], of[ODOMETRY], task, problems)
    commands = _commands(of[COMMANDS], task, problems)
    return Run(bag, states, commands, _plans(of[STATS], problems), found.counts, tuple(problems))


def _topic(name: str, types: Mapping[str, str], problems: list[str]) -> str | None:
    matching = sorted((t for t, kind in types.items() if kind in TYPES[name] and f"/{t}".endswith(f"/{name}")), key=len)
    if not matching:
        problems.append(f"no topic {name}")
        return None
    if len(matching) > 1:
        problems.append(f"{matching[0]} is used, {', '.join(matching[1:])} is not")
    return matching[0]


def _states(joints: Sequence[Message], odometry: Sequence[Message], task: Task, problems: list[str]) -> States:
    estimator = Estimator(task.model, task.base)
    rejected: Counter[str] = Counter()
    rows = []
    for joint, base in _pairs(joints, odometry, rejected) if task.base else ((joint, None) for joint in joints):
        estimator.reset()
        stamp = _stamp(joint.content.header.stamp)
        try:
            estimator.update_joints(stamp, joint.content.name, joint.content.position, joint.content.velocity)
            if base is not None:
                pose, twist = base.content.pose.pose, base.content.twist.twist
                estimator.update_odometry(
                    stamp,
                    _xyz(pose.position),
                    np.append(_xyz(pose.orientation), pose.orientation.w),
                    _xyz(twist.linear),
                    _xyz(twist.angular),
                )
        except MessageRejectedError as error:
            rejected[str(error)] += 1
            continue
        state = estimator.state()
        assert state is not None
        rows.append(state)
    problems += [f"{reason} ({count} messages)" for reason, count in rejected.items()]
    stamps = np.array([s.stamp for s in rows])
    if (np.diff(stamps) < 0).any():
        problems.append("stamps of joint_states jump back; the states are put in the order of their stamps")
    order = np.argsort(stamps, kind="stable")
    qpos = np.array([s.qpos for s in rows]).reshape(-1, task.model.nq)
    qvel = np.array([s.qvel for s in rows]).reshape(-1, task.model.nv)
    return States(stamps[order], qpos[order], qvel[order])


def _pairs(joints: Sequence[Message], odometry: Sequence[Message], rejected: Counter[str]) -> Iterable[tuple[Message, Message]]:
    """Each joint state with the odometry of the same time."""
    if not odometry:
        return
    odometry = sorted(odometry, key=lambda m: _stamp(m.content.header.stamp))
    stamps = np.array([_stamp(m.content.header.stamp) for m in odometry])
    unpaired = []
    for joint in joints:
        stamp = _stamp(joint.content.header.stamp)
        after = int(np.searchsorted(stamps, stamp))
        near = min(range(max(after - 1, 0), min(after + 1, len(stamps))), key=lambda i: abs(stamps[i] - stamp))
        if abs(stamps[near] - stamp) <= PAIRING:
            yield joint, odometry[near]
        else:
            unpaired.append(stamp)
    # One at either end is where the recording began or ended between the two.
    if len(unpaired) > 2:
        rejected[f"joint_states without odom of the same time, first at {unpaired[0]:.3f} s"] = len(unpaired)


def _commands(messages: Sequence[Message], task: Task, problems: list[str]) -> Commands:
    driven = actuators(task.model)
    rejected: Counter[str] = Counter()
    stamps, state_stamps, values, safe = [], [], [], []
    for message in messages:
        content = message.content
        try:
            control = _control(message, driven)
        except ValueError as error:
            rejected[str(error)] += 1
            continue
        told = message.type == "diffusion_mpc/msg/JointCommand"
        values.append(control)
        safe.append(told and bool(content.safe))
        stamps.append(_stamp(content.header.stamp) if hasattr(content, "header") else 0.0)
        # A trajectory that applies at once has no stamp.
        stamps[-1] = stamps[-1] or message.received
        state_stamps.append(_stamp(content.state_stamp) if told and not content.safe else np.nan)
    problems += [f"{reason} ({count} messages)" for reason, count in rejected.items()]
    order = np.argsort(stamps, kind="stable")
    return Commands(
        np.array(stamps)[order],
        np.array(state_stamps)[order],
        np.array(values).reshape(-1, len(driven))[order],
        np.array(safe, dtype=bool)[order],
    )


def _control(message: Message, driven: Sequence[Actuator]) -> Array:
    """Control (nu,) of a command message; by joint name, or in the actuators' order where the message has no names."""
    content = message.content
    names = [a.joint for a in driven]
    fields: dict[str, Sequence[float]]
    if message.type == "std_msgs/msg/Float64MultiArray":
        fields = {a.field: content.data for a in driven}
    elif message.type == "trajectory_msgs/msg/JointTrajectory":
        names, point = content.joint_names, content.points[0] if content.points else None
        if point is None:
            raise ValueError("joint_command: a trajectory without points")
        fields = {"position": point.positions, "velocity": point.velocities, "effort": point.effort}
    else:
        names = content.name
        fields = {"position": content.position, "velocity": content.velocity, "effort": content.effort}
    control = np.empty(len(driven))
    for i, a in enumerate(driven):
        if a.joint not in names or len(fields[a.field]) != len(names):
            raise ValueError(f"joint_command: no {a.field} for joint '{a.joint}'")
        control[i] = fields[a.field][names.index(a.joint)] / a.scale
    if not np.isfinite(control).all():
        raise ValueError("joint_command: NaN or infinite value")
    return control


def _plans(messages: Sequence[Message], problems: list[str]) -> Plans:
    rows = [m.content for m in messages]
    names = tuple(rows[-1].term_names) if rows else ()
    kept = [row for row in rows if tuple(row.term_names) == names and len(row.term_costs) == len(names)]
    if len(kept) < len(rows):
        problems.append(f"{len(rows) - len(kept)} messages of {STATS} have other cost terms than the last one")
    last = kept[-1] if kept else None

    def column(field: str) -> Array:
        return np.array([getattr(row, field) for row in kept], dtype=float)

    return Plans(
        stamps=np.array([_stamp(row.header.stamp) for row in kept]),
        plan_time=column("plan_time"),
        deadline=column("deadline"),
        missed=column("deadline_missed").astype(bool),
        cost=column("cost"),
        cost_mean=column("cost_mean"),
        effective_sample_size=column("effective_sample_size"),
        infeasible_share=column("infeasible_share"),
        term_names=names,
        term_costs=np.array([row.term_costs for row in kept], dtype=float).reshape(len(kept), len(names)),
        velocity=np.array([(*_xyz(row.command.linear)[:2], row.command.angular.z) for row in kept]).reshape(-1, 3),
        goal=np.array([_goal(row.goal) for row in kept]).reshape(-1, 7),
        algorithm=last and str(last.algorithm),
        backend=last and str(last.backend),
        num_samples=last and int(last.num_samples),
        horizon_steps=last and int(last.horizon_steps),
        iterations=last and int(last.iterations),
    )


def _stamp(stamp: Any) -> float:  # noqa: ANN401  (builtin_interfaces/Time, as rosbags makes it)
    return float(stamp.sec + stamp.nanosec * 1e-9)


def _goal(pose: Any) -> Array:  # noqa: ANN401  (geometry_msgs/Pose, as rosbags makes it)
    return pose_to_goal(_xyz(pose.position), np.append(_xyz(pose.orientation), pose.orientation.w))


def _xyz(vector: Any) -> Array:  # noqa: ANN401  (anything with x, y and z)
    return np.array([vector.x, vector.y, vector.z])
