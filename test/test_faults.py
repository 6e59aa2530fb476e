"""Every row of the fault table, injected into real nodes over real DDS.

`./dmpc test faults` prints the table.
"""

import signal
import time

import numpy as np
import pytest
from fault_table import PERIOD, SLACK

pytestmark = pytest.mark.ros
fault = pytest.mark.faults

STATE_TIMEOUT, MAX_PLAN_AGE, COMMAND_TIMEOUT = 0.1, 0.3, 0.2
# Steady times are compared with stamps, which are wall time.
WALL = time.time() - time.monotonic()


def values(robot):
    return {v.key: v.value for v in robot.diagnostics[-1].values}


def error(robot):
    robot.spin_until(lambda: robot.diagnostics[-1].level == b"\x02", "ERROR")
    return robot.diagnostics[-1].message


def last_plan_start(robot):
    """Steady time for which the newest plan was meant."""
    stamp = robot.plans[-1].start_time
    return stamp.sec + stamp.nanosec * 1e-9 - WALL


# States


@fault("no state yet", "no command; WARN names what is missing")
def test_without_a_state_there_is_no_command_and_a_warning_says_what_is_missing(start_planner):
    _, robot = start_planner(robot={"joints": ()}, task="ant")
    robot.spin_until(lambda: len(robot.diagnostics) > 1, "diagnostics")
    assert robot.diagnostics[-1].level == b"\x01"
    assert robot.diagnostics[-1].message == "waiting for joint_states, odom"
    assert not robot.commands


@fault("states stop", "safe command, ERROR; control returns with the states")
def test_a_stale_state_brings_the_safe_command_and_control_returns(controlled, time_to_safe):
    _, robot = controlled
    robot.stop()
    silence = robot.last_published
    when, command = robot.first_safe()
    time_to_safe(when - silence - STATE_TIMEOUT, "state_timeout after the last state")
    assert list(command.effort) == [0.0]
    assert "more than state_timeout of 100 ms" in error(robot)
    robot.start()
    robot.regains_control()


@fault("stamp jumps back", "safe command until there is a plan of the new time")
def test_a_stamp_that_jumps_back_brings_the_safe_command_until_there_is_a_new_plan(
    controlled, time_to_safe
):
    _, robot = controlled
    robot.stop()
    robot.commands.clear()
    injected = robot.publish(stamp=robot.now() - 3600.0)
    time_to_safe(robot.first_safe()[0] - injected, "the injection")
    robot.start()
    robot.regains_control()


@fault("stamps hours ahead", "rejected with the reason; then as when states stop")
def test_stamps_ahead_of_the_clock_are_rejected(controlled, time_to_safe):
    _, robot = controlled
    robot.stop()
    silence = robot.last_published
    end = time.monotonic() + 2.0 * STATE_TIMEOUT
    while time.monotonic() < end:
        robot.publish(stamp=robot.now() + 3600.0)
        robot.spin(PERIOD)
    time_to_safe(
        robot.first_safe()[0] - silence - STATE_TIMEOUT, "state_timeout after the last good state"
    )
    assert "s ahead of this node's clock" in error(robot)
    robot.start()
    robot.regains_control()


@fault(
    "stamps of zero, a driver that does not stamp",
    "no command of a plan; ERROR says how old the state is",
)
def test_states_without_a_stamp_are_not_planned_from(start_planner):
    _, robot = start_planner()
    for _ in range(50):
        robot.publish(stamp=0.0)
        robot.spin(PERIOD)
    assert "more than state_timeout of 100 ms" in error(robot)
    assert all(command.safe for _, command in robot.commands)
    robot.start()
    robot.regains_control()


def nan(message):
    message.position[0] = np.nan
    return message


def short(message):
    message.velocity = message.velocity[1:]
    return message


