"""The planner node over real DDS: what it does when all is well, and when something is not."""

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.ros

PERIOD = 0.02


def test_commands_answer_states_evenly_and_within_limits(controlled):
    _, robot = controlled
    robot.commands.clear()
    robot.spin(2.0)
    commands = [message for _, message in robot.commands]
    assert len(commands) == pytest.approx(100, abs=10)
    assert not any(c.safe for c in commands)
    assert {tuple(c.name) for c in commands} == {("slider",)}
    assert max(abs(c.effort[0]) for c in commands) <= 10.0
    ages = [
        c.header.stamp.sec
        - c.state_stamp.sec
        + 1e-9 * (c.header.stamp.nanosec - c.state_stamp.nanosec)
        for c in commands
    ]
    assert np.median(ages) < 2.5 * PERIOD


ARM = ("yaw", "shoulder", "elbow", "forearm_roll", "wrist", "tool_roll")


def reason_of_rejection(robot):
    return {v.key: v.value for v in robot.diagnostics[-1].values}.get("last_rejection", "")


def test_before_the_first_goal_there_is_no_command_and_then_the_plans_pursue_it(start_planner):
    _, robot = start_planner(robot={"joints": ARM}, task="arm")
    robot.start()
    robot.diagnostics.clear()
    robot.spin_until(lambda: len(robot.diagnostics) > 1, "diagnostics")
    assert robot.diagnostics[-1].level == b"\x01"
    assert robot.diagnostics[-1].message == "waiting for goal_pose"
    for position, quaternion, reason in [
        ((np.nan, 0, 0), (0, 0, 0, 1), "goal_pose: NaN or infinite value"),
        ((0.3, 0, 0.5), (0, 0, 0, 0), "goal_pose: quaternion of length 0; it must be 1"),
    ]:
        robot.goal(position, quaternion)
        robot.spin_until(lambda reason=reason: reason_of_rejection(robot) == reason, reason)
    assert robot.diagnostics[-1].message.startswith(
        "waiting for goal_pose; last message rejected: "
    )
    assert not robot.commands
    robot.goal((0.3, 0.1, 0.5), (0, 0, np.sin(0.4), np.cos(0.4)))
    robot.spin_until(lambda: robot.stats and robot.commands, "plans and commands")
    pose = robot.stats[-1].goal
    assert (pose.position.x, pose.position.y, pose.position.z) == (0.3, 0.1, 0.5)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx((np.sin(0.4), np.cos(0.4)))
    robot.goal((np.inf, 0, 0))
    robot.spin_until(
        lambda: reason_of_rejection(robot) == "goal_pose: NaN or infinite value", "the rejection"
    )
    robot.stats.clear()
    robot.spin_until(lambda: robot.stats, "the next plan")
    assert robot.stats[-1].goal == pose


def test_a_goal_of_the_parameters_is_pursued_until_a_message_comes(start_planner):
    _, robot = start_planner(
        robot={"joints": ARM}, task="arm", goal__wait=False, goal__x=0.4, goal__z=0.6
    )
    robot.start()
    robot.spin_until(lambda: robot.stats and robot.commands, "plans and commands")
    assert (robot.stats[-1].goal.position.x, robot.stats[-1].goal.position.z) == (0.4, 0.6)
    assert robot.set_parameters(goal__x=0.2) == (True, "")
    robot.spin_until(lambda: robot.stats[-1].goal.position.x == 0.2, "plans for the new parameter")
    robot.goal((0.3, 0.1, 0.5))
    robot.spin_until(
        lambda: robot.stats[-1].goal.position.x == 0.3, "plans for the goal of the message"
    )


def lockstep_command(robot, stamp):
    robot.commands.clear()
    robot.spin_until(
        lambda: robot.publish(stamp) and robot.executor.spin_once(0.05) is None and robot.commands,
        "an answer",
    )
    answer = list(robot.commands[0][1].effort)
    robot.spin(0.3)  # a state sent twice must not reach the planner after a reset
    return answer


