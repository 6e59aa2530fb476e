"""Actions in [-1, 1] and the controls that they stand for."""

import numpy as np
import pytest
import torch

from diffusion_mpc.config import PlannerNodeConfig, build, cost_weights, load_parameters
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.tasks.base import Task, TaskError, cost
from diffusion_mpc.tasks.legged import LeggedRobot, Quadruped

MODEL = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body><joint name="left_hip" axis="0 0 1"/><geom size="0.1"/>
      <body pos="0.2 0 0"><joint name="left_knee" axis="0 1 0"/><geom size="0.1"/></body>
    </body>
  </worldbody>
  <actuator>
    <position name="hip" joint="left_hip" kp="10" ctrlrange="-1 2"/>
    <motor name="knee" joint="left_knee" ctrlrange="-4 4"/>
  </actuator>
  <keyframe>{key}</keyframe>
</mujoco>
"""


def make(tmp_path, key="", keyframe=None, scale=1.0):
    path = tmp_path / "leg.xml"
    path.write_text(MODEL.format(key=key))

    class Leg(Task):
        name = "leg"
        model_path = path
        action_scale = scale

        @cost(weight=1.0)
        def effort(self, x, reference):
            """Effort."""
            return self.normalise(x.ctrl)

    Leg.keyframe = keyframe
    return Leg()


def test_without_a_keyframe_actions_span_the_range_from_its_middle(tmp_path):
    leg = make(tmp_path)
    np.testing.assert_allclose(leg.action_centre, [0.5, 0.0])
    np.testing.assert_allclose(leg.action_reach, [1.5, 4.0])


def test_the_centre_is_the_control_of_the_keyframe(tmp_path):
    leg = make(tmp_path, '<key name="home" qpos="0.3 0.7" ctrl="1.5 1"/>', "home")
    np.testing.assert_allclose(leg.action_centre, [1.5, 1.0])
    # A fraction of 1 reaches the end that is farther away.
    np.testing.assert_allclose(leg.action_reach, [2.5, 5.0])


def test_a_keyframe_without_controls_centres_position_servos_on_its_joints(tmp_path):
    leg = make(tmp_path, '<key name="home" qpos="0.3 0.7"/>', "home")
    np.testing.assert_allclose(leg.action_centre, [0.3, 0.0])


def test_a_fraction_or_values_by_actuator_joint_or_pattern_set_the_scale(tmp_path):
    np.testing.assert_allclose(make(tmp_path, scale=0.2).action_reach, [0.3, 0.8])
    np.testing.assert_allclose(
        make(tmp_path, scale={"left_*": 0.5, "knee": 3.0}).action_reach, [0.5, 3.0]
    )
    # The range ends what is asked for.
    np.testing.assert_allclose(make(tmp_path, scale={"*": 9.0}).action_reach, [1.5, 4.0])


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        (0.0, "above 0 and at most 1"),
        (1.5, "above 0 and at most 1"),
        ({"hip": 0.5}, "no value for actuator 'knee'"),
        ({"*": 0.5, "ankle": 1.0}, "'ankle' fits no actuator; actuators are hip, knee"),
        ({"*": -0.5}, "must be positive"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused_in_one_line(tmp_path, scale, reason):
    with pytest.raises(TaskError, match=reason):
        make(tmp_path, scale=scale)


def test_controls_are_centre_and_scale_clipped_to_the_range_and_normalised_back(tmp_path):
    leg = make(tmp_path, '<key name="home" ctrl="1.5 1"/>', "home", {"hip": 1.0, "knee": 2.0})
    objective = Objective(
        leg,
        CpuBackend([leg.planning_model(timestep=0.02)], 1),
        build(
            PlannerNodeConfig, load_parameters(PlannerNodeConfig, {"task": "cartpole"})[1]
        ).planner,
        {"effort": 1.0},
    )
    knots = torch.zeros((3, *objective.origin.shape), dtype=torch.float64)
    knots[1], knots[2] = 1.0, -0.5
    controls = objective.controls(knots)
    np.testing.assert_allclose(controls[0, 0], [1.5, 1.0])
    # 1.5 + 1.0 is beyond the hip's 2.0.
    np.testing.assert_allclose(controls[1, 0], [2.0, 3.0])
    np.testing.assert_allclose(controls[2, 0], [1.0, 0.0])
    np.testing.assert_allclose(leg.normalise(controls[2, 0]), [-0.5, -0.5])


def test_simplify_may_not_change_joints_or_sensors(tmp_path):
    leg = make(tmp_path)
    type(leg).simplify = lambda self, spec: spec.delete(spec.actuator("knee"))
    with pytest.raises(TaskError, match="simplify has changed joints, actuators or sensors"):
        leg.planning_model()


def test_weights_defaults_and_sensors_add_to_those_of_the_base_class():
    class First(Task):
        name = "first"
        defaults = {"planner.iterations": 2, "planner.num_samples": 8}
        sensors = {"a": ("framepos", "body", "x")}

        @cost(weight=1.0)
        def effort(self, x, reference):
            """Effort."""
            return x.ctrl

    class Second(First):
        name = "second"
        defaults = {"planner.num_samples": 16}
        weights = {"effort": 5.0}

    assert Second.defaults == {"planner.iterations": 2, "planner.num_samples": 16}
    assert Second.sensors == First.sensors
    assert (First.cost_terms()["effort"].weight, Second.cost_terms()["effort"].weight) == (1.0, 5.0)
    Second.weights = {"efort": 1.0}
    Second.cost_terms.__func__.cache_clear()
    with pytest.raises(TaskError, match="did you mean 'effort'"):
        Second.cost_terms()


def test_weights_reach_the_parameters():
    _, values = load_parameters(PlannerNodeConfig, {"task": "quadruped"})
    assert LeggedRobot.cost_terms()["velocity"].weight != Quadruped.weights["velocity"]
    assert cost_weights(values)["velocity"] == Quadruped.weights["velocity"]
