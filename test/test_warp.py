"""Rollouts through MuJoCo Warp are C MuJoCo's, in single precision.

On Warp's cpu device: these tests need no GPU.
"""

import builtins
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from rollouts import roll_out
from worlds import write_world

from diffusion_mpc.benchmark.stages import count_launches
from diffusion_mpc.config import (
    BackendConfig,
    ModelConfig,
    PlannerNodeConfig,
    RobustConfig,
    build,
    cost_weights,
    load_parameters,
    split_sim,
)
from diffusion_mpc.estimation.delays import HistoryBuffer
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.score import effective_sample_size, sample_weights, weighted_mean
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.rollout.capacity import Capacity
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.rollout.warp import WarpBackend
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.simulation.closed_loop import ClosedLoop
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.types import PastControls, Reference, State, StateTensors

SAMPLES, HORIZON = 8, 18
# Of single precision, amplified by stiff contacts over 0.36 s.
ATOL = {"qpos": 5e-4, "qvel": 5e-3, "sensordata": 1e-3}


def backends(name, timestep=0.02, change=lambda model: None):
    """Task, the same model on both backends, the task's initial state and random controls."""
    task = find_task(name)()
    model = task.compile(timestep=timestep, integrator="implicitfast", iterations=10)
    change(model)
    data = task.initial_data(model)
    low, high = task.ctrl_limits
    controls = np.random.default_rng(0).uniform(low, high, (SAMPLES, HORIZON, len(low))) * 0.5
    state = State(7.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    return (
        task,
        WarpBackend(task, model, "cpu"),
        CpuBackend([model], 1),
        state,
        torch.from_numpy(controls),
    )


def isotropic(model):
    # MuJoCo Warp lays the friction pyramid of a steep capsule on a plane along other axes than C
    # MuJoCo, see docs/gpu.md. Elliptic cones look the same from all sides.
    model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC


@pytest.mark.parametrize("name", ["cartpole", "ant"])
@pytest.mark.parametrize("timestep", [0.02, 0.005])
def test_trajectories_and_costs_are_those_of_c_mujoco(name, timestep):
    task, warp, cpu, state, controls = backends(name, timestep, isotropic)
    # Hopping off the ground and falling back onto it: contacts come and go.
    single, double = (
        roll_out(warp, state, controls.float(), 0.02),
        roll_out(cpu, state, controls, 0.02),
    )
    for field, atol in ATOL.items():
        assert getattr(single, field).dtype == torch.float32
        torch.testing.assert_close(
            getattr(single, field).double(), getattr(double, field), atol=atol, rtol=1e-3
        )
    assert not single.invalid.any()
    reference = Reference(velocity=np.array([1.0, 0.2, 0.3]))
    for term, value in task.costs(single, reference.on(single.qpos)).items():
        torch.testing.assert_close(
            value.double(),
            task.costs(double, reference.on(double.qpos))[term],
            atol=5e-3,
            rtol=5e-3,
        )


@pytest.mark.parity
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", [name for name in available_tasks() if find_task(name).dynamics is None]
)
def test_costs_of_every_task_are_those_of_c_mujoco(name):
    demo, _ = split_sim(find_task(name).demo)
    loop = ClosedLoop({"task": name, **demo}, 0)
    task, model, planner = loop.task, loop.controller.backend.model, loop.config.planner
    isotropic(model)
    low, high = task.ctrl_limits
    controls = (
        np.random.default_rng(0).uniform(
            low, high, (SAMPLES, round(0.12 / planner.control_dt), len(low))
        )
        * 0.5
    )
    controls, state = torch.from_numpy(controls), loop.state()
    warp, cpu = WarpBackend(task, model, "cpu"), CpuBackend([model], 1)
    single, double = (
        roll_out(warp, state, controls.float(), planner.control_dt),
        roll_out(cpu, state, controls, planner.control_dt),
    )
    assert not single.invalid.any()
    assert double.invalid is None
    for field, atol in ATOL.items():
        torch.testing.assert_close(
            getattr(single, field).double(), getattr(double, field), atol=atol, rtol=1e-3
        )
    reference = replace(
        loop.reference,
        times=state.stamp + planner.control_dt * np.arange(1.0, controls.shape[1] + 1),
    )
    for term, value in task.costs(single, reference.on(single.qpos)).items():
        torch.testing.assert_close(
            value.double(),
            task.costs(double, reference.on(double.qpos))[term],
            atol=5e-3,
            rtol=5e-3,
        )


