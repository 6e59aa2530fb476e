"""The humanoid: costs by hand, and closed loops in which it walks and gets up."""

import numpy as np
import pytest
from test_tasks import moment

from diffusion_mpc.config import (
    PlannerNodeConfig,
    PlantModelConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.optimize.trajectory import TrajectoryProblem
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.humanoid import FALL_TIME
from diffusion_mpc.types import Reference, State

# Straight, arms down, soles on the ground: all joints at 0. Head and feet alone have their masses
# ahead of the torso.
STRAIGHT = 1.35
FEET_X = 0.03
MASS_X = (4.0 * 0.02 + 2.0 * 0.03) / 59.6
# Squares of all joints' distances from the stance, and of those that swing the legs.
ARMS_FROM_STANCE = 2 * (0.2**2 + 0.4**2)
LEGS_FROM_STANCE = 2 * (0.3**2 + 0.6**2 + 0.35**2)


def straight(task, **changed):
    """Positions with all joints at 0, except for columns given by joint name.

    `yaw` turns the robot, `x`, `y`, `z` place it.
    """
    qpos = np.zeros(task.model.nq)
    yaw = changed.pop("yaw", 0.0)
    qpos[:7] = (
        changed.pop("x", 0.0),
        changed.pop("y", 0.0),
        changed.pop("z", STRAIGHT),
        np.cos(yaw / 2),
        0,
        0,
        np.sin(yaw / 2),
    )
    for name, angle in changed.items():
        qpos[task.model.joint(name).qposadr[0]] = angle
    return qpos


def costs(task, qpos, qvel=None, ctrl=None, velocity=(0.0, 0.0, 0.0), time=0.0):
    reference = Reference(velocity=np.array(velocity), times=np.array([time]))
    x = moment(task, qpos, qvel, ctrl)
    return {name: float(value) for name, value in task.costs(x, reference.on(x.qpos)).items()}


def moving(task, **velocities):
    qvel = np.zeros(task.model.nv)
    for name, value in velocities.items():
        qvel[{"x": 0, "y": 1, "z": 2, "yaw": 5}[name]] = value
    return qvel


def lean(angle):
    """Quaternion of a torso that leans forward, rad."""
    return [np.cos(angle / 2), 0, np.sin(angle / 2), 0]


def smooth(r):
    return np.sqrt(r**2 + 0.01) - 0.1


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, -2.5])
def test_walking_by_hand(yaw):
    task = find_task("humanoid_walk")()
    qvel = moving(task, x=0.7 * np.cos(yaw), y=0.7 * np.sin(yaw), yaw=0.5)
    # A quarter of a stride in, the left foot is to be 8 cm high.
    found = costs(
        task,
        straight(task, yaw=yaw),
        qvel,
        ctrl=task.action_centre + task.action_reach,
        velocity=(1.0, 0.0, 0.2),
        time=1000.2,
    )
    # Turning on the spot moves the mass sideways.
    height = task.nominal_height
    fall_time = task._fall_time
    balance = (MASS_X - FEET_X - 0.3 * fall_time) ** 2 + (0.5 * MASS_X * fall_time) ** 2
    assert fall_time == pytest.approx(FALL_TIME, abs=1e-3)
    assert found.pop("foot_slip") < 3.0
    assert found == pytest.approx(
        {
            "velocity": 0.3**2,
            "yaw_rate": 0.3**2,
            "upright": 0.0,
            "height": ((STRAIGHT - height) * 6.0 / height) ** 2,
            "balance": balance,
            "foot_heights": 1.0,
            "other_contacts": 0.0,
            "posture": ARMS_FROM_STANCE,
            "effort": 20.0,
            "action_rate": 0.0,
        },
        abs=1e-6,
    )


def test_who_is_to_stand_keeps_both_feet_down():
    task = find_task("humanoid_walk")()
    assert costs(task, straight(task), time=0.2)["foot_heights"] == pytest.approx(0.0, abs=1e-9)
    lifted = costs(task, straight(task, z=STRAIGHT + 0.05), time=0.2)
    assert lifted["foot_heights"] == pytest.approx(2 * (0.05 / 0.08) ** 2)


def test_getting_up_by_hand():
    task = find_task("humanoid_standup")()
    found = costs(task, straight(task, x=1.0, y=-2.0), moving(task, x=0.5))
    assert found == pytest.approx(
        {
            "height": 0.05,
            "place": 3.0,
            "upright": 0.0,
            "balance": smooth(MASS_X - FEET_X + 0.5 * FALL_TIME),
            "rest": 1.0 - 1.0 / (1.0 + ARMS_FROM_STANCE + LEGS_FROM_STANCE + 0.25),
            "effort": 0.0,
        },
        abs=1e-6,
    )
    assert costs(task, straight(task, z=1.1))["rest"] == pytest.approx(
        1.0 - 0.5 / (1.0 + ARMS_FROM_STANCE + LEGS_FROM_STANCE)
    )
    lying = task.initial_data(task.model).qpos
    assert costs(task, lying)["rest"] == 1.0
    assert costs(task, lying)["upright"] == pytest.approx(1.0)
    assert not task.failed(moment(task, lying)).item()


