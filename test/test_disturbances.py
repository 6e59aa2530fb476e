"""Delay, noise, dropout, lag and wrong masses of the simulated robot, without ROS."""

import math

import mujoco
import numpy as np
import pytest

from diffusion_mpc.command.command import without_gains
from diffusion_mpc.config import NoiseConfig, PlantModelConfig, PushConfig
from diffusion_mpc.simulation.disturbances import Actuation, Commands, Measurements, whole_periods
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import State

QUIET = NoiseConfig()


@pytest.fixture(scope="module")
def ant():
    return find_task("ant")().model


def state(model, stamp):
    return State(stamp, mujoco.MjData(model).qpos.copy(), np.zeros(model.nv))


def arrivals(measurements, times):
    return [None if got is None else got.stamp for got in map(measurements.arrived, times)]


def test_a_measurement_arrives_once_after_its_delay_with_the_stamp_that_it_had(ant):
    measurements = Measurements(ant, 0.03, seed=0)
    for stamp in (1.0, 1.02):
        measurements.take(state(ant, stamp), QUIET)
    assert arrivals(measurements, [1.02, 1.03, 1.04, 1.05, 1.06]) == [None, 1.0, None, 1.02, None]


def test_of_several_that_have_arrived_the_newest_counts(ant):
    measurements = Measurements(ant, 0.0, seed=0)
    for stamp in (1.0, 1.02):
        measurements.take(state(ant, stamp), QUIET)
    assert arrivals(measurements, [1.02, 1.02]) == [1.02, None]


def test_a_robot_that_stood_still_has_states_under_way_for_every_period_of_the_delay(ant):
    measurements = Measurements(ant, whole_periods(0.03, 0.02), seed=0)
    measurements.standing(state(ant, 1.0), 0.02, QUIET)
    assert arrivals(measurements, [1.0, 1.02, 1.04]) == pytest.approx([0.96, 0.98, 1.0])


@pytest.mark.parametrize(
    ("delay", "rounded"), [(0.0, 0.0), (0.001, 0.02), (0.02, 0.02), (0.06, 0.06), (0.061, 0.08)]
)
def test_whole_periods(delay, rounded):
    assert whole_periods(delay, 0.02) == pytest.approx(rounded)


def test_noise_has_the_deviations_asked_for_keeps_quaternions_unit_and_repeats_with_its_seed(ant):
    noise, truth = NoiseConfig(position=0.01, velocity=0.1), state(ant, 0.0)

    def measured(seed):
        measurements = Measurements(ant, 0.0, seed)
        found = []
        for i in range(2000):
            measurements.take(State(float(i), truth.qpos, truth.qvel), noise)
            found.append(measurements.arrived(float(i)))
        return found

    states = measured(0)
    np.testing.assert_allclose([np.linalg.norm(s.qpos[3:7]) for s in states], 1.0, atol=1e-12)
    errors = np.zeros((len(states), ant.nv))
    for row, s in zip(errors, states, strict=True):
        mujoco.mj_differentiatePos(ant, row, 1.0, truth.qpos, s.qpos)
    np.testing.assert_allclose(errors.std(axis=0), 0.01, rtol=0.1)
    np.testing.assert_allclose(np.std([s.qvel for s in states], axis=0), 0.1, rtol=0.1)
    np.testing.assert_array_equal(truth.qpos, state(ant, 0.0).qpos)
    np.testing.assert_array_equal([s.qpos for s in measured(0)], [s.qpos for s in states])
    assert (measured(1)[0].qpos != states[0].qpos).any()


def command(value):
    return without_gains(np.array([value]))


def points(value):
    return [(0.0, command(value))]


def held(commands, times, **details):
    return [float(commands.at(time, **details).control[0]) for time in times]


def test_a_command_takes_effect_after_its_delay():
    commands = Commands(command(0.0), seed=0)
    assert commands.send(points(1.0), 0.0, delay=0.03, dropout=0.0)
    assert commands.send(points(2.0), 0.02, delay=0.03, dropout=0.0)
    assert held(commands, [0.02, 0.03, 0.04, 0.05, 9.0]) == [0.0, 1.0, 1.0, 2.0, 2.0]


