"""A search asks the device for nothing and sends it nothing.

Only so can it be captured into a CUDA graph.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from diffusion_mpc.config import (
    PlannerNodeConfig,
    RobustConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.packing import (
    pack,
    pack_tensors,
    send,
    shapes_of,
    unpack,
    unpack_tensors,
)
from diffusion_mpc.planner.planner import Planner
from diffusion_mpc.planner.sampler import draw_noise
from diffusion_mpc.planner.search import SearchInput
from diffusion_mpc.planner.step_budget import StepBudget
from diffusion_mpc.rollout.capture import CapturedOperations, CaptureError
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.tasks.base import Task, TaskError, cost
from diffusion_mpc.types import Reference, State

# On the CPU these are no operations of PyTorch, so that `CapturedOperations` cannot see them.
HOST_COPIES = ("numpy", "tolist", "cpu", "__array__", "from_numpy", "as_tensor", "frombuffer")


class NoHostCopies(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in HOST_COPIES:
            raise CaptureError(f"{func.__name__} copies between host and device")
        return func(*args, **(kwargs or {}))


def make_controller(task, **settings):
    task_class = find_task(task) if isinstance(task, str) else task
    name = task if isinstance(task, str) else "cartpole"
    _, values = load_parameters(
        PlannerNodeConfig,
        {
            "task": name,
            "planner.num_samples": 6,
            "planner.iterations": 2,
            "backend.threads": 1,
            **settings,
        },
    )
    weights = cost_weights(values) | {
        name: term.weight for name, term in task_class.cost_terms().items()
    }
    return Controller(task_class(), build(PlannerNodeConfig, values), weights)


def search_as_in_a_capture(controller):
    """Search once to warm up, then refusing what a capture would."""
    planner, rollout = controller.planner, controller.backend.rollout
    data = controller.task.initial_data(controller.backend.model)
    state = State(3.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    with torch.inference_mode():
        search, inputs = planner.search(state, Reference(velocity=np.array([0.5, 0.0, 0.1])))
        noise = draw_noise(2, 6, planner.objective.origin, torch.Generator().manual_seed(0))
        tensors = send(SearchInput, inputs, noise.dtype, noise.device)
        expected = pack_tensors(search(tensors, noise)).clone()

        def on_the_host(*args):
            # C MuJoCo's arrays are the host's; MuJoCo Warp's would not be.
            with torch._C.DisableTorchFunction():
                return rollout(*args)

        controller.backend.rollout = on_the_host
        with NoHostCopies(), CapturedOperations():
            found = pack_tensors(search(tensors, noise))
    assert torch.equal(found, expected)
    assert found.isfinite().all()


@pytest.mark.parametrize("task", available_tasks())
def test_a_search_of_every_task_can_be_captured(task):
    search_as_in_a_capture(make_controller(task, **{"markers.count": 3}))


def test_a_search_through_mujoco_warp_can_be_captured():
    search_as_in_a_capture(make_controller("ant", **{"backend.name": "warp"}))


@pytest.mark.parametrize("algorithm", [name for name, kind in ALGORITHMS.items() if kind.on_device])
def test_a_search_by_every_algorithm_that_runs_on_the_device_can_be_captured(algorithm):
    search_as_in_a_capture(make_controller("ant_wall", **{"planner.algorithm": algorithm}))


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        (
            r"the value of a tensor",
            lambda x, reference: x.qpos[..., 0] * float(reference.velocity[0]),
        ),
        (
            r"the value of a tensor",
            lambda x, reference: x.qpos if (x.qpos > 0.0).all() else -x.qpos,
        ),
        (
            r"copies between host and device",
            lambda x, reference: x.qpos - x.qpos.new_tensor([0.1, 0.2]),
        ),
        (
            r"copies between host and device",
            lambda x, reference: x.qpos - torch.from_numpy(np.array([0.1, 0.2])),
        ),
        (r"copies between host and device", lambda x, reference: x.qpos + x.qpos.numpy().max()),
        (r"how many elements", lambda x, reference: x.qpos[..., 0] - x.qpos[x.qpos > 0.0].sum()),
        (r"how many elements", lambda x, reference: x.qpos[..., 0] - len(x.qpos.nonzero())),
        (r"random numbers", lambda x, reference: x.qpos + torch.rand_like(x.qpos)),
        (
            r"a factorisation has failed",
            lambda x, reference: torch.linalg.inv((1.0 + x.qpos[..., None] ** 2) * torch.eye(2))[
                ..., 0
            ],
        ),
    ],
)
def test_a_term_that_cannot_be_captured_is_refused_with_the_reason(reason, value):
    class Term(find_task("cartpole")):
        @cost(weight=1.0)
        def term(self, x, reference):
            """Under test."""
            return value(x, reference)

    assert issubclass(Term, Task)
    # What a term raises is told with its name.
    with pytest.raises((CaptureError, TaskError), match=reason):
        search_as_in_a_capture(make_controller(Term))


@dataclass(frozen=True)
class Numbers:
    qpos: object
    act: object
    times: object


def test_numbers_arrive_as_they_were_sent_and_clock_times_in_double_precision():
    numbers = Numbers(np.arange(6.0).reshape(2, 3), np.zeros(0), np.array([1.7e9, 1.7e9 + 0.02]))
    shapes = shapes_of(numbers)
    for found in (
        unpack_tensors(Numbers, torch.from_numpy(pack(numbers)), shapes, torch.float32),
        send(Numbers, numbers, torch.float32, torch.device("cpu")),
    ):
        assert shapes_of(found) == shapes == [(2, 3), (0,), (2,)]
        assert found.qpos.dtype == torch.float32
        np.testing.assert_array_equal(found.qpos.numpy(), numbers.qpos)
        np.testing.assert_array_equal(found.times.numpy(), numbers.times)
        back = unpack(Numbers, pack_tensors(found).double().numpy(), shapes)
        np.testing.assert_array_equal(back.qpos, numbers.qpos)
        np.testing.assert_array_equal(back.times, numbers.times)


class Replaying:
    """A backend's `capture_work` for machines without a GPU.

    Each work itself is replayed, once more.
    """

    def __init__(self, controller):
        self.times = 0
        self.backend = controller.backend
        self.backend.capture = "plan"
        self.backend.capture_work = self.capture_work

    def capture_work(self, works, warm_up):
        self.times += len(works)
        for work in works:
            work()
        return works


def capturing_pair(**settings):
    """A controller without captures, one that captures its searches, and a counter of captures."""
    plain, captured = (
        make_controller("ant_wall", **settings),
        make_controller("ant_wall", **settings),
    )
    replaying = Replaying(captured)
    for controller in (captured, plain):
        controller.planner = Planner(controller.objective, controller.config.planner)
    return plain, captured, replaying


def plans_are_equal(plain, captured, stamp, velocity):
    data = plain.task.initial_data(plain.backend.model)
    state = State(stamp, data.qpos + 0.01, data.qvel.copy(), data.act.copy())
    plans = [
        c.plan(state, Reference(velocity=np.array([velocity, 0.0, 0.0])), stamp)
        for c in (plain, captured)
    ]
    np.testing.assert_array_equal(plans[0].controls, plans[1].controls)
    np.testing.assert_array_equal(plans[0].path, plans[1].path)
    assert plans[0].stats.term_costs == plans[1].stats.term_costs
    assert plans[0].stats.effective_sample_size == plans[1].stats.effective_sample_size
    assert plans[0].stats.iterations == plans[1].stats.iterations
    return plans[0]


@pytest.mark.parametrize("algorithm", ["mbd", "cem"])
def test_a_captured_search_finds_what_the_search_finds_and_parameters_change_live(
    algorithm,
):
    plain, captured, replaying = capturing_pair(**{"planner.algorithm": algorithm})
    assert replaying.times == 0, "captured when it is built, in the thread that takes in the states"
    plans = [
        plans_are_equal(plain, captured, 0.0, 1.0),
        plans_are_equal(plain, captured, 0.02, -1.0),
    ]
    config = replace(plain.config.planner, temperature=0.5, noise_start=0.2, noise_end=0.1)
    for controller in (plain, captured):
        controller.planner.configure(config)
        controller.objective.configure(
            dict.fromkeys(controller.task.cost_terms(), 2.0), RobustConfig()
        )
    plans.append(plans_are_equal(plain, captured, 0.04, -1.0))
    assert replaying.times == 2
    assert plans[2].stats.cost != plans[1].stats.cost


def test_a_captured_search_has_as_many_steps_as_there_is_time_for():
    _, captured, replaying = capturing_pair(**{"planner.iterations": 8})
    data = captured.task.initial_data(captured.backend.model)
    state = State(0.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    planner = captured.planner
    assert captured.plan(state, Reference(), 0.0).stats.iterations == 8
    assert replaying.times == 5
    assert set(planner._captured) == {1, 2, 3, 4, 8}
    planner._budget.note([1.0] * 50)
    assert captured.plan(state, Reference(), 0.0, budget=6.5).stats.iterations == 4
    planner._budget.note([1.0] * 50)
    assert captured.plan(state, Reference(), 0.0, budget=0.1).stats.iterations == 1


def test_where_capturing_fails_plans_are_made_without():
    plain, captured, replaying = capturing_pair()
    replaying.backend.capture_work = lambda works, warm_up: []
    captured.planner = Planner(captured.objective, plain.config.planner)
    plans_are_equal(plain, captured, 0.0, 1.0)
    assert captured.planner._captured == {}


def test_a_step_more_is_made_only_where_it_fits_with_time_to_spare():
    step_budget = StepBudget(8)
    assert step_budget.steps_within(0.1) == 8, "before the first step, nothing is known"

    def steps(budget):
        step_budget.note([1.0] * 50)
        return step_budget.steps_within(budget)

    assert steps(2.5) == 2
    assert steps(3.2) == 2  # 3 would fit, but barely
    assert steps(3.5) == 3
    assert steps(3.05) == 3
    assert steps(2.9) == 2
    assert steps(100.0) == 8


def test_slow_steps_while_everything_starts_are_soon_forgotten():
    step_budget = StepBudget(2)
    step_budget.note([2.0] * 5)
    assert step_budget.steps_within(3.6) == 1
    step_budget.note([1.0] * 19)
    assert step_budget.steps_within(3.6) == 2
