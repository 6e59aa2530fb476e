"""What comes into the planner over real DDS: states, odometry, references, frames, clocks."""

import time
from functools import partial

import numpy as np
import pytest

pytestmark = pytest.mark.ros
fault = pytest.mark.faults

PERIOD = 0.02
HOUR = 3600.0


def values(robot):
    return {v.key: v.value for v in robot.diagnostics[-1].values}


def wait_for_text(robot, text, publish=lambda: None):
    """Publish until the diagnostics hold a text; returns their level."""
    robot.spin_until(lambda: publish() or text in robot.diagnostics[-1].message, text)
    return robot.diagnostics[-1].level


def wait_for_rejection(robot, text, publish=lambda: None):
    def last():
        return values(robot).get("last_rejection", "")

    robot.spin_until(lambda: publish() or text in last(), text)


def commands(robot, count=20):
    robot.commands.clear()
    robot.spin_until(lambda: len(robot.commands) > count, "commands")
    return [message for _, message in robot.commands]


# Joints


@fault("joints of two publishers, and one of them falls silent", "safe command, ERROR names them")
def test_joints_of_two_publishers_make_a_state_and_the_one_that_is_missing_is_named(start_planner):
    from robot import Robot

    running, robot = start_planner(robot={"joints": ("slider",)})
    robot.start()
    assert wait_for_text(robot, "waiting for joint_states (missing: pole)") == b"\x01"
    assert not robot.commands
    second = Robot(name="second", joints=("gripper", "pole"))
    try:
        timer = robot.node.create_timer(PERIOD, second.publish)
        assert not any(message.safe for message in commands(robot))
        wait_for_text(robot, "following the plan")
        assert values(robot)["rejected"] == "0"
        told = "joints that the model does not have are ignored: ['gripper']"
        assert running.log("planner", lines=1000).count(told) == 1
        timer.cancel()
        assert wait_for_text(robot, "; missing since then: pole of joint_states") == b"\x02"
        # Diagnostics and commands are two topics: either may be heard first.
        robot.spin_until(lambda: robot.commands[-1][1].safe, "the safe command")
        # The same joint from both is a conflict.
        second.joints = ["slider", "pole"]
        timer.reset()
        wait_for_text(
            robot,
            "joint_states: more than one publisher of joint 'slider', /robot and /second; only one "
            "may be the robot",
        )
        second.joints = ["gripper", "pole"]
        robot.regains_control()
    finally:
        second.close()


def test_joints_have_a_prefix_in_states_and_commands(start_planner):
    _, robot = start_planner(
        robot={"joints": ("left_slider", "left_pole", "right_slider", "right_pole")},
        joint_prefix="left_",
    )
    robot.start()
    assert {tuple(message.name) for message in commands(robot)} == {("left_slider",)}


# Stamps of states


def test_states_in_a_little_disorder_neither_forget_the_plan_nor_bring_the_safe_command(controlled):
    _, robot = controlled
    robot.commands.clear()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        newest = robot.now()
        for behind in (0.0, 0.0005, 0.0):
            robot.publish(newest - behind)
        robot.spin(0.005)
    assert len(robot.commands) > 30
    assert not any(message.safe for _, message in robot.commands)
    robot.diagnostics.clear()
    robot.spin_until(lambda: robot.diagnostics, "diagnostics")
    assert int(values(robot)["dropped"]) > 20
    assert values(robot)["rejected"] == "0"


@fault(
    "age of the state wavers about state_timeout",
    "one safe command after the other, until it has been fresh for recovery_time",
)
def test_a_state_whose_age_wavers_about_the_timeout_brings_no_flapping(controlled):
    _, robot = controlled
    robot.stop()
    robot.first_safe()
    robot.commands.clear()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        for age in (0.109, 0.09):
            robot.publish(robot.now() - age)
            robot.spin(PERIOD)
    assert len(robot.commands) > 30
    assert all(message.safe for _, message in robot.commands)
    robot.start()
    robot.regains_control()


@pytest.fixture
def ant(start_planner):
    """Starts a planner of the ant, and its robot, which stands; few plans will do."""
    from diffusion_mpc.estimation.estimator import Estimator
    from diffusion_mpc.tasks import find_task

    joints = list(Estimator(find_task("ant")().model, "torso").addresses)

    def start(**settings):
        settings = {"planner__iterations": 1, "planner__rate": 25.0, **settings}
        _, robot = start_planner(robot={"joints": joints, "base": True}, task="ant", **settings)
        robot.position = np.tile([0.0, 0.8], 4)
        robot.start()
        robot.spin_until(lambda: robot.stats, "plans")
        return robot

    return start


@fault("stamps of one part hours off, the others' right", "rejected; the reason names the topic")
def test_the_clock_of_each_part_counts_and_is_named(ant):
    robot = ant()
    for hours, reason in [
        (1.0, "odom: stamp is 3.6e+03 s ahead of this node's clock"),
        (-1.0, "odom: stamp is 3.6e+03 s behind that of joint_states, more than state_timeout"),
    ]:

        def late(odometry, hours=hours):
            odometry.header.stamp.sec += int(HOUR * hours)
            return odometry

        robot.edit_odom = late
        wait_for_rejection(robot, reason)
        robot.spin_until(lambda: robot.commands[-1][1].safe, "the safe command")
        assert reason in robot.diagnostics[-1].message
        robot.edit_odom = lambda odometry: odometry
        robot.regains_control()


# Frames


