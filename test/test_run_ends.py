"""Ends of runs: what the nodes say when nothing has gone wrong."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.ros
SMALL = ["--set", "planner.num_samples=8", "--set", "backend.threads=1"]


def started(folder, *arguments):
    command = [sys.executable, "-m", "diffusion_mpc.cli", "sim", "cartpole", *SMALL]
    return subprocess.Popen(
        [*command, "--record", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_no_node_logs_an_error_when_the_duration_is_over(tmp_path):
    run = started(tmp_path / "run", "--duration", "1")
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    logs = {log.name: log.read_text() for log in (tmp_path / "run" / "nodes").glob("*.log")}
    assert "the simulation has finished" in logs["planner.log"]
    for text in logs.values():
        assert "[ERROR]" not in text
        assert "Traceback" not in text


def test_an_interrupt_before_the_first_plan_ends_without_a_word_about_a_bag(tmp_path):
    run = started(tmp_path / "run")
    deadline = time.monotonic() + 60.0
    while not (tmp_path / "run" / "nodes" / "planner.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=60)[0] == "interrupted\n"
    assert run.returncode == 130


@pytest.mark.parametrize("name", ["ROS_LOG_DIR", "ROS_HOME"])
def test_a_node_whose_logs_have_no_place_ends_with_one_line(tmp_path, name):
    (tmp_path / "file").touch()
    places = {n: v for n, v in os.environ.items() if n not in ("ROS_LOG_DIR", "ROS_HOME")}
    done = subprocess.run(
        [sys.executable, "-m", "diffusion_mpc.ros.sim_node"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**places, name: str(tmp_path / "file" / "folder")},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
