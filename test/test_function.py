"""Tasks that move by a function of their own.

In the planner, in the prediction and in the simulation alike.
"""

import numpy as np
import pytest
import torch
from rollouts import roll_out

from diffusion_mpc.command.command import constant_control
from diffusion_mpc.config import (
    BackendConfig,
    ModelConfig,
    PlannerNodeConfig,
    PlantModelConfig,
    RobustConfig,
    build,
    load_parameters,
)
from diffusion_mpc.estimation.predictor import Predictor
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.rollout.function import FunctionBackend
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task, TaskError, cost
from diffusion_mpc.types import Reference, State

SLIDER = """
<mujoco>
  <option integrator="Euler"><flag gravity="disable"/></option>
  <worldbody>
    <body><joint name="slider" type="slide" axis="1 0 0"/><geom size="0.1" mass="2"/></body>
  </worldbody>
  <actuator><motor name="push" joint="slider" ctrlrange="-4 4"/></actuator>
</mujoco>
"""


class Slider(Task):
    """A double integrator, as MuJoCo's semi-implicit Euler steps it."""

    name = "slider"

    def dynamics(self, qpos, qvel, ctrl, dt):
        qvel = qvel + ctrl / 2.0 * dt
        return qpos + qvel * dt, qvel

    @cost(weight=1.0)
    def there(self, x, reference):
        """Distance from 1 m."""
        return x.qpos[..., 0] - 1.0

    @cost(weight=0.1)
    def slow(self, x, reference):
        """Velocity."""
        return x.qvel[..., 0]


@pytest.fixture
def slider(tmp_path):
    path = tmp_path / "slider.xml"
    path.write_text(SLIDER)
    return Slider(path)


def some_controls(dtype=torch.float64):
    return (
        4.0 * torch.rand((5, 20, 1), generator=torch.Generator().manual_seed(0), dtype=dtype) - 2.0
    )


START = State(7.0, np.array([0.5]), np.array([-1.0]))


