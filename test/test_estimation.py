"""From messages to states: by name, checked, and predicted to the time of the command."""

import mujoco
import numpy as np
import pytest

from diffusion_mpc.command.command import constant_control
from diffusion_mpc.config import InputConfig, PlantModelConfig
from diffusion_mpc.estimation.checks import MessageRejectedError
from diffusion_mpc.estimation.estimator import Estimator
from diffusion_mpc.estimation.predictor import Predictor
from diffusion_mpc.estimation.transforms import Transforms
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


@pytest.fixture
def beside():
    """An estimator of a floating base beside a cube."""
    free = "<body name='{}'><freejoint/><geom size='.1'/></body>"
    bodies = free.format("torso") + free.format("cube")
    xml = f"<mujoco><worldbody>{bodies}</worldbody></mujoco>"
    return Estimator(mujoco.MjModel.from_xml_string(xml), "torso")


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


def test_joints_that_the_model_does_not_have_are_ignored_and_named_once(ant):
    told = []
    estimator = Estimator(ant.model, "torso", inform=told.append)
    joints = [*names(estimator), "gripper"]
    for stamp in (1.0, 1.1):
        estimator.update_joints(stamp, joints, [0.1] * 9, [*[0.2] * 8, np.nan])
        estimator.update_joints(stamp, ["gripper"], [0.1], [])
    assert told == [
        "joint_states: joints that the model does not have are ignored: ['gripper']",
    ]
    estimator.update_odometry(1.1, *POSE)
    assert estimator.take().qpos[7:].tolist() == [0.1] * 8


def test_joints_of_two_publishers_make_a_state_when_each_has_been_measured_since_the_last(ant):
    legs, rest = names(ant)[:5], names(ant)[5:]
    ant.update_odometry(1.0, *POSE)
    ant.update_joints(1.0, legs, np.full(5, 0.1), np.full(5, 0.2))
    assert ant.take() is None
    assert ant.waiting_for() == [f"joint_states (missing: {', '.join(rest)})"]
    ant.update_joints(1.01, rest, np.full(3, 0.3), np.full(3, 0.4))
    state = ant.take()
    assert state.stamp == 1.0
    assert sorted(state.qpos[7:]) == [0.1] * 5 + [0.3] * 3
    assert sorted(state.qvel[6:]) == [0.2] * 5 + [0.4] * 3
    # One of them is quicker.
    for stamp in (1.02, 1.03):
        ant.update_odometry(stamp, *POSE)
        ant.update_joints(stamp, legs, np.zeros(5), np.zeros(5))
        assert ant.take() is None
        assert ant.late() == f"{', '.join(rest)} of joint_states"
    ant.update_joints(1.03, rest, np.zeros(3), np.zeros(3))
    assert ant.take().stamp == 1.03
    assert ant.late() == ""


def test_names_of_joints_may_have_a_prefix(ant):
    estimator = Estimator(ant.model, "torso", prefix="left_")
    estimator.update_odometry(1.0, *POSE)
    estimator.update_joints(1.0, names(ant), np.ones(8), np.ones(8))
    assert estimator.take() is None
    estimator.update_joints(1.0, ["left_" + n for n in names(ant)], np.ones(8), np.ones(8))
    assert estimator.take().qpos[7:].tolist() == [1.0] * 8


def test_small_disorder_is_dropped_an_equal_stamp_taken_and_only_a_jump_begins_time_anew(ant):
    def joints(stamp, position):
        ant.update_joints(stamp, names(ant), np.full(8, position), np.zeros(8))
        state = ant.state()
        return state and state.qpos[7]

    feed(ant, 100.0)
    assert joints(100.0, 0.5) == 0.5
    assert joints(99.9995, 0.6) == 0.5
    assert ant.dropped == 1
    assert joints(99.0, 0.7) is None
    assert ant.waiting_for() == ["odom"]
    ant.configure(InputConfig(time_jump=2.0))
    feed(ant, 99.0)
    assert joints(98.0, 0.8) == pytest.approx(ant.state().qpos[7])
    assert ant.dropped == 2


def test_where_poses_lie_follows_the_odometry_and_transforms(beside):
    # The base is 1 m ahead and looks to the left; a camera on it looks back.
    left, back = np.array([0.0, 0.0, *np.sqrt([0.5, 0.5])]), np.array([0.0, 0.0, 1.0, 0.0])
    odometry = (np.array([1.0, 0.0, 0.0]), left, np.zeros(3), np.zeros(3))
    beside.update_object("objects/cube", 1.0, np.zeros(3), POSE[1], frame="odom")
    assert beside.waiting_for() == ["odom", "objects/cube"]
    beside.update_odometry(1.0, *odometry, ("odom", "torso"))
    beside.transforms.update_tf("camera", "torso", np.array([0.1, 0.0, 0.0]), back)
    beside.transforms.update_tf("odom", "map", np.array([0.0, 5.0, 0.0]), POSE[1])
    for frame, position in {
        "": [2.0, 3.0, 0.0],
        "/odom": [2.0, 3.0, 0.0],
        "torso": [1.0 - 3.0, 2.0, 0.0],
        "camera": [1.0 + 3.0, 0.1 - 2.0, 0.0],
        "map": [2.0, 3.0 - 5.0, 0.0],
    }.items():
        beside.update_object("objects/cube", 1.0, np.array([2.0, 3.0, 0.0]), POSE[1], frame=frame)
        np.testing.assert_allclose(beside.state().qpos[7:10], position, atol=1e-9, err_msg=frame)
    with pytest.raises(MessageRejectedError) as caught:
        beside.update_object("objects/cube", 1.0, np.zeros(3), POSE[1], frame="lab")
    assert str(caught.value) == (
        "objects/cube: in frame 'lab', and no transform leads from there to 'odom'; publish it on "
        "/tf, or send poses in 'odom'"
    )


def test_transforms_that_go_round_in_circles_lead_nowhere():
    transforms = Transforms("odom")
    for child, parent in [("a", "b"), ("b", "c"), ("c", "a")]:
        transforms.update_tf(child, parent, np.zeros(3), POSE[1])
    assert transforms.to_world("a", np.zeros(7)) is None
    with pytest.raises(MessageRejectedError, match="tf: quaternion of length 0; it must be 1"):
        transforms.update_tf("d", "odom", np.zeros(3), np.zeros(4))


def test_an_odometry_in_another_frame_than_the_world_is_rejected(ant):
    estimator = Estimator(ant.model, "torso", config=InputConfig(world_frame="map"))
    with pytest.raises(MessageRejectedError, match=r"odom: in frame 'odom', and input\.world_fram"):
        estimator.update_odometry(1.0, *POSE, ("odom", "torso"))


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
