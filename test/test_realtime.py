"""Cores and priorities of threads, and what happens where they are not permitted."""

import os
import subprocess
import sys
import threading

import pytest

from diffusion_mpc.config import ConfigError, RealtimeConfig
from diffusion_mpc.runtime.scheduling import parse_cores, scheduled

CORE = min(os.sched_getaffinity(0))


def started(config, warnings, above=0):
    """Cores, policy, priority and niceness of a thread that is started as `config` says."""
    found = []

    def look():
        found.extend(
            (os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
        )
        found.append(os.getpriority(os.PRIO_PROCESS, 0))

    with scheduled(config, warnings.append, above):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    return found


def test_threads_started_within_run_on_the_cores_asked_for_and_others_are_left_alone():
    before, warnings = os.sched_getaffinity(0), []
    assert started(RealtimeConfig(cpus=str(CORE)), warnings)[0] == {CORE}
    assert os.sched_getaffinity(0) == before
    assert started(RealtimeConfig(), warnings) == [
        before,
        os.SCHED_OTHER,
        0,
        os.getpriority(os.PRIO_PROCESS, 0),
    ]
    assert warnings == []


UNPRIVILEGED = """
import os, resource
from diffusion_mpc.config import RealtimeConfig
from diffusion_mpc.runtime.scheduling import scheduled
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
for config in (RealtimeConfig(priority=50), RealtimeConfig(nice=-5)):
    with scheduled(config, print):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
"""


def test_what_is_not_permitted_is_said_and_planning_goes_on_without():
    run = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, check=True
    )
    priority, nice = run.stdout.splitlines()
    assert priority.startswith(
        "realtime.priority 50 is not possible here (Operation not permitted), and planning goes "
        "on without"
    )
    assert nice.startswith("realtime.nice -5 is not possible here (")


def test_a_core_that_is_not_there_is_said():
    warnings = []
    assert started(RealtimeConfig(cpus="1000"), warnings)[0] == os.sched_getaffinity(0)
    assert warnings[0].startswith("realtime.cpus 1000 is not possible here (Invalid argument)")


def permitted():
    with scheduled(RealtimeConfig(priority=1), (warnings := []).append):
        return not warnings


@pytest.mark.skipif(not permitted(), reason="needs the right to real-time priorities")
def test_a_real_time_priority_is_that_of_the_threads_started_within_and_goes_with_them():
    warnings = []
    assert started(RealtimeConfig(priority=5), warnings, above=1)[1:3] == [os.SCHED_FIFO, 6]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "cores"), [("", set()), ("3", {3}), ("0,2-3", {0, 2, 3}), (" 1, 4 ", {1, 4})]
)
def test_lists_of_cores(text, cores):
    assert parse_cores(text) == cores


def test_a_list_that_is_none_is_refused():
    with pytest.raises(
        ConfigError, match=r"realtime\.cpus: '2-x' is no core; write a list such as 0,2-3"
    ):
        parse_cores("0,2-x")


def test_resident_memory_grows_by_what_is_used():
    # In a process of its own: of one that is large and idle, the system may take pages back.
    code = (
        "from diffusion_mpc.runtime.scheduling import resident_memory as used\n"
        "before = used()\n"
        "block = bytearray(b'x') * 50_000_000\n"
        "print(used() - before)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(told.stdout) == pytest.approx(50.0, abs=10.0)


@pytest.mark.ros
def test_planning_rollouts_and_commands_share_the_cores_asked_for(tmp_path, monkeypatch):
    from robot import Robot

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.node_processes import Process, Running

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    settings = {
        "task": "cartpole",
        "planner.num_samples": 8,
        "backend.threads": 2,
        "realtime.cpus": str(CORE),
    }
    with Running([Process("planner", settings)], tmp_path) as running:
        robot = Robot()
        try:
            robot.start()
            robot.spin_until(lambda: len(robot.commands) > 20 and robot.diagnostics, "commands")
            pid = running._children["planner"].pid
            cores = [
                os.sched_getaffinity(int(thread)) for thread in os.listdir(f"/proc/{pid}/task")
            ]
            assert (
                cores.count({CORE}) >= 3
            )  # planning, which rolls out itself, another rollout thread, commands
            assert cores.count(os.sched_getaffinity(0)) >= 1
            values = {v.key: v.value for v in robot.diagnostics[-1].values}
            assert 50.0 < float(values["resident_memory_mb"]) < 5000.0
        finally:
            robot.close()
