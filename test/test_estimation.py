"""From messages to states: by name, checked, and predicted to the time of the command."""

import numpy as np
import pytest

from diffusion_mpc.command.command import constant_control
from diffusion_mpc.config import PlantModelConfig
from diffusion_mpc.estimation.checks import MessageRejectedError
from diffusion_mpc.estimation.estimator import Estimator
from diffusion_mpc.estimation.predictor import Predictor
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError

POSE = (
    np.array([1.0, 2.0, 0.5]),
    np.array([0.0, 0.0, 0.0, 1.0]),
    np.array([0.3, 0.0, 0.0]),
    np.zeros(3),
)


@pytest.fixture
def ant():
    task = find_task("ant")()
    return Estimator(task.model, task.base)


def names(estimator):
    return list(estimator.addresses)


def feed(estimator, stamp=1.0):
    joints = names(estimator)
    estimator.update_joints(stamp, joints, np.arange(8) * 0.1, np.arange(8) * 1.0)
    estimator.update_odometry(stamp, *POSE)


def test_a_state_needs_every_part(ant):
    assert ant.waiting_for() == ["joint_states", "odom"]
    ant.update_joints(1.0, names(ant), np.zeros(8), np.zeros(8))
    assert ant.waiting_for() == ["odom"]
    assert ant.state() is None
    ant.update_odometry(2.0, *POSE)
    assert ant.state().stamp == 1.0
    assert not ant.consistent()


def test_a_state_is_taken_once_and_only_when_every_part_of_it_is_new(ant):
    feed(ant, 1.0)
    assert ant.take().stamp == 1.0
    assert ant.take() is None
    ant.update_joints(2.0, names(ant), np.zeros(8), np.zeros(8))
    assert ant.take() is None
    ant.update_odometry(2.0, *POSE)
    assert ant.take().stamp == 2.0


def test_joints_may_come_in_any_order(ant):
    feed(ant)
    straight = ant.state()
    order = np.random.default_rng(0).permutation(8)
    ant.update_joints(2.0, [names(ant)[i] for i in order], order * 0.1, order * 1.0)
    np.testing.assert_array_equal(ant.state().qpos, straight.qpos)
    np.testing.assert_array_equal(ant.state().qvel, straight.qvel)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda n, q, v: (n, [np.nan, *q[1:]], v), "joint_states: NaN or infinite value"),
        (lambda n, q, v: (n, q, [*v[1:], np.inf]), "joint_states: NaN or infinite value"),
        (
            lambda n, q, v: ([*n, n[0]], [*q, 0.0], [*v, 0.0]),
            "joint_states: joint 'front_left_hip' twice",
        ),
        (
            lambda n, q, v: (n, q, []),
            "joint_states: 8 names, 8 positions, 0 velocities; all three must be equal",
        ),
    ],
)
def test_a_bad_joint_state_is_rejected_and_changes_nothing(ant, change, reason):
    feed(ant)
    before = ant.state()
    with pytest.raises(MessageRejectedError) as caught:
        ant.update_joints(2.0, *change(names(ant), [9.0] * 8, [9.0] * 8))
    assert str(caught.value) == reason
    after = ant.state()
    assert after.stamp == before.stamp
    np.testing.assert_array_equal(after.qpos, before.qpos)


def test_a_quaternion_must_have_unit_length(ant):
    feed(ant)
    with pytest.raises(
        MessageRejectedError, match=r"odom: quaternion of length 0\.5; it must be 1"
    ):
        ant.update_odometry(2.0, POSE[0], np.array([0.0, 0.0, 0.0, 0.5]), *POSE[2:])
    with pytest.raises(MessageRejectedError, match="odom: NaN or infinite value"):
        ant.update_odometry(2.0, POSE[0], POSE[1], np.array([np.nan, 0, 0]), POSE[3])


def test_nothing_is_kept_across_a_jump_back_in_time(ant):
    feed(ant, 100.0)
    ant.update_joints(1.0, names(ant), np.zeros(8), np.zeros(8))
    assert ant.waiting_for() == ["odom"]


def test_a_base_without_a_free_joint_is_an_error():
    task = find_task("cartpole")()
    with pytest.raises(TaskError, match="body 'torso', the task's base, has no free joint"):
        Estimator(task.model, "torso")


def test_prediction_is_what_the_model_does_under_the_commands_sent():
    task = find_task("cartpole")()
    config = PlantModelConfig(timestep=0.005)
    plant, model = Plant(task, config), task.compile(timestep=0.005)
    plant.step(lambda q, v: np.array([3.0]), 0.1)
    measured = plant.state(10.0)
    commands = {0: 5.0, 1: -5.0}
    for u in commands.values():
        plant.step(lambda q, v, u=u: np.array([u]), 0.02)
    predicted = Predictor(task, model).predict(
        measured,
        10.04,
        [(10.0 + 0.02 * i, constant_control(np.array([u]))) for i, u in commands.items()],
    )
    assert predicted.stamp == 10.04
    np.testing.assert_allclose(predicted.qpos, plant.data.qpos, atol=1e-9)
    np.testing.assert_allclose(predicted.qvel, plant.data.qvel, atol=1e-9)


def test_prediction_fits_its_steps_to_any_interval():
    task = find_task("cartpole")()
    plant = Plant(task, PlantModelConfig(timestep=0.001))
    measured = plant.state(0.0)
    plant.step(lambda q, v: np.array([5.0]), 0.013)
    predicted = Predictor(task, task.compile(timestep=0.005)).predict(
        measured, 0.013, [(0.0, constant_control(np.array([5.0])))]
    )
    np.testing.assert_allclose(predicted.qvel, plant.data.qvel, rtol=0.02)


def test_a_state_of_the_present_is_its_own_prediction():
    task = find_task("cartpole")()
    state = Plant(task, PlantModelConfig()).state(5.0)
    assert (
        Predictor(task, task.model).predict(state, 5.0, [(5.0, constant_control(np.zeros(1)))])
        is state
    )
