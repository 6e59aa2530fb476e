"""A search asks the device for nothing and sends it nothing: only so can it be captured into a CUDA graph."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from diffusion_mpc.config import NodeConfig, RobustConfig, build, cost_weights, load_parameters
from diffusion_mpc.controller import Controller
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.planner import Planner
from diffusion_mpc.planner.sampler import draw_noise
from diffusion_mpc.planner.transfer import flatten, send, unpack
from diffusion_mpc.rollout.capture import CapturedOperations, CaptureError
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.tasks.base import Task, cost
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
        NodeConfig, {"task": name, "planner.num_samples": 6, "planner.iterations": 2, "backend.threads": 1, **settings}
    )
    weights = cost_weights(values) | {name: term.weight for name, term in task_class.cost_terms().items()}
    return Controller(task_class(), build(NodeConfig, values), weights)


def search_as_in_a_capture(controller):
    """Search once to warm up, then refusing what a capture would, with the numbers and noise that `plan` would give it."""
    planner, rollout = controller.planner, controller.backend.rollout
    data = controller.task.initial_data(controller.backend.model)
    state = State(3.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    with torch.inference_mode():
        search, numbers = planner._search(planner._settings, state, Reference(velocity=np.array([0.5, 0.0, 0.1])), 2)
        noise = draw_noise(2, 6, planner.objective.origin, torch.Generator().manual_seed(0))
        tensors = send(numbers, noise.dtype, noise.device)
        expected = search(tensors, noise).packed().clone()

        def on_the_host(*args):
            # C MuJoCo's arrays are the host's; MuJoCo Warp's would not be.
            with torch._C.DisableTorchFunction():
                return rollout(*args)

        controller.backend.rollout = on_the_host
        with NoHostCopies(), CapturedOperations():
            found = search(tensors, noise).packed()
    assert torch.equal(found, expected)
    assert found.isfinite().all()


@pytest.mark.parametrize("task", available_tasks())
def test_a_search_of_every_task_can_be_captured(task):
    search_as_in_a_capture(make_controller(task, **{"markers.count": 3}))


@pytest.mark.parametrize("algorithm", [name for name, kind in ALGORITHMS.items() if kind.on_device])
def test_a_search_by_every_algorithm_that_runs_on_the_device_can_be_captured(algorithm):
    search_as_in_a_capture(make_controller("ant_wall", **{"planner.algorithm": algorithm}))


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        (r"the value of a tensor", lambda x, reference: x.qpos[..., 0] * float(reference.velocity[0])),
        (r"the value of a tensor", lambda x, reference: x.qpos if (x.qpos > 0.0).all() else -x.qpos),
        (r"copies between host and device", lambda x, reference: x.qpos - x.qpos.new_tensor([0.1, 0.2])),
        (r"copies between host and device", lambda x, reference: x.qpos - torch.from_numpy(np.array([0.1, 0.2]))),
        (r"copies between host and device", lambda x, reference: x.qpos + x.qpos.numpy().max()),
        (r"how many elements", lambda x, reference: x.qpos[..., 0] - x.qpos[x.qpos > 0.0].sum()),
        (r"how many elements", lambda x, reference: x.qpos[..., 0] - len(x.qpos.nonzero())),
        (r"random numbers", lambda x, reference: x.qpos + torch.rand_like(x.qpos)),
        (r"a factorisation has failed", lambda x, reference: torch.linalg.inv(x.qpos[..., None] * torch.eye(2))[..., 0]),
    ],
)
def test_a_term_that_cannot_be_captured_is_refused_with_the_reason(reason, value):
    class Term(find_task("cartpole")):
        @cost(weight=1.0)
        def term(self, x, reference):
            """Under test."""
            return value(x, reference)

    assert issubclass(Term, Task)
    with pytest.raises(CaptureError, match=reason):
        search_as_in_a_capture(make_controller(Term))


def test_numbers_arrive_as_they_were_sent_and_clock_times_in_double_precision():
    numbers = {"qpos": np.arange(6.0).reshape(2, 3), "act": np.zeros(0), "times": np.array([1.7e9, 1.7e9 + 0.02])}
    shapes = {name: values.shape for name, values in numbers.items()}
    for found in (
        unpack(torch.from_numpy(flatten(numbers)), shapes, torch.float32),
        send(numbers, torch.float32, torch.device("cpu")),
    ):
        assert {name: tuple(x.shape) for name, x in found.items()} == shapes
        assert found["qpos"].dtype == torch.float32
        np.testing.assert_array_equal(found["qpos"].numpy(), numbers["qpos"])
        np.testing.assert_array_equal(found["times"].numpy(), numbers["times"])


class Replaying:
    """A backend's `capture_work` for machines without a GPU: what is replayed is the work itself, once more."""

    def __init__(self, controller):
        self.times = 0
        self.backend = controller.backend
        self.backend.capture = "plan"
        self.backend.capture_work = self.capture_work

    def capture_work(self, work):
        self.times += 1
        work()
        return work


