"""A run of a task read out of a bag.

States, commands and figures of the plans as arrays, in MuJoCo's order and frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.bags.bag_reader import BagError, Messages, read_messages
from diffusion_mpc.bags.recorded_states import (
    OBJECT_TYPES,
    STATE_TYPES,
    RecordedStates,
    name_prefix,
    states_of,
)
from diffusion_mpc.command.command import Command, actuators
from diffusion_mpc.command.decode import CommandRejectedError, decode
from diffusion_mpc.estimation.frames import pose_to_goal
from diffusion_mpc.message_fields import to_seconds, xyz, xyzw
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array

Flags = NDArray[np.bool_]

COMMANDS, STATS = "joint_command", "planner/stats"
STAMPED_COMMAND = "diffusion_mpc/msg/JointCommand"
TYPES = {
    **STATE_TYPES,
    COMMANDS: (
        STAMPED_COMMAND,
        "std_msgs/msg/Float64MultiArray",
        "trajectory_msgs/msg/JointTrajectory",
    ),
    STATS: ("diffusion_mpc/msg/PlannerStats",),
}
"""Message types by the topic's name in the robot's namespace."""


@dataclass(frozen=True)
class RecordedCommands:
    """Commands sent, in the order of their stamps.

    Attributes:
        stamps: (N,) times from which they apply, s; for messages without a stamp, the time of
            recording
        state_stamps: (N,) stamps of the states that they follow from, s; NaN for a safe command or
            where unknown
        values: (N, nu) in actuator units and MuJoCo's order; the gains of a safe command are left
            out
        safe: (N,) whether it is the watchdog's safe command
        commands: N of them with their gains; of a trajectory, the first point
    """

    stamps: Array
    state_stamps: Array
    values: Array
    safe: Flags
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class RecordedPlans:
    """Figures of the plans, in the order of their stamps; see msg/PlannerStats.msg.

    Attributes:
        recorded: whether the bag has their topic
        stamps: (P,) stamps of the states planned from, s
        plan_time, deadline: (P,) s
        missed: (P,) whether the plan came too late
        cost, cost_mean, effective_sample_size, infeasible_fraction: (P,)
        term_names: cost terms
        term_costs: (P, terms) weighted
        noise: (P,) standard deviation of the samples, in normalised actions; 0 in bags of before
        policy_rows, policy_weight, policy_time: (P,) samples that a policy proposed, their weight,
            and the time that its network took, s; 0 in bags of before
        policy_cost, planner_cost: (P,) of the cheapest of these samples and of the cheapest other
        policy_guidance: (P,) weight of the policy's label
        velocity: (P, 3) commanded forward and lateral velocity, m/s, and yaw rate, rad/s
        goal: (P, 7) goal position, m, and unit quaternion (wxyz), world frame
        algorithm, backend, num_samples, horizon_steps, iterations: of the last plan recorded
    """

    recorded: bool
    stamps: Array
    plan_time: Array
    deadline: Array
    missed: Flags
    cost: Array
    cost_mean: Array
    effective_sample_size: Array
    infeasible_fraction: Array
    term_names: tuple[str, ...]
    term_costs: Array
    noise: Array
    policy_rows: Array
    policy_weight: Array
    policy_time: Array
    policy_cost: Array
    planner_cost: Array
    policy_guidance: Array
    velocity: Array
    goal: Array
    algorithm: str | None
    backend: str | None
    num_samples: int | None
    horizon_steps: int | None
    iterations: int | None


@dataclass(frozen=True)
class RecordedRun:
    """One recorded run.

    Attributes:
        bag: where it was read from
        states: measured states
        commands: commands sent
        plans: figures of the plans
        topics: number of messages on every topic of the bag
        problems: what could not be read or used, one line each
    """

    bag: Path
    states: RecordedStates
    commands: RecordedCommands
    plans: RecordedPlans
    topics: Mapping[str, int]
    problems: tuple[str, ...]


def read_run(bag: Path, task: Task, namespace: str | None = None) -> RecordedRun:
    """Read a bag as a run of a task.

    Args:
        bag: rosbag2 folder or .mcap file
        task: task that was run; joints and actuators are those of its model
        namespace: namespace of the robot; None: the bag holds only one

    Raises:
        BagError: nothing can be read, or nothing in the bag is of use, or there are several robots
            and none is chosen
        TaskError: the task's model has joints or actuators that no message describes
    """
    kinds = {kind for types in (*TYPES.values(), OBJECT_TYPES) for kind in types}
    messages = read_messages(bag, lambda topic, kind: kind in kinds).of_robot(bag, namespace)
    unused: list[str] = []
    if not any(messages.find_topic(name, types, unused) for name, types in TYPES.items()):
        raise BagError(
            f"bag '{bag}' holds nothing of a run; its topics are: {', '.join(messages.types)}"
        )
    problems = list(messages.problems)
    states = states_of(messages, task, problems)
    commands = _commands(messages, task, problems)
    plans = _plans(messages, problems)
    if not (len(states.stamps) or len(commands.stamps) or len(plans.stamps)):
        raise BagError(
            f"bag '{bag}' holds nothing that can be evaluated"
            + (f": {problems[0]}" if problems else "")
        )
    return RecordedRun(bag, states, commands, plans, messages.counts, tuple(problems))


def _commands(messages: Messages, task: Task, problems: list[str]) -> RecordedCommands:
    task_actuators = actuators(task.model)
    rejected: Counter[str] = Counter()
    stamps, state_stamps, safe = [], [], []
    values: list[Command] = []
    found = messages.on(messages.find_topic(COMMANDS, TYPES[COMMANDS], problems))
    fields = ("name", "joint_names")
    names = {n for m in found for field in fields for n in getattr(m.content, field, ())}
    prefix = name_prefix(names, [a.label for a in task_actuators]) if task_actuators else ""
    for message in found:
        content = message.content
        try:
            (_, command), *_ = decode(content, task_actuators, prefix)
        except CommandRejectedError as error:
            rejected[str(error)] += 1
            continue
        stamped = message.type == STAMPED_COMMAND
        values.append(command)
        safe.append(stamped and bool(content.safe))
        # A trajectory that applies at once has no stamp.
        stamps.append(
            (to_seconds(content.header.stamp) if hasattr(content, "header") else 0.0)
            or message.received
        )
        state_stamps.append(
            to_seconds(content.state_stamp) if stamped and not content.safe else np.nan
        )
    problems += [f"{reason} ({count} messages)" for reason, count in rejected.items()]
    order = np.argsort(stamps, kind="stable")
    return RecordedCommands(
        np.array(stamps)[order],
        np.array(state_stamps)[order],
        np.array([c.control for c in values]).reshape(-1, len(task_actuators))[order],
        np.array(safe, dtype=bool)[order],
        tuple(values[i] for i in order.tolist()),
    )


def _plans(messages: Messages, problems: list[str]) -> RecordedPlans:
    topic = messages.find_topic(STATS, TYPES[STATS], problems)
    rows = [message.content for message in messages.on(topic)]
    names = tuple(rows[-1].term_names) if rows else ()
    kept = [
        row for row in rows if tuple(row.term_names) == names and len(row.term_costs) == len(names)
    ]
    if len(kept) < len(rows):
        problems.append(
            f"{len(rows) - len(kept)} messages of {STATS} have other cost terms than the last one"
        )
    last = kept[-1] if kept else None
    kept.sort(key=lambda row: to_seconds(row.header.stamp))

    def column(field: str, before: str = "") -> Array:
        # An older bag has its own definition of the message, and may call a field as it was called
        # before.
        return np.array(
            [getattr(row, field) if hasattr(row, field) else getattr(row, before) for row in kept],
            dtype=float,
        )

    def added(field: str) -> Array:
        return np.array([getattr(row, field, 0.0) for row in kept], dtype=float)

    return RecordedPlans(
        recorded=topic is not None,
        stamps=np.array([to_seconds(row.header.stamp) for row in kept]),
        plan_time=column("plan_time"),
        deadline=column("deadline"),
        missed=column("deadline_missed").astype(bool),
        cost=column("cost"),
        cost_mean=column("cost_mean"),
        effective_sample_size=column("effective_sample_size"),
        infeasible_fraction=column("infeasible_fraction", before="infeasible_share"),
        term_names=names,
        term_costs=np.array([row.term_costs for row in kept], dtype=float).reshape(
            len(kept), len(names)
        ),
        noise=added("noise"),
        policy_rows=added("policy_rows"),
        policy_weight=added("policy_weight"),
        policy_time=added("policy_time"),
        policy_cost=added("policy_cost"),
        planner_cost=added("planner_cost"),
        policy_guidance=added("policy_guidance"),
        velocity=np.array(
            [(*xyz(row.command.linear)[:2], row.command.angular.z) for row in kept]
        ).reshape(-1, 3),
        goal=np.array(
            [pose_to_goal(xyz(row.goal.position), xyzw(row.goal.orientation)) for row in kept]
        ).reshape(-1, 7),
        algorithm=last and str(last.algorithm),
        backend=last and str(last.backend),
        num_samples=last and int(last.num_samples),
        horizon_steps=last and int(last.horizon_steps),
        iterations=last and int(last.iterations),
    )
