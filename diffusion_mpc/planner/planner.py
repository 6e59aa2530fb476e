"""From a state and a reference to a plan: shift the plan before, search, and say what came of it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import median

import numpy as np
import torch

from diffusion_mpc.config import PlannerConfig
from diffusion_mpc.planner.algorithms import ALGORITHMS, Algorithm
from diffusion_mpc.planner.captured_search import CapturedSearch, NotCapturedError
from diffusion_mpc.planner.demonstration import Guide, read_demonstration
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.sampler import NoiseSource
from diffusion_mpc.planner.schedule import Setback
from diffusion_mpc.planner.score import NoFeasibleSampleError, effective_sample_size
from diffusion_mpc.planner.search import Search
from diffusion_mpc.planner.transfer import send
from diffusion_mpc.types import Array, Plan, PlanStats, Reference, State

# What a search is made of. All other parameters that may change live reach it as numbers or as noise.
STRUCTURE = ("algorithm", "num_samples", "iterations", "elite_share", "noise_floor")


@dataclass(frozen=True)
class Settings:
    """What may change between two plans.

    Attributes:
        config: parameters of the search
        algorithm: made of them
        levels: `Algorithm.levels`, remembered
        traces: number of the cheapest samples whose positions a plan holds
        captured: captured searches by their denoising steps; none where searches are not captured
    """

    config: PlannerConfig
    algorithm: Algorithm
    levels: Callable[[int], Array]
    traces: int
    captured: Mapping[int, CapturedSearch] = field(default_factory=dict)

    @property
    def structure(self) -> tuple[object, ...]:
        """What a search would have to be captured anew for."""
        return (*(getattr(self.config, name) for name in STRUCTURE), self.traces)


class Planner:
    """Receding-horizon planner of one task on one rollout backend.

    Between two plans it keeps mean and spread that the previous one ended with, what plans have cost, and the state of the random
    generator, nothing else.
    """

    def __init__(self, objective: Objective, config: PlannerConfig, traces: int = 0) -> None:
        """Prepare the search.

        Args:
            objective: what is minimised
            config: parameters of the search, of which the objective was made, too; `configure` replaces those that may change live
            traces: number of the cheapest samples whose positions a plan holds

        Raises:
            ValueError: the demonstration cannot be used
        """
        self.objective = objective
        named = config.demonstration
        self._guide = Guide(objective, config, read_demonstration(named, objective.task)) if named else None
        self._origin = objective.origin
        self._noise = NoiseSource(self._origin)
        self._step_times: deque[float] = deque(maxlen=50)
        self._fit = config.iterations
        self._changing, self._capturing = threading.Lock(), threading.Lock()
        self._settings = self._asked = _settings(config, traces)
        self.reset()
        self._settings = replace(self._settings, captured=self._capture(self._settings))

    def configure(self, config: PlannerConfig, traces: int = 0) -> None:
        """Change live parameters; takes effect with the next plan, or as soon as a search of another structure is captured."""
        new = _settings(config, traces)
        with self._changing:
            self._asked = new
            if new.structure == self._settings.structure:
                self._settings = replace(new, captured=self._settings.captured)
            elif not self._is_captured(new):
                self._settings = new
            else:
                # A capture takes longer than a plan. The plans of the old structure go on.
                threading.Thread(target=self._adopt, args=(new,), daemon=True).start()

    def _adopt(self, new: Settings) -> None:
        with self._capturing:
            # Numbers may have changed meanwhile; where the structure has, another thread waits to capture that, or has done so.
            if self._asked.structure != new.structure or self._settings.structure == new.structure:
                return
            captured = self._capture(new)
            with self._changing:
                if self._asked.structure == new.structure:
                    self._settings = replace(self._asked, captured=captured)

    def _is_captured(self, settings: Settings) -> bool:
        return self.objective.backend.capture == "plan" and settings.algorithm.on_device

    @torch.inference_mode()
    def _capture(self, settings: Settings) -> dict[int, CapturedSearch]:
        """Searches of few and of all denoising steps, for there may not be time for all; none where the backend cannot."""
        if not self._is_captured(settings):
            return {}
        data = self.objective.task.initial_data(self.objective.backend.model)
        start = State(0.0, np.array(data.qpos), np.array(data.qvel), np.array(data.act))
        most, captured = settings.config.iterations, {}
        try:
            for steps in sorted({*range(1, min(most, 5)), most}):
                search, numbers = self._search(settings, start, Reference(), steps)
                noise = self._origin.new_zeros((steps, settings.config.num_samples, *self._origin.shape))
                captured[steps] = CapturedSearch(search, numbers, noise)
        except NotCapturedError:
            return {}
        return captured

    def reset(self) -> None:
        """Forget the previous plan and start the random sequence anew."""
        self._mean: Array = np.zeros(self._origin.shape)
        self._spread: Array = np.ones(self._origin.shape)
        self._made_by: type | None = None
        self._setback = Setback()
        self._start_time: float | None = None
        self._noise.seed(self._settings.config.seed)

    def resume(self, plan: Plan) -> None:
        """Go on from a plan of another planner of the task, whose horizon and knots may differ."""
        controls = self.objective.task.normalise(torch.from_numpy(plan.controls)).numpy()
        rows, knots = np.arange(len(controls)), self.objective.spline.knot_times / plan.control_dt
        self._mean = np.stack([np.interp(knots, rows, column) for column in controls.T], axis=1)
        self._start_time = plan.start_time

    @torch.inference_mode()
    def plan(self, state: State, reference: Reference, stamp: float | None = None, budget: float = math.inf) -> Plan:
        """Plan from `state`, whose stamp is the time that the first action is meant for.

        Args:
            state: state at the time of the first action
            reference: what to track
            stamp: stamp of the measurement that `state` was predicted from, s; None: `state` is the measurement
            budget: time that planning may take, s; a denoising step that would not end in time is left out, the first never

        Raises:
            NoFeasibleSampleError: every sample has a NaN or infinite cost; the previous mean is kept
        """
        began = time.perf_counter()
        # Once: a change from another thread takes effect between two plans.
        settings = self._settings
        found, done = self._find(settings, state, reference, began, budget)
        config, cost, costs = settings.config, float(found["cost"][0]), found["costs"]
        warm_start = "none" if self._start_time is None else "plan"
        if not math.isfinite(cost):
            raise NoFeasibleSampleError(f"all {config.num_samples} samples have a NaN or infinite cost")
        self._mean, self._spread, self._start_time = found["mean"], found["spread"], state.stamp
        self._made_by = type(settings.algorithm)
        finite = np.isfinite(costs)
        cost_mean = float(costs[finite].mean())
        self._setback.note(cost, cost_mean)
        stats = PlanStats(
            warm_start=warm_start,
            cost=cost,
            cost_mean=cost_mean,
            term_costs=dict(zip(self.objective.task.cost_terms(), found["terms"][:, 0].tolist(), strict=True)),
            effective_sample_size=effective_sample_size(found["weights"]),
            noise=float(found["noise"][0]),
            infeasible_share=1.0 - float((finite & (found["violations"] <= 0.0)).mean()),
            violation=float(found["violation"][0]),
            iterations=done,
            plan_time=time.perf_counter() - began,
        )
        return Plan(
            stamp=state.stamp if stamp is None else stamp,
            start_time=state.stamp,
            control_dt=config.control_dt,
            controls=found["controls"],
            knots=found["mean"],
            path=found["path"],
            stats=stats,
            traces=found["traces"],
        )

    @torch.inference_mode()
    def prepare(self) -> None:
        """Do what the next plan needs and does not depend on its state, while there is time: draw its noise."""
        self._noise.draw_ahead()

    def search(self, state: State, reference: Reference) -> tuple[Search, dict[str, Array]]:
        """The search of all denoising steps that a plan from here would be, and the numbers that it takes."""
        return self._search(self._settings, state, reference, self._settings.config.iterations)

    def _find(
        self, settings: Settings, state: State, reference: Reference, began: float, budget: float
    ) -> tuple[dict[str, Array], int]:
        """Outcome of the search on the host, and the number of its denoising steps."""
        steps = self._steps_within(budget, settings.config.iterations)
        if settings.captured:
            steps = max(n for n in settings.captured if n <= steps)
        search, numbers = self._search(settings, state, reference, steps)
        config = settings.config
        # For all steps, whether or not there is time for them: noise is drawn ahead, when that is not known yet.
        noise = self._noise.take(config.iterations, config.num_samples, settings.algorithm.mirrored)[:steps]
        laps = [began]

        def go_on(step: int) -> bool:
            laps.append(time.perf_counter())
            self._step_times.append(laps[-1] - laps[-2])
            return laps[-1] - began + self._step_time() <= budget

        if settings.captured:
            found = settings.captured[steps](numbers, noise)
        else:
            # What a device is told to do it has not done yet: there, time is known at the end only.
            on_host = noise.device.type == "cpu"
            found = search(send(numbers, noise.dtype, noise.device), noise, go_on if on_host else None).on_host()
            steps = len(laps) if on_host else steps
        left = steps - len(laps) + 1
        self._step_times.extend([(time.perf_counter() - laps[-1]) / left] * left)
        return found, steps

    def _search(self, settings: Settings, state: State, reference: Reference, steps: int) -> tuple[Search, dict[str, Array]]:
        """A search of some denoising steps, and the numbers that it takes."""
        elapsed = state.stamp - self._start_time if self._start_time is not None else 0.0
        numbers = self.objective.numbers(state, reference)
        numbers["mean"] = self.objective.spline.shift(self._mean, max(elapsed, 0.0))
        numbers["spread"] = self._spread if self._made_by is type(settings.algorithm) else np.ones_like(self._mean)
        numbers["levels"], numbers["live"] = settings.levels(steps), np.array(settings.algorithm.live())
        numbers["setback"] = np.array(float(self._setback.now))
        if self._guide is not None:
            numbers["demonstrated"] = np.array(float(self._guide.nearest(state)))
        return Search(self.objective, settings.algorithm, steps, settings.traces, self._guide), numbers

    def _steps_within(self, budget: float, most: int) -> int:
        """Denoising steps to plan for, so that the last of them has the least noise and not the one that was left out."""
        if math.isinf(budget) or not self._step_times:
            return most
        fit = self._fitting(budget)
        if fit > self._fit:
            # Only with time to spare: if plans had now one step and now two, commands would have to wait for the longer ones.
            fit = max(self._fitting(0.9 * budget), self._fit)
        self._fit = fit
        return min(fit, most)

    def _fitting(self, budget: float) -> int:
        # Only the last step has to allow for being slow: if all did, one slow moment would leave half of the time idle.
        return 1 + max(int((budget - self._step_time()) / median(self._step_times)), 0)

    def _step_time(self) -> float:
        """Time that nine of ten recent denoising steps ended within, s."""
        return sorted(self._step_times)[int(0.9 * (len(self._step_times) - 1))]


def _settings(config: PlannerConfig, traces: int) -> Settings:
    algorithm = ALGORITHMS[config.algorithm](config)
    return Settings(config, algorithm, lru_cache(maxsize=8)(algorithm.levels), traces)
