"""From a state and a reference to a plan.

Shift the previous plan, search, and say how good the result is.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from diffusion_mpc.config import ConfigError, PolicyConfig, SearchConfig
from diffusion_mpc.planner.captured_search import CapturedSearch, SearchWork, capture_searches
from diffusion_mpc.planner.demonstration import ChunkGuide, DemonstratedPath, Guide
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.planner.packing import send
from diffusion_mpc.planner.policy_alone import make_algorithm
from diffusion_mpc.planner.proposals import Proposed, Proposer
from diffusion_mpc.planner.sampler import NoiseSource
from diffusion_mpc.planner.score import NoFeasibleSampleError, effective_sample_size
from diffusion_mpc.planner.search import Search, SearchInput, SearchResult, to_host
from diffusion_mpc.planner.stagnation import StagnationDetector
from diffusion_mpc.planner.step_budget import StepBudget
from diffusion_mpc.policy.policy import Policy
from diffusion_mpc.tasks.measured import initial_state
from diffusion_mpc.types import Array, Plan, PlanStats, PolicyStats, Reference, State


@dataclass(frozen=True)
class SearchStart:
    """Start of the next search.

    Attributes:
        mean: (num_knots, nu) knots that the previous plan ended with
        noise_scale: (num_knots, nu) see `Belief`
        start_time: time of the first knot, s; None: there is no previous plan
    """

    mean: Array
    noise_scale: Array
    start_time: float | None = None


class Planner:
    """Receding-horizon planner of one task on one rollout backend, for one thread.

    Between two plans it keeps the warm start, the costs of recent plans and the times of recent
    denoising steps, and the state of the random generator, nothing else.
    """

    def __init__(
        self,
        objective: Objective,
        config: SearchConfig,
        traces: int = 0,
        demonstration: DemonstratedPath | None = None,
        policy: Policy | None = None,
        elites: int = 0,
    ) -> None:
        """Prepare the search.

        Where the backend can, it is captured with the first plan, in the thread that makes it.

        Args:
            objective: what is minimised
            config: parameters of the search; `configure` replaces those that may change live
            traces: number of the cheapest samples whose positions a plan holds
            demonstration: path to follow where that is cheaper; None: there is none
            policy: policy whose plans are among the samples, or which algorithm "policy" executes;
                None: there is none
            elites: number of the cheapest samples whose knots a plan holds

        Raises:
            ConfigError: algorithm "policy" has no policy
            DemonstrationError: the demonstration cannot be used
        """
        self.objective = objective
        self._guide = None if demonstration is None else Guide(objective, config, demonstration)
        self._chunk = ChunkGuide(objective, config.demonstration_distance)
        self._traces, self._elites = traces, elites
        self._origin = objective.origin
        self._noise = NoiseSource(self._origin)
        if config.algorithm == "policy" and policy is None:
            raise ConfigError(
                "planner.algorithm policy needs policy.checkpoint, a file that `diffusion-mpc "
                "train` wrote"
            )
        self._proposer: Proposer | None = None
        if policy is not None:
            self._proposer = Proposer(
                objective.task, objective.backend.model, objective.spline, policy
            )
        self._sampling = PolicyConfig()
        self._budget = StepBudget(config.iterations)
        self.configure(config)
        self.reset()
        self._captured: dict[int, CapturedSearch] | None = None

    def configure(self, config: SearchConfig, policy: PolicyConfig | None = None) -> None:
        """Change live parameters; takes effect with the next plan, and needs no other capture.

        Args:
            config: parameters of the search
            policy: parameters of the policy; None: as they are
        """
        algorithm = make_algorithm(config)
        self._sampling = policy or self._sampling
        # In one assignment: another thread may be planning.
        self._settings = config, algorithm, lru_cache(maxsize=8)(algorithm.sigmas)

    def reset(self) -> None:
        """Forget the previous plan and start the random sequence anew."""
        self._warm_start = SearchStart(np.zeros(self._origin.shape), np.ones(self._origin.shape))
        self._stagnation = StagnationDetector()
        self._noise.seed(self._settings[0].seed)
        if self._proposer is not None:
            self._proposer.reset(self._settings[0].seed)

    def take_over(self, previous: Planner, plan: Plan) -> None:
        """Go on from another planner's newest plan; its algorithm, horizon and knots may differ."""
        controls = self.objective.task.normalise(torch.from_numpy(plan.controls)).numpy()
        rows, knots = np.arange(len(controls)), self.objective.spline.knot_times / plan.control_dt
        mean = np.stack([np.interp(knots, rows, column) for column in controls.T], axis=1)
        self._warm_start = SearchStart(mean, np.ones_like(mean), plan.start_time)
        before = previous._warm_start
        if (
            type(previous._settings[1]) is type(self._settings[1])
            and before.noise_scale.shape == mean.shape
        ):
            self._warm_start = replace(self._warm_start, noise_scale=before.noise_scale)

    def follow(self, knots: Array, start_time: float) -> None:
        """Go on from knots (num_knots, nu) as though they were the plan of a time, s."""
        self._warm_start = replace(self._warm_start, mean=knots, start_time=start_time)

    @torch.inference_mode()
    def plan(
        self,
        state: State,
        reference: Reference,
        stamp: float | None = None,
        budget: float = math.inf,
    ) -> Plan:
        """Plan from `state`, whose stamp is the time that the first action is meant for.

        Args:
            state: state at the time of the first action
            reference: what to track
            stamp: stamp of the measurement that `state` was predicted from, s; None: `state` is the
                measurement
            budget: time that planning may take, s; a denoising step that would not end in time is
                left out, the first never

        Raises:
            NoFeasibleSampleError: every sample has a NaN or infinite cost; the warm start is kept
        """
        if self._captured is None:
            # Not when it is built: that is in the thread that takes in the states, and this takes
            # seconds.
            self._captured = self._capture()
        began = time.perf_counter()
        shifted = self._shifted(self._warm_start, state.stamp, reference)
        made = self._proposed(state, reference, shifted, budget)
        result, steps = self._search(state, reference, began, budget, shifted, made)
        config, cost = self._settings[0], float(result.cost[0])
        if not math.isfinite(cost):
            raise NoFeasibleSampleError(
                f"all {config.num_samples} samples have a NaN or infinite cost"
            )
        warm_start = "none" if self._warm_start.start_time is None else "plan"
        self._warm_start = SearchStart(result.mean, result.noise_scale, state.stamp)
        finite = np.isfinite(result.costs)
        cost_mean = float(result.costs[finite].mean())
        self._stagnation.note(cost, cost_mean)
        stats = PlanStats(
            warm_start=warm_start,
            cost=cost,
            cost_mean=cost_mean,
            term_costs=dict(
                zip(self.objective.term_names, result.terms[:, 0].tolist(), strict=True)
            ),
            effective_sample_size=effective_sample_size(result.weights),
            noise=float(result.noise[0]),
            infeasible_fraction=1.0 - float((finite & (result.violations <= 0.0)).mean()),
            violation=float(result.violation[0]),
            iterations=steps,
            plan_time=time.perf_counter() - began,
            policy=None if made is None else self._policy_stats(made, result.proposed),
        )
        return Plan(
            stamp=state.stamp if stamp is None else stamp,
            start_time=state.stamp,
            control_dt=config.control_dt,
            controls=result.controls,
            knots=result.mean,
            path=result.path,
            stats=stats,
            traces=result.traces,
            previous=shifted,
            elites=result.elites,
            elite_costs=result.elite_costs,
        )

    @torch.inference_mode()
    def prepare(self) -> None:
        """Do what the next plan needs and does not depend on its state, while there is time.

        Draw its noise.
        """
        self._noise.draw_ahead()

    def search(
        self,
        state: State,
        reference: Reference,
        steps: int | None = None,
        shifted: Array | None = None,
        proposed: Proposed | None = None,
    ) -> tuple[Search, SearchInput[Array]]:
        """The search that a plan from here would be, and its inputs.

        Args:
            state: state at the time of the first action
            reference: what to track
            steps: number of denoising steps; None: all
            shifted: (num_knots, nu) the previous plan, shifted to now, where that is known
            proposed: plans of the policy; None: none
        """
        config, algorithm, sigmas = self._settings
        steps, start = steps or config.iterations, self._warm_start
        mean = self._shifted(start, state.stamp, reference) if shifted is None else shifted
        chunk = self._chunk if self._fuses else None
        rows = 0 if self._proposer is None else 1 if self._fuses else config.num_samples // 2
        given = np.zeros((0, *mean.shape)) if proposed is None else proposed.knots
        if config.algorithm == "policy" and len(given):
            mean = given[0]
        # Rows without a proposal: what is fixed in a captured search is their number.
        proposals = np.concatenate([given, np.tile(mean, (rows, 1, 1))])[:rows]
        noise = np.full(rows, self._sampling.noise)
        noise[:1] = 0.0
        inputs = SearchInput(
            **vars(self.objective.inputs(state, reference)),
            mean=mean,
            noise_scale=start.noise_scale,
            sigmas=sigmas(steps),
            hyperparameters=algorithm.pack(),
            stagnated=np.array(float(self._stagnation.stagnated)),
            demonstrated=np.array(
                float(self._guide.nearest(state)) if self._guide is not None else 0.0
            ),
            proposals=proposals,
            proposal_noise=noise,
        )
        search = Search(
            self.objective, algorithm, steps, self._traces, self._guide, self._elites, chunk
        )
        return search, inputs

    @property
    def _fuses(self) -> bool:
        """Whether a plan of the policy is a demonstration."""
        searches = self._proposer is not None and self._settings[0].algorithm != "policy"
        return searches and self._sampling.fusion == "max_rule"

    def _shifted(self, start: SearchStart, now: float, reference: Reference) -> Array:
        """Knots (num_knots, nu) that the search starts from.

        The previous plan as far as it reaches, and from there on the nominal actions, as far from
        them as it was at its end.
        """
        spline = self.objective.spline
        began = now if start.start_time is None else min(start.start_time, now)
        times = np.concatenate([now + spline.knot_times, began + spline.knot_times])
        nominal, before = np.split(self.objective.task.nominal_actions(times, reference), 2)
        if start.start_time is None:
            return nominal
        away = spline.shift(start.mean - before, now - began)
        return np.asarray((nominal + away).clip(-1.0, 1.0))

    def _proposed(
        self, state: State, reference: Reference, shifted: Array, budget: float
    ) -> Proposed | None:
        """Plans of the policy; None where there is no policy.

        Raises:
            NoFeasibleSampleError: algorithm "policy" has none
        """
        if self._proposer is None:
            return None
        config, sampling = self._settings[0], self._sampling
        alone = config.algorithm == "policy"
        allowed = int(sampling.fraction * config.num_samples)
        rows = 1 if alone else self._proposer.rows(min(allowed, 1) if self._fuses else allowed)
        made = self._proposer(
            state, reference, shifted, rows, sampling, math.inf if alone else budget
        )
        if alone and not len(made.knots):
            raise NoFeasibleSampleError(f"the policy fails: {made.failure}")
        return made

    def _policy_stats(self, made: Proposed, credit: Array) -> PolicyStats:
        """Figures of the policy's part in a plan, which decide how many rows it gets next."""
        rows, weight, cost, planner_cost = credit.tolist()
        assert self._proposer is not None
        self._proposer.credit(int(rows), weight, self._settings[0].num_samples)
        return PolicyStats(
            rows=int(rows),
            weight=weight,
            cost=cost,
            planner_cost=planner_cost,
            time=made.time,
            age=made.age,
            guidance=self._sampling.guidance,
            failure=made.failure,
        )

    def _search(
        self,
        state: State,
        reference: Reference,
        began: float,
        budget: float,
        shifted: Array,
        proposed: Proposed | None,
    ) -> tuple[SearchResult[Array], int]:
        """Result of the search, and the number of its denoising steps."""
        laps = [time.perf_counter()]
        steps = self._budget.steps_within(budget - (laps[0] - began))
        if self._captured:
            steps = max(n for n in self._captured if n <= steps)
        search, inputs = self.search(state, reference, steps, shifted, proposed)
        config = search.algorithm.config
        # For all steps, whether or not there is time for them: noise is drawn ahead, when that is
        # not known yet.
        noise = self._noise.take(
            config.iterations, config.num_samples, search.algorithm.antithetic
        )[:steps]

        def go_on(step: int) -> bool:
            laps.append(time.perf_counter())
            self._budget.note([laps[-1] - laps[-2]])
            return laps[-1] - began + self._budget.slow_step() <= budget

        if self._captured:
            result = self._captured[steps](inputs, noise)
        else:
            # A device is told what to do, and has not done it yet: there, time is known at the end
            # only.
            on_host = noise.device.type == "cpu"
            tensors = send(SearchInput, inputs, noise.dtype, noise.device)
            result = to_host(search(tensors, noise, go_on if on_host else None))
            steps = len(laps) if on_host else steps
        left = steps - len(laps) + 1
        self._budget.note([(time.perf_counter() - laps[-1]) / left] * left)
        return result, steps

    @torch.inference_mode()
    def _capture(self) -> dict[int, CapturedSearch]:
        """Captured searches of few and of all denoising steps, for there may not be time for all.

        None where the backend cannot.
        """
        config, algorithm, _ = self._settings
        if self.objective.backend.capture != "plan" or not algorithm.on_device:
            return {}
        state = initial_state(self.objective.task, self.objective.backend.model)
        noise = self._origin.new_zeros((config.iterations, config.num_samples, *self._origin.shape))
        counts = sorted({*range(1, min(config.iterations, 5)), config.iterations}, reverse=True)
        works = [
            SearchWork(*self.search(state, Reference(), steps), noise[:steps]) for steps in counts
        ]
        return dict(zip(counts, capture_searches(works, self.objective.backend), strict=False))