def test_the_robot_of_the_comparison_touches_the_ground():
    _, _, cpu, state, controls = backends("ant")
    data = mujoco.MjData(cpu.model)
    data.qpos[:] = state.qpos
    contacts = []
    for control in controls[0].numpy():
        data.ctrl[:] = control
        mujoco.mj_step(cpu.model, data)
        contacts.append(data.ncon)
    assert max(contacts) > 1


def test_a_rollout_does_not_depend_on_the_one_before():
    _, warp, _, state, controls = backends("ant")
    first = roll_out(warp, state, controls.float(), 0.02)
    first = torch.cat((first.qpos, first.qvel, first.sensordata), -1)
    roll_out(warp, State(0.0, state.qpos + 0.1, state.qvel + 1.0), -controls.float(), 0.02)
    roll_out(warp, state, controls[:3].float(), 0.02)
    again = roll_out(warp, state, controls.float(), 0.02)
    assert torch.equal(torch.cat((again.qpos, again.qvel, again.sensordata), -1), first)


def test_a_diverging_sample_is_invalid_and_the_others_are_untouched():
    _, warp, _, state, controls = backends("ant")
    clean = roll_out(warp, state, controls.float(), 0.02).qpos.clone()
    controls[2, 3] = torch.nan
    batch = roll_out(warp, state, controls.float(), 0.02)
    assert batch.invalid.tolist() == [False, False, True] + [False] * 5
    others = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(batch.qpos[others], clean[others])
    fast = State(0.0, state.qpos, state.qvel + 1e12)
    assert roll_out(warp, fast, controls.float(), 0.02).invalid.all()


@pytest.mark.parametrize(
    "small", [Capacity(contacts=58, constraints=2), Capacity(contacts=1, constraints=200)]
)
def test_worlds_without_room_for_their_contacts_are_invalid_and_counted(small):
    _, warp, _, state, controls = backends("ant")
    assert warp.overflows == 0
    warp.capacity = small
    state.qpos[2] = 0.3
    batch = roll_out(warp, state, controls.float(), 0.02)
    assert batch.invalid.any()
    lost = int(batch.invalid.sum())
    assert warp.overflows == lost
    high = State(0.0, state.qpos + np.eye(15)[2], np.zeros(14))
    # Out of reach of the ground for all of the horizon, and with its joints where no limit counts.
    assert not roll_out(warp, high, torch.zeros(SAMPLES, HORIZON, 8), 0.02).invalid.any()
    assert warp.overflows == lost


@pytest.mark.parametrize("name", ["ant", "cartpole", "pusht"])
def test_there_is_room_for_violent_motion(name):
    task, warp, _, state, _ = backends(name)
    low, high = (torch.from_numpy(limit).float() for limit in task.ctrl_limits)
    controls = (
        torch.rand((64, 25, len(low)), generator=torch.Generator().manual_seed(1)).round()
        * (high - low)
        + low
    )
    assert not roll_out(warp, state, controls, 0.02).invalid.any()
    assert warp.overflows == 0


def test_kernels_are_counted_and_memory_grows_with_the_worlds():
    _, warp, _, state, controls = backends("cartpole")
    few, many = (
        count_launches(lambda n=n: roll_out(warp, state, controls[:, :n], 0.02).qpos)
        for n in (1, 3)
    )
    # As many for each step, whatever the solver needs, and those that end a rollout.
    assert many > few > 10
    two, four = warp.footprint(2), warp.footprint(4)
    assert 0 < two < four < 2 * two + 1


