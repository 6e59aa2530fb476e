"""Ends of runs: what the nodes say when nothing has gone wrong."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
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


def test_another_task_chosen_on_the_page_takes_over_and_both_runs_are_reported(
    tmp_path, monkeypatch
):
    pytest.importorskip("viser", reason="needs viser and mjviser")
    from browser import Browser
    from pilot import Witness

    from diffusion_mpc.bringup.description import free_domain_id

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    run = started(tmp_path / "run", "--page", "--lockstep")
    robot = Witness()
    log = tmp_path / "run" / "nodes" / "viewer.log"
    robot.spin_until(lambda: log.exists() and "page: " in log.read_text(), "the page")
    address = log.read_text().partition("page: ")[2].splitlines()[0]
    with contextlib.closing(Browser(address)) as browser:

        def seen(label):
            def there():
                browser.take()
                return browser.find(label)

            robot.spin_until(there, f"'{label}' on the page")

        seen("task")
        robot.spin_until(lambda: robot.stats, "plans")
        assert robot.stats[-1].num_samples == 8
        browser.move("task", "hopper")
        seen("velocity")
        before = len(robot.stats)
        robot.spin_until(lambda: len(robot.stats) > before + 20, "plans of the other task")
    assert "velocity" in robot.stats[-1].term_names
    assert robot.stats[-1].num_samples != 8
    nodes = psutil.Process(run.pid).children()
    (planner,) = (node for node in nodes if "diffusion_mpc.ros.planner_node" in node.cmdline())
    assert planner.nice() == psutil.Process().nice()
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=120)
    robot.close()
    assert run.returncode == 0, output
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "2-hopper" / "report.html").exists()


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
