"""`benchmark trajectories`: Diffuser in a maze, Policy-Guided Diffusion on a linear system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from cyclopts.types import PositiveInt
from rich.table import Table
from torch import Tensor, nn

from diffusion_mpc.benchmark import linear_gaussian as linear
from diffusion_mpc.benchmark import point_maze as maze
from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.figures import Row, number, table
from diffusion_mpc.benchmark.runs import Figures
from diffusion_mpc.policy.denoiser import MovingAverage
from diffusion_mpc.policy.diffuser import (
    Candidates,
    Diffuser,
    DiffuserConfig,
    Guidance,
    TrajectoryCost,
)
from diffusion_mpc.policy.policy_guided import OneStepModel, policy_guidance

HORIZON, CANDIDATES, MARGIN, NEAR = 32, 16, 0.1, 0.1
ZONE, RADIUS = torch.tensor([2.3, 1.5]), 0.3
"""Disc to stay out of, of which training knew nothing."""

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Lambdas of Policy-Guided Diffusion."""

STEPS = (1, 4, 8, 15)
"""Steps at which errors of the dynamics are reported."""


@dataclass(frozen=True, kw_only=True)
class TrajectoryDiffusion(Benchmark):
    """Train and judge generative models of trajectories on systems with known answers.

    A point robot finds its way through a U-shaped corridor (Diffuser), and trajectories of one
    policy are tilted to another one's (Policy-Guided Diffusion).

    example: diffusion-mpc benchmark trajectories --json trajectories.json

    Attributes:
        training_steps: gradient steps of each network
        problems: starts and goals in the maze
        samples: trajectories of the linear system
        width: channels of the U-Net at the first resolution
        scale: scale of the guidance in the maze
        seed: seed of data, networks and samples
        threads: threads of torch
    """

    training_steps: PositiveInt = 3000
    problems: PositiveInt = 32
    samples: PositiveInt = 500
    width: PositiveInt = 16
    scale: float = 1.0
    seed: int = 0
    threads: PositiveInt = 1

    def report(self) -> Report:
        """Figures: rows of the maze; "policy_guided" and "dynamics" of the linear system."""
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        rows = self._maze(generator)
        return {"complete": True, "rows": rows, **self._linear(generator)}

    def tables(self, report: Report) -> list[Table]:
        """Plans in the maze, distances to the target policy, errors of the dynamics."""
        return [
            table("plans in the maze", report["rows"], _maze_cells, left=("plans",), wrap=True),
            table("distance to trajectories", report["policy_guided"], _guided_cells),
            table(
                "error of the states against the system's own under the same actions",
                report["dynamics"],
                _dynamics_cells,
                left=("trajectories",),
            ),
        ]

    def _maze(self, generator: torch.Generator) -> list[Figures]:
        data = maze.wander(200, 600, generator)
        training, rest = data[:-40], data[-40:]
        pieces = maze.windows(training, HORIZON, 4)
        model = Diffuser(DiffuserConfig(4, 2, HORIZON, goal=(0, 1), width=self.width))
        model.fit_limits(pieces)
        self._train(model, lambda: model.loss(_batch(pieces, generator), generator))
        rows = []
        for horizon in (HORIZON // 2, HORIZON, 2 * HORIZON):
            found = maze.windows(rest, horizon, horizon)
            given = found[torch.randperm(len(found), generator=generator)[: self.problems]]
            for name, costs in (
                ("unguided", ()),
                ("guided", (walls,)),
                ("guided, two costs", (walls, zone)),
            ):
                made = self._plan(model, given, costs, generator)
                for count in (1, CANDIDATES):
                    label = name if count == 1 else f"best of {count} {name}"
                    rows.append({"horizon": horizon, "plans": label, **_judge(made, given, count)})
        return rows

    def _plan(
        self,
        model: Diffuser,
        given: Tensor,
        costs: Sequence[TrajectoryCost],
        generator: torch.Generator,
    ) -> Candidates:
        """Candidates of all problems, those of a problem one after the other."""
        repeated = given.repeat_interleave(CANDIDATES, 0)
        goals = repeated[:, -1, :2]
        made = model.sample(
            len(repeated),
            generator,
            horizon=given.shape[1],
            start=repeated[:, 0, :4],
            goal=goals,
            guidance=Guidance(costs, self.scale) if costs else None,
        )

        def cost(states: Tensor, actions: Tensor) -> Tensor:
            rolled = torch.cat((states, actions), -1)
            own = 1e3 * maze.depth(states[..., :2]).amax(-1)
            own = own + (states[:, -1, :2] - goals).norm(dim=-1)
            return own + 1e3 * zone(rolled) if zone in costs else own

        return model.roll_out(made, maze.roll_out, cost)

    def _linear(self, generator: torch.Generator) -> Report:
        data = linear.trajectories(4000, linear.BEHAVIOUR, generator)
        config = DiffuserConfig(linear.STATES, linear.ACTIONS, linear.HORIZON, width=self.width)
        model = Diffuser(config)
        model.fit_limits(data)
        self._train(model, lambda: model.loss(_batch(data, generator), generator))
        one_step = OneStepModel(linear.STATES, linear.ACTIONS)
        states, actions = model.split(data)
        moves = [x.flatten(0, 1) for x in (states[:, :-1], actions[:, :-1], states[:, 1:])]
        one_step.fit_limits(*moves)

        def loss() -> Tensor:
            i = torch.randint(len(moves[0]), (512,), generator=generator)
            return one_step.loss(*(x[i] for x in moves))

        self._train(one_step, loss)
        guided, dynamics = [], []
        for strength in STRENGTHS:
            adjust = policy_guidance(model, linear.log_density, strength)
            made = model.sample(self.samples, generator, adjust=adjust)
            guided.append(
                {
                    "strength": strength,
                    "target": linear.distance(made, linear.TARGET),
                    "behaviour": linear.distance(made, linear.BEHAVIOUR),
                }
            )
            dynamics.append(
                {
                    "trajectories": f"policy-guided, lambda {strength:g}",
                    **_errors(*model.split(made)),
                }
            )
        start = torch.randn((self.samples, linear.STATES), generator=generator)
        with torch.no_grad():
            rolled = one_step.roll_out(
                start, lambda s: linear.act(s, linear.TARGET, generator), linear.HORIZON
            )
        dynamics.append({"trajectories": "one-step model, target policy", **_errors(*rolled)})
        exact = linear.trajectories(self.samples, linear.TARGET, generator)
        return {
            "policy_guided": guided,
            "dynamics": dynamics,
            "one_step_distance": linear.distance(torch.cat(rolled, -1), linear.TARGET),
            "sampling_distance": linear.distance(exact, linear.TARGET),
        }

    def _train(self, module: nn.Module, loss: Callable[[], Tensor]) -> None:
        """Minimise a loss; the module ends with averaged parameters."""
        optimiser = torch.optim.AdamW(module.parameters(), 1e-3, weight_decay=1e-6)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, 2e-3, total_steps=self.training_steps + 1
        )
        average = MovingAverage(module)
        for _ in range(self.training_steps):
            optimiser.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            average.update(module)
        average.copy_to(module)
        module.eval()


