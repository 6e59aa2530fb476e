"""Offline reinforcement learning in the point robot's maze, improved by guidance or regression.

The data are a wandering controller's, which goes to one random place after another. An episode ends
at the goal or at a wall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion_mpc.benchmark import point_maze
from diffusion_mpc.benchmark.toy_distributions import fit
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.optimality import advantage_weights, optimality
from diffusion_mpc.run_file import Figures

GOAL, NEAR = torch.tensor([0.5, 2.5]), 0.3
"""The one goal, at an end of the corridor, and the distance at which a goal is reached, m."""

DISCOUNT, LENGTH, LAST = 0.95, 300, 100
"""Discount a step, steps of a trajectory, and the last of them, from which nothing is learnt.

From an earlier step on, whatever the end of the trajectory hides is worth 0.95^100 = 0.006 at most.
"""

HORIZON = 40
"""Steps of an episode; straight from one end of the corridor to the other takes some 30."""

WEIGHTS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Weights of guidance."""

TEMPERATURES = (0.3, 1.0, 3.0)
"""Temperatures of advantage-weighted regression, in standard deviations of the advantage."""

STEPS, WIDTH, DEPTH = 16, 128, 3
"""Evaluations of the network when sampling, and its size."""


def observed(states: Tensor) -> Tensor:
    """States (n, 4) as networks see them, of the order of 1."""
    return torch.cat((_scaled(states[:, :2]), states[:, 2:] / 2.0), dim=1)


def time_to_first(happens: Tensor) -> Tensor:
    """Steps (n, t) from each step to the first later one at which something happens, or infinity.

    Args:
        happens: (n, t) whether it happens at a step
    """
    left = torch.full_like(happens, math.inf, dtype=torch.float32)
    for t in range(happens.shape[1] - 2, -1, -1):
        left[:, t] = torch.where(happens[:, t + 1], 1.0, left[:, t + 1] + 1.0)
    return left


def returns_to_go(states: Tensor, goal: Tensor) -> Tensor:
    """Discounted returns (n, t): `DISCOUNT^(k - 1)` if the goal is reached in k steps.

    0 if a wall comes first.

    Args:
        states: (n, t, 4)
        goal: (2,) m
    """
    reached = time_to_first((states[..., :2] - goal).norm(dim=-1) < NEAR)
    touched = time_to_first(point_maze.depth(states[..., :2]) > 0.0)
    return torch.where(reached < touched, DISCOUNT ** (reached - 1.0), 0.0)


def starts(count: int, source: torch.Generator) -> Tensor:
    """States at rest (count, 4), anywhere but at a wall or at the one goal."""
    drawn = point_maze.SIZE * torch.rand(20 * count, 2, generator=source)
    free = (point_maze.depth(drawn, margin=0.2) == 0.0) & ((drawn - GOAL).norm(dim=1) > 2 * NEAR)
    return torch.cat((drawn[free][:count], torch.zeros(count, 2)), dim=1)


@dataclass(frozen=True)
class OfflineData:
    """Steps of wanderers on the way to the one goal.

    Attributes:
        pairs: actions (n, 1, 2) in [-1, 1] and observed states (n, 4)
        returns: (n,) discounted returns
        advantage: (n,) returns less a learnt value of the states, in standard deviations
    """

    pairs: tuple[Tensor, Tensor]
    returns: Tensor
    advantage: Tensor


def offline(rows: int, steps: int, source: torch.Generator, seed: int) -> OfflineData:
    """About so many rows, and so many gradient steps of the value."""
    data = _wander(rows, source)
    learnt = data[:, :-LAST]
    kept = (point_maze.depth(learnt[..., :2]) == 0.0) & (
        (learnt[..., :2] - GOAL).norm(dim=-1) >= NEAR
    )
    returns = returns_to_go(data[..., :4], GOAL)[:, :-LAST][kept]
    seen = observed(learnt[kept][:, :4])
    advantage = returns - _value(seen, returns, steps, seed)
    return OfflineData((_actions(learnt[kept]), seen), returns, advantage / advantage.std())


def one_goal(rows: int, steps: int, episodes: int, seed: int) -> list[Figures]:
    """Returns of the data, of guidance by optimality with each weight, and of regression.

    Args:
        rows: training rows
        steps: gradient steps of each network
        episodes: episodes of each policy
        seed: seed of data, networks and episodes
    """
    source = torch.Generator().manual_seed(seed)
    data = offline(rows, steps, source, seed)
    start = starts(episodes, source)
    found = [
        {"method": "data", "setting": None, "mean_return": float(data.returns.mean())},
        *guided(data, steps, start, seed),
        *regressed(data, steps, start, seed),
    ]
    return [{"part": "maze", "problem": "one goal", "seed": seed, **row} for row in found]