def test_the_same_noise_gives_the_same_update_as_on_the_cpu():
    task, warp, cpu, state, _ = backends("ant", change=isotropic)
    _, values = load_parameters(PlannerNodeConfig, {"task": "ant"})
    config = build(PlannerNodeConfig, values)
    knots = (
        torch.randn((32, 4, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        .mul(0.5)
        .clamp(-1, 1)
    )
    means, counts = [], []
    for backend in (warp, cpu):
        objective = Objective(task, backend, config.planner, cost_weights(values))
        same = knots.to(backend.dtype)
        # Warmer than a planner is, so that many samples have a say.
        problem = objective.pose(state, Reference(velocity=np.array([1.0, 0.0, 0.0])))
        weights = sample_weights(objective.evaluate(problem, same).costs, 0.5)
        means.append(weighted_mean(weights, same).double())
        counts.append(effective_sample_size(weights.numpy()))
    assert counts[1] > 4.0
    assert counts[0] == pytest.approx(counts[1], rel=1e-2)
    torch.testing.assert_close(means[0], means[1], atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("algorithm", ["mbd", "cem", "cma_es"])
def test_a_plan_through_the_configured_backend(algorithm):
    _, values = load_parameters(
        PlannerNodeConfig,
        {
            "task": "ant_wall",
            "backend.name": "warp",
            "planner.num_samples": 16,
            "planner.algorithm": algorithm,
        },
    )
    config = build(PlannerNodeConfig, values)
    task = find_task("ant_wall")()
    controller = Controller(task, config, cost_weights(values))
    controller.warm_up()
    data = task.initial_data(controller.backend.model)
    state = State(5.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    first = controller.plan(state, Reference(velocity=np.array([1.0, 0.0, 0.0])), 5.0)
    second = controller.plan(
        State(5.02, *(np.array(x) for x in (data.qpos, data.qvel))), Reference(), 5.02
    )
    low, high = task.ctrl_limits
    for plan in (first, second):
        assert np.isfinite(plan.path).all()
        assert plan.stats.cost < 1e3
        assert (plan.controls >= low - 1e-6).all()
        assert (plan.controls <= high + 1e-6).all()
    assert first.stats.infeasible_fraction < 1.0
    assert controller.backend.overflows == 0


def test_robust_planning_needs_another_backend():
    with pytest.raises(
        TaskError, match=r"robust.models is 3, but the warp backend has one model only; set it to 1"
    ):
        make_backend(
            BackendConfig(name="warp"), ModelConfig(), RobustConfig(models=3), find_task("ant")()
        )


def test_a_model_that_warp_cannot_run_is_named(tmp_path):
    task = find_task("cartpole")()
    model = task.compile(timestep=0.02)
    model.opt.solver = mujoco.mjtSolver.mjSOL_PGS
    with pytest.raises(
        TaskError,
        match=r"cartpole.xml' cannot run on the warp backend: .*PGS.*; set backend.name to cpu",
    ):
        WarpBackend(task, model, "cpu")


def test_without_warp_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "diffusion_mpc.rollout.warp":
            raise ImportError("No module named 'mujoco_warp'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        TaskError, match=r"No module named 'mujoco_warp'.*pip install 'diffusion_mpc\[cuda\]'"
    ):
        make_backend(
            BackendConfig(name="warp"), ModelConfig(), RobustConfig(), find_task("cartpole")()
        )


def test_a_delayed_actuator_obeys_the_controls_on_their_way_as_on_the_cpu(tmp_path):
    task = find_task(str(write_world(tmp_path, "delayed filter")))()
    model = task.compile(timestep=0.01, integrator="implicitfast")
    past = PastControls(np.array([-0.03, -0.02, -0.01]), np.array([[1.0], [-1.0], [0.5]]))
    history = HistoryBuffer(model, np.zeros(1)).at(past)
    controls = torch.from_numpy(np.random.default_rng(0).uniform(-1.0, 1.0, (4, 8, 1)))
    paths = []
    for backend in (WarpBackend(task, model, "cpu"), CpuBackend([model], 1)):
        values = (np.zeros(1), np.zeros(1), np.array([0.3]), history)
        start = StateTensors(*(torch.from_numpy(v).to(backend.dtype) for v in values))
        # Twice: nothing of a rollout is left for the next.
        for _ in range(2):
            path = backend.rollout(start, controls.to(backend.dtype), 0.02).qpos
        paths.append(path.double().numpy().copy())
    assert np.ptp(paths[1]) > 0.1
    np.testing.assert_allclose(paths[0], paths[1], atol=ATOL["qpos"])