REJECTED = "rejected with the reason and counted; then as when states stop"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(
            nan,
            "joint_states: NaN or infinite value",
            marks=fault("NaN in the state", REJECTED),
            id="NaN",
        ),
        pytest.param(
            short,
            "joint_states: 2 names, 2 positions, 1 velocities; all three must be equal",
            marks=fault("wrong length", REJECTED),
            id="length",
        ),
    ],
)
def test_a_bad_state_is_rejected_with_a_reason_and_the_last_good_one_ages(
    controlled, time_to_safe, spoil, reason
):
    _, robot = controlled
    good = robot.last_published
    robot.edit = spoil
    when, _ = robot.first_safe()
    time_to_safe(when - good - STATE_TIMEOUT, "state_timeout after the last good state")
    assert error(robot).endswith(f"last message rejected: {reason}")
    assert values(robot)["last_rejection"] == reason
    assert int(values(robot)["rejected"]) > 0
    robot.edit = lambda message: message
    robot.regains_control()


def missing(message):
    message.name, message.position, message.velocity = (
        message.name[1:],
        message.position[1:],
        message.velocity[1:],
    )
    return message


@fault("joint missing", "as when states stop; ERROR names the joint")
def test_a_joint_that_is_no_longer_measured_brings_the_safe_command(controlled, time_to_safe):
    _, robot = controlled
    good = robot.last_published
    robot.edit = missing
    when, _ = robot.first_safe()
    time_to_safe(when - good - STATE_TIMEOUT, "state_timeout after the last good state")
    assert error(robot).endswith("; missing since then: slider of joint_states")
    robot.edit = lambda message: message
    robot.regains_control()


def ant_joints():
    from diffusion_mpc.estimation.estimator import Estimator
    from diffusion_mpc.tasks import find_task

    return list(Estimator(find_task("ant")().model, "torso").addresses)


def stretch(odometry):
    odometry.pose.pose.orientation.x = 1.0
    return odometry


@fault("quaternion not of unit length", REJECTED)
def test_a_bad_quaternion_is_rejected_and_the_last_good_one_ages(start_planner, time_to_safe):
    # Few samples: these are about time, and the ant's plans take some.
    _, robot = start_planner(
        robot={"joints": ant_joints(), "base": True}, task="ant", planner__iterations=1
    )
    robot.position = np.tile([0.0, 0.8], 4)
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    robot.commands.clear()
    good = robot.last_published
    robot.edit_odom = stretch
    time_to_safe(
        robot.first_safe()[0] - good - STATE_TIMEOUT, "state_timeout after the last good state"
    )
    assert error(robot).endswith(
        "last message rejected: odom: quaternion of length 1.41; it must be 1"
    )
    robot.edit_odom = lambda odometry: odometry
    robot.regains_control()


@fault("two publishers of the state", "both rejected, ERROR names them; then as when states stop")
def test_of_two_publishers_of_the_state_neither_is_believed(controlled, time_to_safe):
    from robot import Robot

    _, robot = controlled
    impostor = Robot(name="impostor")
    try:
        impostor.position[:] = 1.0
        robot.spin_until(impostor._joint_states.get_subscription_count, "the planner to listen")
        # No state was sent while the impostor was made.
        robot.spin(0.5)
        robot.regains_control()
        robot.commands.clear()
        good = robot.last_published
        impostor.publish()
        end = time.monotonic() + 2.0 * STATE_TIMEOUT
        while time.monotonic() < end:
            robot.spin(PERIOD)
            impostor.publish()
        when, _ = robot.first_safe()
        # The last state that was sent before the second publisher need not have been taken: it may
        # have known of both by then.
        time_to_safe(
            when - good - STATE_TIMEOUT,
            "state_timeout after the last state of one alone",
            early=1.5 * PERIOD,
        )
        said = (
            "joint_states: more than one publisher of joint 'slider', /impostor and /robot; only "
            "one may be the robot"
        )
        error(robot)
        while said not in robot.diagnostics[-1].message:
            impostor.publish()
            robot.spin(PERIOD)
    finally:
        impostor.close()
    robot.regains_control()


