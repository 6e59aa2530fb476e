"""Legged robots: gaits and costs by hand, falls, robots of the user's own, walking and standing."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from test_tasks import moment

from diffusion_mpc.simulation.closed_loop import ClosedLoop, run_episode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.tasks.gaits import GAITS, Gait
from diffusion_mpc.tasks.legged import Quadruped
from diffusion_mpc.tasks.measured import heading_velocity, initial_state
from diffusion_mpc.types import Reference

STANCE = [0.0, 0.85, -1.7] * 4


@pytest.fixture(scope="module")
def robot():
    return find_task("quadruped")()


def pose(robot, z=None, quaternion=(1.0, 0.0, 0.0, 0.0), joints=STANCE, x=0.0, y=0.0):
    height = robot.nominal_height if z is None else z
    return [x, y, height, *quaternion, *joints]


def still(robot, **where):
    return moment(robot, pose(robot, **where), ctrl=robot.action_centre)


def at(time, velocity=(0.0, 0.0, 0.0)):
    return Reference(velocity=np.array(velocity), times=np.array([time]))


def terms(robot, x, reference):
    return {name: float(c) for name, c in robot.costs(x, reference.on(x.qpos)).items()}


def test_a_foot_stands_for_its_duty_and_swings_in_half_a_sine():
    gait = Gait(duty=0.5, cadence=2.0, swing_height=0.1, phases=(0.0, 0.5))
    times = torch.tensor([0.0, 0.2, 0.25, 0.375, 0.5], dtype=torch.float64)
    np.testing.assert_allclose(gait.heights(times)[:, 0], [0, 0, 0, 0.1, 0], atol=1e-12)
    np.testing.assert_allclose(
        gait.heights(times)[:, 1], [0, 0.1 * np.sin(0.8 * np.pi), 0, 0, 0], atol=1e-12
    )


def test_a_foot_falls_behind_while_it_stands_and_comes_forward_while_it_swings():
    gait = Gait(duty=0.5, cadence=2.0, swing_height=0.1, phases=(0.0, 0.5))
    times = torch.tensor([0.0, 0.125, 0.25, 0.375, 0.5], dtype=torch.float64)
    # A stance of 0.25 s: half of it ahead of the middle when the foot comes down.
    np.testing.assert_allclose(
        gait.strides(times)[:, 0], [0.125, 0.0, -0.125, 0.0, 0.125], atol=1e-12
    )
    np.testing.assert_allclose(gait.strides(times)[:, 1], gait.strides(times + 0.25)[:, 0])


def test_stamps_of_a_clock_are_no_trouble_to_a_gait():
    gait = GAITS[4]["trot"]
    times = torch.tensor([0.1, 0.3], dtype=torch.float64)
    np.testing.assert_allclose(gait.heights(times + 1.8e9), gait.heights(times), atol=1e-6)


@pytest.mark.parametrize("feet", [2, 4])
def test_every_gait_has_a_phase_for_every_foot_and_stand_lifts_none(feet):
    times = torch.linspace(0.0, 2.0, 201, dtype=torch.float64)
    for gait in GAITS[feet].values():
        assert gait.heights(times).shape == (201, feet)
    assert GAITS[feet]["stand"].heights(times).abs().max() == 0.0


def test_in_a_trot_diagonal_feet_move_together():
    heights = GAITS[4]["trot"].heights(torch.linspace(0.0, 1.0, 101, dtype=torch.float64))
    assert torch.equal(heights[:, 0], heights[:, 3])
    assert torch.equal(heights[:, 1], heights[:, 2])
    assert (heights[:, 0] * heights[:, 1]).max() < 1e-9


def test_the_nominal_pose_at_rest_costs_nothing(robot):
    found = terms(robot, still(robot), at(0.3))
    # The mass is half a centimetre ahead of the feet's middle.
    assert found.pop("balance") < 1e-4
    assert all(abs(c) < 1e-6 for c in found.values())


def test_plans_are_searched_round_the_motion_of_the_gait(robot):
    times, velocity = np.array([0.0, 0.125, 0.3]), np.array([0.8, -0.2, 0.5])
    actions = robot.nominal_actions(times, Reference(velocity=velocity))
    gait, model = robot.chosen_gait, robot.model
    ahead = gait.strides(torch.from_numpy(times)).numpy()
    heights = gait.heights(torch.from_numpy(times)).numpy()
    data = robot.initial_data(model)
    places = [data.geom(foot).xpos.copy() for foot in robot.feet]
    for i in range(len(times)):
        data.qpos[7:] = robot.action_centre + robot.action_reach * actions[i]
        mujoco.mj_kinematics(model, data)
        for foot, place in enumerate(places):
            over_ground = velocity[:2] + velocity[2] * np.array([-place[1], place[0]])
            moved = data.geom(robot.feet[foot]).xpos - place
            wanted = [*(ahead[i, foot] * over_ground), heights[i, foot]]
            # Feet move on arcs, and this is their tangent.
            np.testing.assert_allclose(moved, wanted, atol=0.025)


def test_who_is_to_stand_is_not_made_to_step(robot):
    assert not robot.nominal_actions(np.linspace(0.0, 1.0, 9), Reference()).any()


def test_a_plan_goes_on_from_the_one_before_and_past_its_end_with_the_gait(robot):
    planner = ClosedLoop({"task": "quadruped"}, 0).controller.planner
    state, reference = initial_state(robot, robot.model), at(0.0, (1.0, 0.0, 0.0))
    knots = planner.objective.spline.knot_times
    first = planner.search(state, reference)[1].mean
    np.testing.assert_allclose(first, robot.nominal_actions(knots, reference))
    plan = planner.plan(state, reference)
    # One knot later, so that the knots are those of the plan before but for the last.
    elapsed = knots[1]
    mean = planner.search(replace(state, stamp=state.stamp + elapsed), reference)[1].mean
    np.testing.assert_allclose(mean[:-1], plan.knots[1:], atol=1e-5)
    end = robot.nominal_actions(knots[-1] + np.array([0.0, elapsed]), reference)
    wanted = (end[1] + plan.knots[-1] - end[0]).clip(-1.0, 1.0)
    np.testing.assert_allclose(mean[-1], wanted, atol=1e-5)


def test_terms_by_hand(robot):
    qvel = np.zeros(robot.model.nv)
    qvel[0], qvel[5] = 0.4, 0.5
    joints = np.array(STANCE) + 0.1
    x = moment(
        robot,
        pose(robot, z=robot.nominal_height + 0.05, joints=joints),
        qvel,
        ctrl=robot.action_centre + 0.5 * robot.action_reach,
    )
    found = terms(robot, x, at(0.0, (1.0, 0.2, 0.0)))
    assert found["velocity"] == pytest.approx(0.6**2 + 0.2**2)
    assert found["yaw_rate"] == pytest.approx(0.5**2)
    assert found["height"] == pytest.approx((0.05 * 6 / robot.nominal_height) ** 2)
    assert found["posture"] == pytest.approx(12 * 0.1**2)
    assert found["effort"] == pytest.approx(12 * 0.5**2)
    assert found["action_rate"] == 0.0


def test_feet_are_compared_with_the_gait_and_stay_down_where_nothing_is_commanded(robot):
    x = still(robot, z=robot.nominal_height + 0.03)
    # At a quarter of a second of 2 Hz and a duty of one half, the second pair is in mid swing.
    swing = 0.08
    moving = terms(robot, x, at(0.125, (1.0, 0.0, 0.0)))["foot_heights"]
    assert moving == pytest.approx(2 * (0.03 / swing) ** 2 + 2 * ((0.03 - swing) / swing) ** 2)
    standing = terms(robot, x, at(0.125))["foot_heights"]
    assert standing == pytest.approx(4 * (0.03 / swing) ** 2)


def test_the_action_rate_is_the_change_between_two_rows(robot):
    x = still(robot)
    first = x.ctrl + 0.2 * torch.from_numpy(robot.action_reach)
    two = replace(
        x, **{n: torch.cat([getattr(x, n)] * 2, 1) for n in ("qpos", "qvel", "sensordata")},
        ctrl=torch.cat([x.ctrl, first], 1),
    )  # fmt: skip
    rate = robot.costs(two, at(0.0).on(x.qpos))["action_rate"]
    np.testing.assert_allclose(rate[0], [0.0, 12 * 0.2**2])


@pytest.mark.parametrize("yaw", [0.7, -2.5])
def test_costs_do_not_depend_on_place_and_heading(robot, yaw):
    qvel = np.zeros(robot.model.nv)
    qvel[:3] = 0.3, 0.1, 0.0
    turned = qvel.copy()
    turned[:2] = (
        0.3 * np.cos(yaw) - 0.1 * np.sin(yaw),
        0.3 * np.sin(yaw) + 0.1 * np.cos(yaw),
    )
    # Firmly on the ground, so that rounding does not lift a foot.
    z = robot.nominal_height - 0.002
    here = moment(robot, pose(robot, z=z), qvel, robot.action_centre)
    there = moment(
        robot,
        pose(robot, z, (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)), x=5.0, y=-3.0),
        turned,
        robot.action_centre,
    )
    command = (0.5, 0.2, 0.1)
    a, b = (terms(robot, x, at(0.1, command)) for x in (here, there))
    for name in a:
        assert a[name] == pytest.approx(b[name], abs=1e-6), name


def test_lying_and_lying_low_are_falls(robot):
    assert not robot.failed(still(robot)).item()
    side = (np.cos(np.pi / 4), np.sin(np.pi / 4), 0.0, 0.0)
    assert robot.failed(still(robot, quaternion=side)).item()
    assert robot.failed(still(robot, z=0.4 * robot.nominal_height)).item()


def test_a_robot_on_its_knees_has_fallen_however_upright_it_is(robot):
    # Calves folded up: the knees carry the robot, the feet nothing.
    kneeling = still(robot, z=0.214, joints=[0.0, 0.1, -2.6] * 4)
    assert float(robot.borne(kneeling)) > 0.5
    assert robot.failed(kneeling).item()
    assert terms(robot, kneeling, at(0.0))["other_contacts"] > 0.5


def test_feet_that_slip_cost_and_feet_in_the_air_do_not(robot):
    qvel = np.zeros(robot.model.nv)
    qvel[0] = 0.5
    down = moment(robot, pose(robot, z=robot.nominal_height - 0.002), qvel, robot.action_centre)
    up = moment(robot, pose(robot, z=robot.nominal_height + 0.02), qvel, robot.action_centre)
    assert terms(robot, down, at(0.0))["foot_slip"] == pytest.approx(4 * 0.5**2, rel=1e-3)
    assert terms(robot, up, at(0.0))["foot_slip"] == 0.0


def test_walking_of_two_legs_by_hand():
    humanoid = find_task("humanoid_walk")()
    data = humanoid.initial_data(humanoid.model)
    qvel = np.zeros(humanoid.model.nv)
    qvel[0] = 0.7
    x = moment(humanoid, data.qpos, qvel, ctrl=humanoid.action_centre + humanoid.action_reach)
    # A quarter of a stride in, the left foot is to be 8 cm high.
    found = terms(humanoid, x, at(1000.2, (1.0, 0.0, 0.0)))
    mass = data.subtree_com[humanoid.model.body("torso").id][:2]
    feet = np.mean([data.site(f"{side}_foot").xpos[:2] for side in ("left", "right")], axis=0)
    fall_time = np.sqrt(data.subtree_com[humanoid.model.body("torso").id][2] / 9.81)
    assert found["velocity"] == pytest.approx(0.3**2)
    assert found["foot_heights"] == pytest.approx(1.0, abs=0.02)
    assert found["effort"] == pytest.approx(20.0)
    assert found["posture"] == pytest.approx(0.0, abs=1e-9)
    offset = mass - feet + fall_time * np.array([0.7 - 1.0, 0.0])
    assert found["balance"] == pytest.approx(float((offset**2).sum()), abs=1e-6)


# Robots of the user's own

BOX = """
<mujoco>
  <compiler angle="{angle}"/>
  <worldbody>
    {ground}
    <body name="trunk" pos="0 0 1"><freejoint/><geom type="box" size="0.2 0.1 0.05" mass="8"/>
      {legs}
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>
"""
GROUND = '<geom type="plane" size="0 0 1"/>'


def box(tmp_path, angle="radian", ground=GROUND, kind=Quadruped, scale=1.0, **attributes):
    """A box on legs of one joint each, driven by motors, without a keyframe."""
    unit = 180.0 / np.pi if angle == "degree" else 1.0
    corners = {"FL": (1, 1), "FR": (1, -1), "RL": (-1, 1), "RR": (-1, -1)}
    legs = "".join(
        f'<body name="{n}" pos="{0.15 * x} {0.1 * y} 0">'
        f'<joint name="{n}_hip" axis="0 1 0" range="{-unit} {unit}"/>'
        f'<geom type="capsule" fromto="0 0 0 0 0 -0.3" size="0.02" mass="0.5"/>'
        f'<geom size="0.03" pos="0 0 -0.3" mass="0.1"/></body>'
        for n, (x, y) in corners.items()
    )
    actuators = "".join(
        f'<motor name="{n}" joint="{n}_hip" ctrlrange="-10 10" gear="2"/>' for n in corners
    )
    path = tmp_path / "box.xml"
    path.write_text(BOX.format(angle=angle, ground=ground, legs=legs, actuators=actuators))
    given = {"name": "box", "model_path": path, "base": "trunk", "feet": tuple(corners)}
    return type("Box", (kind,), {"__doc__": "A box on legs.", **given, **attributes})()


def test_a_pose_stands_in_for_the_keyframe_and_puts_the_robot_on_the_ground(tmp_path):
    robot = box(tmp_path, pose={"F*_hip": -0.2, "R*_hip": 0.2})
    data = robot.initial_data(robot.model)
    np.testing.assert_allclose(data.qpos[7:], [-0.2, -0.2, 0.2, 0.2])
    assert data.qpos[2] == pytest.approx(0.3 * np.cos(0.2) + 0.03, abs=1e-6)
    assert robot.nominal_height == pytest.approx(data.qpos[2], abs=1e-6)


def test_a_foot_may_be_a_body_and_is_then_its_lowest_point(tmp_path):
    robot = box(tmp_path, pose={"*": 0.0})
    data = robot.initial_data(robot.model)
    for name, (x, y) in {"FL": (0.15, 0.1), "RR": (-0.15, -0.1)}.items():
        np.testing.assert_allclose(data.sensor(f"{name}_position").data, [x, y, 0.0], atol=1e-6)


def test_the_lowest_point_of_a_flat_foot_is_the_middle_of_its_sole(tmp_path):
    path = tmp_path / "box.xml"
    box(tmp_path, pose={"*": 0.0})
    flat = '<geom type="box" size="0.08 0.03 0.02" pos="0.03 0 -0.31" mass="0.1"/>'
    path.write_text(path.read_text().replace('<geom size="0.03" pos="0 0 -0.3" mass="0.1"/>', flat))

    class Flat(Quadruped):
        """A box on flat feet."""

        name = "flat"
        model_path = path
        base = "trunk"
        feet = ("FL", "FR", "RL", "RR")
        pose = {"*": 0.0}

    robot = Flat()
    data = robot.initial_data(robot.model)
    np.testing.assert_allclose(data.sensor("FL_position").data, [0.18, 0.1, 0.0], atol=1e-6)


@pytest.mark.parametrize("angle", ["radian", "degree"])
def test_motors_become_servos_with_the_joints_range_and_the_motors_torque(tmp_path, angle):
    robot = box(tmp_path, angle, pose={"*": 0.1}, servos={"*": (50.0, 2.0), "FL": (80.0, 3.0)})
    model = robot.model
    np.testing.assert_allclose(model.actuator_biasprm[:, 1], [-80.0, -50.0, -50.0, -50.0])
    np.testing.assert_allclose(model.actuator_biasprm[:, 2], [-3.0, -2.0, -2.0, -2.0])
    np.testing.assert_allclose(model.actuator_ctrlrange, [[-1.0, 1.0]] * 4)
    np.testing.assert_allclose(model.actuator_forcerange, [[-20.0, 20.0]] * 4)
    np.testing.assert_allclose(robot.action_centre, 0.1)
    np.testing.assert_allclose(robot.action_reach, 0.5)


def test_motors_that_stay_motors_have_their_whole_range(tmp_path):
    robot = box(tmp_path, pose={"*": 0.1})
    np.testing.assert_allclose(robot.action_centre, 0.0)
    np.testing.assert_allclose(robot.action_reach, 10.0)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "has no keyframe 'home'; name the nominal pose's keyframe, or give its angles"),
        ({"pose": {"*_knee": 1.0}}, "'\\*_knee' fits no joint; joints are FL_hip"),
        ({"pose": {"*": 0.0}, "ground": ""}, "there is no ground below body 'trunk'"),
        ({"pose": {"*": 0.0}, "base": "torso"}, "has no body 'torso', the base"),
        (
            {"pose": {"*": 0.0}, "base": "FL"},
            "body 'FL', the base of task 'box', has no free joint",
        ),
        (
            {"pose": {"*": 0.0}, "feet": ("FL", "FR", "RL", "paw")},
            "has no site, geom or body 'paw', a foot",
        ),
        ({"pose": {"*": 0.0}, "gait": "trott"}, "did you mean 'trot'"),
        ({"pose": {"*": 0.0}, "feet": ("FL", "FR", "RL")}, "for 3 feet"),
        ({"pose": {"*": 0.0}, "servos": {"knee": (1.0, 1.0)}}, "'knee' fits no motor"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, attributes, reason):
    with pytest.raises(TaskError, match=reason) as caught:
        box(tmp_path, **attributes)
    assert "\n" not in str(caught.value)


# Closed loop


@pytest.mark.slow
def test_the_quadruped_trots_as_commanded_and_does_not_fall():
    task = find_task("quadruped")
    episode = run_episode({"task": "quadruped", **task.demo}, 0, 5.0)
    assert not episode.failed.any()
    assert episode.speed > 0.65


@pytest.mark.slow
def test_the_quadruped_stands_where_nothing_is_commanded():
    episode = run_episode({"task": "quadruped"}, 0, 3.0)
    assert not episode.failed.any()
    velocity = heading_velocity(find_task("quadruped")(), episode.qpos, episode.qvel)
    forward, left, turning = np.abs(velocity[len(velocity) // 2 :].mean(axis=0))
    assert max(forward, left) < 0.05
    assert turning < 0.2
    assert np.linalg.norm(episode.qpos[-1, :2]) < 0.15


@pytest.mark.slow
def test_the_quadruped_takes_a_push_from_the_side():
    loop = ClosedLoop({"task": "quadruped", "command.vx": 1.0}, 0)
    for step in range(75):
        # 62.5 N for two periods of 0.04 s are 5 N s.
        force = 62.5 if 37 <= step < 39 else 0.0
        loop.plant.push("base", np.array([0.0, force, 0.0]), np.zeros(3))
        loop.plan()
        loop.advance()
        state = loop.state()
        x = moment(loop.task, state.qpos, state.qvel)
        assert not loop.task.failed(x).item()
