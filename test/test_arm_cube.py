"""The arm that pushes a cube whose pose comes from a topic."""

import gc
import time

import mujoco
import numpy as np
import pytest

from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import trajectory
from diffusion_mpc.types import Reference

# At these angles the rod points straight down, and the tip is above the x axis.
HANGING = (0.5, 1.9, np.pi - 0.5 - 1.9)


@pytest.fixture(scope="module")
def task():
    return find_task("arm_cube")()


def moments(task, *cubes, joints=(0.0, *HANGING), speed=0.0, ctrl=0.0):
    """Rows of the same arm with the cube at these (x, y)."""
    qpos = np.array([[*joints, *cube, 0.03, 1.0, 0.0, 0.0, 0.0] for cube in cubes])
    qvel, controls = np.zeros((len(cubes), 10)), np.full((len(cubes), 4), ctrl)
    qvel[:, :4] = speed
    return trajectory(task.model, qpos, qvel, controls)


def goal(x, y):
    return Reference(pose=np.array([x, y, 0.0, 1.0, 0.0, 0.0, 0.0]))


def tip_of(task, joints=(0.0, *HANGING)):
    """Where the links put the tip: shoulder at 0.3 m, then 0.35, 0.3 and 0.17 m."""
    angles = np.cumsum(joints[1:])
    lengths = np.array([0.35, 0.3, 0.17])
    return float(lengths @ np.sin(angles)), 0.3 + float(lengths @ np.cos(angles))


def test_costs_by_hand(task):
    ahead, height = tip_of(task)
    # The tip is 0.1 m behind the cube, seen from the goal, then beside it, then in the way, which
    # counts in proportion within 5 cm of the goal.
    x = moments(task, (ahead + 0.1, 0.0), (ahead, 0.1), (ahead - 0.2, 0.0), speed=0.5, ctrl=0.75)
    reference = goal(ahead + 0.4, 0.1).on(x.qpos)
    found = {name: value[0].numpy() for name, value in task.costs(x, reference).items()}
    way = [np.hypot(0.3, 0.1), 0.4, np.hypot(0.6, 0.1)]
    np.testing.assert_allclose(found["position"], way)
    cosines = [-0.3 / way[0], 0.0, 0.6 / way[2]]
    np.testing.assert_allclose(found["behind"], 1.0 + np.array(cosines), atol=1e-9)
    np.testing.assert_allclose(found["near"], [0.045, 0.045, 0.145], atol=1e-9)
    np.testing.assert_allclose(found["low"], np.hypot(0.1, (height - 0.03) / 0.02) - 0.1)
    np.testing.assert_allclose(found["down"], 0.0, atol=1e-9)
    np.testing.assert_allclose(found["still"], 4 * 0.25)
    np.testing.assert_allclose(found["effort"], 4 * 0.25)
    np.testing.assert_allclose(task.goal_errors(x, reference)["position_m"][0].numpy(), way)


def test_where_the_tip_is_counts_for_nothing_at_the_goal_and_half_as_much_on_the_last_way(task):
    ahead, _ = tip_of(task)
    x = moments(task, (ahead - 0.1, 0.0), (ahead - 0.075, 0.0))
    found = task.costs(x, goal(ahead - 0.1, 0.0).on(x.qpos))["behind"][0]
    np.testing.assert_allclose(found.numpy(), [0.0, 0.0], atol=1e-9)
    found = task.costs(x, goal(ahead - 0.05, 0.0).on(x.qpos))["behind"][0]
    np.testing.assert_allclose(found.numpy(), [2.0, 1.0], atol=1e-9)


def test_a_rod_that_lies_leans_by_one(task):
    x = moments(task, (0.5, 0.0), joints=(0.0, 0.0, np.pi / 2, 0.0))
    assert float(task.costs(x, goal(0.5, 0.2).on(x.qpos))["down"]) == pytest.approx(1.0)


def test_what_counts_as_success_and_failure_by_hand(task):
    x = moments(task, (0.5, 0.3), (0.5, 0.02))
    assert bool(task.succeeded(x, goal(0.5, 0.0).on(x.qpos)))
    assert not bool(task.succeeded(x, goal(0.5, -0.02).on(x.qpos)))
    assert not bool(task.succeeded(x, goal(0.5, 0.3).on(x.qpos)))
    away = moments(task, (0.14, 0.0), (0.16, 0.0), (0.48, 0.48), (0.5, 0.5))
    assert task.failed(away)[0].tolist() == [True, False, False, True]


def test_trials_put_cube_and_goal_within_reach_and_10_to_25_cm_apart(task):
    ways = []
    for trial in range(200):
        random = np.random.default_rng(trial)
        data = task.initial_data(task.model)
        task.trial_state(task.model, data, random)
        reference = task.trial_reference(Reference(), random)
        cube, to = data.qpos[4:6], reference.pose[:2]
        ways.append(np.hypot(*(to - cube)))
        for place in (cube, to):
            assert 0.2 < np.hypot(*place) < 0.67
        assert np.linalg.norm(data.qpos[7:11]) == pytest.approx(1.0)
        # Nothing but the cube on the floor touches.
        assert {data.geom(g).name for c in data.contact for g in c.geom} <= {"cube", "floor"}
    assert 0.1 < min(ways) < 0.12
    assert 0.23 < max(ways) < 0.25


