"""One search for a plan: [sample, roll out, cost, update] for each denoising step. Numbers on the device in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import torch

from diffusion_mpc.planner.algorithms import Algorithm, Belief
from diffusion_mpc.planner.demonstration import Guide
from diffusion_mpc.planner.objective import Objective, Problem, Trajectories
from diffusion_mpc.planner.score import search_costs
from diffusion_mpc.types import Array


@dataclass(frozen=True)
class Outcome:
    """What a search has found.

    Attributes:
        mean: (num_knots, nu) the new plan
        spread: (num_knots, nu) what the algorithm carries on beside it
        controls: (horizon, nu) its controls
        path: (horizon, nq) predicted positions in the cheapest sample
        traces: (traces, horizon, nq) predicted positions in the cheapest samples, the cheapest first
        terms: (terms, 1) weighted cost of each term in the cheapest sample
        cost: (1,) cost of the cheapest sample
        costs: (samples,) of all samples of the last step
        weights: (samples,) that the mean came from
        noise: (1,) standard deviation of the samples' knots in the last step
        violations: (samples,) by how much constraints are broken; (1,) zero where there are none
        violation: (1,) by how much the plan breaks them
    """

    mean: torch.Tensor
    spread: torch.Tensor
    controls: torch.Tensor
    path: torch.Tensor
    traces: torch.Tensor
    terms: torch.Tensor
    cost: torch.Tensor
    costs: torch.Tensor
    weights: torch.Tensor
    noise: torch.Tensor
    violations: torch.Tensor
    violation: torch.Tensor

    def packed(self) -> torch.Tensor:
        """All of it one after the other, for one copy to the host."""
        return torch.cat([getattr(self, f.name).flatten() for f in fields(self)])

    def on_host(self) -> dict[str, Array]:
        """Arrays by name, in double precision: views where the search ran on the host, else a copy, which waits for the device."""
        if self.mean.device.type == "cpu":
            return {f.name: getattr(self, f.name).double().numpy() for f in fields(self)}
        return self.unpacked(self.packed().cpu().double().numpy())

    def unpacked(self, flat: Array) -> dict[str, Array]:
        """Arrays by name out of what `packed` became on the host."""
        found, begin = {}, 0
        for f in fields(self):
            shape = getattr(self, f.name).shape
            found[f.name] = flat[begin : begin + shape.numel()].reshape(shape)
            begin += shape.numel()
        return found


@dataclass(frozen=True)
class Search:
    """A search of fixed structure. Without `go_on`, nothing in it waits for the device: it can be captured and replayed.

    Attributes:
        objective: what is minimised
        algorithm: how
        steps: denoising steps
        traces: number of the cheapest samples whose positions are wanted
        guide: where the demonstrated path comes from, or None
    """

    objective: Objective
    algorithm: Algorithm
    steps: int
    traces: int
    guide: Guide | None

    def __call__(
        self, numbers: Mapping[str, torch.Tensor], noise: torch.Tensor, go_on: Callable[[int], bool] | None = None
    ) -> Outcome:
        """Search.

        Args:
            numbers: those of the problem; `mean` and `spread` (num_knots, nu) that the plan before ended with, `levels` (steps,
                num_knots), `live` (k,) and `setback` (), see `Belief`; `demonstrated` (), row of the demonstrated path, where there
                is one
            noise: (steps, samples, num_knots, nu) standard normal
            go_on: asked after each denoising step but the last whether there is time for the next
        """
        objective, algorithm = self.objective, self.algorithm
        problem, belief = self.begin(numbers)
        kept: list[torch.Tensor] = []
        for step in range(self.steps):
            knots = algorithm.sample(belief, step, noise[step])
            found = objective.evaluate(problem, knots)
            ranks = search_costs(found)
            belief, weights = algorithm.update(belief, knots, ranks)
            if found.violation is not None:
                kept.append(knots[_cheapest(ranks, 1)])
            if go_on is not None and step + 1 < self.steps and not go_on(step):
                break
        # Before other knots are rolled out: the paths lie in memory that the backend may use again.
        outcome = self.conclude(belief, knots, found, ranks, weights)
        if not kept:
            return outcome
        mean, violation = self._safest(problem, torch.cat((belief.mean[None], *reversed(kept))))
        return replace(outcome, mean=mean, controls=objective.controls(mean), violation=violation)

    def begin(self, numbers: Mapping[str, torch.Tensor]) -> tuple[Problem, Belief]:
        """What numbers, as above, ask for, and where the search for it starts."""
        problem = self.objective.problem(numbers)
        if self.guide is not None:
            problem = replace(problem, demonstration=self.guide.ahead(numbers["demonstrated"].long(), problem))
        belief = Belief(numbers["mean"], numbers["spread"], numbers["levels"][..., None], numbers["live"], numbers["setback"])
        return problem, self.algorithm.start(belief)

    def conclude(
        self, belief: Belief, knots: torch.Tensor, found: Trajectories, ranks: torch.Tensor, weights: torch.Tensor
    ) -> Outcome:
        """The outcome, where nothing constrains it.

        Args:
            belief: what is known in the end
            knots: (samples, num_knots, nu) of the last step
            found: what came of these
            ranks: (samples,) costs of these that weights are made of
            weights: (samples,) of these
        """
        order = _cheapest(ranks, max(self.traces, 1))
        best, paths = order[:1], found.qpos[order]
        return Outcome(
            mean=belief.mean,
            spread=belief.spread,
            controls=self.objective.controls(belief.mean),
            path=paths[0],
            traces=paths[: self.traces],
            terms=found.terms.index_select(1, best),
            cost=found.costs.index_select(0, best),
            costs=found.costs,
            weights=weights,
            noise=knots.std(0, correction=0).mean()[None],
            violations=knots.new_zeros(1) if found.violation is None else found.violation,
            violation=knots.new_zeros(1),
        )

    def _safest(self, problem: Problem, knots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first of the knots (k, num_knots, nu) that violate constraints least, and by how much they break them."""
        # Half-way between two ways round an obstacle lies the obstacle: the mean may be worse than the samples it comes from, and
        # so may be all samples that are drawn round it.
        found = self.objective.evaluate(replace(problem, demonstration=None), knots)
        assert found.violation is not None, "the task has constraints"
        assert found.breach is not None, "the task has constraints"
        chosen = found.violation.argmin()[None]
        return knots[chosen][0], found.breach[chosen]


def _cheapest(costs: torch.Tensor, count: int) -> torch.Tensor:
    """Rows of the `count` least costs (samples,), none of them NaN, the least first."""
    # Both give the first of equals, which is the mean itself.
    return costs.argmin()[None] if count == 1 else costs.argsort(stable=True)[:count]