def walls(x: Tensor) -> Tensor:
    """Cost (batch,) of being in walls that are thicker by a margin: summed depth, m."""
    return maze.depth(x[..., :2], MARGIN).sum(-1)


def zone(x: Tensor) -> Tensor:
    """Cost (batch,) of being in the disc: summed depth, m."""
    return (RADIUS - (x[..., :2] - ZONE).norm(dim=-1)).clamp(min=0.0).sum(-1)


def _batch(data: Tensor, generator: torch.Generator) -> Tensor:
    return data[torch.randint(len(data), (32,), generator=generator)]


def _judge(made: Candidates, given: Tensor, count: int) -> Figures:
    """Figures over problems of the best of the first `count` candidates of each."""
    costs = made.costs.reshape(len(given), CANDIDATES)[:, :count]
    best = costs.argmin(1) + CANDIDATES * torch.arange(len(given))
    rolled, sampled = made.states[best, :, :2], made.trajectories[best]
    goals = given[:, -1, :2]
    free = (maze.depth(rolled) == 0.0).all(1)
    near = (rolled[:, -1] - goals).norm(dim=-1) < NEAR
    return {
        "start_error": float((sampled[:, 0, :4] - given[:, 0, :4]).abs().max()),
        "goal_as_sampled": float(((sampled[:, -1, :2] - goals).norm(dim=-1) < NEAR).float().mean()),
        "free_as_sampled": float((maze.depth(sampled[..., :2]) == 0.0).all(1).float().mean()),
        "goal": float(near.float().mean()),
        "free": float(free.float().mean()),
        "both": float((near & free).float().mean()),
        "outside_zone": float((zone(rolled) == 0.0).float().mean()),
        "distance": float(made.distances[best].mean()),
    }


def _errors(states: Tensor, actions: Tensor) -> Figures:
    """Mean distance to the system's own states, step by step and in the long run."""
    apart = (states - linear.roll_out(states[:, 0], actions)).norm(dim=-1).mean(0)
    one = (states[:, 1:] - linear.move(states[:, :-1], actions[:, :-1])).norm(dim=-1).mean()
    return {"one_step": float(one), **{f"step_{t}": float(apart[t]) for t in STEPS}}


def _maze_cells(row: Row) -> dict[str, str]:
    return {
        "rows": str(row["horizon"]),
        "plans": row["plans"],
        "start error": number(row["start_error"]),
        "goal, sampled": f"{row['goal_as_sampled']:.0%}",
        "no wall, sampled": f"{row['free_as_sampled']:.0%}",
        "goal, rolled out": f"{row['goal']:.0%}",
        "no wall, rolled out": f"{row['free']:.0%}",
        "both": f"{row['both']:.0%}",
        "outside disc": f"{row['outside_zone']:.0%}",
        "sampled to rolled out, m": number(row["distance"]),
    }


def _guided_cells(row: Row) -> dict[str, str]:
    return {
        "lambda": f"{row['strength']:g}",
        "of the target policy": number(row["target"]),
        "of the behaviour": number(row["behaviour"]),
    }


def _dynamics_cells(row: Row) -> dict[str, str]:
    return {
        "trajectories": row["trajectories"],
        "one step": number(row["one_step"]),
        **{f"after {t}": number(row[f"step_{t}"]) for t in STEPS},
    }
