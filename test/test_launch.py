"""The launch file under the real launch.

What it starts, that it ends, and what it says about itself.
"""

# ruff: noqa: E402  (without launch, the skip comes before the imports)
from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("diffusion_mpc.msg", reason="needs the built messages")
launch_pytest = pytest.importorskip(
    "launch_pytest", reason="needs launch_pytest, which PyPI's ROS 2 does not have"
)
pytest.importorskip("launch_ros", reason="needs launch_ros, which PyPI's ROS 2 does not have")

from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray
from diffusion_mpc.msg import JointCommand
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.launch_service import LaunchService
from launch_pytest.actions import ReadyToTest
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from diffusion_mpc.bags.bag_reader import read_messages
from diffusion_mpc.bringup.description import ARGUMENTS, ROBOT_ARGUMENTS, free_domain_id

pytestmark = pytest.mark.ros

SHARE = Path(get_package_share_directory("diffusion_mpc"))
SOURCE = PythonLaunchDescriptionSource(str(SHARE / "launch" / "ant_sim.launch.py"))
QUADRUPED = PythonLaunchDescriptionSource(str(SHARE / "launch" / "quadruped_sim.launch.py"))
ROBOT = PythonLaunchDescriptionSource(str(SHARE / "launch" / "planner.launch.py"))
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def _own_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))


@pytest.fixture
def exit_codes():
    """Exit codes by executable, filled while a launch runs."""
    return {}


def description(exit_codes, source=SOURCE, **arguments):
    def ended(event, context):
        exit_codes[event.process_name.rsplit("-", 1)[0]] = event.returncode

    return LaunchDescription(
        [
            RegisterEventHandler(OnProcessExit(on_exit=ended)),
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
            ReadyToTest(),
        ]
    )


def wait_until(condition):
    end = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def node_process(executable):
    """The running process of a node, once there is one."""

    def find():
        return [
            process
            for process in psutil.Process().children(recursive=True)
            if process.status() != psutil.STATUS_ZOMBIE
            and any(part.endswith(f"/{executable}") for part in process.cmdline())
        ]

    return wait_until(find)[0]


@launch_pytest.fixture
def real_time(_own_domain, exit_codes):
    return description(exit_codes)


@launch_pytest.fixture
def robot(_own_domain, exit_codes):
    return description(exit_codes, ROBOT, task="cartpole", namespace="robot1")


@launch_pytest.fixture
def recorded_robot(_own_domain, exit_codes, tmp_path):
    record = str(tmp_path / "bag")
    return description(exit_codes, ROBOT, task="cartpole", record=record, respawn="true")


@launch_pytest.fixture(auto_shutdown=False)
def lockstep(_own_domain, exit_codes, tmp_path):
    # The file has lockstep off and no duration: arguments win over it.
    file = str(SHARE / "config" / "ant.yaml")
    return description(
        exit_codes, params_file=file, lockstep="true", duration="0.5", record=str(tmp_path / "bag")
    )


@pytest.mark.launch(fixture=real_time)
def test_planner_and_simulation_come_up_commands_flow_and_an_interrupt_ends_both(exit_codes):
    commands = []
    context = Context()
    rclpy.init(context=context)
    node = Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(JointCommand, "joint_command", commands.append, 10)
    end = time.monotonic() + TIMEOUT
    while len(commands) < 20 and time.monotonic() < end and not exit_codes:
        executor.spin_once(timeout_sec=0.1)
    names = set(node.get_node_names())
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert len(commands) >= 20, exit_codes
    assert names >= {"planner", "sim"}
    assert len(set(commands[-1].name)) == 8
    yield
    assert exit_codes == {"planner_node": 0, "sim_node": 0}


@pytest.mark.launch(fixture=robot)
def test_beside_a_robot_the_planner_comes_up_alone_in_its_namespace_and_waits_for_states(
    exit_codes,
):
    told = []
    context = Context()
    rclpy.init(context=context)
    node = Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: told.append(message.status[0]), 10
    )
    end = time.monotonic() + TIMEOUT
    while not told and time.monotonic() < end and not exit_codes:
        executor.spin_once(timeout_sec=0.1)
    names = {
        (name, namespace)
        for name, namespace in node.get_node_names_and_namespaces()
        if name != "listener"
    }
    topics = {name for name, _ in node.get_topic_names_and_types()}
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert told, exit_codes
    assert (told[-1].name, told[-1].message) == ("robot1/planner", "waiting for joint_states")
    assert names == {("planner", "/robot1")}
    assert topics >= {"/robot1/joint_states", "/robot1/joint_command", "/robot1/planner/plan"}
    yield
    assert exit_codes == {"planner_node": 0}


@pytest.mark.launch(fixture=recorded_robot)
def test_beside_a_robot_the_planner_outlives_its_recorder_and_is_started_again(exit_codes):
    node_process("recorder_node").kill()
    wait_until(lambda: exit_codes == {"recorder_node": -signal.SIGKILL})
    planner = node_process("planner_node")
    planner.kill()
    wait_until(lambda: exit_codes.get("planner_node") == -signal.SIGKILL)
    assert node_process("planner_node").pid != planner.pid


@pytest.mark.launch(fixture=lockstep, shutdown=True)
def test_a_lockstep_run_ends_by_itself_and_leaves_a_bag(exit_codes, tmp_path):
    assert exit_codes == {"recorder_node": 0, "planner_node": 0, "sim_node": 0}
    assert read_messages(tmp_path / "bag", lambda topic, kind: False).counts["/joint_command"] == 25


def test_a_mistake_in_the_parameter_file_is_told_and_starts_nothing(exit_codes, tmp_path, capfd):
    file = tmp_path / "parameters.yaml"
    file.write_text("/**/sim:\n  ros__parameters:\n    command_timout: 0.1\n")
    service = LaunchService()
    service.include_launch_description(description(exit_codes, params_file=str(file)))
    assert service.run() == 1
    assert "unknown parameter 'command_timout'; did you mean 'command_timeout'?" in "".join(
        capfd.readouterr()
    )
    assert not exit_codes


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        (SOURCE, ARGUMENTS),
        (
            QUADRUPED,
            [replace(a, default="quadruped") if a.name == "task" else a for a in ARGUMENTS],
        ),
        (ROBOT, ROBOT_ARGUMENTS),
    ],
    ids=["simulation", "quadruped", "robot"],
)
def test_every_argument_is_declared_with_a_description_and_its_default(source, arguments):
    declared = {
        a.name: a for a in source.get_launch_description(LaunchContext()).get_launch_arguments()
    }
    assert list(declared) == [argument.name for argument in arguments]
    for argument in arguments:
        assert declared[argument.name].description.startswith(argument.description)
        assert (
            "".join(part.text for part in declared[argument.name].default_value) == argument.default
        )