def test_the_order_of_joints_in_a_message_does_not_matter(start_planner):
    from diffusion_mpc.estimation.estimator import Estimator
    from diffusion_mpc.tasks import find_task

    joints = list(Estimator(find_task("ant")().model, "torso").addresses)
    _, robot = start_planner(robot={"joints": joints, "base": True}, task="ant", lockstep=True)
    robot.position = np.linspace(-0.3, 0.9, 8)
    straight = lockstep_command(robot, 5.0)
    order = np.random.default_rng(1).permutation(8)
    robot.joints, robot.position = [joints[i] for i in order], robot.position[order]
    assert robot.call("planner/reset").success
    assert lockstep_command(robot, 5.0) == straight
    robot.position = np.roll(robot.position, 1)
    assert robot.call("planner/reset").success
    assert lockstep_command(robot, 5.0) != straight


def test_a_command_is_sent_as_long_before_its_time_as_the_actuators_are_late(start_planner):
    from diffusion_mpc.message_fields import to_seconds
    from diffusion_mpc.tasks import find_task

    late = 0.06
    _, robot = start_planner(prediction__command_delay=late)
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 100, "commands")
    force = find_task("cartpole")().model.actuator_gear[0, 0]
    plans = {to_seconds(plan.header.stamp): plan for plan in robot.plans}
    ahead, followed = [], []
    for _, command in robot.commands[50:]:
        plan = plans.get(to_seconds(command.state_stamp))
        if plan is not None:
            ahead.append(to_seconds(plan.start_time) - to_seconds(command.header.stamp))
            followed.append(command.effort[0] == pytest.approx(force * plan.controls[0], abs=1e-9))
    assert len(ahead) > 20
    # A plan that came late is not followed from its first control on.
    assert np.median(ahead) == pytest.approx(late, abs=0.005)
    assert np.mean(followed) > 0.7


def test_live_parameters_change_the_next_plans_and_bad_ones_are_refused(controlled):
    _, robot = controlled
    assert robot.set_parameters(planner__num_samples=16, cost__upright=2.0) == (True, "")
    robot.stats.clear()
    robot.spin_until(
        lambda: robot.stats and robot.stats[-1].num_samples == 16, "plans with 16 samples"
    )
    for values, reason in [
        ({"planner__num_samples": 1}, "num_samples"),
        ({"planner__temperature": -1.0}, "temperature"),
        ({"safe_command": "brake"}, "is not one of zero, hold, damping"),
    ]:
        successful, said = robot.set_parameters(**values)
        assert not successful
        assert reason in said
    robot.stats.clear()
    robot.spin_until(lambda: robot.stats, "the next plan")
    assert robot.stats[-1].num_samples == 16
    assert not robot.commands[-1][1].safe


def test_diagnostics_hold_the_figures_of_the_plans(controlled):
    _, robot = controlled
    robot.diagnostics.clear()
    robot.spin_until(lambda: robot.diagnostics, "diagnostics")
    values = {v.key: v.value for v in robot.diagnostics[-1].values}
    assert (
        0.0
        < float(values["plan_ms_p50"])
        <= float(values["plan_ms_p95"])
        <= float(values["plan_ms_p99"])
    )
    assert 0.0 <= float(values["state_age_ms"]) < 100.0
    assert 1.0 <= float(values["effective_sample_size"]) <= 8.0
    assert int(values["plans"]) > 0
    assert float(values["infeasible_fraction"]) == 0.0
    terms = [float(value) for key, value in values.items() if key.startswith("cost.")]
    assert sum(terms) == pytest.approx(float(values["cost"]), rel=1e-2)


