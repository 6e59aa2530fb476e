"""`benchmark speed`: time of a whole plan against `mujoco.rollout` of the same batches alone, interleaved plan by plan."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco import rollout

from diffusion_mpc.benchmark.closed_loop import ClosedLoop
from diffusion_mpc.config import ConfigError, NodeConfig, Value, load_parameters
from diffusion_mpc.rollout.base import RolloutBackend, substeps
from diffusion_mpc.rollout.variants import model_variants
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Array, RolloutBatch, StateTensors


@dataclass(frozen=True)
class Case:
    """What to time: a task, and planner parameters as texts."""

    task: str
    settings: Mapping[str, str]


DEFAULT_CASES = (
    Case("ant", {"planner.num_samples": "64", "planner.horizon_steps": "20", "planner.iterations": "2"}),
    Case("cartpole", {"planner.num_samples": "32", "planner.horizon_steps": "25", "planner.iterations": "1"}),
)


RAW_SAMPLES = 1024
"""Most samples of a recorded plan that `mujoco.rollout` repeats: the rates are compared, not the times."""


def record(backend: RolloutBackend) -> list[tuple[StateTensors, torch.Tensor]]:
    """A list to which the backend adds state and controls of each rollout from now on, in a few microseconds a call."""
    calls: list[tuple[StateTensors, torch.Tensor]] = []
    rollouts = backend.rollout

    def noted(start: StateTensors, controls: torch.Tensor, control_dt: float) -> RolloutBatch:
        calls.append((start, controls))
        return rollouts(start, controls, control_dt)

    backend.rollout = noted  # type: ignore[method-assign]
    return calls


class RawRollout:
    """`mujoco.rollout` and nothing else: a persistent pool of threads that writes into arrays made once."""

    def __init__(self, models: Sequence[mujoco.MjModel], threads: int) -> None:
        """Start the threads.

        Args:
            models: what every control sequence is rolled out on
            threads: number of threads; 0: one per core that this process may use
        """
        count = threads or len(os.sched_getaffinity(0))
        self._models = list(models)
        self._pool = rollout.Rollout(nthread=count)
        self._data = [mujoco.MjData(models[0]) for _ in range(count)]
        self._outputs: dict[tuple[int, int], tuple[Array, Array]] = {}

    def time(self, state: StateTensors, controls: torch.Tensor, repeats: int) -> float:
        """Time that the rollouts take, s, without preparing their inputs.

        Args:
            state: state that all start from
            controls: (samples, horizon, nu), in actuator units
            repeats: physics steps in a control step
        """
        model, variants = self._models[0], len(self._models)
        inputs = np.ascontiguousarray(controls.double().cpu().numpy().repeat(repeats, axis=1).repeat(variants, axis=0))
        models = model if variants == 1 else self._models * (len(inputs) // variants)
        start = np.concatenate([[0.0], *(torch.as_tensor(x).cpu().numpy() for x in (state.qpos, state.qvel, state.act))])
        starts = np.repeat(start[None], len(inputs), axis=0)
        shape = inputs.shape[:2]
        if shape not in self._outputs:
            size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
            self._outputs[shape] = np.empty((*shape, size)), np.empty((*shape, model.nsensordata))
        states, sensors = self._outputs[shape]
        began = time.perf_counter()
        self._pool.rollout(models, self._data, starts, inputs, state=states, sensordata=sensors)
        return time.perf_counter() - began


def run_case(case: Case, plans: int, warm_up: int, on_plan: Callable[[], None]) -> dict[str, Any]:
    """Time a case in closed loop.

    Args:
        case: what to time
        plans: number of plans to time
        warm_up: number of plans before, that do not count
        on_plan: called after each plan

    Returns:
        the row; see `row`. Where Ctrl-C came between, of fewer plans

    Raises:
        ConfigError, TaskError: the case names what there is not
        ValueError: parameters do not fit each other
        KeyboardInterrupt: Ctrl-C came before the first plan that counts
    """
    # As in the planner node: torch's own threads would wait busily on the cores that rollouts need.
    torch.set_num_threads(1)
    loop = ClosedLoop(case_settings(case), trial=0)
    backend, config = loop.controller.backend, loop.config
    if backend.name == "function":
        raise ConfigError(f"task '{case.task}' has dynamics of its own, so there is no mujoco.rollout to compare with")
    calls = record(backend)
    raw = RawRollout(model_variants(backend.model, config.robust), config.backend.threads)
    repeats = substeps(config.planner.control_dt, backend.model.opt.timestep)
    steps_a_control = repeats * backend.variants
    plan_times, raw_times = list[float](), list[float]()
    physics_steps, raw_steps = list[int](), list[int]()
    try:
        for number in range(warm_up + plans):
            calls.clear()
            began = time.perf_counter()
            plan = loop.plan()
            plan_time = time.perf_counter() - began
            noted = sum(controls.shape[0] * controls.shape[1] for _, controls in calls)
            if not calls and plan is not None:
                # A recorded plan calls nobody. In its place, a part of it that the CPU can do: the plan itself, many times.
                controls = torch.from_numpy(plan.controls).expand(min(config.planner.num_samples, RAW_SAMPLES), -1, -1)
                calls.append((loop.state().on(torch.float64, controls.device), controls))
                noted = config.planner.num_samples * config.planner.horizon_steps * plan.stats.iterations
            raw_time = sum(raw.time(state, controls, repeats) for state, controls in calls)
            loop.advance()
            on_plan()
            if number >= warm_up and plan is not None:
                plan_times.append(plan_time)
                raw_times.append(raw_time)
                physics_steps.append(noted * steps_a_control)
                raw_steps.append(sum(controls.shape[0] * controls.shape[1] * steps_a_control for _, controls in calls))
    except KeyboardInterrupt:
        if not plan_times:
            raise
    arrays = (np.array(values) for values in (plan_times, physics_steps, raw_times, raw_steps))
    return row(loop, *arrays) | {"complete": len(plan_times) == plans}


def row(loop: ClosedLoop, plan_times: Array, physics_steps: Array, raw_times: Array, raw_steps: Array) -> dict[str, Any]:
    """Figures of a case.

    Args:
        loop: what was timed
        plan_times: (plans,) of all that `Controller.plan` does, s
        physics_steps: (plans,) physics steps in each
        raw_times: (plans,) of `mujoco.rollout` alone on the same batches, or on a part of them, s
        raw_steps: (plans,) physics steps in each of these

    Returns:
        model, num_samples, horizon_steps, iterations, backend, device, capture; plan_ms_p50, plan_ms_p99; physics_steps_per_s and
        raw_steps_per_s, medians over the plans; efficiency, the ratio of the two; raw_ms_p50, plans, threads, timestep
    """
    p, backend = loop.config.planner, loop.controller.backend
    planned, raw = float(np.median(physics_steps / plan_times)), float(np.median(raw_steps / raw_times))
    return {
        "model": loop.task.name,
        "num_samples": p.num_samples,
        "horizon_steps": p.horizon_steps,
        "iterations": p.iterations,
        "backend": backend.name,
        "device": str(backend.device),
        "capture": backend.capture,
        "plan_ms_p50": 1e3 * float(np.median(plan_times)),
        "plan_ms_p99": 1e3 * float(np.quantile(plan_times, 0.99)),
        "physics_steps_per_s": planned,
        "raw_steps_per_s": raw,
        "efficiency": planned / raw,
        "raw_ms_p50": 1e3 * float(np.median(raw_times)),
        "plans": len(plan_times),
        "threads": loop.config.backend.threads or len(os.sched_getaffinity(0)),
        "timestep": float(backend.model.opt.timestep),
    }


def case_settings(case: Case) -> dict[str, Value]:
    """Parameters of the closed loop of a case."""
    known, _ = load_parameters(NodeConfig, {"task": case.task})
    demo = {name: value for name, value in find_task(case.task).demo.items() if not name.startswith("sim.")}
    given: dict[str, Value] = {name: known[name].parse(text) if name in known else text for name, text in case.settings.items()}
    return demo | given | {"task": case.task}


def check(cases: Sequence[Case]) -> None:
    """Raise what `run_case` would, before any time is spent.

    Raises:
        ConfigError, TaskError: a case names what there is not
    """
    for case in cases:
        load_parameters(NodeConfig, case_settings(case))
