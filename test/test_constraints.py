"""Constraints of a task, and plans for robots that differ from the model."""

import numpy as np
import pytest
import torch
from test_planner import make_controller
from test_tasks import moment

from diffusion_mpc.config import (
    PlannerNodeConfig,
    PlantModelConfig,
    RobustConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.planner.objective import aggregation
from diffusion_mpc.rollout.variants import model_variants, perturbed
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError, constraint
from diffusion_mpc.tasks.cartpole import Cartpole
from diffusion_mpc.types import Reference, RolloutBatch, State

NOTHING = Reference().on(torch.zeros(0, dtype=torch.float64))


class LeftOf(Cartpole):
    """The cart has to stay left of -0.2 m, but starts at 0."""

    name = "left_of"

    @constraint(unit="m")
    def left(self, x, reference):
        """The cart is left of -0.2 m."""
        return x.qpos[..., 0] + 0.2


def controller_for(task_class, **settings):
    _, values = load_parameters(PlannerNodeConfig, {"task": "cartpole", **settings})
    return Controller(task_class(), build(PlannerNodeConfig, values), cost_weights(values))


def drive(controller, plant, seconds, reference):
    """Plans of a closed loop in lockstep."""
    plans = []
    for _ in range(round(seconds / 0.02)):
        plans.append(controller.plan(plant.state(plant.time), reference, plant.time))
        control = plans[-1].control(plant.time)
        plant.step(lambda qpos, qvel, control=control: control, 0.02)
    return plans


def batch_of(*positions):
    """A batch of one sample, a cart at these positions."""
    qpos = torch.tensor([[[x, 0.0] for x in positions]], dtype=torch.float64)
    return RolloutBatch(qpos, qpos * 0.0, qpos[..., :1], qpos[..., :0], {})


def test_the_violation_is_the_mean_of_what_is_positive():
    # g is -0.3, 0.1 and 0.3
    assert float(LeftOf().violation(batch_of(-0.5, -0.1, 0.1), NOTHING)) == pytest.approx(0.4 / 3)


def test_tightening_grows_along_the_horizon_and_is_no_breach():
    class Tight(Cartpole):
        name = "tight"

        @constraint(tightening=0.3)
        def left(self, x, reference):
            """The cart is left of the middle."""
            return x.qpos[..., :1]

    x = batch_of(-0.1, -0.1, -0.1)
    # 0.1, 0.2 and 0.3 are added to -0.1
    assert float(Tight().violation(x, NOTHING)) == pytest.approx((0.0 + 0.1 + 0.2) / 3)
    assert float(Tight().violation(x, NOTHING, tightened=False)) == 0.0


def test_a_constraint_says_what_must_hold():
    with pytest.raises(TaskError, match="constraint 'nothing' has no docstring"):

        @constraint()
        def nothing(self, x, reference):
            return x.qpos


def test_with_no_feasible_sample_the_planner_still_moves_towards_feasibility():
    controller = controller_for(LeftOf)
    plant = Plant(controller.task, PlantModelConfig())
    plans = drive(controller, plant, 2.0, Reference())
    assert plans[0].stats.infeasible_fraction == 1.0
    assert plans[0].stats.violation > 0.0
    assert plans[-1].stats.violation == 0.0
    assert float(plant.data.qpos[0]) < -0.2


def test_a_plan_half_way_between_two_feasible_ones_is_not_sent():
    """Left and right of a gap are allowed, the mean of both is not."""

    class Gap(Cartpole):
        name = "gap"

        @constraint()
        def gap(self, x, reference):
            """The first control pushes with more than half of the force, to either side."""
            _, high = self.ctrl_limits
            short = 0.5 - (x.ctrl[..., 0] / float(high[0])).abs()
            return torch.where(torch.arange(short.shape[-1]) == 0, short, -1.0)

    plan = controller_for(Gap, **{"planner.temperature": 10.0, "planner.noise_start": 1.0}).plan(
        State(0.0, np.zeros(2), np.zeros(2)), Reference(), 0.0
    )
    assert plan.stats.infeasible_fraction > 0.0
    assert plan.stats.violation == 0.0
    assert abs(plan.controls[0, 0]) >= 0.5 * Cartpole().ctrl_limits[1][0]


def test_the_wall_is_measured_at_the_ends_of_all_limbs():
    task = find_task("ant_wall")()
    qpos = task.initial_data(task.model).qpos.copy()
    x = moment(task, qpos)
    foremost = max(
        float(x.sensor(name)[..., 0]) for name in task.sensors if name.endswith(("toe", "ankle"))
    )
    assert float(task.violation(x, NOTHING, tightened=False)) == 0.0
    # Both front legs then reach 5 cm beyond 0.1 m before the wall.
    qpos[0] += 2.0 - 0.1 - 0.08 - foremost + 0.05
    assert float(task.violation(moment(task, qpos), NOTHING, tightened=False)) == pytest.approx(
        0.1, abs=1e-9
    )


def test_the_ant_that_is_told_to_walk_on_does_not_touch_the_wall():
    controller = make_controller("ant_wall", **{"planner.num_samples": 32})
    plant = Plant(controller.task, PlantModelConfig())
    # Half a metre from where it has to stop.
    plant.data.qpos[0] = 0.6
    plans = drive(controller, plant, 2.0, Reference(velocity=np.array([1.5, 0.0, 0.0])))
    assert max(plan.stats.violation for plan in plans) == 0.0
    assert plant.data.qpos[0] > 0.9, "it walks up to the wall"
    assert float(plant.data.sensor("base_up").data[2]) > 0.7


# Perturbed models


def test_masses_frictions_and_gains_scale():
    model = find_task("ant")().model
    changed = perturbed(model, 1.2, 0.5, 0.9)
    np.testing.assert_allclose(changed.body_mass, 1.2 * model.body_mass)
    np.testing.assert_allclose(changed.body_inertia, 1.2 * model.body_inertia)
    np.testing.assert_allclose(changed.geom_friction[:, 0], 0.5 * model.geom_friction[:, 0])
    np.testing.assert_allclose(changed.actuator_gainprm[:, 0], 0.9 * model.actuator_gainprm[:, 0])
    np.testing.assert_allclose(changed.body_subtreemass[1], 1.2 * model.body_subtreemass[1])


def test_the_first_variant_is_the_model_and_the_same_seed_gives_the_same_others():
    model = find_task("cartpole")().model
    first, second = (model_variants(model, RobustConfig(models=3, seed=4)) for _ in range(2))
    assert first[0] is model
    assert [m.body_mass[1] for m in first] == [m.body_mass[1] for m in second]
    assert len({m.body_mass[1] for m in first}) == 3


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("mean", [2.5, 3.0]), ("worst", [4.0, 9.0]), ("cvar", [3.5, 5.0])]
)
def test_costs_on_several_models_by_hand(aggregate, expected):
    costs = torch.tensor([[1.0, 2.0, 3.0, 4.0], [9.0, 1.0, 1.0, 1.0]])
    share = aggregation(costs, RobustConfig(models=4, aggregate=aggregate, tail=0.5))
    torch.testing.assert_close((costs * share).sum(-1), torch.tensor(expected))


def test_a_sample_is_rolled_out_on_every_model():
    controller = make_controller("cartpole", **{"robust.models": 3, "robust.aggregate": "worst"})
    knots = torch.rand((4, 5, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = State(0.0, np.zeros(2), np.zeros(2))
    objective, backend = controller.planner.objective, controller.backend
    problem = objective.pose(state, Reference())
    costs = objective.evaluate(problem, knots).costs
    alone = []
    for model in backend._models:
        one = make_controller("cartpole")
        one.backend._models, one.backend.model = [model], model
        alone.append(one.objective.evaluate(problem, knots).costs)
    torch.testing.assert_close(costs, torch.stack(alone).amax(0))
