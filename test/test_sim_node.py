"""The simulated robot over real DDS."""

import time

import numpy as np
import pytest

pytestmark = pytest.mark.ros


@pytest.fixture
def bring_up(tmp_path, monkeypatch):
    """Starts one simulated cartpole with a node that commands it; returns both."""
    from pilot import Pilot

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.node_processes import Process, Running

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    made = []

    def start(kind=Pilot, **settings):
        running = Running([Process("sim", {"task": "cartpole", **settings})], tmp_path)
        made.append(running.stop)
        pilot = kind()
        made.append(pilot.close)
        pilot.spin_until(lambda: pilot.states, "the first state")
        return running, pilot

    yield start
    for close in reversed(made):
        close()


def test_the_robot_stands_still_until_the_first_command(bring_up):
    _, pilot = bring_up()
    pilot.spin_until(lambda: len(pilot.states) > 25, "states of a robot that stands")
    assert all(
        state.position[1] == pytest.approx(np.pi, abs=1e-6) and state.velocity[0] == 0.0
        for state in pilot.states
    )
    pilot.command(5.0)
    pilot.spin_until(lambda: pilot.states[-1].velocity[0] > 0.01, "motion")


def test_the_robot_stops_being_pushed_when_commands_stop(bring_up):
    _, pilot = bring_up(command_timeout=0.1)
    for _ in range(10):
        pilot.command(5.0)
        pilot.spin(0.02)
    pilot.spin(0.3)
    pilot.states.clear()
    pilot.spin(0.3)
    speeds = np.array([state.velocity[0] for state in pilot.states])
    accelerations = np.diff(speeds) / 0.02
    # 5 N on 1.1 kg would be 4.5 m/s^2; what is left is friction and the swinging pole
    assert abs(accelerations).max() < 1.5


def test_in_lockstep_a_command_advances_one_period_and_a_repeated_one_none(bring_up):
    _, pilot = bring_up(lockstep=True, wait_for_subscribers=1)
    first = pilot.states[-1]
    pilot.command(5.0, answering=first)
    pilot.spin_until(lambda: pilot.stamp() > pilot.stamp(first) + 0.01, "the next state")
    assert pilot.stamp() - pilot.stamp(first) == pytest.approx(0.02)
    pilot.command(5.0, answering=first)
    pilot.spin(0.3)
    assert pilot.stamp() - pilot.stamp(first) == pytest.approx(0.02)


def test_a_delayed_state_keeps_its_stamp(bring_up):
    from sensor_msgs.msg import JointState

    from diffusion_mpc.message_fields import to_seconds

    _, pilot = bring_up(state_delay=0.2, command_timeout=10.0)
    ages = []
    pilot.node.create_subscription(
        JointState,
        "joint_states",
        lambda m: ages.append(pilot.now() - to_seconds(m.header.stamp)),
        100,
    )
    pilot.spin_until(lambda: len(ages) > 20, "states of a robot that stands")
    pilot.command(5.0)
    began = pilot.now()
    pilot.spin_until(lambda: pilot.states[-1].velocity[0] > 0.01, "motion")
    assert pilot.now() - began > 0.2
    pilot.spin(0.5)
    assert min(ages) > 0.19
    assert np.median(ages) < 0.25
    assert (np.diff([pilot.stamp(state) for state in pilot.states]) > 0.0).all()


def test_in_lockstep_a_delay_is_so_many_periods_and_noise_is_the_same_again(bring_up, monkeypatch):
    from diffusion_mpc.bringup.description import free_domain_id

    def run():
        monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
        disturbed = {
            "state_delay": 0.03,
            "command_delay": 0.02,
            "command_dropout": 0.3,
            "actuator_lag": 0.01,
        }
        noise = {"state_noise.position": 0.01, "state_noise.velocity": 0.01}
        _, pilot = bring_up(lockstep=True, wait_for_subscribers=1, **disturbed, **noise)
        first = pilot.stamp()
        for _ in range(20):
            asked = pilot.states[-1]
            pilot.command(5.0, answering=asked)
            pilot.spin_until(
                lambda asked=asked: pilot.stamp() > pilot.stamp(asked), "the next state"
            )
        assert first == pytest.approx(1.0 - 0.04)
        assert pilot.stamp() == pytest.approx(first + 20 * 0.02)
        return [pilot.states[i].position[0] for i in (-20, -10, -1)]

    assert run() == run()


def test_pause_step_and_reset(bring_up):
    from std_srvs.srv import SetBool

    _, pilot = bring_up(command_timeout=10.0)
    assert not pilot.call("sim/step").success
    pilot.command(5.0)
    pilot.spin_until(lambda: pilot.states[-1].position[0] > 0.001, "motion")
    assert pilot.call("sim/pause", SetBool.Request(data=True)).success
    pilot.spin(0.1)
    held = pilot.states[-1].position[0]
    pilot.spin(0.2)
    assert pilot.states[-1].position[0] == held
    assert pilot.call("sim/step").success
    pilot.spin_until(lambda: pilot.states[-1].position[0] > held, "one step")
    assert pilot.call("sim/reset").success
    assert pilot.call("sim/pause", SetBool.Request(data=False)).success
    pilot.spin(0.1)
    assert pilot.states[-1].position[0] == 0.0