def test_each_point_of_a_trajectory_holds_until_the_next_and_the_last_until_there_is_news():
    commands = Commands(command(0.0), seed=0)
    commands.send(
        [(-0.01, command(1.0)), (0.01, command(2.0)), (0.03, command(3.0))],
        1.0,
        delay=0.1,
        dropout=0.0,
    )
    assert held(commands, [1.09, 1.1, 1.11, 1.12, 1.13, 1.2]) == [0.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    commands.send([(0.01, command(4.0))], 1.2, delay=0.0, dropout=0.0)
    assert held(commands, [1.2]) == [4.0]  # what came before is no longer followed


def test_commands_do_not_overtake_one_another_when_the_delay_becomes_shorter():
    commands = Commands(command(0.0), seed=0)
    commands.send(points(1.0), 0.0, delay=0.1, dropout=0.0)
    commands.send(points(2.0), 0.02, delay=0.0, dropout=0.0)
    assert held(commands, [0.02, 0.1]) == [0.0, 2.0]


def test_a_command_that_is_older_than_the_timeout_gives_way_to_rest():
    commands = Commands(command(0.0), seed=0)
    commands.send(points(1.0), 0.0, delay=0.05, dropout=0.0)
    assert held(commands, [0.04, 0.05, 0.24, 0.26], timeout=0.2) == [0.0, 1.0, 1.0, 0.0]
    commands.reset(0.3)
    assert held(commands, [0.3]) == [0.0]


def test_commands_are_lost_as_often_as_asked_and_the_same_ones_with_the_same_seed():
    def sent(seed):
        commands = Commands(command(0.0), seed)
        return [commands.send(points(1.0), float(i), delay=0.0, dropout=0.3) for i in range(2000)]

    assert np.mean(sent(0)) == pytest.approx(0.7, abs=0.03)
    assert sent(0) == sent(0) != sent(1)


def test_a_lagging_actuator_is_a_first_order_filter():
    actuation = Actuation(0.005, np.zeros(1))
    for _ in range(10):
        control = actuation.follow(np.ones(1), lag=0.05)
    assert control[0] == pytest.approx(1.0 - math.exp(-1.0))  # 50 ms later
    assert actuation.follow(np.full(1, 3.0), lag=0.0)[0] == 3.0
    actuation.reset()
    assert actuation.follow(np.ones(1), lag=1e9)[0] == pytest.approx(0.0, abs=1e-9)


def test_a_heavier_robot_with_less_grip():
    task, config = find_task("ant")(), PlantModelConfig()
    as_modelled, changed = (
        Plant(task, config).model,
        Plant(task, config, mass=1.2, friction=0.5).model,
    )
    assert mujoco.mj_getTotalmass(changed) == pytest.approx(
        1.2 * mujoco.mj_getTotalmass(as_modelled)
    )
    np.testing.assert_allclose(changed.geom_friction[:, 0], 0.5 * as_modelled.geom_friction[:, 0])


def test_masses_of_a_robot_with_dynamics_of_its_own_are_not_ours_to_change():
    with pytest.raises(TaskError, match="leave mass_scale and friction_scale at 1"):
        Plant(find_task("car")(), PlantModelConfig(timestep=0.1), mass=2.0)


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
def test_pushes_come_from_the_robots_left_and_right_in_turn_with_the_impulse_asked_for(yaw):
    task = find_task("ant")()
    plant = Plant(task, PlantModelConfig(), pushes=PushConfig(impulse=3.0, every=1.0))
    plant.data.qpos[3:7] = math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)
    mujoco.mj_forward(plant.model, plant.data)
    base, step = plant.data.body(task.base), plant.model.opt.timestep
    force, heading, times = [], [], []
    for _ in range(round(3.5 / step)):
        times.append(plant.time)
        heading.append(base.xmat.reshape(3, 3)[:2, 0].copy())
        plant.step(lambda qpos, qvel: task.action_centre, step)
        force.append(base.xfrc_applied[:3].copy())
    force, heading, times = map(np.array, (force, heading, times))
    for number, side in ((1, -1.0), (2, 1.0), (3, -1.0)):
        during = (times > number - 1e-9) & (times < number + 0.2 - 1e-9)
        left = np.stack([-heading[:, 1], heading[:, 0]], -1)[during]
        left /= np.linalg.norm(left, axis=1, keepdims=True)
        impulse = (force[during, :2] * left).sum() * step
        assert impulse == pytest.approx(side * 3.0, rel=0.03)
    within = (times % 1.0 < 0.21) & (times > 0.9)
    np.testing.assert_array_equal(force[~within], 0.0)
    np.testing.assert_array_equal(force[:, 2], 0.0)


def test_a_push_by_hand_and_one_that_comes_by_itself_add_up_and_a_reset_ends_both():
    task = find_task("ant")()
    plant = Plant(task, PlantModelConfig(), pushes=PushConfig(impulse=2.0, every=0.5))
    force = plant.data.body(task.base).xfrc_applied

    def rest(qpos, qvel):
        return task.action_centre

    plant.push(task.base, np.array([0.0, 0.0, 7.0]), np.zeros(3))
    plant.step(rest, 0.4)
    np.testing.assert_array_equal(force, [0, 0, 7, 0, 0, 0])
    plant.step(rest, 0.2)
    assert np.hypot(*force[:2]) == pytest.approx(2.0 / 0.2)
    assert force[2] == 7.0
    plant.reset()
    plant.step(rest, 0.1)
    np.testing.assert_array_equal(force, 0.0)


@pytest.mark.parametrize("name", ["cartpole", "car"])
def test_a_robot_without_a_floating_base_is_not_pushed(name):
    with pytest.raises(TaskError, match=r"no floating base to push; leave push.impulse at 0"):
        Plant(find_task(name)(), PlantModelConfig(timestep=0.1), pushes=PushConfig(impulse=1.0))