def captured_pair(**settings):
    """A controller that plans as it does without a GPU, one that captures its searches, and what counts its captures."""
    plain, captured = make_controller("ant_wall", **settings), make_controller("ant_wall", **settings)
    replaying = Replaying(captured)
    captured.planner = Planner(captured.objective, captured.planner._settings.config)
    plain.planner = Planner(plain.objective, plain.planner._settings.config)
    return plain, captured, replaying


def plans_are_equal(plain, captured, stamp, velocity):
    data = plain.task.initial_data(plain.backend.model)
    state = State(stamp, data.qpos + 0.01, data.qvel.copy(), data.act.copy())
    plans = [c.plan(state, Reference(velocity=np.array([velocity, 0.0, 0.0])), stamp) for c in (plain, captured)]
    np.testing.assert_array_equal(plans[0].controls, plans[1].controls)
    np.testing.assert_array_equal(plans[0].path, plans[1].path)
    assert plans[0].stats.term_costs == plans[1].stats.term_costs
    assert plans[0].stats.effective_sample_size == plans[1].stats.effective_sample_size
    assert plans[0].stats.iterations == plans[1].stats.iterations
    return plans[0]


@pytest.mark.parametrize("algorithm", ["mbd", "cem"])
def test_a_captured_search_finds_what_the_search_finds_and_parameters_change_without_another_capture(algorithm):
    plain, captured, replaying = captured_pair(**{"planner.algorithm": algorithm})
    assert replaying.times == 2
    plans = [plans_are_equal(plain, captured, 0.0, 1.0), plans_are_equal(plain, captured, 0.02, -1.0)]
    config = replace(plain.planner._settings.config, temperature=0.5, noise_start=0.2, noise_end=0.1)
    for controller in (plain, captured):
        controller.planner.configure(config)
        controller.objective.configure(dict.fromkeys(controller.task.cost_terms(), 2.0), RobustConfig())
    plans.append(plans_are_equal(plain, captured, 0.04, -1.0))
    assert replaying.times == 2
    assert plans[2].stats.cost != plans[1].stats.cost


def test_another_structure_is_captured_while_plans_of_the_old_one_go_on():
    _, captured, replaying = captured_pair()
    data = captured.task.initial_data(captured.backend.model)
    state = State(0.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    planner, before = captured.planner, replaying.backend.capture_work
    allowed = threading.Event()

    def slow(work):
        assert allowed.wait(20.0)
        return before(work)

    replaying.backend.capture_work = slow
    planner.configure(replace(planner._settings.config, num_samples=9))
    planner.configure(replace(planner._settings.config, num_samples=10, temperature=0.5))
    planner.configure(replace(planner._asked.config, temperature=0.7))
    assert len(captured.plan(state, Reference(), 0.0).knots) > 0
    assert planner._settings.config.num_samples == 6
    allowed.set()
    deadline = time.monotonic() + 20.0
    while planner._settings.config.num_samples != 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    # The last word counts, whichever capture ends first.
    assert (planner._settings.config.num_samples, planner._settings.config.temperature) == (10, 0.7)
    assert set(planner._settings.captured) == {1, 2}
    # The first one was under way or outdated; none was left to overwrite the last.
    time.sleep(0.1)
    assert planner._settings.config.num_samples == 10
    assert captured.plan(state, Reference(), 0.0).stats.iterations == 2


def test_a_captured_search_has_as_many_steps_as_there_is_time_for():
    _, captured, _ = captured_pair(**{"planner.iterations": 8})
    data = captured.task.initial_data(captured.backend.model)
    state = State(0.0, data.qpos.copy(), data.qvel.copy(), data.act.copy())
    planner = captured.planner
    assert set(planner._settings.captured) == {1, 2, 3, 4, 8}
    assert captured.plan(state, Reference(), 0.0).stats.iterations == 8
    planner._step_times.extend([1.0] * 50)
    assert captured.plan(state, Reference(), 0.0, budget=6.5).stats.iterations == 4
    planner._step_times.extend([1.0] * 50)
    assert captured.plan(state, Reference(), 0.0, budget=0.1).stats.iterations == 1


def test_where_a_capture_fails_plans_are_made_without():
    plain, captured, replaying = captured_pair()
    replaying.backend.capture_work = lambda work: None
    captured.planner = Planner(captured.objective, plain.planner._settings.config)
    assert not captured.planner._settings.captured
    plans_are_equal(plain, captured, 0.0, 1.0)


def test_a_step_more_is_made_only_where_it_fits_with_time_to_spare():
    planner = captured_pair(**{"planner.iterations": 8})[0].planner

    def steps(budget):
        planner._step_times.extend([1.0] * 50)
        return planner._steps_within(budget, 8)

    assert steps(2.5) == 2
    assert steps(3.2) == 2  # 3 would fit, but barely
    assert steps(3.5) == 3
    assert steps(3.05) == 3
    assert steps(2.9) == 2
    assert steps(100.0) == 8