def test_a_double_integrator_moves_as_in_mujoco(slider):
    model = slider.compile(timestep=0.01, integrator="euler")
    batches = [
        roll_out(b, START, some_controls(), 0.02)
        for b in (FunctionBackend(slider, model), CpuBackend([model], 1))
    ]
    torch.testing.assert_close(batches[0].qpos, batches[1].qpos, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(batches[0].qvel, batches[1].qvel, rtol=0.0, atol=1e-12)
    assert not batches[0].invalid.any()


def test_a_rollout_does_not_depend_on_the_one_before_nor_on_its_batch(slider):
    backend = FunctionBackend(slider, slider.compile(timestep=0.01))
    first = roll_out(backend, START, some_controls(), 0.02)
    roll_out(backend, State(0.0, np.array([9.0]), np.array([9.0])), -some_controls(), 0.02)
    assert torch.equal(roll_out(backend, START, some_controls()[2:3], 0.02).qpos[0], first.qpos[2])


def test_single_precision_stays_single_precision(slider):
    model = slider.compile(timestep=0.01)
    single = roll_out(
        FunctionBackend(slider, model, dtype=torch.float32), START, some_controls().float(), 0.02
    )
    double = roll_out(FunctionBackend(slider, model), START, some_controls(), 0.02)
    assert single.qpos.dtype == single.qvel.dtype == torch.float32
    torch.testing.assert_close(single.qpos.double(), double.qpos, rtol=0.0, atol=1e-5)


def test_a_diverging_sample_is_invalid_and_the_others_are_not(slider):
    controls = some_controls()
    controls[3, 4] = torch.nan
    batch = roll_out(FunctionBackend(slider, slider.compile(timestep=0.02)), START, controls, 0.02)
    assert batch.invalid.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("name", ["car", "slider"])
def test_planner_simulation_and_prediction_move_alike(name, slider):
    task = slider if name == "slider" else find_task(name)()
    nu = task.model.nu
    control = 0.4 * task.ctrl_limits[1] * np.array([1.0, -0.7])[:nu]
    backend = FunctionBackend(task, task.compile(timestep=0.02))
    plant = Plant(task, PlantModelConfig(timestep=0.02))
    start = plant.state(3.0)
    plant.step(lambda q, v: control, 0.3)
    batch = roll_out(backend, start, torch.from_numpy(control).expand(1, 15, nu), 0.02)
    predicted = Predictor(task, backend.model).predict(
        start, 3.3, [(3.0, constant_control(control))]
    )
    assert plant.time == pytest.approx(0.3)
    assert np.abs(plant.data.qpos - start.qpos).max() > 0.02
    for qpos, qvel in (
        (batch.qpos[0, -1].numpy(), batch.qvel[0, -1].numpy()),
        (predicted.qpos, predicted.qvel),
    ):
        np.testing.assert_allclose(qpos, plant.data.qpos, atol=1e-9)
        np.testing.assert_allclose(qvel, plant.data.qvel, atol=1e-9)
    # What is drawn has moved too.
    assert plant.data.body(plant.model.nbody - 1).xpos[0] == pytest.approx(plant.data.qpos[0])


def test_a_prediction_notices_a_command_that_changes_within_a_coarse_step(slider):
    predictor = Predictor(slider, slider.compile(timestep=0.1))
    commands = [(0.0, constant_control(np.array([4.0]))), (0.06, constant_control(np.zeros(1)))]
    predicted = predictor.predict(State(0.0, np.zeros(1), np.zeros(1)), 0.1, commands)
    assert predicted.qvel[0] == pytest.approx(2.0 * 0.06)


def test_a_plan_brings_the_simulated_slider_where_it_is_to_be(slider):
    given = {
        "planner.horizon_steps": 25,
        "planner.control_dt": 0.04,
        "backend.name": "function",
        "planner.rate": 25.0,
    }
    _, values = load_parameters(PlannerNodeConfig, given)
    controller = Controller(slider, build(PlannerNodeConfig, values), {"there": 1.0, "slow": 0.1})
    plant = Plant(slider, PlantModelConfig(timestep=0.02))
    for i in range(75):
        plan = controller.plan(plant.state(0.04 * i), Reference(), 0.04 * i)
        plant.step(lambda q, v, plan=plan, i=i: plan.control(0.04 * i), 0.04)
    assert plant.data.qpos[0] == pytest.approx(1.0, abs=0.05)
    assert plant.data.qvel[0] == pytest.approx(0.0, abs=0.1)


class WithSensors(Slider):
    sensors = {"place": ("framepos", "body", "world")}


class WithOneRow(Slider):
    def dynamics(self, qpos, qvel, ctrl, dt):
        return qpos[0], qvel


class WithoutDynamics(Slider):
    dynamics = None


@pytest.mark.parametrize(
    ("kind", "backend", "models", "message"),
    [
        (
            WithSensors,
            "function",
            1,
            r"task 'slider' reads sensors \(place\), which the function backend does not have",
        ),
        (
            WithOneRow,
            "function",
            1,
            r"dynamics of task 'slider' return positions of \(1,\), .*; they were given \(2, 1\)",
        ),
        (
            WithoutDynamics,
            "function",
            1,
            "task 'slider' has no dynamics of its own; set backend.name to cpu",
        ),
        (
            Slider,
            "function",
            2,
            "robust.models is 2, but the function backend has one model only; set it to 1",
        ),
        (Slider, "cpu", 1, "task 'slider' has dynamics of its own; set backend.name to function"),
    ],
)
def test_a_task_that_does_not_fit_its_backend_is_named(kind, backend, models, message, slider):
    with pytest.raises(TaskError, match=message):
        make_backend(
            BackendConfig(name=backend, threads=1),
            ModelConfig(),
            RobustConfig(models=models),
            kind(slider.path),
        )


def test_a_push_on_dynamics_that_know_no_forces_is_an_error(slider):
    with pytest.raises(TaskError, match="a push does not act on them"):
        Plant(slider, PlantModelConfig()).push("world", np.zeros(3), np.zeros(3))
