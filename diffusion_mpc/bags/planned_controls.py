"""Controls of the plans in a bag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_mpc.bags.bag_reader import BagError, Messages
from diffusion_mpc.message_fields import to_seconds
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.types import Array

PLAN, PLAN_TYPE = "planner/plan", "diffusion_mpc/msg/Plan"


@dataclass(frozen=True)
class PlannedControls:
    """One recorded plan.

    Attributes:
        number: of the plan since activation, from 1
        stamp: of the state that it follows from, s
        start_time: time that its first row is meant for, s
        control_dt: time between two rows, s
        controls: (horizon, nu) in actuator units and MuJoCo's order
    """

    number: int
    stamp: float
    start_time: float
    control_dt: float
    controls: Array


def planned_controls(messages: Messages, bag: Path, task: Task) -> list[PlannedControls]:
    """Plans in the messages of a bag, in the order of their states; none where it has no topic.

    Args:
        messages: of a robot, those of `PLAN_TYPE` among them
        bag: where they were read from
        task: task whose model names the actuators

    Raises:
        BagError: the plans are of other actuators
    """
    found = messages.on(messages.find_topic(PLAN, (PLAN_TYPE,), []))
    names = [task.model.actuator(i).name for i in range(task.model.nu)]
    plans = []
    for message in found:
        content = message.content
        recorded = list(content.actuator_names)
        if sorted(recorded) != sorted(names):
            raise BagError(f"bag '{bag}' holds plans of other actuators: {', '.join(recorded)}")
        rows = np.asarray(content.controls, float).reshape(int(content.horizon_steps), len(names))
        plans.append(
            PlannedControls(
                int(content.plan_id),
                to_seconds(content.header.stamp),
                to_seconds(content.start_time),
                float(content.control_dt),
                rows[:, [recorded.index(name) for name in names]],
            )
        )
    return sorted(plans, key=lambda plan: plan.stamp)