# Clocks


@pytest.fixture
def on_sim_time(start_planner):
    """A planner that follows the robot's /clock, and the robot with its clock as a timer."""
    from rosgraph_msgs.msg import Clock

    from diffusion_mpc.ros.messages.stamps import to_stamp

    _, robot = start_planner(use_sim_time=True)
    clock = robot.node.create_timer(
        0.005, lambda: robot.clock.publish(Clock(clock=to_stamp(robot.now())))
    )
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    return robot, clock


@fault("/clock stops, and the states with it", "safe command on the steady clock, ERROR")
def test_a_clock_that_stops_together_with_the_states_brings_the_safe_command(
    on_sim_time, time_to_safe
):
    robot, clock = on_sim_time
    clock.cancel()
    robot.stop()
    time_to_safe(
        robot.first_safe()[0] - robot.last_published - STATE_TIMEOUT,
        "state_timeout after the last state",
    )
    assert "more than state_timeout of 100 ms" in error(robot)
    clock.reset()
    robot.start()
    robot.regains_control()


@fault(
    "/clock stops, states go on with its last time",
    "plans stop; safe command when the last one is too old",
)
def test_a_clock_that_stops_under_the_states_brings_the_safe_command(on_sim_time, time_to_safe):
    robot, clock = on_sim_time
    clock.cancel()
    stopped, now = robot.now(), robot.now
    robot.now = lambda: stopped
    when, _ = robot.first_safe()
    time_to_safe(
        when - last_plan_start(robot) - MAX_PLAN_AGE, "max_plan_age after the last plan's start"
    )
    assert "more than max_plan_age of 300 ms" in error(robot)
    robot.now = now
    clock.reset()
    robot.regains_control()


# Plans

FRAGILE = """
import time
from pathlib import Path
from diffusion_mpc.tasks.base import cost
from diffusion_mpc.tasks.cartpole import Cartpole

class Fragile(Cartpole):
    name = "fragile"

    @cost(weight=1.0)
    def fault(self, x, reference):
        "Fails when it is told to."
        if (Path("{folder}") / "raise").exists():
            (Path("{folder}") / "raise").write_text(str(time.monotonic()))
            raise RuntimeError("device lost")
        if (Path("{folder}") / "sleep").exists():
            time.sleep(float((Path("{folder}") / "sleep").read_text()))
        return x.qpos[..., 0] * (float("nan") if (Path("{folder}") / "nan").exists() else 0.0)
"""


@pytest.fixture
def fragile(start_planner, tmp_path):
    """A planner that fails while a file is there."""
    task = tmp_path / "fragile.py"
    task.write_text(FRAGILE.replace("{folder}", str(tmp_path)))
    _, robot = start_planner(task=str(task))
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    return robot, tmp_path