def test_commands_as_trajectories_with_gains_that_are_checked_before_they_are_taken(start_planner):
    from trajectory_msgs.msg import JointTrajectory

    _, robot = start_planner(robot={"command": JointTrajectory}, output__type="joint_trajectory")
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 5, "trajectories")
    last = robot.commands[-1][1]
    assert last.joint_names == ["slider"]
    assert len(last.points) >= 10  # the horizon
    assert all(
        (len(p.positions), len(p.velocities), len(p.effort)) == (1, 0, 0) for p in last.points
    )
    assert robot.set_parameters(output__trajectory_velocities=True, output__trajectory_effort=True)[
        0
    ]
    robot.spin_until(lambda: len(robot.commands[-1][1].points[0].effort), "efforts")
    last = robot.commands[-1][1]
    assert all(len(p.positions) == len(p.velocities) == len(p.effort) == 1 for p in last.points)
    assert robot.set_parameters(gains__slider__p=-1.0)[1].startswith(
        "Parameter gains.slider.p out of range"
    )
    assert robot.set_parameters(gains__slider__p=3.0) == (True, "")


def test_gains_of_a_joint_change_the_next_commands(controlled):
    _, robot = controlled
    assert not len(robot.commands[-1][1].kp)
    assert robot.set_parameters(gains__slider__p=3.0, gains__slider__d=0.5) == (True, "")
    robot.spin_until(lambda: len(robot.commands[-1][1].kp), "commands with gains")
    assert (list(robot.commands[-1][1].kp), list(robot.commands[-1][1].kd)) == ([3.0], [0.5])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("planner__mirrored", False, "parameter 'planner.mirrored' is now 'planner.antithetic'"),
        (
            "output__kp",
            "3",
            "parameter 'output.kp' is no more; gains are parameters of each joint: gains.slider.p",
        ),
        (
            "planner__temprature",
            0.1,
            "unknown parameter 'planner.temprature'; did you mean 'planner.temperature'?",
        ),
    ],
)
def test_a_set_of_a_parameter_that_there_is_not_says_which_there_is(
    controlled, name, value, reason
):
    _, robot = controlled
    assert robot.set_parameters(**{name: value}) == (False, reason)


def number(robot, name):
    """Value of a parameter that is a double, by the planner's service."""
    from rcl_interfaces.msg import ParameterType
    from rcl_interfaces.srv import GetParameters

    asked = GetParameters.Request(names=[name])
    (value,) = robot.ask(GetParameters, "planner/get_parameters", asked).values
    assert value.type == ParameterType.PARAMETER_DOUBLE
    return value.double_value


def test_a_whole_number_sets_a_number(controlled):
    _, robot = controlled
    assert robot.set_parameters(planner__noise_start=2) == (True, "")
    assert number(robot, "planner.noise_start") == 2.0
    assert robot.set_parameters(planner__num_samples=2.0) == (
        False,
        "planner.num_samples: 2.0 is not of type int",
    )


def test_a_get_by_a_former_name_answers_with_the_value_and_the_log_tells_the_new_name(controlled):
    running, robot = controlled
    assert robot.set_parameters(planner__success_fraction=0.3) == (True, "")
    assert number(robot, "planner.success_share") == 0.3
    said = "parameter 'planner.success_share' is now 'planner.success_fraction'"
    assert said in running.log("planner", lines=20)


def test_a_parameter_file_for_all_nodes_holds_for_the_node_too(tmp_path):
    import os
    import subprocess
    import sys

    def last_line(text):
        path = tmp_path / "p.yaml"
        path.write_text(text)
        command = ["-m", "diffusion_mpc.ros.planner_node", "--ros-args", "--params-file", path]
        ended = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=os.environ, timeout=60
        )
        assert ended.returncode == 1
        return ended.stderr.splitlines()[-1].replace(str(path), "FILE")

    def given(lines):
        return last_line("/**:\n  ros__parameters:\n" + "".join(f"    {x}\n" for x in lines))

    # What is wrong ends the start, after all that is in the file was taken or left to others.
    own = ["task: cartpole", "planner.num_knots: 2", "planner.horizon_steps: 10"]
    reason = given([*own, "command_timeout: 0.4", "robot_description: <robot/>"])
    assert reason.startswith("error: planner.num_knots is 2; planner.spline quadratic")
    assert given(["planner.rat: 1.0"]) == (
        "error: unknown parameter 'planner.rat'; did you mean 'planner.rate'?"
    )
    assert given(["planner.rate: []"]) == (
        "error: parameter file 'FILE' has no value for 'planner.rate'; a list must not be empty"
    )
    assert last_line("planner:\n  planner.rate: 5.0\n") == (
        "error: parameter file 'FILE' has 'planner.rate' in '/planner' outside of "
        "ros__parameters; write it below ros__parameters, a key of the node"
    )


