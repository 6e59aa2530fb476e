"""The recorder over real DDS.

What it writes can be read without ROS, and no way of ending it costs the recording.
"""

# ruff: noqa: E402  (without ROS, the skip comes before the imports)
from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from array import array
from contextlib import contextmanager

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("diffusion_mpc.msg", reason="needs the built messages")

from diffusion_mpc.msg import JointCommand, Plan, PlannerStats
from mcap.reader import make_reader
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray

from diffusion_mpc.bags.bag_reader import BagError, read_messages

pytestmark = pytest.mark.ros

NAMES = [f"joint_{i}" for i in range(8)]
TIMEOUT = 60.0
MESSAGES = {
    "joint_states": JointState(
        name=NAMES, position=array("d", range(8)), velocity=array("d", range(8))
    ),
    "odom": Odometry(child_frame_id="torso"),
    "joint_command": JointCommand(name=NAMES, effort=array("d", range(8))),
    "planner/plan": Plan(actuator_names=NAMES, horizon_steps=20, controls=array("d", [0.5] * 160)),
    "planner/stats": PlannerStats(
        algorithm="mbd", term_names=["a", "b"], term_costs=array("d", [1.0, 2.0])
    ),
}


DOMAINS = itertools.cycle(1 + (os.getpid() + i) % 100 for i in range(100))


