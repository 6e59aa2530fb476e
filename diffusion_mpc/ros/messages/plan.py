"""Topics that the planner publishes, and plans as messages."""

from __future__ import annotations

from array import array
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point
from rclpy.node import Node
from rclpy.qos import QoSProfile

from diffusion_mpc.msg import Plan as PlanMessage
from diffusion_mpc.msg import PlannerStats
from diffusion_mpc.names import OutputType
from diffusion_mpc.ros.messages.joint_command import MESSAGES
from diffusion_mpc.ros.messages.stamps import to_stamp
from diffusion_mpc.runtime.output import PlanTiming
from diffusion_mpc.runtime.session import PlannerSession
from diffusion_mpc.tasks.measured import base_place
from diffusion_mpc.types import Plan


def outputs(node: Node, command: OutputType) -> dict[str, Any]:
    """The planner's publishers by name.

    The type of commands is as the parameter `output.type` says.
    """
    return {
        "command": node.create_publisher(MESSAGES[command], "joint_command", QoSProfile(depth=1)),
        "plan": node.create_publisher(PlanMessage, "~/plan", 10),
        "stats": node.create_publisher(PlannerStats, "~/stats", 10),
        "diagnostics": node.create_publisher(DiagnosticArray, "/diagnostics", 10),
    }


def plan_message(plan: Plan, session: PlannerSession) -> PlanMessage:
    """The plan that a session has made last, see msg/Plan.msg."""
    model, task = session.controller.backend.model, session.task
    message = PlanMessage(
        plan_id=session.health.plans,
        start_time=to_stamp(plan.start_time),
        control_dt=plan.control_dt,
        horizon_steps=len(plan.controls),
        actuator_names=[model.actuator(i).name for i in range(model.nu)],
        controls=array("d", plan.controls.ravel()),
        cost=plan.stats.cost,
    )
    message.header.stamp = to_stamp(plan.stamp)
    if task.base is not None:
        message.header.frame_id = session.world_frame
        path = plan.path[:, base_place(task)]
        message.path = [Point(x=x, y=y, z=z) for x, y, z in path.tolist()]
    return message


def stats_message(plan: Plan, timing: PlanTiming, session: PlannerSession) -> PlannerStats:
    """Statistics of a plan, see msg/PlannerStats.msg.

    Args:
        plan: the plan
        timing: its timing
        session: what made it
    """
    controller, health, reference = session.controller, session.health, session.current_reference
    config = controller.config
    s = plan.stats
    message = PlannerStats(
        plan_id=health.plans,
        algorithm=config.planner.algorithm,
        backend=controller.backend.name,
        num_samples=config.planner.num_samples,
        horizon_steps=len(plan.controls),
        iterations=s.iterations,
        warm_start=s.warm_start,
        state_age=timing.state_age,
        plan_time=s.plan_time,
        deadline=timing.allowed,
        deadline_missed=timing.missed,
        deadline_misses=health.misses,
        clamped_commands=session.follower.clamped,
        rejected_messages=health.rejected,
        cost=s.cost,
        cost_mean=s.cost_mean,
        term_names=list(s.term_costs),
        term_costs=array("d", s.term_costs.values()),
        effective_sample_size=s.effective_sample_size,
        noise=s.noise,
        infeasible_fraction=s.infeasible_fraction,
        violation=s.violation,
    )
    if s.policy is not None:
        message.policy_rows = s.policy.rows
        message.policy_weight = s.policy.weight
        message.policy_cost, message.planner_cost = s.policy.cost, s.policy.planner_cost
        message.policy_time, message.policy_age = s.policy.time, s.policy.age
        message.policy_guidance = s.policy.guidance
        message.policy_failure = s.policy.failure
    message.header.stamp = to_stamp(plan.stamp)
    message.command.linear.x, message.command.linear.y = (
        float(reference.velocity[0]),
        float(reference.velocity[1]),
    )
    message.command.angular.z = float(reference.velocity[2])
    goal, pose = message.goal, reference.pose.tolist()
    goal.position.x, goal.position.y, goal.position.z = pose[:3]
    goal.orientation.w, goal.orientation.x, goal.orientation.y, goal.orientation.z = pose[3:]
    return message
