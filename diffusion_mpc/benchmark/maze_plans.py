"""Plans of a Diffuser in a U-shaped maze: guided, selected, followed by a controller."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_mpc.benchmark import point_maze as maze
from diffusion_mpc.benchmark.network_training import batch, train
from diffusion_mpc.policy.diffuser import (
    Candidates,
    Diffuser,
    DiffuserConfig,
    Guidance,
    TrajectoryCost,
)
from diffusion_mpc.run_file import Figures

HORIZON, CANDIDATES, MARGIN, NEAR, REPLAN = 32, 16, 0.1, 0.1, 8
ZONE, RADIUS = torch.tensor([2.3, 1.5]), 0.3
"""Disc to stay out of, of which training knew nothing."""


def walls(x: Tensor) -> Tensor:
    """Cost (batch,) of being in walls that are thicker by a margin: summed depth, m."""
    return maze.depth(x[..., :2], MARGIN).sum(-1)


def zone(x: Tensor) -> Tensor:
    """Cost (batch,) of being in the disc: summed depth, m."""
    return (RADIUS - (x[..., :2] - ZONE).norm(dim=-1)).clamp(min=0.0).sum(-1)


VARIANTS: tuple[tuple[str, Sequence[TrajectoryCost]], ...] = (
    ("unguided", ()),
    ("guided", (walls,)),
    ("guided, two costs", (walls, zone)),
)


def maze_figures(
    steps: int, problems: int, width: int, scale: float, generator: torch.Generator
) -> list[Figures]:
    """Figures of plans at half, the same and double the horizon of training.

    Args:
        steps: gradient steps
        problems: starts and goals at each horizon
        width: channels of the U-Net at the first resolution
        scale: scale of the guidance
        generator: source of data, training and samples
    """
    data = maze.wander(200, 600, generator)
    training, rest = data[:-40], data[-40:]
    pieces = maze.windows(training, HORIZON, 4)
    model = Diffuser(DiffuserConfig(4, 2, HORIZON, goal=(0, 1), width=width))
    model.fit_limits(pieces)
    train(model, lambda: model.loss(batch(pieces, 64, generator), generator), steps)
    rows = []
    for horizon in (HORIZON // 2, HORIZON, 2 * HORIZON):
        found = maze.windows(rest, horizon, horizon)
        given = found[torch.randperm(len(found), generator=generator)[:problems]]
        for name, costs in VARIANTS:
            guidance = Guidance(costs, scale)
            made = _plan(model, given, guidance, generator)
            for count in (1, CANDIDATES):
                label = name if count == 1 else f"best of {count} {name}"
                rows.append({"horizon": horizon, "plans": label, **_judge(made, given, count)})
        made = _replan(model, given, Guidance((walls,), scale), generator)
        label = f"guided, new plan every {REPLAN} rows"
        rows.append({"horizon": horizon, "plans": label, **_judge(made, given, 1)})
    return rows


def _plan(
    model: Diffuser, given: Tensor, guidance: Guidance, generator: torch.Generator
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
        guidance=guidance,
    )
    return model.roll_out(made, maze.follow, lambda x: _cost(x, goals, guidance.costs))


def _replan(
    model: Diffuser, given: Tensor, guidance: Guidance, generator: torch.Generator
) -> Candidates:
    """Plans of the rest of the way from where the robot is; "sampled" is what each plan said."""
    goals, state, left = given[:, -1, :2], given[:, 0, :4], given.shape[1]
    sampled, executed = [], []
    while left > 0:
        made = model.sample(
            len(given), generator, horizon=left, start=state, goal=goals, guidance=guidance
        )
        # A short rest is too short for a plan: the last one is followed to its end.
        rows = REPLAN if left >= 2 * REPLAN else left
        followed = maze.follow(made)
        sampled.append(made[:, :rows])
        executed.append(followed[:, :rows])
        state = maze.move(followed[:, rows - 1, :4], followed[:, rows - 1, 4:])
        left -= rows
    whole, truth = torch.cat(sampled, 1), torch.cat(executed, 1)
    return model.roll_out(whole, lambda _: truth, lambda x: _cost(x, goals, guidance.costs))


def _cost(x: Tensor, goals: Tensor, costs: Sequence[TrajectoryCost]) -> Tensor:
    """Costs (batch,) by which candidates are selected."""
    own = 1e3 * maze.depth(x[..., :2]).amax(-1) + (x[:, -1, :2] - goals).norm(dim=-1)
    return own + 1e3 * zone(x) if zone in costs else own


def _judge(made: Candidates, given: Tensor, count: int) -> Figures:
    """Figures over problems of the best of the first `count` candidates of each."""
    each = len(made.costs) // len(given)
    costs = made.costs.reshape(len(given), each)[:, :count]
    best = costs.argmin(1) + each * torch.arange(len(given))
    sampled, followed = made.trajectories[best], made.executed[best]
    obeyed, goals = maze.obey(sampled), given[:, -1, :2]

    def free(x: Tensor) -> Tensor:
        return (maze.depth(x[..., :2]) == 0.0).all(1)

    def near(x: Tensor) -> Tensor:
        return (x[:, -1, :2] - goals).norm(dim=-1) < NEAR

    def fraction(x: Tensor) -> float:
        return float(x.float().mean())

    outside = zone(followed) == 0.0
    return {
        "start_error": float((sampled[:, 0, :4] - given[:, 0, :4]).abs().max()),
        "goal_as_sampled": fraction(near(sampled)),
        "free_as_sampled": fraction(free(sampled)),
        "goal": fraction(near(followed)),
        "free": fraction(free(followed)),
        "both": fraction(near(followed) & free(followed)),
        "outside_zone": fraction(outside),
        "all": fraction(near(followed) & free(followed) & outside),
        "open_loop_goal": fraction(near(obeyed)),
        "open_loop_free": fraction(free(obeyed)),
        "distance": float(made.distances[best].mean()),
    }
