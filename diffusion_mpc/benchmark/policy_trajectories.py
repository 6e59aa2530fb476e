"""Trajectories tilted to a policy, against closed forms, a one-step model and learned policies."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from diffusion_mpc.benchmark import linear_gaussian as linear
from diffusion_mpc.benchmark import stopped_pendulum as pendulum
from diffusion_mpc.benchmark.linear_gaussian import closed_form, moments_of
from diffusion_mpc.benchmark.network_training import batch, train
from diffusion_mpc.benchmark.offline_learning import Actors, Transitions, learn
from diffusion_mpc.benchmark.rollouts import Act, closed_loop, open_loop
from diffusion_mpc.policy.diffuser import Diffuser, DiffuserConfig
from diffusion_mpc.policy.policy_guided import OneStepModel, SyntheticData, policy_guidance
from diffusion_mpc.run_file import Figures

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Lambdas of the linear system."""

CHOSEN = 4.0
"""Lambda of the pendulum."""

STEPS = (1, 4, 8, 15, 31)
"""Steps at which errors of the dynamics are reported."""

LEVELS, LEARNERS, EPISODE, TOLERANCE = 64, 8, 100, 0.05


@dataclass(frozen=True)
class Learned:
    """Models of a system that saw the same data.

    Attributes:
        data: (count, horizon, states + actions) of the behaviour
        trajectories: model of whole trajectories
        one_step: model of a step
    """

    data: Tensor
    trajectories: Diffuser
    one_step: OneStepModel


def learn_system(system: ModuleType, count: int, steps: int, generator: torch.Generator) -> Learned:
    """Models of `count` trajectories of a system under its behaviour policy."""
    data = closed_loop(
        system.move,
        system.starts(count, generator),
        lambda s: system.BEHAVIOUR.act(s, generator),
        system.HORIZON,
    )
    model = Diffuser(
        DiffuserConfig(
            system.STATES, system.ACTIONS, system.HORIZON, body="mlp", levels=LEVELS, width=256
        )
    )
    model.fit_limits(data)
    train(model, lambda: model.loss(batch(data, 256, generator), generator), steps)
    one_step = OneStepModel(system.STATES, system.ACTIONS)
    states, actions = model.split(data)
    moves = [x.flatten(0, 1) for x in (states[:, :-1], actions[:, :-1], states[:, 1:])]
    one_step.fit_limits(*moves)

    def loss() -> Tensor:
        i = torch.randint(len(moves[0]), (512,), generator=generator)
        return one_step.loss(*(x[i] for x in moves))

    train(one_step, loss, steps)
    return Learned(data, model, one_step)


def linear_figures(
    learned: Learned, samples: int, generator: torch.Generator
) -> dict[str, list[Figures]]:
    """Distances to the target policy's trajectories by lambda, and errors of the dynamics."""
    target, behaviour = closed_form(linear.TARGET), closed_form(linear.BEHAVIOUR)
    model, dynamics = learned.trajectories, []
    rows: list[Figures] = []
    for strength in STRENGTHS:
        adjust = policy_guidance(model, linear.TARGET.log_density, strength)
        start = linear.starts(samples, generator)
        made = model.sample(samples, generator, start=start, adjust=adjust)
        rows.append(
            {
                "strength": strength,
                "target": moments_of(made).distance(target),
                "exact": closed_form(linear.BEHAVIOUR, linear.TARGET, strength).distance(target),
                "behaviour": moments_of(made).distance(behaviour),
            }
        )
        dynamics.append(_errors(linear, f"lambda {strength:g}", made))
    rolled = _rolled(linear, learned, samples, generator)
    dynamics.append(_errors(linear, "one-step model", rolled))
    start = linear.starts(samples, generator)
    exact = closed_loop(
        linear.move, start, lambda s: linear.TARGET.act(s, generator), linear.HORIZON
    )
    for name, made in (("one-step model", rolled), ("the target policy's own", exact)):
        rows.append({"strength": name, "target": moments_of(made).distance(target)})
    return {"policy_guided": rows, "dynamics": dynamics}


def pendulum_dynamics(learned: Learned, samples: int, generator: torch.Generator) -> list[Figures]:
    """Errors of the dynamics under a target policy."""
    model, rows = learned.trajectories, []
    for strength in (0.0, CHOSEN):
        adjust = policy_guidance(model, pendulum.TARGET.log_density, strength)
        start = pendulum.starts(samples, generator)
        made = model.sample(samples, generator, start=start, adjust=adjust)
        rows.append(_errors(pendulum, f"lambda {strength:g}", made))
    rolled = _rolled(pendulum, learned, samples, generator)
    return [*rows, _errors(pendulum, "one-step model", rolled)]


