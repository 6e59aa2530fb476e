"""Tasks: costs by hand, models that fit, and errors that say what to change."""

import numpy as np
import pytest
import torch

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.tasks.base import Task, TaskError, cost, smooth_abs
from diffusion_mpc.tasks.model_file import sensor_slices
from diffusion_mpc.types import Reference, RolloutBatch


def moment(task, qpos, qvel=None, ctrl=None):
    """A batch of one sample and one step at a state, with its sensors."""
    import mujoco

    data = task.initial_data(task.model)
    data.qpos[:] = qpos
    data.qvel[:] = 0.0 if qvel is None else qvel
    mujoco.mj_forward(task.model, data)
    low, high = task.ctrl_limits
    ctrl = (low + high) / 2 if ctrl is None else ctrl
    tensors = [
        torch.from_numpy(np.array(x, dtype=float))[None, None]
        for x in (data.qpos, data.qvel, ctrl, data.sensordata)
    ]
    return RolloutBatch(*tensors, sensor_slices(task.model))


@pytest.fixture(scope="module")
def ant():
    return find_task("ant")()


def standing(ant, yaw=0.0):
    qpos = ant.initial_data(ant.model).qpos.copy()
    qpos[3:7] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    return qpos


def costs(task, x, velocity=(0.0, 0.0, 0.0)):
    return {
        name: float(value)
        for name, value in task.costs(x, Reference(velocity=np.array(velocity)).on(x.qpos)).items()
    }


def test_a_standing_ant_that_is_asked_to_stand_costs_nothing(ant):
    assert costs(ant, moment(ant, standing(ant))) == pytest.approx(
        {"velocity": 0.0, "yaw_rate": 0.0, "upright": 0.0, "height": 0.0, "effort": 0.0}, abs=1e-9
    )


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
def test_velocity_is_tracked_in_the_heading_frame(ant, yaw):
    forward, left = 1.5, 0.5
    qvel = np.zeros(14)
    qvel[:2] = (
        forward * np.cos(yaw) - left * np.sin(yaw),
        forward * np.sin(yaw) + left * np.cos(yaw),
    )
    x = moment(ant, standing(ant, yaw), qvel)
    assert costs(ant, x, (2.0, 0.0, 0.0))["velocity"] == pytest.approx(0.5**2 + 0.5**2)
    assert costs(ant, x, (1.5, 0.5, 0.0))["velocity"] == pytest.approx(0.0, abs=1e-9)


def test_yaw_rate_height_and_effort_by_hand(ant):
    qvel = np.zeros(14)
    qvel[5] = 0.5
    low = standing(ant)
    low[2] = 0.25
    x = moment(ant, low, qvel, ctrl=np.array([60.0, -60.0, 30.0, 0, 0, 0, 0, 0]))
    found = costs(ant, x, (0.0, 0.0, 1.5))
    assert found["yaw_rate"] == pytest.approx(1.0)
    assert found["height"] == pytest.approx(1.5**2)
    assert found["effort"] == pytest.approx(1.0 + 1.0 + 0.25)


def test_leaning_costs_and_lying_is_a_failure(ant):
    tilted = standing(ant)
    tilted[3:7] = [np.cos(np.pi / 6), np.sin(np.pi / 6), 0, 0]  # 60 degrees about x
    x = moment(ant, tilted)
    assert costs(ant, x)["upright"] == pytest.approx(np.sqrt(0.5**2 + 0.01) - 0.1)
    assert not ant.failed(x).item()
    tilted[3:7] = [0, 1, 0, 0]
    assert ant.failed(moment(ant, tilted)).item()


def test_halfcheetah_by_hand():
    task = find_task("halfcheetah")()
    x = moment(
        task, [0, 0.6, np.pi / 3, 0, 0, 0, 0, 0, 0], [4.0] + [0] * 8, ctrl=[120, -90, 30, 0, 0, 0]
    )
    assert costs(task, x) == pytest.approx({"velocity": -4.0, "effort": 2.25, "upright": 0.5})
    assert not task.failed(x).item()
    assert task.failed(moment(task, [0, 0.2, np.pi, 0, 0, 0, 0, 0, 0])).item()


def test_walker2d_by_hand():
    task = find_task("walker2d")()
    x = moment(task, [7.0, 0.9, np.pi / 3] + [0] * 6, [2.0] + [0] * 8, ctrl=[100, -50, 0, 0, 0, 60])
    assert costs(task, x) == pytest.approx(
        {"velocity": -2.0, "height": 0.2, "upright": 0.5, "effort": 2.25}
    )
    assert costs(task, moment(task, [0, 3.1] + [0] * 7))["height"] == pytest.approx(1.0)
    assert not task.failed(x).item()
    assert task.failed(moment(task, [0, 0.5] + [0] * 7)).item()
    assert task.failed(moment(task, [0, 1.1, np.pi / 2] + [0] * 6)).item()


