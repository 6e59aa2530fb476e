"""Captures hold or say why: on Warp's `cpu` device, which captures Warp's kernels as a GPU does."""

import gc
import logging
import threading
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import warp as wp
from rollouts import roll_out

from diffusion_mpc.rollout.capture import CapturedOperations, CaptureError, CaptureMemory, capturing
from diffusion_mpc.rollout.warp import WarpBackend, mjw
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import State


@wp.kernel(module="unique")
def double(x: wp.array(dtype=float)):
    i = wp.tid()
    x[i] = 2.0 * x[i]


def backend_of(name, capture="none"):
    task = find_task(name)()
    backend = WarpBackend(
        task, task.compile(timestep=0.01, integrator="implicitfast", iterations=10), "cpu"
    )
    # Asked for at the start it would be refused on this device, where other threads' kernels get
    # into a capture.
    backend.capture = capture
    return backend


def trajectories(backend, seed, samples=4, horizon=6):
    """Random controls from a random state: what the backend makes of them, copied."""
    random, model = np.random.default_rng(seed), backend.model
    qpos = model.qpos0 + random.normal(0.0, 0.05, model.nq)
    controls = torch.from_numpy(random.uniform(-0.5, 0.5, (samples, horizon, model.nu))).float()
    batch = roll_out(backend, State(7.0, qpos, random.normal(0.0, 0.3, model.nv)), controls, 0.02)
    return torch.cat((batch.qpos, batch.qvel, batch.sensordata), -1)


@pytest.mark.parametrize("name", ["cartpole", "ant"])
def test_captured_physics_with_other_inputs_is_that_of_single_kernels_to_the_last_bit(
    name,
):
    captured, single = backend_of(name, "step"), backend_of(name)
    for seed in range(3):
        assert torch.equal(trajectories(captured, seed), trajectories(single, seed))
    assert (captured.capture, captured.capture_failure) == ("step", "")
    assert captured._worlds(4, 6, 2).graph is not None


def test_a_plan_that_cannot_be_captured_becomes_a_graph_of_each_step_and_the_reason_is_said(caplog):
    backend = backend_of("cartpole", "plan")
    with caplog.at_level(logging.WARNING):
        # There is no CUDA stream on this device.
        assert not backend.capture_work([lambda: torch.zeros(1)])
    assert backend.capture == "step"
    assert backend.capture_failure in caplog.text
    assert "\n" not in backend.capture_failure
    assert torch.equal(trajectories(backend, 0), trajectories(backend_of("cartpole"), 0))


def test_a_step_that_cannot_be_captured_runs_as_single_kernels_and_the_operation_is_named(
    monkeypatch,
):
    backend, step, expected = (
        backend_of("cartpole", "step"),
        mjw.step,
        trajectories(backend_of("cartpole"), 0),
    )

    def step_that_waits(model, data):
        step(model, data)
        torch.ones(3).nonzero()

    monkeypatch.setattr(mjw, "step", step_that_waits)
    assert torch.equal(trajectories(backend, 0), expected)
    assert backend.capture == "none"
    assert (
        backend.capture_failure
        == "aten.nonzero.default: asks the device how many elements there are"
    )


def test_garbage_is_not_collected_within_a_capture_and_is_afterwards_also_where_it_failed():
    with capturing(wp.get_device("cpu")):
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(CaptureError), capturing(wp.get_device("cpu")):
        torch.ones(3).sum().item()
    assert gc.isenabled()
    gc.disable()
    try:
        with capturing(wp.get_device("cpu")):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_memory_of_a_capture_that_is_gone_stays_while_any_other_is_being_used():
    class Pool:
        pass

    def used(memory):
        return memory.used(contextmanager(lambda pool: iter([None])))

    old, new = CaptureMemory(Pool), CaptureMemory(Pool)
    pool = weakref.ref(old._pool)
    old.itself = old  # what only a collection of garbage frees
    with used(new):
        assert not gc.isenabled()
        del old
        gc.collect()
        with capturing(wp.get_device("cpu")):
            pass
        assert pool() is not None
    assert gc.isenabled()
    with used(new):
        assert pool() is None


def test_a_kernel_that_cannot_be_launched_is_named_and_the_next_capture_is_a_new_one():
    x = wp.ones(3, dtype=float, device="cpu")
    with (
        pytest.raises(CaptureError, match=r"^wp.launch of double: [^\n]*passed 0 arguments"),
        capturing(x.device),
    ):
        wp.launch(double, dim=3, inputs=[], device="cpu")
    with capturing(x.device) as capture:
        wp.launch(double, dim=3, inputs=[x], device="cpu")
    x.fill_(5.0)
    wp.capture_launch(capture.graph)
    np.testing.assert_array_equal(x.numpy(), 10.0)


def test_an_operation_that_fails_by_itself_is_named():
    with (
        pytest.raises(CaptureError, match=r"^aten.mm.default: mat1 and mat2 shapes"),
        capturing(wp.get_device("cpu")),
    ):
        torch.mm(torch.ones(2, 3), torch.ones(2, 3))


def test_captures_of_two_threads_wait_for_each_other():
    inside, order = threading.Event(), []

    def other():
        inside.wait(20.0)
        with capturing(wp.get_device("cpu")):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with capturing(wp.get_device("cpu")):
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join(20.0)
    assert order == ["first", "other"]


@pytest.mark.parametrize(
    "allowed",
    [
        lambda x: x.argsort(stable=True),
        lambda x: x.topk(2),
        lambda x: x.bmm(x),
        lambda x: x[torch.zeros(1, dtype=torch.int64)],
        lambda x: x.masked_fill(x > 0.0, 0.0),
        lambda x: torch.where(x > 0.0, x, -x),
        lambda x: torch.linalg.inv_ex(x),
        lambda x: x.repeat_interleave(2, 0),
        lambda x: x.to(torch.float64),
    ],
)
def test_operations_that_a_graph_can_hold_are_let_through(allowed):
    x = torch.eye(4).expand(2, 4, 4).contiguous()
    with torch.inference_mode(), CapturedOperations():
        allowed(x)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (lambda x: x[x > 0.0], "how many elements"),
        (lambda x: x.masked_select(x > 0.0), "how many elements"),
        (lambda x: torch.where(x > 0.0), "how many elements"),
        (lambda x: x.unique(), "how many elements"),
        (lambda x: x.index_put_((x > 0.0,), x.sum()), "how many elements"),
        (lambda x: x.sum().item(), "value of a tensor"),
        (lambda x: torch.allclose(x, x), "value of a tensor"),
        (lambda x: x.to("meta"), "between host and device"),
        (lambda x: torch.empty(2, 4, 4, device="meta").copy_(x), "between host and device"),
        (lambda x: torch.tensor([1.0]), "between host and device"),
        (lambda x: torch.linalg.solve(x, x), "factorisation"),
        (lambda x: x.normal_(), "random numbers"),
    ],
)
@pytest.mark.parametrize("inference", [True, False])
def test_operations_that_wait_copy_or_draw_are_refused(refused, reason, inference):
    # In inference mode composite operations arrive whole, outside of it in parts.
    x = torch.eye(4).expand(2, 4, 4).contiguous()
    with (
        torch.inference_mode(inference),
        pytest.raises(CaptureError, match=reason),
        CapturedOperations(),
    ):
        refused(x)