def test_a_twist_in_the_header_frame_is_noticed_and_a_parameter_says_so(ant):
    robot = ant()

    def in_circles(odometry):
        """Round the origin once in 3 s, the twist in the header's frame."""
        angle = robot.now() * 2.0 * np.pi / 3.0 % (2.0 * np.pi)
        pose, twist = odometry.pose.pose, odometry.twist.twist
        odometry.header.frame_id = "robot/odom"
        pose.position.x, pose.position.y = float(np.cos(angle)), float(np.sin(angle))
        yaw = angle + 0.5 * np.pi
        pose.orientation.z, pose.orientation.w = float(np.sin(yaw / 2)), float(np.cos(yaw / 2))
        speed = 2.0 * np.pi / 3.0
        twist.linear.x, twist.linear.y = speed * float(np.cos(yaw)), speed * float(np.sin(yaw))
        twist.angular.z = speed
        return odometry

    robot.edit_odom = in_circles
    said = "odom: the base moves as if its twist were in the header frame; set input.twist_frame to"
    assert wait_for_text(robot, said) == b"\x01"
    assert robot.set_parameters(input__twist_frame="header") == (True, "")
    robot.spin_until(lambda: robot.diagnostics[-1].level == b"\x00", "OK")
    assert robot.plans[-1].header.frame_id == "robot/odom"


def test_a_goal_in_a_frame_that_nothing_leads_from_is_refused(start_planner):
    arm = ("yaw", "shoulder", "elbow", "forearm_roll", "wrist", "tool_roll")
    _, robot = start_planner(robot={"joints": arm}, task="arm", input__world_frame="world")
    robot.start()
    place = (0.3, 0.1, 0.5)
    for details, reason in [
        ({"frame": "map"}, "in frame 'map', and no transform leads from there to 'world'"),
        ({"stamp": robot.now() + HOUR}, "stamp is 3.6e+03 s ahead of this node's clock"),
        ({"stamp": robot.now() - HOUR}, "stamp is 3.6e+03 s behind this node's clock, more than"),
    ]:
        robot.goal(place, **details)
        wait_for_rejection(robot, f"goal_pose: {reason}")
    assert not robot.commands
    robot.goal(place, frame="world", stamp=robot.now() - 1.0)
    robot.spin_until(lambda: robot.stats and robot.commands, "plans and commands")
    assert robot.stats[-1].goal.position.x == 0.3
    robot.goal((0.3, 0.1, 1e9))
    assert wait_for_text(robot, "goal_pose: z of 1e+09 clamped to 10000 m") == b"\x01"
    robot.goal(place)
    robot.spin_until(lambda: robot.stats[-1].goal.position.z == 0.5, "plans for a goal in reach")


def test_a_goal_in_another_frame_is_transformed(start_planner):
    tf2_msgs = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed")
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile

    arm = ("yaw", "shoulder", "elbow", "forearm_roll", "wrist", "tool_roll")
    _, robot = start_planner(robot={"joints": arm}, task="arm", input__world_frame="world")
    robot.start()
    publishers = {
        "/tf": robot.node.create_publisher(tf2_msgs.TFMessage, "/tf", 10),
        "/tf_static": robot.node.create_publisher(
            tf2_msgs.TFMessage,
            "/tf_static",
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        ),
    }
    for topic, child, parent in [("/tf_static", "table", "world"), ("/tf", "tray", "table")]:
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        transform.transform.translation.y = 0.1
        transform.transform.rotation.z = transform.transform.rotation.w = float(np.sqrt(0.5))
        robot.spin_until(publishers[topic].get_subscription_count, "the planner to listen")
        publishers[topic].publish(tf2_msgs.TFMessage(transforms=[transform]))
    robot.spin(0.5)
    robot.goal((0.3, 0.0, 0.5), frame="tray")
    robot.spin_until(lambda: robot.stats, "plans")
    goal = robot.stats[-1].goal.position
    assert (goal.x, goal.y, goal.z) == pytest.approx((-0.3 - 0.1, 0.1, 0.5))


# Velocities


def test_a_velocity_counts_by_its_stamp_and_within_its_bounds(ant):
    from geometry_msgs.msg import TwistStamped

    from diffusion_mpc.ros.messages.stamps import to_stamp

    robot = ant(command__stamped=True)
    publisher = robot.node.create_publisher(TwistStamped, "cmd_vel", 10)
    robot.spin_until(publisher.get_subscription_count, "the planner to listen")

    def send(vx, behind=0.0, frame="base_link"):
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = to_stamp(robot.now() - behind), frame
        message.twist.linear.x = vx
        publisher.publish(message)
        robot.spin(PERIOD)

    def asked():
        return robot.stats[-1].command.linear.x

    for details, reason in [
        ({"behind": HOUR}, "stamp is 3.6e+03 s behind this node's clock, more than command.timeou"),
        ({"behind": -HOUR}, "stamp is 3.6e+03 s ahead of this node's clock"),
        ({"frame": "odom"}, "in frame 'odom', the world's; it must be in the robot's own"),
    ]:
        wait_for_rejection(robot, f"cmd_vel: {reason}", partial(send, 1.0, **details))
        assert asked() == 0.0
    wait_for_rejection(robot, "cmd_vel: a value of 1e+20; it must be below", partial(send, 1e20))
    for speed in (1e9, 100.0):
        said = f"cmd_vel: vx of {speed:.3g} clamped to 5 m/s"
        assert wait_for_text(robot, said, partial(send, speed)) == b"\x01"
        assert asked() == 5.0
    assert int(values(robot)["clamped_references"]) > 2
    # Late on its way, it counts for what is left of its time, and less than a newer one.
    robot.spin_until(lambda: send(1.0) or asked() == 1.0, "plans for a velocity within bounds")
    send(2.0, behind=0.3)
    robot.stats.clear()
    robot.spin_until(lambda: robot.stats, "the next plan")
    assert asked() == 1.0
    robot.spin_until(lambda: asked() == 0.0, "the end of the velocity")
    robot.spin_until(lambda: robot.diagnostics[-1].level == b"\x00", "OK")
