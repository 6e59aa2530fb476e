import gc
import os
import signal
import sys

import pytest

from diffusion_mpc.bringup.description import free_domain_id

# Tests must neither reach another ROS system nor be reached by one.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(free_domain_id())

# A shell has what it starts in the background ignore SIGINT, and nohup SIGHUP, and that is
# inherited; some tests send them to what they start.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

pytest_plugins = ["fault_table"]

CARTPOLE = {
    "task": "cartpole",
    "planner.num_samples": 8,
    "planner.horizon_steps": 10,
    "planner.num_knots": 3,
    # A policy that ships makes plans of other knots.
    "policy.checkpoint": "",
    "backend.threads": 1,
}


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz-messages",
        type=int,
        default=200,
        help="random messages on every topic, and a fifth as many parameter sets",
    )


def pytest_collection_modifyitems(config, items):
    # What runs in real time fails where the machine stands still for a tenth of a second, and says
    # nothing about the code then. The summary names each test that was run again.
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            if "ros" in item.keywords:
                item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=["AssertionError"]))
    try:
        import diffusion_mpc.msg  # noqa: F401
        import rclpy  # noqa: F401
    except ImportError as error:
        for item in items:
            if "ros" in item.keywords:
                item.add_marker(
                    pytest.mark.skip(reason=f"needs ROS 2 and the built messages: {error}")
                )


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    import torch

    torch.set_num_threads(1)
    assert "torch" in sys.modules


@pytest.fixture(autouse=True, scope="module")
def frozen_heap():
    """What was there before a module of tests, frozen as in a node that controls a robot.

    A session in real time collects garbage after each plan. With a million objects of the test run,
    that takes half a second, which is `state_timeout`.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def start_planner(tmp_path, monkeypatch):
    """Starts one planner node with its robot; returns both."""
    from robot import Robot

    from diffusion_mpc.node_processes import Process, Running

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    made = []

    def start(robot=None, wait=True, **settings):
        parameters = {
            **CARTPOLE,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        running = Running([Process("planner", parameters)], tmp_path)
        made.append(running.stop)
        robot = Robot(**(robot or {}))
        made.append(robot.close)
        if wait:
            robot.spin_until(lambda: robot.diagnostics, "the planner's first diagnostics")
        return running, robot

    yield start
    for close in reversed(made):
        close()


@pytest.fixture
def controlled(start_planner):
    """A planner that controls a robot."""
    running, robot = start_planner()
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    return running, robot