def guided(data: OfflineData, steps: int, start: Tensor, seed: int) -> list[Figures]:
    """Figures of CFGRL with each weight, from starts (n, 4)."""
    model = fit(_config(label=1), data.pairs, steps, seed, optimality(data.advantage))
    goal, label = GOAL.expand(len(start), 2), torch.ones(len(start), 1)
    return [
        {"method": "CFGRL", "setting": w, **_act(model, start, goal, label, w, seed)}
        for w in WEIGHTS
    ]


def regressed(data: OfflineData, steps: int, start: Tensor, seed: int) -> list[Figures]:
    """Figures of advantage-weighted regression with each temperature, from starts (n, 4)."""
    goal, found = GOAL.expand(len(start), 2), []
    for temperature in TEMPERATURES:
        weight = advantage_weights(data.advantage, temperature)
        model = fit(_config(label=0), data.pairs, steps, seed, weight=weight)
        figures = _act(model, start, goal, None, 1.0, seed)
        found.append({"method": "AWR", "setting": temperature, **figures})
    return found


def any_goal(rows: int, steps: int, episodes: int, seed: int) -> list[Figures]:
    """Returns and successes against the weight of guidance by the goal.

    Training takes a later place of the same trajectory for the goal. Weight 1 is goal-conditioned
    behaviour cloning, weight 0 the data's policy. Arguments as of `one_goal`.
    """
    source = torch.Generator().manual_seed(seed)
    data = _wander(rows, source)
    n, length = data.shape[0], LENGTH - LAST
    draw = torch.rand(n, length, generator=source)
    later = (draw.log() / math.log(DISCOUNT)).long().clamp(max=LAST - 1) + 1
    touched = time_to_first(point_maze.depth(data[..., :2]) > 0.0)[:, :length]
    kept = (point_maze.depth(data[:, :length, :2]) == 0.0) & (later < touched)
    goals = data[torch.arange(n)[:, None], torch.arange(length) + later, :2][kept]
    chosen = data[:, :length][kept]
    model = fit(
        _config(label=2),
        (_actions(chosen), observed(chosen[:, :4])),
        steps,
        seed,
        _scaled(goals),
    )
    start, goal = starts(episodes, source), starts(episodes, source)[:, :2]
    found = [
        {"method": "goal", "setting": w, **_act(model, start, goal, _scaled(goal), w, seed)}
        for w in WEIGHTS
    ]
    return [{"part": "maze", "problem": "any goal", "seed": seed, **row} for row in found]


def _wander(rows: int, source: torch.Generator) -> Tensor:
    """Trajectories (n, LENGTH, 6) with so many rows to learn from, about."""
    return point_maze.wander(max(2, rows // (LENGTH - LAST)), LENGTH, source)


def _actions(rows: Tensor) -> Tensor:
    """Actions of rows (n, 6) as sequences (n, 1, 2) in [-1, 1]."""
    return rows[:, None, 4:] / point_maze.MAX_ACCELERATION


def _scaled(position: Tensor) -> Tensor:
    """Positions (n, 2) in [-1, 1]."""
    return position / (point_maze.SIZE / 2.0) - 1.0


def _config(label: int) -> DenoiserConfig:
    return DenoiserConfig(1, 2, 4, label=label, width=WIDTH, depth=DEPTH)


def _value(seen: Tensor, gained: Tensor, steps: int, seed: int) -> Tensor:
    """Mean return (n,) of the data's policy from states as networks see them, by regression."""
    torch.manual_seed(seed)
    source = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
    model.append(nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(steps):
        i = torch.randint(len(seen), (256,), generator=source)
        loss = (model(seen[i])[:, 0] - gained[i]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        return model(seen)[:, 0].clone()


@torch.inference_mode()
def _act(
    model: Denoiser, start: Tensor, goal: Tensor, label: Tensor | None, guidance: float, seed: int
) -> Figures:
    """Mean return, and fractions that reach the goal and that touch a wall."""
    source = torch.Generator().manual_seed(1000 + seed)
    states, gained = start, torch.zeros(len(start))
    running, touched = (
        torch.ones(len(start), dtype=torch.bool),
        torch.zeros(len(start), dtype=torch.bool),
    )
    for t in range(HORIZON):
        noise = torch.randn(len(start), 1, 2, generator=source)
        action = model.sample(observed(states), noise, STEPS, label, guidance)[:, 0]
        states = point_maze.move(states, point_maze.MAX_ACCELERATION * action)
        wall = running & (point_maze.depth(states[:, :2]) > 0.0)
        reached = running & ~wall & ((states[:, :2] - goal).norm(dim=1) < NEAR)
        gained[reached] = DISCOUNT**t
        touched |= wall
        running &= ~(wall | reached)
        if not running.any():
            break
    return {
        "mean_return": float(gained.mean()),
        "success": float((gained > 0.0).float().mean()),
        "touched": float(touched.float().mean()),
    }
