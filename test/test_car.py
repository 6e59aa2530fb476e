"""The car in the maze, and the demonstration that leads it out."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from diffusion_mpc.config import PlantModelConfig
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError


@pytest.fixture(scope="module")
def car():
    return find_task("car")()


def drive(car, qpos, ctrl, dt=0.1):
    tensors = (
        torch.tensor(np.array([x]), dtype=torch.float64) for x in (qpos, (0.0, 0.0, 0.0), ctrl)
    )
    moved, velocity = car.dynamics(*tensors, dt)
    return moved[0].numpy(), velocity[0].numpy()


@pytest.mark.parametrize("ctrl", [(2.0, 3.0), (-1.0, -2.0), (0.0, 1.5), (1.2, 0.0), (1e-9, 2.0)])
def test_the_car_moves_as_its_equations_say(car, ctrl):
    start = np.array([-2.0, 2.0, 0.3])
    turn, speed = ctrl
    exact = solve_ivp(
        lambda t, q: [speed * np.sin(q[2]), speed * np.cos(q[2]), turn],
        (0.0, 0.1),
        start,
        rtol=1e-10,
        atol=1e-12,
    )
    moved, velocity = drive(car, start, ctrl)
    np.testing.assert_allclose(moved, exact.y[:, -1], atol=1e-9)
    np.testing.assert_allclose(velocity, (exact.y[:, -1] - start) / 0.1, atol=1e-7)


def test_the_limits_are_those_of_the_paper(car):
    np.testing.assert_allclose(
        car.ctrl_limits, [[-2.0 * np.pi / 3.0, -3.0], [2.0 * np.pi / 3.0, 3.0]], rtol=1e-7
    )
    start = car.initial_data(car.model).qpos
    np.testing.assert_allclose(start, [-0.5, 0.0, 1.5 * np.pi], rtol=1e-8)


def test_a_step_into_a_wall_is_not_taken(car):
    moved, velocity = drive(car, (-0.31, 0.0, 0.5 * np.pi), (0.5, 0.5))
    np.testing.assert_array_equal(moved, [-0.31, 0.0, 0.5 * np.pi])
    np.testing.assert_array_equal(velocity, [0.0, 0.0, 0.0])
    assert drive(car, (-0.31, 0.0, 0.5 * np.pi), (0.0, -0.5))[0][0] == pytest.approx(-0.36)


def test_the_maze_has_no_way_out_but_its_mouth(car):
    count = 400
    generator = torch.Generator().manual_seed(0)
    heading = torch.linspace(0.0, 2.0 * np.pi, count, dtype=torch.float64)
    qpos = torch.stack([torch.full_like(heading, -0.5), torch.zeros_like(heading), heading], -1)
    speed = 0.5 + 2.5 * torch.rand(count, generator=generator, dtype=torch.float64)
    for _ in range(60):
        qpos, _ = car.dynamics(
            qpos, torch.zeros_like(qpos), torch.stack([torch.zeros_like(speed), speed], -1), 0.1
        )
    x, y = qpos[:, 0], qpos[:, 1]
    out = x < -1.2
    assert (heading[out] > np.pi).all()
    assert 0 < int(out.sum()) < count // 2
    assert ((x < 0.0) & (y.abs() < 0.6))[~out].all()


def test_the_cost_is_flat_but_near_the_goal(car):
    from test_tasks import costs, moment

    for place, expected in (
        ((-0.5, 0.0), 1.0),
        ((0.5, 0.21), 1.0),
        ((0.5, 0.1), 0.25),
        ((0.5, 0.0), 0.0),
    ):
        assert costs(car, moment(car, [*place, 0.0]))["goal"] == pytest.approx(expected)


def test_the_drawn_car_points_where_it_drives(car):
    plant = Plant(car, PlantModelConfig(timestep=0.1))
    before = plant.data.body("car").xpos.copy()
    plant.step(lambda q, v: np.array([0.0, 1.0]), 0.2)
    nose = plant.data.body("car").xmat.reshape(3, 3)[:, 1]
    np.testing.assert_allclose(plant.data.body("car").xpos - before, 0.2 * nose, atol=1e-7)


def test_a_model_without_a_goal_is_named(tmp_path):
    maze = tmp_path / "maze.xml"
    maze.write_text("""<mujoco><worldbody><body name="car">
      <joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
      <joint name="heading" axis="0 0 1"/><geom size="0.1"/></body></worldbody>
      <actuator><motor name="turn" joint="heading" ctrlrange="-1 1"/></actuator>
      <keyframe><key name="start"/></keyframe></mujoco>""")
    with pytest.raises(
        TaskError, match=r"maze\.xml' has no site 'goal', which task 'car' drives to"
    ):
        find_task("car")(maze)
