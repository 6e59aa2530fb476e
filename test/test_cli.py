"""The command line, and whole runs in lockstep, which are the same on every machine."""

import json
import subprocess
import sys

import pytest

from diffusion_mpc.cli import main


def test_every_command_has_help_with_an_example(capsys):
    names = ["demo", "sim", "evaluate", "optimize", "benchmark", "tasks", "test"]
    for name in names:
        assert main([name, "--help"]) == 0
        assert f"example: diffusion-mpc {name}" in " ".join(capsys.readouterr().out.split())


def test_tasks_are_listed(capsys, tmp_path):
    assert main(["tasks", "--json", str(tmp_path / "t.json")]) == 0
    assert "cartpole" in capsys.readouterr().out
    assert "velocity" in json.loads((tmp_path / "t.json").read_text())["ant"]["cost_terms"]


@pytest.mark.ros
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sim", "antt"], "error: unknown task 'antt'; did you mean 'ant'?"),
        (["sim", "ant", "--set", "command.vx"], "error: --set command.vx: write NAME=VALUE"),
        (
            ["sim", "ant", "--set", "planner.rat=3"],
            "error: unknown parameter 'planner.rat'; did you mean 'planner.rate'?",
        ),
        (
            ["sim", "ant", "--params-file", "nowhere.yaml"],
            "error: parameter file 'nowhere.yaml' does not exist",
        ),
        (
            ["sim", "ant", "--video"],
            "error: --video needs --record DIR, the folder to write the video to",
        ),
        (["evaluate", "nowhere"], "error: bag 'nowhere' does not exist"),
        (
            ["sim", "cartpole", "--lockstep", "--set", "planner.rate=30"],
            "error: sim.rate is 30 Hz, from planner.rate, and sim.model.timestep 0.005 s: a period "
            "of 0.033333 s is not a multiple of the time step, as lockstep needs; change one of "
            "them",
        ),
        (
            ["sim", "cartpole", "--lockstep", "--set", "sim.lockstep=false"],
            "error: sim.lockstep is False and lockstep of the planner is True; they have to be the "
            "same",
        ),
    ],
)
def test_what_cannot_work_is_said_in_one_line(capsys, arguments, message):
    assert main(arguments) == 1
    assert capsys.readouterr().err == message + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simm"], 'Unknown command "simm". Did you mean "sim"?'),
        (["sim"], 'Command "sim" parameter TASK requires an argument.'),
        (["sim", "ant", "cartpole"], "unrecognised argument 'cartpole'"),
        (["sim", "ant", "--duratio", "3"], "Unknown option: --duratio. Did you mean --duration?"),
        (
            ["sim", "ant", "--duration", "long"],
            'Invalid value for --duration: unable to convert "long" into float.',
        ),
    ],
)
def test_wrong_usage_is_said_in_one_line_with_an_exit_code_of_its_own(capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.ros
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ROS_DOMAIN_ID", "abc", "ROS_DOMAIN_ID is 'abc'; set it to a number from 0 to 232"),
        ("ROS_DOMAIN_ID", "300", "ROS_DOMAIN_ID is '300'; set it to a number from 0 to 232"),
        ("ROS_LOG_DIR", "{file}/log", "the log folder '{file}/log' cannot be written to (Not a "),
    ],
)
def test_where_ros_could_not_start_a_line_says_what_to_set(
    capsys, tmp_path, monkeypatch, name, value, message
):
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    assert main(["sim", "cartpole", "--lockstep"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: " + message.format(file=tmp_path / "file"))
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["sim", "cartpole", "--json"],
        ["optimize", "ackley", "--json"],
        ["check", "cartpole", "--mjcf"],
        ["tasks", "--json"],
        ["benchmark", "speed", "--plot"],
        ["benchmark", "delay", "--json"],
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_the_work_and_its_folder_is_made(
    capsys, tmp_path, command
):
    (tmp_path / "file").touch()
    assert main([*command, str(tmp_path / "file" / "out")]) == 2
    error = capsys.readouterr().err
    assert f"'{tmp_path / 'file' / 'out'}' cannot be written: " in error
    assert error.count("\n") == 1
    assert main(["tasks", "ant", "--json", str(tmp_path / "new" / "t.json")]) == 0
    assert (tmp_path / "new" / "t.json").is_file()


@pytest.mark.ros
def test_an_early_interrupt_ends_without_a_traceback_or_an_error_about_the_bag(
    capsys, tmp_path, monkeypatch
):
    import os
    import signal

    from diffusion_mpc.bringup import simulate
    from diffusion_mpc.node_processes import Running

    class Interrupted(Running):
        """Nodes that Ctrl-C comes in the moment of whose start."""

        def __enter__(self):
            os.kill(os.getpid(), signal.SIGINT)
            return super().__enter__()

    monkeypatch.setattr(simulate, "Running", Interrupted)
    monkeypatch.setattr(simulate.os, "nice", lambda increment: 0)
    assert main(["sim", "cartpole", "--record", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert not (tmp_path / "run" / "bag" / "metadata.yaml").exists()


def test_all_arguments_of_test_go_to_pytest(monkeypatch):
    given = []
    monkeypatch.setattr(
        "diffusion_mpc.testing.run_all", lambda arguments: given.extend(arguments) or 0
    )
    assert main(["test", "fuzz", "--fuzz-messages=3", "-k", "x"]) == 0
    assert given == ["fuzz", "--fuzz-messages=3", "-k", "x"]


def test_without_ros_the_library_imports_and_lists_its_tasks():
    """A GPU server has no ROS; imports of rclpy are made to fail there.

    What runs nodes needs it: the rest must not.
    """
    program = (
        "import sys; sys.modules['rclpy'] = None; sys.modules['diffusion_mpc.msg'] = None\n"
        "import importlib, pkgutil, diffusion_mpc\n"
        "nodes = ('ros.', 'msg', 'bringup.simulate', 'bringup.launch_actions', "
        "'benchmark.soak_run')\n"
        "for m in pkgutil.walk_packages(diffusion_mpc.__path__, 'diffusion_mpc.'):\n"
        "    if not m.name.removeprefix('diffusion_mpc.').startswith(nodes): "
        "importlib.import_module(m.name)\n"
        "from diffusion_mpc.cli import main\n"
        "sys.exit(main(['tasks']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# In lockstep a run takes as long as the machine is slow: a limit is for one that hangs.
lockstep = pytest.mark.timeout(900)


def run_sim(folder, *arguments):
    command = [
        sys.executable,
        "-m",
        "diffusion_mpc.cli",
        "sim",
        *arguments,
        "--lockstep",
        "--record",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "summary.json").read_text())


@lockstep
@pytest.mark.ros
@pytest.mark.slow
def test_the_ant_reaches_the_commanded_speed_upright_and_every_message_is_in_the_bag(tmp_path):
    summary = run_sim(tmp_path / "run", "ant", "--duration", "8", "--set", "command.vx=1.5")
    assert summary["falls"] == 0
    assert summary["command_speed"] == 1.5
    assert summary["mean_speed"] == pytest.approx(1.5, abs=0.2)
    assert summary["duration_s"] == pytest.approx(8.0, abs=0.03)
    counts = [
        summary["topics"][f"/{name}"]
        for name in ("joint_states", "odom", "joint_command", "planner/plan", "planner/stats")
    ]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 399
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "plot.png").is_file()


@lockstep
@pytest.mark.ros
@pytest.mark.slow
def test_the_same_run_twice_costs_the_same(tmp_path):
    costs = [
        run_sim(tmp_path / name, "cartpole", "--duration", "4")["mean_cost"]
        for name in ("first", "second")
    ]
    assert costs[0] == costs[1]


@pytest.mark.ros
@pytest.mark.slow
def test_a_user_who_interrupts_gets_a_clean_end(tmp_path):
    import signal
    import time

    command = [
        sys.executable,
        "-m",
        "diffusion_mpc.cli",
        "sim",
        "cartpole",
        "--duration",
        "0",
        "--record",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    bag = tmp_path / "run" / "bag"
    deadline = time.monotonic() + 60.0
    while (
        not (bag.is_dir() and any(f.stat().st_size > 200_000 for f in bag.glob("*.mcap")))
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["plans"] > 0
    children = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout
    assert children == ""


@pytest.mark.ros
@pytest.mark.slow
def test_a_soak_tells_of_lateness_delays_and_memory(tmp_path):
    command = [
        "benchmark",
        "soak",
        "--task",
        "cartpole",
        "--duration",
        "6",
        "--set",
        "backend.threads=1",
    ]
    command += ["--trace", str(tmp_path / "trace.json"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "diffusion_mpc.cli", *command, str(tmp_path / "soak.json")],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "soak.json").read_text())
    assert figures["complete"]
    assert len(figures["rows"]) >= 4
    assert figures["plans"] == pytest.approx(300, rel=0.3)
    assert sum(row["plans"] for row in figures["rows"]) <= figures["plans"]
    assert 20.0 < figures["rows"][0]["resident_mb"] < 2000.0
    assert abs(figures["memory_growth"]) < 0.2
    assert 0.0 < figures["state_to_command_ms"]["p50"] <= figures["state_to_command_ms"]["p99"]
    assert "resident memory of the planner" in done.stdout
    events = json.loads((tmp_path / "trace.json").read_text())
    plans = [event for event in events if event["name"] == "plan"]
    assert (
        len({plan["args"]["stamp"] for plan in plans})
        == len(plans)
        == figures["lateness"]["plans"]
        >= figures["plans"]
    )
    assert {"plan", "report", "command", "collect", "physics"} <= {
        event["name"] for event in events
    }
    assert "late plans of" in done.stdout
