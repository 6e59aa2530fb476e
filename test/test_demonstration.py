"""Demonstrations: from files and bags, and how they lead a search."""

import json

import numpy as np
import pytest
import torch
from test_evaluation import START, BagMaker
from test_planner import initial_state, make_controller

from diffusion_mpc.bags.demonstrations import read_demonstration
from diffusion_mpc.cli import main
from diffusion_mpc.config import (
    PlannerNodeConfig,
    PlantModelConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.planner.demonstration import DemonstrationError, Guide, positions_of
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Reference, State


@pytest.fixture(scope="module")
def car():
    return find_task("car")()


def make_guide(task, path, weights=None, **settings):
    _, values = load_parameters(PlannerNodeConfig, {"task": task.name, **settings})
    config = build(PlannerNodeConfig, values)
    backend = make_backend(config.backend, config.model, config.robust, task)
    return Guide(
        Objective(task, backend, config.planner, weights or cost_weights(values)),
        config.planner,
        path,
    )


def posed(guide, **reference):
    objective = guide._objective
    data = objective.task.initial_data(objective.backend.model)
    return objective.pose(State(0.0, data.qpos.copy(), data.qvel.copy()), Reference(**reference))


def written(folder, text):
    path = folder / "demonstration.csv"
    path.write_text(text)
    return path


# Files


def test_a_path_is_read_by_name_and_is_straight_between_its_rows(car, tmp_path):
    path = read_demonstration(written(tmp_path, "y, time, x\n0, 2.0, 1\n2, 4.0, 3\n\n"), car)
    assert path.names == ("y", "x")
    np.testing.assert_allclose(
        path.at(np.array([-1.0, 0.0, 0.5, 2.0, 9.0])), [[0, 1], [0, 1], [0.5, 1.5], [2, 3], [2, 3]]
    )


def test_the_cars_own_demonstration_lies_beside_its_model_and_outside_the_walls(car):
    path = read_demonstration("round_the_wall.csv", car)
    points = path.at(np.linspace(0.0, 5.0, 501))
    walls = np.array(
        [
            car.model.geom(i).pos[:2]
            for i in range(car.model.ngeom)
            if car.model.geom(i).name.startswith("wall")
        ]
    )
    assert len(walls) == 11
    assert np.linalg.norm(points[:, None] - walls, axis=-1).min() > 0.3
    np.testing.assert_allclose(points[[0, -1]], [[-0.5, 0.0], [0.5, 0.0]])


def test_what_can_be_demonstrated_of_a_floating_base_is_its_place():
    model = find_task("ant")().model
    assert {
        name: address for name, address in positions_of(model).items() if name.startswith("base")
    } == {
        "base.x": (0, 0),
        "base.y": (1, 1),
        "base.z": (2, 2),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"needs a header 'time,NAME,\.\.\.', each name once; it begins ''"),
        ("x,y\n0,0\n1,1\n", r"needs a header 'time,NAME,\.\.\.', each name once; it begins 'x,y'"),
        ("time\n0\n1\n", "needs a header"),
        ("time,x,x\n0,0,0\n1,1,1\n", "needs a header"),
        ("time,x,headng\n0,0,0\n1,1,1\n", r"has a column 'headng'; did you mean 'heading'\?"),
        ("time,x\n0,0\n", "has fewer than two rows"),
        ("time,x\n", "has fewer than two rows"),
        ("time,x\n0,0\n1\n", "row 2 has 1 values, the header 2"),
        ("time,x\n0,0\n1,far\n", "could not convert string to float: 'far'"),
        ("time,x\n0,0\n1,nan\n", "has a NaN or infinite value in row 2"),
        ("time,x\n0,0\ninf,1\n", "has a NaN or infinite value in row 2"),
        ("time,x\n0,0\n1,1\n1,2\n", "the time of row 3 is not after that of the row before"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(car, tmp_path, text, message):
    with pytest.raises(DemonstrationError, match=message) as caught:
        read_demonstration(written(tmp_path, text), car)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(car):
    with pytest.raises(
        DemonstrationError,
        match=r"demonstration 'nowhere\.csv' does not exist; give a CSV file or a bag",
    ):
        read_demonstration("nowhere.csv", car)


# Bags


def test_a_recorded_run_is_a_demonstration(car, tmp_path):
    places = np.linspace([-0.5, 0.0, 4.7], [-1.5, 0.5, 4.7], 6)
    with BagMaker(tmp_path / "bag", car) as bag:
        for i, qpos in enumerate(places):
            bag.state(START + 0.2 * i, qpos, np.zeros(3))
            bag.state(START + 0.2 * i, qpos + 9.0, np.zeros(3))
    path = read_demonstration(tmp_path / "bag", car)
    assert path.names == ("x", "y")
    np.testing.assert_allclose(path.times, 0.2 * np.arange(6), atol=1e-6)
    np.testing.assert_allclose(path.positions, places[:, :2])


def test_a_bag_of_a_task_that_says_nothing_else_demonstrates_all_joints(tmp_path):
    cartpole = find_task("cartpole")()
    with BagMaker(tmp_path / "bag", cartpole) as bag:
        bag.state(START, np.array([0.1, 3.0]), np.zeros(2))
        bag.state(START + 1.0, np.array([0.2, 2.0]), np.zeros(2))
    path = read_demonstration(tmp_path / "bag", cartpole)
    assert path.names == ("slider", "pole")
    np.testing.assert_allclose(path.positions, [[0.1, 3.0], [0.2, 2.0]])


def test_a_bag_without_states_is_an_error(car, tmp_path):
    with BagMaker(tmp_path / "bag", car):
        pass
    with pytest.raises(DemonstrationError, match="has fewer than two rows"):
        read_demonstration(tmp_path / "bag", car)


# What lies ahead


def test_the_path_is_followed_from_its_start_or_from_the_nearest_point(car):
    guide = make_guide(car, read_demonstration("round_the_wall.csv", car))
    start = guide.ahead(0, posed(guide))
    assert start.positions.shape == (50, 2)
    np.testing.assert_allclose(
        start.positions[[7, 16, 49]], [[-1.5, 0.0], [-1.5, 1.2], [0.5, 0.0]], atol=1e-12
    )
    near = guide.ahead(
        guide.nearest(State(0.0, np.array([-1.7, 1.0, 0.0]), np.zeros(3))), posed(guide)
    )
    # Nearest is (-1.5, 1.0), between the rows of 1.5 s and 1.6 s: 0.9333 and 1.0667.
    np.testing.assert_allclose(near.positions[:2], [[-1.5, 1.2 * 8 / 9], [-1.5, 1.2]], atol=1e-12)
    np.testing.assert_allclose(near.positions[-15:], [[0.5, 0.0]] * 15, atol=1e-12)


def test_a_demonstration_costs_what_its_states_cost(car):
    guide = make_guide(car, read_demonstration("round_the_wall.csv", car))
    # At 4/3 m/s it is nearer than 0.2 m in the last 0.15 s before 4.1 s: one row costs less than 1,
    # the ten after it nothing.
    expected = (39 + (0.1 * 4.0 / 3.0 / 0.2) ** 2) / 50
    assert guide.ahead(0, posed(guide)).cost == pytest.approx(expected)
    guide = make_guide(car, read_demonstration("round_the_wall.csv", car), {"goal": 3.0})
    assert guide.ahead(0, posed(guide)).cost == pytest.approx(3.0 * expected)


def test_sensors_and_velocities_of_a_demonstration_are_those_of_its_positions(tmp_path):
    """An ant carried forward upright at 2 m/s, 0.5 m/s too fast."""
    ant = find_task("ant")()
    height = ant.initial_data(ant.model).qpos[2]
    path = read_demonstration(
        written(tmp_path, f"time,base.x,base.z\n0,0,{height}\n9,18,{height}\n"), ant
    )
    fast = make_guide(ant, path, {name: float(name == "velocity") for name in ant.cost_terms()})
    assert fast.ahead(0, posed(fast, velocity=np.array([1.5, 0.0, 0.0]))).cost == pytest.approx(
        0.25
    )
    rest = make_guide(ant, path, {name: float(name != "velocity") for name in ant.cost_terms()})
    assert rest.ahead(0, posed(rest)).cost == pytest.approx(0.0, abs=1e-9)


def test_single_precision_stays_single_precision(car):
    from diffusion_mpc.rollout.function import FunctionBackend

    _, values = load_parameters(PlannerNodeConfig, {"task": "car"})
    config = build(PlannerNodeConfig, values).planner
    objective = Objective(
        car,
        FunctionBackend(car, car.compile(timestep=0.1), dtype=torch.float32),
        config,
        {"goal": 1.0},
    )
    guide = Guide(objective, config, read_demonstration("round_the_wall.csv", car))
    assert guide.ahead(0, posed(guide)).positions.dtype == torch.float32


# Online


def test_the_car_leaves_the_maze_online_with_a_demonstration_and_not_without(car):
    reached = []
    for demonstration in ("round_the_wall.csv", ""):
        controller = make_controller("car", **{"planner.demonstration": demonstration})
        plant, nearest = Plant(car, PlantModelConfig(timestep=0.1)), np.inf
        for i in range(50):
            plan = controller.plan(plant.state(0.1 * i), Reference(), 0.1 * i)
            plant.step(lambda q, v, plan=plan, i=i: plan.control(0.1 * i), 0.1)
            nearest = min(nearest, np.linalg.norm(plant.data.qpos[:2] - [0.5, 0.0]))
        reached.append(nearest < 0.1)
    assert reached == [True, False]


def test_a_planner_with_a_demonstration_plans_the_same_for_the_same_state(car):
    plans = []
    for _ in range(2):
        controller = make_controller("car")
        plans.append(controller.plan(initial_state(controller), Reference(), 0.0))
    np.testing.assert_array_equal(plans[0].knots, plans[1].knots)


def test_a_planner_whose_demonstration_is_missing_says_so():
    with pytest.raises(DemonstrationError, match=r"demonstration 'nowhere\.csv' does not exist"):
        make_controller("cartpole", **{"planner.demonstration": "nowhere.csv"})


# The command


def optimized(tmp_path, *arguments):
    file = tmp_path / "out.json"
    assert main(["optimize", "car", "--samples", "256", *arguments, "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_the_car_gets_out_of_the_maze_with_a_demonstration_and_not_without(car, tmp_path, capsys):
    file = written(tmp_path, (car.path.parent / "round_the_wall.csv").read_text())
    found = optimized(tmp_path, "--demo", str(file))
    assert found["demonstration"] == str(file)
    assert found["final_cost"] < 0.95
    lost = optimized(tmp_path)
    assert lost["best_cost"] == lost["final_cost"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["car", "--demo", "nowhere.csv"],
            "error: demonstration 'nowhere.csv' does not exist; give a CSV file or a bag\n",
        ),
        (
            ["ackley", "--demo", "path.csv"],
            "error: --demo path.csv: a function has no demonstration; give a task\n",
        ),
    ],
)
def test_a_demonstration_that_is_of_no_use_is_said_in_one_line(capsys, arguments, message):
    assert main(["optimize", *arguments]) == 1
    assert message in capsys.readouterr().err
