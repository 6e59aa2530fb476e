"""Two robots in two namespaces of one ROS domain."""

import time

import numpy as np
import pytest

from diffusion_mpc.bringup.description import Options, free_domain_id, processes

pytestmark = pytest.mark.ros

VELOCITY = {"ant1": 1.0, "ant2": -0.6}
DURATION = 4.0


def test_each_of_two_ants_obeys_its_own_cmd_vel(tmp_path, monkeypatch):
    import rclpy
    from geometry_msgs.msg import Twist
    from nav_msgs.msg import Odometry
    from rclpy.executors import SingleThreadedExecutor

    from diffusion_mpc.message_fields import to_seconds
    from diffusion_mpc.node_processes import Running

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    # The ants themselves run in lockstep, so that the test does not depend on the machine's speed;
    # only cmd_vel comes in real time.
    settings = {"backend.threads": "1", "command.timeout": "30.0"}
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("owner", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    tracks = {name: [] for name in VELOCITY}
    owners = [node.create_publisher(Twist, f"/{name}/cmd_vel", 1) for name in VELOCITY]
    for name, track in tracks.items():
        node.create_subscription(Odometry, f"/{name}/odom", track.append, 100)
    running = []
    try:
        for name in VELOCITY:
            folder = tmp_path / name
            folder.mkdir()
            running.append(
                Running(
                    processes(
                        Options(lockstep=True, duration=DURATION, namespace=name, settings=settings)
                    ),
                    folder,
                )
            )
        end = time.monotonic() + 120.0
        while not all("sim" in robot.ended() for robot in running):
            assert time.monotonic() < end, [robot.log("planner") for robot in running]
            for owner, vx in zip(owners, VELOCITY.values(), strict=True):
                message = Twist()
                message.linear.x = vx
                owner.publish(message)
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                executor.spin_once(timeout_sec=0.01)
    finally:
        for robot in running:
            robot.stop()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    for name, track in tracks.items():
        times = np.array([to_seconds(message.header.stamp) for message in track])
        positions = np.array(
            [[p.x, p.y, p.z] for p in (message.pose.pose.position for message in track)]
        )
        late = times > times[-1] - 2.0
        way = positions[late][-1] - positions[late][0]
        speed = np.hypot(*way[:2]) / np.ptp(times[late])
        assert speed == pytest.approx(abs(VELOCITY[name]), rel=0.3)
        assert np.sign(way[0]) == np.sign(VELOCITY[name])
        assert positions[-1][2] > 0.3