def inject(path, text=""):
    """Make a file at once with all that is in it."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


@fault("planner raises (device lost)", "safe command, ERROR with the text, retries")
def test_a_planner_that_raises_brings_the_safe_command_and_tries_again(fragile, time_to_safe):
    robot, folder = fragile
    inject(folder / "raise", "")
    when, _ = robot.first_safe()
    raised = float((folder / "raise").read_text())
    time_to_safe(when - raised, "the exception")
    said = error(robot)
    assert "cost term 'fault' fails: RuntimeError: device lost (" in said
    assert "fragile.py, line 15); next try in" in said
    (folder / "raise").unlink()
    robot.regains_control()


@fault("no sample is feasible", "the previous plan stands; safe command when it is too old")
def test_when_no_sample_is_feasible_the_previous_plan_stands_until_it_is_too_old(
    fragile, time_to_safe
):
    robot, folder = fragile
    inject(folder / "nan")
    when, _ = robot.first_safe()
    time_to_safe(
        when - last_plan_start(robot) - MAX_PLAN_AGE, "max_plan_age after the last plan's start"
    )
    robot.spin_until(
        lambda: "all 8 samples have a NaN or infinite cost" in robot.diagnostics[-1].message,
        "the reason",
    )
    (folder / "nan").unlink()
    robot.regains_control()


@fault(
    "plans take three periods (overrun)",
    "the previous plan goes on by time, misses are counted; no safe command",
)
def test_plans_that_are_late_are_counted_and_commands_go_on(fragile):
    robot, folder = fragile
    before = robot.stats[-1].deadline_misses
    inject(folder / "sleep", str(3.0 * PERIOD))
    robot.commands.clear()
    robot.spin(1.0)
    (folder / "sleep").unlink()
    assert len(robot.commands) == pytest.approx(1.0 / PERIOD, rel=0.2)
    assert not any(command.safe for _, command in robot.commands)
    assert robot.stats[-1].deadline_misses > before + 5
    robot.regains_control()


@fault("ten plans a second where fifty are asked for", "WARN with the figures and what to change")
def test_plans_too_slow_for_the_rate_are_a_warning_with_the_figures(fragile):
    robot, folder = fragile
    inject(folder / "sleep", "0.1")
    robot.spin_until(lambda: "too slow: " in robot.diagnostics[-1].message, "the warning")
    assert robot.diagnostics[-1].level == b"\x01"
    assert "of 50 plans a second" in robot.diagnostics[-1].message
    assert robot.diagnostics[-1].message.endswith(
        "; lower planner.num_samples, planner.horizon_steps, planner.iterations or planner.rate"
    )
    assert float(values(robot)["plans_per_s"]) < 40.0
    (folder / "sleep").unlink()
    robot.regains_control()


@fault("states come more slowly than plans are asked for", "OK; the text names the states' rate")
def test_a_robot_that_publishes_slowly_is_no_fault(start_planner):
    _, robot = start_planner(state_timeout=0.5)
    robot.start(rate=10.0)
    robot.spin_until(lambda: "states a second" in robot.diagnostics[-1].message, "the remark")
    assert robot.diagnostics[-1].level == b"\x00"
    assert robot.diagnostics[-1].message.startswith("following the plan; ")
    assert robot.diagnostics[-1].message.endswith(" states a second, planner.rate is 50 Hz")


@fault("two nodes command one robot", "WARN names the other; OK when it is gone")
def test_another_publisher_of_commands_is_a_warning_that_names_it(controlled):
    from diffusion_mpc.msg import JointCommand
    from robot import Robot

    running, robot = controlled
    other = Robot(name="other_planner")
    try:
        other.node.create_publisher(JointCommand, "joint_command", 1)
        said = "joint_command has another publisher, /other_planner; stop one of them"
        robot.spin_until(lambda: robot.diagnostics[-1].message == said, "the warning")
        assert robot.diagnostics[-1].level == b"\x01"
        assert said in running.log("planner", lines=20)
    finally:
        other.close()
    robot.regains_control()


@fault("a plan hangs", "safe command when the last one is too old; control returns")
def test_a_plan_that_hangs_brings_the_safe_command(fragile, time_to_safe):
    robot, folder = fragile
    inject(folder / "sleep", "1.0")
    when, _ = robot.first_safe()
    (folder / "sleep").unlink()
    time_to_safe(
        when - last_plan_start(robot) - MAX_PLAN_AGE, "max_plan_age after the last plan's start"
    )
    assert "more than max_plan_age of 300 ms" in error(robot)
    robot.regains_control()


# Commands


@fault("command beyond its limits", "clamped and counted")
def test_commands_change_no_faster_than_their_limit(start_planner):
    _, robot = start_planner(output__rate_limit=1.0)
    robot.start()
    robot.spin_until(lambda: len(robot.commands) > 50, "commands")
    efforts = np.array([command.effort[0] for _, command in robot.commands])
    # One control range (20 N) a second.
    assert abs(np.diff(efforts)).max() < 20.0 * 2.0 * PERIOD
    assert robot.stats[-1].clamped_commands > 0


@fault("nobody listens to joint_command", "planning goes on; WARN; OK when somebody does")
def test_commands_that_nobody_listens_to_are_a_warning(controlled):
    _, robot = controlled
    robot.spin_until(lambda: robot.diagnostics[-1].level == b"\x00", "OK")
    robot.turn_deaf()
    robot.spin_until(lambda: robot.diagnostics[-1].level == b"\x01", "WARN")
    assert robot.diagnostics[-1].message == "nobody listens to joint_command"
    robot.listen()
    robot.regains_control()


@fault("invalid parameters", "refused with the reason, none of a set is taken; plans go on")
def test_invalid_parameters_are_refused_and_plans_go_on(controlled):
    _, robot = controlled
    robot.commands.clear()
    for changes, reason in [
        ({"planner__temperature": -1.0}, "planner.temperature out of range"),
        ({"planner__temperature": float("nan")}, "planner.temperature"),
        ({"planner__num_samples": "many"}, "planner.num_samples: 'many' is not of type int"),
        (
            {"planner__num_samples": 16, "safe_command": "brake"},
            "safe_command: 'brake' is not one of zero, hold, damping",
        ),
    ]:
        successful, said = robot.set_parameters(**changes)
        assert not successful
        assert reason in said
    robot.stats.clear()
    robot.spin_until(
        lambda: robot.stats and len(robot.commands) > 5, "the next plans and their commands"
    )
    assert robot.stats[-1].num_samples == 8
    assert not any(command.safe for _, command in robot.commands)
    assert max(np.diff([when for when, _ in robot.commands])) < 2.0 * PERIOD + SLACK


# Processes


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    """Planner, simulation and a witness.

    Every physics step is published, so that forces can be told from motion.
    """
    from pilot import Witness

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.node_processes import Process, Running

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    made = []

    def start(lockstep=False):
        from conftest import CARTPOLE

        together = {"lockstep": lockstep, "wait_for_subscribers": 1}
        planner = Process("planner", {**CARTPOLE, **together})
        sim = Process("sim", {"task": "cartpole", "rate": 50.0 if lockstep else 200.0, **together})
        witness = Witness()
        made.append(witness.close)
        running = {}
        for process in (planner, sim):
            folder = tmp_path / process.name
            folder.mkdir()
            running[process.name] = Running([process], folder)
            made.append(running[process.name].stop)
        # Commands and states are discovered one after the other.
        witness.spin_until(
            lambda: len(witness.commands) > 50 and len(witness.states) > 5, "commands and states"
        )

        def restart_planner():
            running["planner"] = Running([planner], tmp_path)
            made.append(running["planner"].stop)

        return running, witness, restart_planner

    yield start
    for close in reversed(made):
        close()


@fault(
    "planner killed (SIGKILL) and started again",
    "the simulated robot stops by its command_timeout; control returns",
)
def test_a_planner_that_is_killed_leaves_a_robot_that_stops_until_there_is_another(
    simulated, time_to_safe
):
    from pilot import motor_off

    running, witness, restart_planner = simulated()
    witness.states.clear()
    running["planner"].send("planner", signal.SIGKILL)
    witness.spin(4.0 * COMMAND_TIMEOUT)
    last, _ = witness.commands[-1]
    off = motor_off(witness.states)
    assert off is not None
    time_to_safe(off - WALL - last - COMMAND_TIMEOUT, "command_timeout after the last command")
    witness.commands.clear()
    restart_planner()
    witness.spin_until(lambda: len(witness.commands) > 20, "commands")
    witness.regains_control()
    witness.states.clear()
    witness.spin(0.5)
    assert motor_off(witness.states) is None


@pytest.mark.parametrize(
    "lockstep",
    [
        pytest.param(
            False,
            marks=fault("simulation reset", "plans go on from the new state; no safe command"),
            id="real time",
        ),
        pytest.param(
            True,
            marks=fault(
                "simulation reset in lockstep: time begins anew", "plan forgotten; plans go on"
            ),
            id="lockstep",
        ),
    ],
)
def test_after_a_reset_of_the_simulation_control_goes_on(simulated, lockstep):
    _, witness, _ = simulated(lockstep)
    before = witness.stamp()
    witness.states.clear()
    witness.commands.clear()
    assert witness.call("sim/reset").success
    witness.spin_until(
        lambda: len(witness.commands) > 20 and len(witness.states) > 20, "commands after the reset"
    )
    anew = next(
        i
        for i, s in enumerate(witness.states)
        if s.position[1] == pytest.approx(np.pi, abs=1e-3) and s.velocity[0] == 0.0
    )
    assert (witness.stamp(witness.states[anew]) < before) == lockstep
    witness.commands.clear()
    witness.spin_until(lambda: len(witness.commands) > 20, "commands after the reset")
    assert not any(command.safe for _, command in witness.commands)
    assert abs(witness.states[-1].velocity[0]) > 0.0


INTERRUPTED = "safe command, exit code 0"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=fault(f"node interrupted ({number.name})", INTERRUPTED))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    ],
)
def test_interrupting_the_node_leaves_the_safe_command_behind(number, controlled, time_to_safe):
    running, robot = controlled
    running.send("planner", number)
    interrupted = time.monotonic()
    robot.spin_until(lambda: "planner" in running.ended(), "the planner to end")
    robot.spin(0.1)
    assert running.ended() == {"planner": 0}
    assert robot.commands[-1][1].safe
    # The loop looks for signals twenty times a second.
    time_to_safe(robot.first_safe()[0] - interrupted, "the signal", limit=PERIOD + 0.05)


ONE_LINE = "one line that says what to change, exit code 1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"planer.rate": 50.0},
            "error: unknown parameter 'planer.rate'; did you mean 'planner.rate'?",
            marks=fault("unknown parameter in a file", ONE_LINE),
        ),
        pytest.param(
            {"planner.rate": "fast"},
            "error: planner.rate: 'fast' is not of type float",
            marks=fault("parameter of a wrong type", ONE_LINE),
        ),
        pytest.param(
            {"model.path": "nowhere.xml"},
            "error: model file 'nowhere.xml' does not exist; set model.path to an MJCF or URDF "
            "file",
            marks=fault("model file missing", ONE_LINE),
        ),
        pytest.param(
            {"model.path": "broken.xml"},
            "error: model file 'broken.xml'",
            marks=fault("model file broken", ONE_LINE),
        ),
        pytest.param(
            {"task": "cartpool"},
            "error: unknown task 'cartpool'; did you mean 'cartpole'?",
            marks=fault("unknown task", ONE_LINE),
        ),
        pytest.param(
            {"planner.num_knots": 2},
            "error: planner.num_knots is 2; planner.spline quadratic over planner.horizon_steps 10 "
            "needs 3 to 10",
            marks=fault("parameters that do not fit each other", ONE_LINE),
        ),
        pytest.param(
            {"planner.algorithm": "cma_es", "planner.num_samples": 4},
            "error: planner.num_samples is 4; planner.algorithm cma_es needs 6 at least",
            marks=fault("too few samples for the algorithm", ONE_LINE),
        ),
    ],
)
def test_a_start_that_cannot_work_ends_with_one_line_and_exit_code_1(
    tmp_path, monkeypatch, settings, message
):
    from conftest import CARTPOLE

    from diffusion_mpc.node_processes import Process, Running

    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.xml").write_text("<mujoco><worldbody>")
    with Running([Process("planner", {**CARTPOLE, **settings})], tmp_path) as running:
        deadline = time.monotonic() + 30.0
        while not running.ended() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.ended() == {"planner": 1}
    assert message in running.log("planner", lines=1)


# Objects


@pytest.fixture
def beside_a_cube(start_planner, tmp_path):
    """A planner of an arm with a cube beside it, and its robot, which tells of its joint only."""
    from worlds import write_world

    task = str(write_world(tmp_path / "task", "second free body"))
    robot = {"joints": ("shoulder",), "objects": ("cube",)}
    _, robot = start_planner(robot=robot, task=task, objects__timeout=0.2)
    robot.start()
    return robot


def follow_the_cube(robot, rate=30.0):
    """Publish its pose evenly, as a camera does, until the timer is destroyed."""

    def tick():
        robot.last_seen = robot.publish_object("cube", (0.6, 0.0, 0.05))

    return robot.node.create_timer(1.0 / rate, tick)


@fault("no pose of an object yet", "no command; WARN names the topic")
def test_without_the_pose_of_an_object_there_is_no_command(beside_a_cube):
    robot = beside_a_cube
    robot.spin_until(lambda: len(robot.diagnostics) > 2, "diagnostics")
    assert robot.diagnostics[-1].level == b"\x01"
    assert robot.diagnostics[-1].message == "waiting for objects/cube"
    assert not robot.commands
    follow_the_cube(robot)
    robot.spin_until(lambda: robot.commands, "commands")
    assert not robot.commands[-1][1].safe


@fault("poses of an object stop", "safe command, ERROR names the topic; control returns with them")
def test_an_object_that_is_lost_brings_the_safe_command_and_control_returns(
    beside_a_cube, time_to_safe
):
    robot = beside_a_cube
    timer = follow_the_cube(robot)
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    assert not any(command.safe for _, command in robot.commands)
    robot.node.destroy_timer(timer)
    when, _ = robot.first_safe()
    time_to_safe(when - robot.last_seen - 0.2, "objects.timeout after the last pose")
    said = error(robot)
    assert "safe command: objects/cube is " in said
    assert "ms old, more than objects.timeout of 200 ms" in said
    follow_the_cube(robot)
    robot.regains_control()


@pytest.mark.parametrize(
    ("pose", "reason"),
    [
        pytest.param(
            {"position": (np.nan, 0.0, 0.0)},
            "objects/cube: NaN or infinite value",
            marks=fault("NaN in the pose of an object", REJECTED),
            id="NaN",
        ),
        pytest.param(
            {"position": (0.6, 0.0, 0.05), "quaternion_xyzw": (0.0, 0.0, 0.0, 0.5)},
            "objects/cube: quaternion of length 0.5; it must be 1",
            marks=fault("quaternion of an object not of unit length", REJECTED),
            id="quaternion",
        ),
        pytest.param(
            {"position": (0.6, 0.0, 0.05), "ahead": 3600.0},
            "objects/cube: stamp is 3.6e+03 s ahead of this node's clock",
            marks=fault("stamps of an object hours ahead", REJECTED),
            id="ahead",
        ),
    ],
)
def test_a_bad_pose_of_an_object_is_rejected_and_ages_like_none(beside_a_cube, pose, reason):
    robot = beside_a_cube
    timer = follow_the_cube(robot)
    robot.spin_until(lambda: len(robot.commands) > 20, "commands")
    robot.node.destroy_timer(timer)
    robot.commands.clear()
    pose = dict(pose)
    ahead = pose.pop("ahead", 0.0)
    while not any(command.safe for _, command in robot.commands):
        robot.publish_object("cube", **pose, stamp=robot.now() + ahead)
        robot.spin(PERIOD)
        assert time.monotonic() - robot.last_seen < 5.0
    assert time.monotonic() - robot.last_seen > 0.2 - 0.5 * PERIOD
    robot.spin_until(lambda: reason in values(robot).get("last_rejection", ""), reason)
    follow_the_cube(robot)
    robot.regains_control()
