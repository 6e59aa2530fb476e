"""References without ROS: which message counts, in which frame, and within which bounds."""

import numpy as np
import pytest

from diffusion_mpc.config import PlannerNodeConfig
from diffusion_mpc.estimation.checks import MessageRejectedError
from diffusion_mpc.estimation.reference import GOAL, VELOCITY, ReferenceKeeper
from diffusion_mpc.estimation.transforms import Transforms

CONFIG = PlannerNodeConfig()
STRAIGHT = np.array([0.0, 0.0, 0.0, 1.0])


def velocity(keeper, steady):
    return keeper.reference(steady, CONFIG).velocity.tolist()


def test_of_velocities_the_one_with_the_newest_stamp_counts_until_it_is_too_old():
    keeper = ReferenceKeeper(VELOCITY, Transforms("odom"))
    keeper.update_velocity(10.0, np.array([1.0, 0.0, 0.0]))
    keeper.update_velocity(9.9, np.array([2.0, 0.0, 0.0]))
    assert velocity(keeper, 10.1) == [1.0, 0.0, 0.0]
    assert velocity(keeper, 10.6) == [0.0, 0.0, 0.0]


def test_a_velocity_is_clamped_to_the_bounds_of_its_parameters_and_that_is_told_while_it_counts():
    keeper = ReferenceKeeper(VELOCITY, Transforms("odom"))
    keeper.update_velocity(10.0, np.array([100.0, 1.0, -7.0]))
    assert velocity(keeper, 10.1) == [5.0, 1.0, -5.0]
    said = "cmd_vel: vx of 100 clamped to 5 m/s, cmd_vel: yaw_rate of -7 clamped to -5 rad/s"
    assert keeper.clamping(10.1, CONFIG) == said
    assert keeper.clamping(10.6, CONFIG) == ""
    keeper.update_velocity(11.0, np.ones(3))
    assert keeper.clamping(11.0, CONFIG) == ""
    assert keeper.bounds.clamped == 1


@pytest.mark.parametrize(
    ("kind", "age", "reason"),
    [
        (VELOCITY, 0.6, "cmd_vel: stamp is 0.6 s behind this node's clock, more than command.tim"),
        (VELOCITY, -0.6, "cmd_vel: stamp is 0.6 s ahead of this node's clock; synchronise them"),
        (GOAL, 6.0, "goal_pose: stamp is 6 s behind this node's clock, more than goal.max_age"),
        (GOAL, -6.0, "goal_pose: stamp is 6 s ahead of this node's clock; synchronise them"),
    ],
)
def test_a_reference_stamped_far_from_now_is_refused(kind, age, reason):
    keeper = ReferenceKeeper(kind, Transforms("odom"))
    keeper.require_near(0.5 * age, CONFIG)
    with pytest.raises(MessageRejectedError, match=reason):
        keeper.require_near(age, CONFIG)


def test_a_goal_stays_in_its_own_frame_and_waits_for_the_transform():
    transforms = Transforms(None)
    keeper = ReferenceKeeper(GOAL, transforms)
    assert keeper.waiting_for(CONFIG) == [GOAL]
    keeper.update_goal(1.0, np.array([1.0, 2.0, 3.0]), STRAIGHT, "map")
    # Before the odometry has a name, nobody can tell.
    assert keeper.waiting_for(CONFIG) == []
    transforms.world = "odom"
    assert keeper.waiting_for(CONFIG) == ["a transform from 'map' of goal_pose to 'odom'"]
    for drift in (0.5, 0.6):
        transforms.update_tf("odom", "map", np.array([drift, 0.0, 0.0]), STRAIGHT)
        assert keeper.waiting_for(CONFIG) == []
        goal = keeper.reference(1.0, CONFIG).pose
        np.testing.assert_allclose(goal, [1.0 - drift, 2.0, 3.0, 1.0, 0.0, 0.0, 0.0])
    with pytest.raises(MessageRejectedError, match="goal_pose: in frame 'lab', and no transform"):
        keeper.update_goal(2.0, np.zeros(3), STRAIGHT, "lab")
    # One that is refused leaves the last one.
    np.testing.assert_allclose(keeper.reference(2.0, CONFIG).pose, goal)


def test_without_a_name_of_the_world_a_goal_counts_as_it_is():
    keeper = ReferenceKeeper(GOAL, Transforms(""))
    keeper.update_goal(1.0, np.array([1.0, 2.0, 1e9]), STRAIGHT, "table")
    assert keeper.reference(1.0, CONFIG).pose.tolist() == [1.0, 2.0, 1e4, 1.0, 0.0, 0.0, 0.0]
    assert keeper.clamping(1.0, CONFIG) == "goal_pose: z of 1e+09 clamped to 10000 m"