def test_a_duration_ends_the_node_with_exit_code_0(bring_up):
    running, pilot = bring_up(duration=0.2, command_timeout=10.0)
    pilot.command(0.0)
    pilot.spin_until(lambda: running.ended(), "the node to end")
    assert running.ended() == {"sim": 0}


def test_the_robot_is_pushed_from_its_side_every_so_often(bring_up):
    from nav_msgs.msg import Odometry

    # Without the first command the robot would be kept where it is.
    pushes = {"push.impulse": 9.0, "push.every": 0.5}
    _, pilot = bring_up(task="ant", hold_until_command=False, wait_for_subscribers=0, **pushes)
    seen = []
    pilot.node.create_subscription(Odometry, "odom", seen.append, 10)
    pilot.spin_until(lambda: len(seen) > 75, "states of several pushes")
    # In the base's frame, of a robot of 9 kg: to its right and to its left.
    sideways = [message.twist.twist.linear.y for message in seen]
    assert min(sideways) < -0.3
    assert max(sideways) > 0.3


def test_a_bad_command_is_rejected_and_the_last_one_stands(bring_up):
    running, pilot = bring_up(command_timeout=10.0)
    pilot.command(5.0)
    pilot.spin_until(lambda: pilot.states[-1].velocity[0] > 0.01, "motion")
    pilot.command(float("nan"))
    pilot.spin(0.2)
    assert pilot.states[-1].velocity[0] > 0.3
    assert "message rejected: joint_command: NaN or infinite value" in running.log("sim")


def test_one_that_waits_for_nobody_still_obeys_who_comes_later(bring_up):
    from pilot import Pilot, Witness

    _, pilot = bring_up(Witness, wait_for_subscribers=0)
    pilot.spin_until(lambda: len(pilot.states) > 25, "states")
    late = Pilot()
    try:
        late.spin_until(late._commands.get_subscription_count, "the simulation to listen")

        # As a planner does, again and again: the simulation may know of a sender later than the
        # sender of it.
        def moves():
            late.command(5.0)
            return pilot.states[-1].velocity[0] > 0.01

        pilot.spin_until(moves, "motion")
    finally:
        late.close()


def test_in_lockstep_a_rate_whose_period_is_no_multiple_of_the_time_step_ends_with_one_line(
    tmp_path,
):
    from diffusion_mpc.node_processes import Process, Running

    settings = {"task": "cartpole", "lockstep": True, "rate": 30.0, "model.timestep": 0.005}
    with Running([Process("sim", settings)], tmp_path) as running:
        deadline = time.monotonic() + 30.0
        while not running.ended() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.ended() == {"sim": 1}
    assert running.log("sim", lines=1) == (
        "error: 1 / rate, a period in lockstep, of 0.0333333 s is not a multiple of "
        "model.timestep of 0.005 s"
    )


def test_remapped_commands_are_waited_for_by_their_own_name_which_the_log_tells(monkeypatch):
    import rclpy
    from diffusion_mpc.msg import JointCommand
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import JointState

    from diffusion_mpc.ros import sim_node

    monkeypatch.setattr(sim_node, "PATIENCE", 0.1)
    monkeypatch.setattr(sim_node, "quiet_garbage_collector", lambda: None)
    context = rclpy.Context()
    rclpy.init(context=context)
    arguments = ["-p", "task:=cartpole", "-p", "wait_for_subscribers:=1"]
    remapped = ["-r", "joint_command:=/arm/command"]
    sim = sim_node.SimNode(context=context, cli_args=["--ros-args", *arguments, *remapped])
    executor = SingleThreadedExecutor(context=context)
    said = []

    def spin_until(condition):
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.02)

    try:
        executor.add_node(sim)
        logger = sim.get_logger()
        monkeypatch.setattr(logger, "warning", said.append, raising=False)
        monkeypatch.setattr(sim, "get_logger", lambda: logger)
        sim.begin()
        spin_until(lambda: said)
        assert "subscribers of /arm/command (0 of 1)" in said[0]
        assert said[0].endswith("a publisher of /arm/command")
        planner = rclpy.create_node("planner", context=context)
        executor.add_node(planner)
        states = []
        planner.create_subscription(JointState, "joint_states", states.append, 1)
        planner.create_publisher(JointCommand, "/arm/command", 1)
        spin_until(lambda: states)
        planner.destroy_node()
    finally:
        executor.shutdown()
        sim.destroy_node()
        rclpy.shutdown(context=context)