def test_only_the_arms_far_end_meets_the_cube_and_only_the_tip_the_floor(task):
    def meets(first, second):
        a, b = task.model.geom(first), task.model.geom(second)
        return bool((a.contype[0] & b.conaffinity[0]) or (b.contype[0] & a.conaffinity[0]))

    arm = [task.model.geom(i).name for i in range(task.model.ngeom)]
    arm = [name for name in arm if name not in ("floor", "cube", "")]
    assert {name for name in arm if meets(name, "cube")} == {"forearm", "rod", "tip"}
    assert {name for name in arm if meets(name, "floor")} == {"tip"}
    assert not any(meets(a, b) for a in arm for b in arm if a != b)
    assert meets("cube", "floor")


def test_a_pushed_cube_slides_as_far_as_its_friction_lets_it(task):
    model = task.compile(timestep=0.001)
    data = task.initial_data(model)
    before = data.qpos[4]
    data.qvel[4] = 0.5
    for _ in range(1000):
        mujoco.mj_step(model, data)
    # v^2 / (2 mu g), a little more before the floor has taken hold.
    assert data.qpos[4] - before == pytest.approx(0.5**2 / (2 * 0.5 * 9.81), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("trial", [0, 1])
def test_the_cube_is_pushed_to_its_goal(trial):
    from diffusion_mpc.simulation.closed_loop import run_episode

    settings = {"task": "arm_cube", **find_task("arm_cube").demo}
    episode = run_episode(settings, trial, duration=4.0)
    assert episode.succeeded
    assert not episode.failed.any()


# Over ROS

START, GOAL = (0.45, 0.0), (0.3, 0.35)


@pytest.fixture
def camera(tmp_path, monkeypatch):
    """Planner and simulated arm, and between them a camera that sees the cube, or does not.

    The simulation, in this process, publishes the pose on a topic of the camera's.
    """
    from geometry_msgs.msg import PoseStamped
    from pilot import Witness
    from rclpy.parameter import Parameter

    from diffusion_mpc.bringup.description import free_domain_id
    from diffusion_mpc.node_processes import Process, Running
    from diffusion_mpc.ros.sim_node import SimNode

    class Camera(Witness):
        def __init__(self, **simulated):
            super().__init__(objects=("cube",))
            self.sees = True
            self.node.create_subscription(PoseStamped, "camera/cube", self._relay, 10)
            self.sim = SimNode(
                context=self.context,
                cli_args=["--ros-args", "-r", "objects/cube:=camera/cube"],
                parameter_overrides=[Parameter(k, value=v) for k, v in simulated.items()],
            )
            self.executor.add_node(self.sim)
            self.sim.begin()

        def _relay(self, pose):
            if self.sees:
                self._objects["cube"].publish(pose)

        def cube_from(self, place):
            return float(np.hypot(*(self.sim.plant.data.qpos[4:6] - place)))

        def joint_speed(self):
            return float(abs(self.sim.plant.data.qvel[:4]).max())

        def close(self):
            self.sim.end()
            self.executor.remove_node(self.sim)
            self.sim.destroy_node()
            super().close()

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    asked = {
        "task": "arm_cube",
        "objects.timeout": 0.2,
        "goal.wait": False,
        "goal.x": GOAL[0],
        "goal.y": GOAL[1],
    }
    with Running([Process("planner", asked)], tmp_path):
        made = Camera(task="arm_cube", rate=find_task("arm_cube").defaults["planner.rate"])
        yield made
        made.close()
    # The simulation turns the collector off, which is right in a process of its own.
    gc.enable()
    gc.unfreeze()


@pytest.mark.ros
@pytest.mark.slow
def test_a_cube_out_of_sight_stops_the_arm_and_seen_again_it_is_pushed_to_its_goal(camera):
    camera.spin_until(lambda: camera.cube_from(START) > 0.01, "the cube to be pushed")
    camera.sees, camera.commands[:] = False, []
    hidden = time.monotonic()
    when, command = camera.first_safe()
    assert 0.1 < when - hidden < 0.6
    assert list(command.velocity) == [0.0] * 4
    said = lambda: [d.message for d in camera.diagnostics if d.level == b"\x02"]  # noqa: E731
    camera.spin_until(said, "ERROR")
    assert "safe command: objects/cube is " in said()[-1]
    camera.spin(hidden + 1.0 - time.monotonic())
    assert all(m.safe for t, m in camera.commands if t > when)
    assert camera.joint_speed() < 0.02
    stood = camera.cube_from(GOAL)
    assert stood > 0.05

    camera.sees = True
    camera.regains_control()
    camera.spin_until(lambda: camera.cube_from(GOAL) < 0.03, "the cube to be at its goal")
    took = time.monotonic() - hidden - 1.0
    camera.spin(2.0)
    assert camera.cube_from(GOAL) < 0.03
    print(
        f"safe command {1e3 * (when - hidden):.0f} ms after the camera saw nothing, "
        f"cube {stood:.3f} m from its goal then, {took:.1f} s later at it, "
        f"and {camera.cube_from(GOAL):.3f} m from it at the end"
    )
