"""A search: denoising steps from one problem and warm start to a plan.

All that it depends on are tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Generic

import torch

from diffusion_mpc.planner.algorithm import Algorithm, Belief
from diffusion_mpc.planner.demonstration import ChunkGuide, Guide
from diffusion_mpc.planner.objective import Objective, Problem, ProblemInput, Trajectories, Values
from diffusion_mpc.planner.packing import pack_tensors, shapes_of, unpack
from diffusion_mpc.planner.proposals import proposed_rows, replace_rows, take_proposal
from diffusion_mpc.planner.score import search_costs
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class SearchInput(ProblemInput[Values]):
    """Inputs of a search, but for its noise: the problem, and these.

    Arrays on the host or tensors on the device.

    Attributes:
        mean: (num_knots, nu) plan to start from, shifted to now
        noise_scale: (num_knots, nu) see `Belief`
        sigmas: (steps, num_knots) standard deviation of the noise at each denoising step, by knot
        hyperparameters: (k,) see `Algorithm.pack`
        stagnated: () see `Belief`
        demonstrated: () row of the demonstrated path that is nearest; 0 where there is none
        proposals: (k, num_knots, nu) plans of a policy, for the rows `proposed_rows`; where one is
            the mean, nothing is proposed
        proposal_noise: (k,) see `replace_rows`
    """

    mean: Values
    noise_scale: Values
    sigmas: Values
    hyperparameters: Values
    stagnated: Values
    demonstrated: Values
    proposals: Values
    proposal_noise: Values


@dataclass(frozen=True)
class SearchResult(Generic[Values]):
    """Result of a search: tensors on the device, or arrays on the host.

    Attributes:
        mean: (num_knots, nu) the plan
        noise_scale: (num_knots, nu) what the algorithm carries on beside it
        controls: (horizon, nu) its controls
        path: (horizon, nq) predicted positions in the cheapest sample
        traces: (traces, horizon, nq) predicted positions in the cheapest samples, the cheapest
            first
        terms: (terms, 1) weighted cost of each term in the cheapest sample
        cost: (1,) cost of the cheapest sample
        costs: (samples,) of all samples of the last step
        weights: (samples,) that the mean came from
        noise: (1,) standard deviation of the samples' knots in the last step
        violations: (samples,) by how much constraints are broken; (1,) zero where there are none
        violation: (1,) by how much the plan breaks them
        elites: (elites, num_knots, nu) knots of the cheapest samples, the cheapest first
        elite_costs: (elites,) of these
        proposed: (4,) of the proposed rows their number, their weight in the first denoising step,
            and their least cost there; the least cost of the other rows
    """

    mean: Values
    noise_scale: Values
    controls: Values
    path: Values
    traces: Values
    terms: Values
    cost: Values
    costs: Values
    weights: Values
    noise: Values
    violations: Values
    violation: Values
    elites: Values
    elite_costs: Values
    proposed: Values


def to_host(result: SearchResult[torch.Tensor]) -> SearchResult[Array]:
    """A result in double precision.

    Views where the search ran on the host, else a copy, which waits for the device.
    """
    if result.mean.device.type == "cpu":
        return SearchResult(*(getattr(result, f.name).double().numpy() for f in fields(result)))
    return unpack(SearchResult, pack_tensors(result).cpu().double().numpy(), shapes_of(result))


@dataclass(frozen=True)
class Search:
    """A search of fixed structure.

    Without `go_on`, nothing in it waits for the device: it can be captured and replayed.

    Attributes:
        objective: what is minimised
        algorithm: how
        steps: denoising steps
        traces: number of the cheapest samples whose positions are wanted
        guide: where the demonstrated path comes from, or None
        elites: number of the cheapest samples whose knots are wanted
        chunk: where the first proposal becomes a demonstration; None: proposals are samples
    """

    objective: Objective
    algorithm: Algorithm
    steps: int
    traces: int
    guide: Guide | None
    elites: int = 0
    chunk: ChunkGuide | None = None

    def __call__(
        self,
        inputs: SearchInput[torch.Tensor],
        noise: torch.Tensor,
        go_on: Callable[[int], bool] | None = None,
    ) -> SearchResult[torch.Tensor]:
        """Search.

        Args:
            inputs: problem and warm start
            noise: (steps, samples, num_knots, nu) standard normal
            go_on: asked after each denoising step but the last whether there is time for the next
        """
        objective, algorithm = self.objective, self.algorithm
        problem, belief = self.begin(inputs)
        kept: list[torch.Tensor] = []
        proposed = noise.new_zeros(4)
        for step in range(self.steps):
            knots = algorithm.sample(belief, step, noise[step])
            mine = None
            if step == 0 and len(inputs.proposals) and self.chunk is None:
                rows = proposed_rows(len(knots), algorithm.antithetic)
                knots, mine = replace_rows(
                    knots, rows, inputs.mean, inputs.proposals, inputs.proposal_noise
                )
            trajectories = objective.evaluate(problem, knots)
            ranks = search_costs(trajectories)
            if mine is None:
                belief, weights = algorithm.update(belief, knots, ranks)
            else:
                # From the search's own samples; the policy's count as dearer than the mean.
                own = ranks.where(mine == 0.0, torch.inf)
                belief, weights = algorithm.update(belief, knots, own)
                mean, weights, proposed = take_proposal(knots, ranks, mine, belief.mean, weights)
                belief = replace(belief, mean=mean)
            if step == 0 and self.chunk is not None:
                proposed = self.chunk.figures(problem, trajectories, weights)
            if trajectories.violation is not None:
                kept.append(knots[_cheapest(ranks, 1)])
            if go_on is not None and step + 1 < self.steps and not go_on(step):
                break
        # Before other knots are rolled out: the paths lie in memory that the backend may use again.
        result = self.conclude(belief, knots, trajectories, ranks, weights)
        if not kept:
            return replace(result, proposed=proposed)
        mean, violation = self._safest(problem, torch.cat((belief.mean[None], *reversed(kept))))
        return replace(
            result,
            mean=mean,
            controls=objective.controls(mean),
            violation=violation,
            proposed=proposed,
        )

    def begin(self, inputs: SearchInput[torch.Tensor]) -> tuple[Problem, Belief]:
        """The problem, and where the search starts."""
        problem = self.objective.problem(inputs)
        if self.guide is not None:
            problem = replace(
                problem, demonstration=self.guide.ahead(inputs.demonstrated.long(), problem)
            )
        if self.chunk is not None:
            chunk, mean = inputs.proposals[:1], inputs.mean
            problem = replace(problem, demonstration=self.chunk.ahead(chunk, mean, problem))
        hyperparameters = self.algorithm.unpack(inputs.hyperparameters)
        belief = Belief(
            inputs.mean,
            inputs.noise_scale,
            inputs.sigmas[..., None],
            hyperparameters,
            inputs.stagnated,
        )
        return problem, self.algorithm.start(belief)

    def conclude(
        self,
        belief: Belief,
        knots: torch.Tensor,
        trajectories: Trajectories,
        ranks: torch.Tensor,
        weights: torch.Tensor,
    ) -> SearchResult[torch.Tensor]:
        """The result, where nothing constrains it.

        Args:
            belief: what is known in the end
            knots: (samples, num_knots, nu) of the last step
            trajectories: of these
            ranks: (samples,) costs of these that weights are made of
            weights: (samples,) of these
        """
        order = _cheapest(ranks, max(self.traces, self.elites, 1))
        best, paths = order[:1], trajectories.qpos[order[: max(self.traces, 1)]]
        return SearchResult(
            mean=belief.mean,
            noise_scale=belief.noise_scale,
            controls=self.objective.controls(belief.mean),
            path=paths[0],
            traces=paths[: self.traces],
            terms=trajectories.terms.index_select(1, best),
            cost=trajectories.costs.index_select(0, best),
            costs=trajectories.costs,
            weights=weights,
            noise=knots.std(0, correction=0).mean()[None],
            violations=knots.new_zeros(1)
            if trajectories.violation is None
            else trajectories.violation,
            violation=knots.new_zeros(1),
            elites=knots[order[: self.elites]],
            elite_costs=trajectories.costs[order[: self.elites]],
            proposed=knots.new_zeros(4),
        )

    def _safest(self, problem: Problem, knots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First of the knots (k, num_knots, nu) of least violation, and that violation."""
        # Half-way between two ways round an obstacle lies the obstacle: the mean may be worse than
        # the samples it comes from, and so may be all samples that are drawn round it.
        trajectories = self.objective.evaluate(replace(problem, demonstration=None), knots)
        assert trajectories.violation is not None, "the task has constraints"
        assert trajectories.breach is not None, "the task has constraints"
        chosen = trajectories.violation.argmin()[None]
        return knots[chosen][0], trajectories.breach[chosen]


def _cheapest(costs: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of the `count` least costs (samples,), none of them NaN, the least first."""
    # Both give the first of equals, which is the mean itself.
    return costs.argmin()[None] if count == 1 else costs.argsort(stable=True)[:count]