def test_markers_show_the_plan_and_as_many_traces_as_asked(start_planner):
    from visualization_msgs.msg import MarkerArray

    from diffusion_mpc.estimation.estimator import Estimator
    from diffusion_mpc.tasks import find_task

    joints = list(Estimator(find_task("ant")().model, "torso").addresses)
    _, robot = start_planner(robot={"joints": joints, "base": True}, task="ant", markers__count=3)
    robot.position = np.full(8, 0.8)
    robot.start()
    shown = []
    robot.node.create_subscription(MarkerArray, "planner/markers", shown.append, 10)
    robot.spin_until(lambda: shown, "markers")
    plan, traces = shown[-1].markers
    assert (plan.ns, traces.ns) == ("plan", "traces")
    assert plan.header.frame_id == traces.header.frame_id == "odom"
    assert len(plan.points) == 10
    assert len(traces.points) == 3 * 9 * 2  # pairs of points
    assert traces.points[0] == plan.points[0]  # the cheapest sample
    assert all(abs(p.z - 0.5) < 0.5 for p in traces.points)


def test_a_plan_that_the_search_took_from_a_policy_has_another_color():
    from diffusion_mpc.config import PlannerNodeConfig, build, cost_weights, load_parameters
    from diffusion_mpc.ros.messages.markers import PLAN, POLICY, marker_array
    from diffusion_mpc.runtime.controller import Controller
    from diffusion_mpc.tasks import find_task
    from diffusion_mpc.tasks.measured import base_place, initial_state
    from diffusion_mpc.types import PolicyStats, Reference

    task = find_task("ant")()
    given = {"task": "ant", "planner.num_samples": 4, "backend.threads": 1}
    values = load_parameters(PlannerNodeConfig, given)[1]
    controller = Controller(task, build(PlannerNodeConfig, values), cost_weights(values))
    state = initial_state(task, controller.backend.model)
    plan = controller.plan(state, Reference(), 0.0)

    def color(weight):
        policy = PolicyStats(2, weight, 1.0, 2.0, 0.001, 0.0, 1.5)
        stats = dataclasses.replace(plan.stats, policy=policy)
        shown = marker_array(dataclasses.replace(plan, stats=stats), base_place(task), "odom")
        return shown.markers[0].color

    assert color(1.0) == POLICY
    assert color(0.0) == PLAN
    assert marker_array(plan, base_place(task), "odom").markers[0].color == PLAN


def test_a_topic_whose_publisher_is_never_heard_is_subscribed_to_anew(start_planner):
    running, robot = start_planner()
    said = "joint_states: it has a publisher, of which nothing was heard for 5 s; subscribed anew"
    robot.spin_until(lambda: said in running.log("planner"), "a new subscription")
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    assert running.log("planner", lines=100).count(said) == 1


def test_deactivating_sends_the_safe_command_once_and_activating_resumes(controlled):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    _, robot = controlled
    deactivate = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert robot.call("planner/change_state", deactivate).success
    robot.spin(0.2)
    assert robot.commands[-1][1].safe
    count = len(robot.commands)
    robot.spin(0.3)
    assert len(robot.commands) == count
    assert robot.call("planner/get_state").current_state.label == "inactive"
    assert robot.call(
        "planner/change_state",
        ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE)),
    ).success
    robot.spin_until(lambda: not robot.commands[-1][1].safe, "control to return")


def test_without_autostart_the_node_waits_to_be_configured(start_planner):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    _, robot = start_planner(wait=False, autostart=False)
    assert robot.call("planner/get_state").current_state.label == "unconfigured"
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert robot.call(
            "planner/change_state", ChangeState.Request(transition=Transition(id=transition))
        ).success
    robot.start()
    robot.spin_until(lambda: robot.commands, "commands")