def test_hopper_by_hand():
    task = find_task("hopper")()
    x = moment(task, [7.0, 0.9, np.pi / 3, 0, 0, 0], [1.5] + [0] * 5, ctrl=[150, -75, 0])
    assert costs(task, x) == pytest.approx(
        {"velocity": -1.5, "height": 0.2, "upright": 0.5, "effort": 1.25}
    )
    fast = moment(task, [0, 1.5, 0, 0, 0, 0], [3.0] + [0] * 5)
    assert costs(task, fast) == pytest.approx(
        {"velocity": -2.0, "height": 0.0, "upright": 0.0, "effort": 0.0}
    )
    assert not task.failed(x).item()
    assert task.failed(moment(task, [0, 0.5, 0, 0, 0, 0])).item()
    assert task.failed(moment(task, [0, 1.2, np.pi / 2, 0, 0, 0])).item()


def test_arm_by_hand():
    task = find_task("arm")()
    # Straight up the tip is at 0.1 + 0.2 + 0.35 + 0.16 + 0.14 + 0.08 + 0.1 = 1.13 m.
    x = moment(task, [0] * 6, [1.0, -2.0, 0, 0, 0, 0], ctrl=[2.0, -1.0, 0, 0, 0, 0])
    reference = Reference(pose=np.array([0.3, 0.0, 0.73, 1, 0, 0, 0])).on(x.qpos)
    found = {k: float(v) for k, v in task.costs(x, reference).items()}
    assert found == pytest.approx({"reach": np.sqrt(25.01) - 0.1, "still": 5.0, "effort": 1.25})
    errors = task.goal_errors(x, reference)
    assert float(errors["position_m"]) == pytest.approx(0.5)


def goal(x, y, yaw):
    return Reference(pose=np.array([x, y, 0.3, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]))


def test_pusht_by_hand():
    task = find_task("pusht")()
    x = moment(task, [0.1, 0.2, -np.pi * 3 / 4, 0.4, 0.6])
    reference = goal(-0.2, 0.6, np.pi * 3 / 4).on(x.qpos)
    # The T is 0.5 m from its goal and a quarter turn by the shorter way; the disc is 0.5 m from the
    # T.
    found = {name: float(value) for name, value in task.costs(x, reference).items()}
    assert found == pytest.approx({"position": 0.5, "angle": 0.5, "reach": 0.3})
    errors = {name: float(value) for name, value in task.goal_errors(x, reference).items()}
    assert errors == pytest.approx({"position_m": 0.5, "angle_rad": np.pi / 2})
    near = moment(task, [0.1, 0.2, 0.0, 0.1, 0.1])
    found = {
        name: float(value)
        for name, value in task.costs(near, goal(0.1, 0.2, 2 * np.pi).on(near.qpos)).items()
    }
    assert found == pytest.approx({"position": 0.0, "angle": 0.0, "reach": 0.0}, abs=1e-9)


def run_of(name, *positions, velocity=0.0):
    """A run of a task, 0.1 s a row.

    Positions on top of those of the keyframe, at a velocity along x, and the reference's times.
    """
    from dataclasses import replace

    from diffusion_mpc.tasks.measured import trajectory

    task = find_task(name)()
    data = task.initial_data(task.model)
    qpos = np.array(
        [
            data.qpos + np.r_[position, np.zeros(task.model.nq - len(position))]
            for position in positions
        ]
    )
    qvel = np.zeros((len(qpos), task.model.nv))
    qvel[:, 0] = velocity
    x = trajectory(task.model, qpos, qvel, np.zeros((len(qpos), task.model.nu)))

    def succeeded(**asked):
        reference = replace(Reference(**asked), times=0.1 * np.arange(len(qpos)))
        return bool(task.succeeded(x, reference.on(x.qpos))[0])

    return succeeded


def test_what_counts_as_success_by_hand():
    upright, hanging = [0.0, np.pi], [0.0, 0.0]
    assert run_of("cartpole", hanging, upright)()
    assert not run_of("cartpole", upright, hanging)()
    ahead = {"velocity": np.array([1.0, 0.0, 0.0])}
    assert run_of("ant", [0.0], [0.0], velocity=0.6)(**ahead)
    assert not run_of("ant", [0.0], [0.0], velocity=0.4)(**ahead)
    assert not run_of("ant", [0.0], [0.0, 0.0, -1.0], velocity=0.6)(**ahead), "it has fallen"
    assert run_of("ant_wall", [0.0], [0.5])(**ahead)
    assert not run_of("ant_wall", [0.0], [1.9])(**ahead), "it touches the wall"
    home = find_task("pusht")()
    x, y, angle = home.initial_data(home.model).qpos[:3]
    assert run_of("pusht", [1.0], [0.0])(pose=goal(x + 0.02, y, angle + 0.1).pose)
    assert not run_of("pusht", [0.0], [0.04])(pose=goal(x, y, angle).pose)
    assert not run_of("pusht", [0.0], [0.0])(pose=goal(x, y, angle + 0.2).pose)
    tip = (
        moment(arm := find_task("arm")(), arm.initial_data(arm.model).qpos)
        .sensor("tip")[0, 0]
        .numpy()
    )
    assert run_of("arm", [0.5], [0.0])(pose=np.array([*(tip + 0.01), 1, 0, 0, 0]))
    assert not run_of("arm", [0.0], [0.5])(pose=np.array([*tip, 1, 0, 0, 0]))
    car = find_task("car")()
    to_goal = np.array(car._goal) - car.initial_data(car.model).qpos[:2]
    assert run_of("car", [0.0], to_goal)()
    assert not run_of("car", to_goal, [0.0])()
    assert not run_of("humanoid_standup", *[[0.0]] * 8)(), "it lies"
    assert not run_of("humanoid_standup", *[[0.0, 0.0, 1.2]] * 8)(), "it lies in the air"