def test_running_by_hand():
    task = find_task("humanoid_run")()
    qpos = straight(task, x=7.0, y=-0.5, yaw=np.pi / 3)
    found = costs(task, qpos, moving(task, x=3.0), ctrl=task.ctrl_limits[0])
    assert found == pytest.approx(
        {
            "velocity": -3.0,
            "height": 0.05,
            "track": 0.5,
            "upright": 0.0,
            "heading": 0.5,
            "posture": ARMS_FROM_STANCE,
            "effort": 20.0,
        },
        abs=1e-9,
    )
    qpos[3:7] = lean(np.pi / 3)
    assert costs(task, qpos)["upright"] == pytest.approx(0.5)


@pytest.mark.parametrize(("time", "thigh", "arm"), [(0.0, 0.2, 0.0), (1001.0, 0.85, -1.3)])
def test_the_motion_by_hand(time, thigh, arm):
    task = find_task("humanoid_track")()
    legs = {"hip_pitch": -thigh, "knee": 2 * thigh, "ankle_pitch": -thigh, "shoulder_pitch": arm}
    sides = {f"{side}_{name}": angle for name, angle in legs.items() for side in ("left", "right")}
    height = STRAIGHT - 0.88 * (1 - np.cos(thigh))
    found = costs(task, straight(task, z=height, **sides), time=time)
    # On its own motion, all that costs is where its mass is.
    assert {name: value for name, value in found.items() if name != "balance"} == pytest.approx(
        {
            "pose": 0.0,
            "height": 0.0,
            "upright": 0.0,
            "place": 0.0,
            "heading": 0.0,
            "smoothness": 0.0,
        },
        abs=1e-9,
    )
    x = moment(task, straight(task, z=height, **sides))
    np.testing.assert_allclose(x.sensor("left_foot")[0, 0], [FEET_X, 0.1, 0.0], atol=1e-9)
    sides["left_knee"] += 0.3
    off = costs(task, straight(task, x=0.2, y=0.1, z=height - 0.1, **sides), time=time)
    assert off["pose"] == pytest.approx(0.3**2)
    assert off["height"] == pytest.approx(1.0)
    assert off["place"] == pytest.approx(0.05)


def test_an_open_loop_plan_knows_the_time_of_every_step():
    task = find_task("humanoid_track")()
    _, values = load_parameters(PlannerNodeConfig, {"task": task.name, "planner.horizon_steps": 4})
    config = build(PlannerNodeConfig, values)
    # Only the height counts, and no control changes that much in a step: half a period in, the
    # motion is 0.28 m lower.
    weights = {name: float(name == "height") for name in cost_weights(values)}
    data = task.initial_data(task.model)
    backend = CpuBackend([task.compile(timestep=0.02)], 1)
    found = []
    for time in (0.0, 1.0):
        state = State(time, np.array(data.qpos), np.array(data.qvel))
        objective = Objective(task, backend, config.planner, weights)
        problem = TrajectoryProblem(objective, objective.pose(state, Reference()))
        found.append(float(problem.evaluate(problem.origin[None]).costs[0]))
    assert found[0] < 1.0 < 5.0 < found[1]


@pytest.mark.parametrize("name", ["humanoid_walk", "humanoid_run", "humanoid_track"])
def test_leaning_far_and_lying_low_are_failures(name):
    task = find_task(name)()
    qpos = straight(task)
    qpos[3:7] = lean(1.0)
    assert not task.failed(moment(task, qpos)).item()
    qpos[3:7] = lean(1.1)
    assert task.failed(moment(task, qpos)).item()
    assert task.failed(moment(task, straight(task, z=0.65))).item()


def closed_loop(name, duration, velocity):
    """States (T, nq) and tilts of the torso, rad, with the task's own parameters."""
    _, values = load_parameters(PlannerNodeConfig, {"task": name})
    config, task = build(PlannerNodeConfig, values), find_task(name)()
    controller, plant = (
        Controller(task, config, cost_weights(values)),
        Plant(task, PlantModelConfig()),
    )
    period, path = 1.0 / config.planner.rate, []
    for step in range(round(duration / period)):
        now = step * period
        control = controller.plan(
            plant.state(now), Reference(velocity=np.array(velocity)), now
        ).control(now)
        plant.step(lambda qpos, qvel, u=control: u, period)
        path.append(plant.data.qpos.copy())
    quaternions = np.array(path)[:, 4:6]
    return np.array(path), np.arccos(1.0 - 2.0 * np.square(quaternions).sum(1))


@pytest.mark.slow
def test_the_humanoid_walks():
    path, tilt = closed_loop("humanoid_walk", 2.0, (0.8, 0.0, 0.0))
    assert path[-1, 0] - path[24, 0] > 0.5
    assert path[:, 2].min() > 1.1
    assert tilt.max() < np.radians(35)


@pytest.mark.slow
def test_the_humanoid_gets_up():
    path, tilt = closed_loop("humanoid_standup", 2.4, (0.0, 0.0, 0.0))
    assert path[0, 2] < 0.2
    assert path[-12:, 2].min() > 1.1
    assert tilt[-12:].max() < np.radians(40)
