"""Which backend `auto` is."""

import pytest
import torch

from diffusion_mpc.config import (
    PlannerNodeConfig,
    RobustConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.runtime.backend_choice import ChosenBackend, candidates, choose
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import TaskError

ONE = RobustConfig()


def test_the_backend_with_more_samples_in_time_is_taken():
    times = {
        "cpu": {16: 0.004, 64: 0.015, 256: 0.06},
        "warp": {16: 0.01, 64: 0.01, 256: 0.011, 1024: 0.03},
    }
    choice = ChosenBackend(times, 0.018, {})
    assert (choice.samples("cpu"), choice.samples("warp"), choice.name) == (64, 256, "warp")
    assert choice.describe() == (
        "warp, for plans of 18.0 ms at most "
        "(cpu: 64 samples in 15.0 ms, 256 in 60.0 ms; warp: 256 samples in 11.0 ms, 1024 in 30.0 "
        "ms)"
    )
    assert ChosenBackend(times, 0.005, {}).name == "cpu"  # only there 16 samples are in time


def test_of_backends_with_as_many_samples_in_time_the_faster_one_is_taken():
    assert (
        ChosenBackend({"cpu": {16: 0.004, 64: 0.05}, "warp": {16: 0.003, 64: 0.02}}, 0.01, {}).name
        == "warp"
    )
    assert (
        ChosenBackend({"cpu": {16: 0.4}, "warp": {16: 0.5}}, 0.01, {}).name == "cpu"
    )  # neither is in time


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("diffusion_mpc.runtime.backend_choice.find_spec", lambda name: object())


def test_backends_are_timed_until_they_are_late(a_gpu):
    asked = []

    def plan_time(name, samples):
        asked.append((name, samples))
        return samples * {"cpu": 1e-4, "warp": 1e-5}[name]

    choice = choose(find_task("ant")(), ONE, plan_time, 0.02)
    assert asked == [
        *(("cpu", n) for n in (16, 64, 256)),
        *(("warp", n) for n in (16, 64, 256, 1024, 4096)),
    ]
    assert choice.name == "warp"


def test_a_backend_that_cannot_run_the_model_is_left_out(a_gpu):
    def plan_time(name, samples):
        if name == "warp":
            raise TaskError("no such geom")
        return 1.0

    choice = choose(find_task("ant")(), ONE, plan_time, 0.02)
    assert choice.name == "cpu"
    assert choice.describe().endswith("no warp: no such geom)")

    def never(name, samples):
        raise TaskError("no such geom")

    with pytest.raises(
        TaskError,
        match=r"^backend.name is auto, but there is no cpu: no such geom; no warp: no such geom$",
    ):
        choose(find_task("ant")(), ONE, never, 0.02)


def test_only_what_can_be_used_is_timed(a_gpu):
    assert candidates(find_task("car")(), ONE) == (["function"], {})
    assert candidates(find_task("ant")(), RobustConfig(models=3)) == (
        ["cpu"],
        {"warp": "robust.models is 3"},
    )
    assert candidates(find_task("ant")(), ONE) == (["cpu", "warp"], {})


def test_without_a_gpu_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    names, excluded = candidates(find_task("ant")(), ONE)
    assert names == ["cpu"]
    assert set(excluded) == {"warp"}


def test_a_controller_with_auto_plans_on_what_it_has_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, values = load_parameters(
        PlannerNodeConfig, {"task": "cartpole", "backend.name": "auto", "planner.num_samples": 8}
    )
    controller = Controller(
        find_task("cartpole")(), build(PlannerNodeConfig, values), cost_weights(values)
    )
    assert controller.choice is not None
    assert controller.choice.name == controller.backend.name == "cpu"
    assert controller.choice.times["cpu"][16] > 0.0
    assert controller.config.planner.num_samples == 8
    controller.warm_up()