def test_smooth_abs_is_zero_at_zero_and_linear_far_away():
    values = smooth_abs(torch.tensor([0.0, 100.0, -100.0], dtype=torch.float64))
    np.testing.assert_allclose(values, [0.0, 99.9, 99.9], atol=1e-3)


@pytest.mark.parametrize("name", sorted(available_tasks()))
def test_every_task_of_ours_loads_and_costs_are_finite(name):
    task = find_task(name)()
    x = moment(task, task.initial_data(task.model).qpos)
    for term, value in task.costs(x, Reference(times=np.zeros(1)).on(x.qpos)).items():
        assert value.shape == (1, 1), term
        assert torch.isfinite(value).all(), term
    assert task.failed(x).shape == (1, 1)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(TaskError, match="unknown task 'antt'; did you mean 'ant'"):
        find_task("antt")


def test_a_missing_model_is_named():
    with pytest.raises(
        TaskError, match=r"model file 'nowhere\.xml' does not exist; set model\.path"
    ):
        find_task("ant")("nowhere.xml")


def test_a_broken_model_is_named(tmp_path):
    path = tmp_path / "broken.xml"
    path.write_text("<mujoco><worldbody><body></mujoco>")
    with pytest.raises(TaskError, match=r"model file '.*broken\.xml' cannot be read: .+") as caught:
        find_task("ant")(path)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_the_task_is_named():
    with pytest.raises(TaskError, match=r"sensor 'base_velocity': unknown body 'torso'; there"):
        find_task("ant")(MODELS / "cartpole" / "cartpole.xml")


def test_an_actuator_without_limits_is_named(tmp_path):
    path = tmp_path / "free.xml"
    path.write_text(
        "<mujoco><worldbody><body><joint name='j'/><geom size='.1'/></body></worldbody>"
        "<actuator><motor name='m' joint='j'/></actuator></mujoco>"
    )
    with pytest.raises(
        TaskError, match=r"actuator 'm' of model file '.*free\.xml' has no ctrlrange"
    ):
        find_task("cartpole")(path)


def test_a_task_of_the_users_comes_from_a_python_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from diffusion_mpc.models import MODELS\n"
        "from diffusion_mpc.tasks.base import Task, cost\n"
        "class Mine(Task):\n"
        "    name = 'mine'\n"
        "    model_path = MODELS / 'cartpole' / 'cartpole.xml'\n"
        "    @cost(weight=2.0)\n"
        "    def centred(self, x, reference):\n"
        "        'Distance from the middle.'\n"
        "        return x.qpos[..., 0]\n"
    )
    task = find_task(str(path))()
    assert costs(task, moment(task, [0.5, 0.0])) == pytest.approx({"centred": 0.25})
    path.write_text("import nonsense_that_is_not_there\n")
    with pytest.raises(TaskError, match=r"mine\.py' cannot be read: ModuleNotFoundError"):
        find_task(str(path))


def test_a_cost_term_needs_a_docstring():
    with pytest.raises(TaskError, match="cost term 'silent' has no docstring"):

        class Silent(Task):
            @cost(weight=1.0)
            def silent(self, x, reference):
                return x.qpos[..., 0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "duration"), [("pusht", 5.0), ("arm", 4.0)])
@pytest.mark.parametrize("trial", [0, 1])
def test_goals_are_reached(name, duration, trial):
    from diffusion_mpc.simulation.closed_loop import ClosedLoop

    loop = ClosedLoop({"task": name, **find_task(name).demo}, trial)
    for _ in range(round(duration * loop.config.planner.rate)):
        assert loop.plan() is not None
        loop.advance()
    x = moment(loop.task, loop.state().qpos)
    errors = loop.task.goal_errors(x, loop.reference.on(x.qpos))
    assert float(errors["position_m"]) < 0.03
    assert float(errors.get("angle_rad", torch.zeros(()))) < 0.15


@pytest.mark.slow
def test_the_hopper_hops_on_without_falling():
    from diffusion_mpc.simulation.closed_loop import run_episode

    episode = run_episode({"task": "hopper"}, trial=0, duration=4.0)
    assert episode.falls == 0
    assert episode.qpos[-1, 0] > 4.0
    # It leaves the ground: standing straight, the torso's middle is at 1.24 m.
    assert episode.qpos[:, 1].max() > 1.4