@pytest.fixture
def robot(monkeypatch):
    """A node that publishes, in a domain of its own.

    A recorder that was killed haunts its domain for some time.
    """
    monkeypatch.setenv("ROS_DOMAIN_ID", str(next(DOMAINS)))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context)
    node = Node("robot", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@contextmanager
def recorder(folder, **parameters):
    """The recorder as a process of its own; gone when the block is left."""
    given = {"directory": str(folder), **parameters}
    arguments = [text for name, value in given.items() for text in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "diffusion_mpc.ros.recorder_node", "--ros-args", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def publishers(node, messages, qos=10):
    made = {
        topic: node.create_publisher(type(message), topic, qos)
        for topic, message in messages.items()
    }
    try:
        yield made
    finally:
        for publisher in made.values():
            node.destroy_publisher(publisher)


def wait_until(condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def heard(made):
    return lambda: all(publisher.get_subscription_count() > 0 for publisher in made.values())


def recorded(bag):
    """Numbers of messages in a bag that is still being written."""
    try:
        return read_messages(bag, lambda topic, kind: False).counts
    except BagError:
        return {}


def publish(made, times, only=None):
    for _ in range(times):
        for topic, publisher in made.items():
            if only is None or topic in only:
                publisher.publish(MESSAGES[topic])
        time.sleep(0.005)


def ended(process, number=None):
    """Exit code and output, after a signal."""
    if number is not None:
        process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_bag_holds_what_was_sent_from_the_first_command_on(tmp_path, robot, number):
    bag = tmp_path / "runs" / "bag"
    with recorder(bag) as process, publishers(robot, MESSAGES) as made:
        wait_until(heard(made))
        publish(made, 30, only=("joint_states", "odom"))
        publish(made, 100)
        wait_until(lambda: recorded(bag).get("/joint_command") == 100)
        code, output = ended(process, number)
    assert code == 0, output
    assert (bag / "metadata.yaml").is_file()
    with Reader(bag) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        stamps = [timestamp for _, timestamp, _ in reader.messages()]
    assert counts.pop("/recorder/run") == 1
    assert set(counts) == {f"/{topic}" for topic in MESSAGES}
    assert all(100 <= count <= 101 for count in counts.values()), counts
    assert stamps == sorted(stamps)
    assert abs(stamps[-1] * 1e-9 - time.time()) < 60.0


def test_a_recorder_that_lags_behind_misses_nothing_of_what_was_sent_before_the_end(
    tmp_path, robot
):
    messages = {**MESSAGES, "sim/finished": Empty()}
    with recorder(tmp_path / "bag") as process, publishers(robot, messages, qos=1000) as made:
        wait_until(heard(made))
        process.send_signal(signal.SIGSTOP)
        publish(made, 80, only=MESSAGES)
        made["sim/finished"].publish(Empty())
        process.send_signal(signal.SIGCONT)
        code, output = ended(process)
    assert code == 0, output
    with Reader(tmp_path / "bag") as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert {topic: counts[f"/{topic}"] for topic in MESSAGES} == dict.fromkeys(MESSAGES, 80)


def test_messages_come_back_without_ros(tmp_path, robot):
    with recorder(tmp_path / "bag") as process, publishers(robot, MESSAGES) as made:
        wait_until(heard(made))
        publish(made, 3)
        time.sleep(0.2)
        ended(process, signal.SIGINT)
    found = read_messages(tmp_path / "bag", lambda topic, kind: True)
    assert found.problems == ()
    contents = {message.topic: message.content for message in found.messages}
    assert contents["/joint_states"].name == NAMES
    assert list(contents["/joint_command"].effort) == list(range(8))
    assert contents["/odom"].child_frame_id == "torso"
    assert len(contents["/planner/plan"].controls) == 160
    assert contents["/planner/stats"].term_names == ["a", "b"]


def test_type_hashes_are_those_of_the_publishers(tmp_path, robot):
    with recorder(tmp_path / "bag", start_on="''") as process, publishers(robot, MESSAGES) as made:
        wait_until(heard(made))
        ended(process, signal.SIGINT)
        infos = {topic: robot.get_publishers_info_by_topic(f"/{topic}")[0] for topic in MESSAGES}
    if not hasattr(next(iter(infos.values())), "topic_type_hash"):
        pytest.skip("this ROS distribution has no type hashes")
    with Reader(tmp_path / "bag") as reader:
        digests = {connection.topic: connection.digest for connection in reader.connections}
    with (tmp_path / "bag" / "bag.mcap").open("rb") as stream:
        channels = make_reader(stream).get_summary().channels.values()
    assert {channel.topic: channel.metadata["topic_type_hash"] for channel in channels} == digests
    for topic, info in infos.items():
        assert digests[f"/{topic}"] == f"RIHS01_{bytes(info.topic_type_hash.value).hex()}"


def test_a_killed_recorder_leaves_what_is_older_than_a_second(tmp_path, robot):
    with recorder(tmp_path / "bag") as process, publishers(robot, MESSAGES) as made:
        wait_until(heard(made))
        publish(made, 10)
        wait_until(
            lambda: all(recorded(tmp_path / "bag").get(f"/{topic}", 0) >= 9 for topic in MESSAGES)
        )
        process.kill()
        process.wait()
    found = read_messages(tmp_path / "bag", lambda topic, kind: True)
    assert all(9 <= found.counts[f"/{topic}"] <= 10 for topic in MESSAGES), found.counts
    assert len(found.messages) == sum(found.counts.values())
    assert any("breaks off" in problem for problem in found.problems)


def test_the_end_of_the_simulation_ends_the_recording(tmp_path, robot):
    messages = {
        "joint_states": MESSAGES["joint_states"],
        "joint_command": MESSAGES["joint_command"],
        "sim/finished": Empty(),
    }
    with recorder(tmp_path / "bag") as process, publishers(robot, messages) as made:
        wait_until(heard(made))
        publish(made, 5, only=("joint_states", "joint_command"))
        made["sim/finished"].publish(Empty())
        code, output = ended(process)
    assert code == 0, output
    assert read_messages(tmp_path / "bag", lambda topic, kind: False).counts["/joint_command"] == 5


def test_publishers_of_any_type_and_quality_of_service_are_heard(tmp_path, robot):
    states = {"joint_states": MESSAGES["joint_states"]}
    commands = {"joint_command": Float64MultiArray(data=array("d", range(8)))}
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    with (
        recorder(tmp_path / "bag", start_on="''") as process,
        publishers(robot, states, qos=best_effort) as state_made,
        publishers(robot, commands) as command_made,
    ):
        wait_until(heard({**state_made, **command_made}))
        publish(state_made, 20)
        for _ in range(20):
            command_made["joint_command"].publish(commands["joint_command"])
        time.sleep(0.2)
        ended(process, signal.SIGINT)
    found = read_messages(tmp_path / "bag", lambda topic, kind: True)
    assert found.types["/joint_command"] == "std_msgs/msg/Float64MultiArray"
    assert found.counts["/joint_command"] == 20
    assert found.counts["/joint_states"] > 0


def test_without_a_command_the_newest_message_of_each_topic_is_kept(tmp_path, robot):
    with recorder(tmp_path / "bag") as process, publishers(robot, MESSAGES) as made:
        wait_until(heard(made))
        publish(made, 10, only=("joint_states", "odom"))
        time.sleep(0.2)
        code, output = ended(process, signal.SIGINT)
    assert code == 0
    assert "no /joint_command came" in output
    counts = read_messages(tmp_path / "bag", lambda topic, kind: False).counts
    assert counts["/joint_states"] == counts["/odom"] == 1
    assert counts["/joint_command"] == 0


def test_an_existing_folder_is_left_alone(tmp_path, robot):
    (tmp_path / "notes.txt").write_text("mine")
    with recorder(tmp_path) as process:
        code, output = ended(process)
    assert code == 1
    assert len(output.strip().splitlines()) == 1
    assert str(tmp_path) in output
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_and_a_wrong_parameter_are_errors_in_one_line(tmp_path, robot):
    (tmp_path / "file").write_text("")
    for folder, parameters, named in (
        (tmp_path / "file" / "bag", {}, "cannot be made"),
        (tmp_path / "bag", {"dierctory": "x"}, "did you mean 'directory'"),
    ):
        with recorder(folder, **parameters) as process:
            code, output = ended(process)
        assert code == 1
        assert len(output.strip().splitlines()) == 1
        assert named in output


def test_a_recorder_does_without_torch():
    # It would take four times as long to start, beside a planner that is starting as well.
    code = "import sys, diffusion_mpc.ros.recorder_node; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