def pendulum_policies(learned: Learned, steps: int, generator: torch.Generator) -> list[Figures]:
    """Returns on the pendulum of policies learned from recorded, synthetic and both data."""
    states, actions = learned.trajectories.split(learned.data)
    # Learners differ in their networks and batches alone.
    recorded = _transitions(states.repeat(LEARNERS, 1, 1), actions.repeat(LEARNERS, 1, 1))
    first = learn(recorded, steps, generator)
    untilted, _ = _synthesise(learned, first, 0.0, generator)
    tilted, checked = _synthesise(learned, first, CHOSEN, generator)
    start = pendulum.starts(200, generator).expand(LEARNERS, -1, -1)
    rows = [
        _returns("neither: the behaviour", lambda s: pendulum.BEHAVIOUR.act(s, generator), start),
        _returns("neither: the behaviour's mean", pendulum.BEHAVIOUR.mean, start),
        _returns("recorded", first, start),
    ]
    for name, data in (
        ("synthetic, lambda 0", untilted),
        (f"synthetic, lambda {CHOSEN:g}", tilted),
        (f"recorded and synthetic, lambda {CHOSEN:g}", recorded.with_more(tilted)),
        (f"the same, errors below {TOLERANCE:g}", recorded.with_more(checked)),
    ):
        rows.append(_returns(name, learn(data, steps, generator), start))
    return rows


def _synthesise(
    learned: Learned, actors: Actors, strength: float, generator: torch.Generator
) -> tuple[Transitions, Transitions]:
    """Transitions tilted to each learner's policy; and those of small error alone."""
    model, each = learned.trajectories, len(learned.data) // LEARNERS

    def log_density(states: Tensor, actions: Tensor) -> Tensor:
        wanted = actors(states.reshape(LEARNERS, each, *states.shape[1:])).flatten(0, 1)
        return -0.5 * ((actions - wanted) / pendulum.TARGET.noise).square().sum(-1)

    count = LEARNERS * each
    start = batch(learned.data[:, 0, : pendulum.STATES], count, generator)
    made = model.sample(
        count, generator, start=start, adjust=policy_guidance(model, log_density, strength)
    )
    data = SyntheticData.check(*model.split(made), pendulum.move)
    every = _transitions(data.states, data.actions)
    errors = data.errors.reshape(LEARNERS, -1)
    # As many of each learner, so that they stay one tensor: those of the least error.
    fewest = int((errors < TOLERANCE).sum(1).amin().clamp(min=1))
    return every, every.pick(errors.argsort(1)[:, :fewest])


def _transitions(states: Tensor, actions: Tensor) -> Transitions:
    """Transitions of trajectories, those of a learner one after the other."""

    def split(x: Tensor) -> Tensor:
        return x.reshape(LEARNERS, -1, *x.shape[2:])

    before, action = states[:, :-1], actions[:, :-1]
    rewards = split(pendulum.reward(before, action))
    return Transitions(split(before), split(action), rewards, split(states[:, 1:]))


@torch.no_grad()
def _returns(name: str, act: Act, start: Tensor) -> Figures:
    """Mean reward of a step in episodes (learners, episodes), over learners."""
    states, total = start, torch.zeros(start.shape[:2])
    for _ in range(EPISODE):
        actions = act(states)
        total += pendulum.reward(states, actions) / EPISODE
        states = pendulum.move(states, actions)
    return {
        "data": name,
        "reward": float(total.mean()),
        "over_learners": float(total.mean(1).std()),
        "over_starts": float(total.std(1).mean()),
    }


@torch.no_grad()
def _rolled(
    system: ModuleType, learned: Learned, samples: int, generator: torch.Generator
) -> Tensor:
    """Trajectories of the one-step model under the target policy."""
    start = system.starts(samples, generator)
    return closed_loop(
        learned.one_step, start, lambda s: system.TARGET.act(s, generator), system.HORIZON
    )


def _errors(system: ModuleType, name: str, made: Tensor) -> Figures:
    """Mean distance to the system's own states, step by step and in the long run."""
    states, actions = made[..., : system.STATES], made[..., system.STATES :]
    checked = SyntheticData.check(states, actions, system.move)
    apart = (states - open_loop(system.move, states[:, 0], actions)).norm(dim=-1).mean(0)
    return {
        "trajectories": name,
        "one_step": float(checked.errors.mean()),
        **{f"step_{t}": float(apart[t]) for t in STEPS if t < system.HORIZON},
    }
