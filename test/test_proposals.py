"""A policy's plans among the samples: they can help, and a policy that is wrong harms nothing."""

import dataclasses
import re
import time
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from test_learning import planner_config, untrained

from diffusion_mpc.config import (
    ConfigError,
    PlannerNodeConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.planner.demonstration import ChunkGuide
from diffusion_mpc.planner.proposals import proposed_rows, replace_rows, take_proposal
from diffusion_mpc.planner.score import search_costs
from diffusion_mpc.policy.checkpoint import locate, read_description, save_checkpoint
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.generative_processes import make_process
from diffusion_mpc.policy.value import Value, ValueConfig
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.runtime.health import Health
from diffusion_mpc.simulation.closed_loop import run_episode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import initial_state
from diffusion_mpc.types import Reference


def controller(**values):
    small = {"planner.num_samples": 16, "planner.iterations": 2, "planner.horizon_steps": 20}
    config, terms = planner_config(**{**small, **values})
    return Controller(find_task("cartpole")(), config, terms)


def plans(loop, count=4):
    state = initial_state(loop.task, loop.backend.model)
    return [
        loop.plan(dataclasses.replace(state, stamp=0.02 * n), Reference(), 0.02 * n)
        for n in range(count)
    ]


def knots(loop, count=4):
    return np.array([plan.knots for plan in plans(loop, count)])


def checkpoint(path, add=0.0, **changes):
    """An untrained policy for the small plans, or one whose parameters are moved."""
    config, _ = planner_config()
    plan = {"num_knots": 5, "horizon_steps": 20, "control_dt": config.planner.control_dt}
    plan |= {"spline": config.planner.spline, "rate": 50.0}
    untrained(path, plan=plan, **changes)
    if add:
        network = Denoiser(DenoiserConfig(5, 1, 15, symmetric=True, width=16, depth=2))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(add)
        save_checkpoint(path, network, read_description(path))
    return str(path)


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("samples", [2, 7, 16, 33])
def test_half_of_the_rows_stay_the_planners_own_and_pairs_stay_whole(samples, antithetic):
    rows = proposed_rows(samples, antithetic)

    assert len(rows) == len(set(rows)) == samples // 2
    assert 0 not in rows
    if antithetic and samples > 3:
        drawn = samples // 2
        twins = [row + drawn if row <= drawn else row - drawn for row in rows]
        alone = [r for r, t in zip(rows, twins, strict=True) if t < samples and t not in rows]
        assert len(alone) <= 1


def test_a_proposal_replaces_a_sample_and_keeps_a_part_of_its_noise():
    mean = torch.tensor([[0.1]])
    samples = torch.tensor([0.1, 0.5, -0.3, 0.9])[:, None, None]
    proposals = torch.tensor([0.6, 0.4, 0.1])[:, None, None]

    found, mine = replace_rows(samples, [3, 1, 2], mean, proposals, torch.tensor([0.0, 0.5, 0.5]))

    # Row 3 is the first proposal as it is; row 1 is .4 + .5 (.5 - .1); the third proposes nothing.
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.1, 0.6, -0.3, 0.6]))
    assert mine.tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("costs", "mean", "weights"),
    [
        # The policy's are rows 1 and 3.
        ([3.0, 2.0, 4.0, 1.0], 0.6, [0.0, 0.0, 0.0, 1.0]),
        ([3.0, 1.0, 4.0, 2.0], 0.4, [0.0, 1.0, 0.0, 0.0]),
        ([3.0, 2.0, 1.5, 9.0], 0.25, [0.5, 0.0, 0.5, 0.0]),
        # A tie, and plans that diverge, are no gain.
        ([3.0, 2.0, 2.0, 9.0], 0.25, [0.5, 0.0, 0.5, 0.0]),
        ([3.0, np.inf, 4.0, np.inf], 0.25, [0.5, 0.0, 0.5, 0.0]),
    ],
)
def test_a_policys_cheapest_plan_is_taken_as_it_is_where_no_sample_is_cheaper(costs, mean, weights):
    samples = torch.tensor([0.1, 0.4, -0.3, 0.6])[:, None, None]
    mine = torch.tensor([0.0, 1.0, 0.0, 1.0])
    found, weighed, figures = take_proposal(
        samples,
        torch.tensor(costs),
        mine,
        torch.tensor([[0.25]]),
        torch.tensor([0.5, 0.0, 0.5, 0.0]),
    )

    torch.testing.assert_close(found, torch.tensor([[mean]]))
    assert weighed.tolist() == weights
    least, others = min(costs[1], costs[3]), min(costs[0], costs[2])
    assert figures.tolist() == [2.0, float(least < others), least, others]


@pytest.mark.parametrize("fusion", ["rows", "max_rule"])
@pytest.mark.parametrize("algorithm", ["mbd", "mppi", "cem", "predictive_sampling"])
def test_an_untrained_policy_changes_nothing_to_the_last_digit(tmp_path, algorithm, fusion):
    named = {"planner.algorithm": algorithm}
    learnt = {"policy.checkpoint": checkpoint(tmp_path / "p.safetensors"), "policy.fusion": fusion}
    policy = controller(**named, **learnt)

    assert policy.policy is not None
    np.testing.assert_array_equal(knots(policy), knots(controller(**named)))


@pytest.mark.parametrize("fusion", ["rows", "max_rule"])
def test_a_fraction_of_zero_changes_nothing_to_the_last_digit(tmp_path, fusion):
    path = checkpoint(tmp_path / "p.safetensors", add=0.3)
    named = {"policy.checkpoint": path, "policy.fraction": 0.0, "policy.fusion": fusion}

    loop = controller(**named)

    np.testing.assert_array_equal(knots(loop), knots(controller()))
    assert plans(loop)[-1].stats.policy.rows == 0


def test_a_policys_plans_are_rolled_out_like_the_others_and_reported(tmp_path):
    path = checkpoint(tmp_path / "p.safetensors", add=0.3)
    made = plans(controller(**{"policy.checkpoint": path, "policy.fraction": 0.25}))
    again = plans(controller(**{"policy.checkpoint": path, "policy.fraction": 0.25}))

    assert made[0].stats.policy.rows == 4
    for plan in made:
        policy = plan.stats.policy
        assert policy.rows >= 1
        assert policy.weight == (policy.cost < policy.planner_cost)
        assert np.isfinite([policy.cost, policy.planner_cost]).all()
        assert policy.time > 0.0
        assert policy.failure == ""
    assert (made[-1].knots != plans(controller())[-1].knots).any()
    np.testing.assert_array_equal(made[-1].knots, again[-1].knots)


def test_a_chunk_is_demonstrated_where_it_rolls_out_at_its_own_cost(tmp_path):
    loop = controller()
    problem = loop.objective.pose(initial_state(loop.task, loop.backend.model), Reference())
    mean = loop.objective.origin
    samples = torch.linspace(-0.9, 0.9, 7, dtype=mean.dtype)[:, None, None].expand(-1, 5, 1)
    chunk = samples[5:6]

    guided = ChunkGuide(loop.objective, 0.5).ahead(chunk, mean, problem)
    found = loop.objective.evaluate(dataclasses.replace(problem, demonstration=guided), samples)

    alone = loop.objective.evaluate(problem, samples)
    assert float(guided.cost) == pytest.approx(float(alone.costs[5]))
    # Cart and pole at each step; the sample that is the chunk is granted its cost, others more.
    torch.testing.assert_close(guided.positions, alone.qpos[5])
    assert int(found.demo_costs.argmin()) == 5
    assert float(found.demo_costs[5]) == pytest.approx(float(guided.cost))
    # By hand: mean over steps of the squared distance, no further than .5, in units of .5.
    apart = (alone.qpos[1] - alone.qpos[5]).norm(dim=-1).clamp(max=0.5) / 0.5
    expected = float(guided.cost) + float(apart.square().mean())
    assert float(found.demo_costs[1]) == pytest.approx(expected)


def test_the_mean_or_a_chunk_that_diverges_demonstrates_nothing(tmp_path):
    loop = controller()
    problem = loop.objective.pose(initial_state(loop.task, loop.backend.model), Reference())
    mean = loop.objective.origin
    samples = torch.linspace(-0.9, 0.9, 7, dtype=mean.dtype)[:, None, None].expand(-1, 5, 1)
    alone = loop.objective.evaluate(problem, samples)

    for chunk in (mean[None], torch.full_like(mean, torch.nan)[None]):
        guided = ChunkGuide(loop.objective, 0.5).ahead(chunk, mean, problem)
        found = loop.objective.evaluate(dataclasses.replace(problem, demonstration=guided), samples)

        assert guided.cost == torch.inf
        torch.testing.assert_close(search_costs(found), search_costs(alone))


def test_by_the_max_rule_a_good_chunk_draws_the_samples_and_a_dear_one_does_not(tmp_path):
    path = checkpoint(tmp_path / "p.safetensors", add=0.3)
    named = {"policy.checkpoint": path, "policy.fusion": "max_rule"}
    task = find_task("cartpole")()
    tilted = initial_state(task, task.model)
    tilted.qpos[1] += 0.4

    def plan(loop):
        return loop.plan(tilted, Reference(), 0.0)

    good = plan(controller(**{"planner.num_samples": 512, "planner.iterations": 8})).knots
    alone = plan(controller())
    loop, dear = controller(**named), controller(**named)
    proposer = loop.planner._proposer
    proposer.policy = Broken(proposer.policy, lambda *_: good[None])
    proposer = dear.planner._proposer
    proposer.policy = Broken(proposer.policy, lambda *_: -good[None])

    drawn, kept = plan(loop), plan(dear)

    assert drawn.stats.policy.rows == kept.stats.policy.rows == 1
    assert drawn.stats.policy.cost < drawn.stats.policy.planner_cost
    assert drawn.stats.policy.weight > 0.0
    assert (drawn.knots != alone.knots).any()
    assert kept.stats.policy.cost > kept.stats.policy.planner_cost
    assert kept.stats.policy.weight == 0.0
    np.testing.assert_array_equal(kept.knots, alone.knots)


def test_a_chunk_and_a_demonstration_are_refused_in_one_line(tmp_path):
    named = {"policy.checkpoint": checkpoint(tmp_path / "p.safetensors")}
    both = {"policy.fusion": "max_rule", "planner.demonstration": "round_the_wall.csv"}
    config, terms = planner_config(task="car", **named, **both)

    with pytest.raises(ConfigError, match=r"leave planner\.demonstration empty"):
        Controller(find_task("car")(), config, terms)


def test_a_bad_policy_ends_with_one_sample_and_a_good_one_gets_its_rows_back(tmp_path):
    loop = controller(**{"policy.checkpoint": checkpoint(tmp_path / "p.safetensors")})
    proposer = loop.planner._proposer
    # Full force to one side.
    proposer.policy = Broken(
        proposer.policy, lambda previous, rows, *_: np.ones((rows, *previous.shape))
    )
    rows = [plan.stats.policy.rows for plan in plans(loop, 40)]

    assert rows[0] == 4
    assert rows[-1] == 1
    assert [proposer.rows(4) for proposer.worth in (0.0, 0.3, 0.6, 1.0, 5.0)] == [1, 1, 2, 4, 4]
    proposer.worth = 0.1
    for _ in range(3):
        proposer.credit(1, 0.5, 16)
    assert proposer.rows(4) == 4
    for _ in range(60):
        proposer.credit(4, 0.0, 16)
    proposer.credit(0, 0.0, 16)
    proposer.credit(4, float("nan"), 16)
    assert proposer.rows(4) == 1


class Broken:
    """A policy that observes, and then does something else than propose."""

    def __init__(self, policy, propose):
        self._policy, self.propose = policy, propose

    def __getattr__(self, name):
        return getattr(self._policy, name)


def raises(*_):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("propose", "failure"),
    [
        (lambda previous, rows, *_: np.full((rows, *previous.shape), np.nan), "NaN"),
        (raises, "RuntimeError: out of memory"),
        (lambda previous, rows, *_: np.zeros((rows, 3, 1)), "wrong shape"),
    ],
)
def test_a_policy_that_fails_leaves_the_planners_own_plan(tmp_path, propose, failure):
    loop = controller(**{"policy.checkpoint": checkpoint(tmp_path / "p.safetensors")})
    proposer = loop.planner._proposer
    proposer.policy = Broken(proposer.policy, propose)

    made = plans(loop)

    np.testing.assert_array_equal([plan.knots for plan in made], knots(controller()))
    assert all(failure in plan.stats.policy.failure for plan in made)


def test_a_failing_policy_is_told_once_and_counted():
    health = Health()

    told = [health.note_policy(failure) for failure in ("", "NaN", "NaN", "", "NaN")]

    assert [bool(line) for line in told] == [False, True, False, False, True]
    assert health.values()["policy_failures"] == 3


def plans_with_delays(tmp_path, delays):
    """Statistics of plans at 20 Hz, beside a policy that takes so long (s) for each of its own."""
    loop = controller(**{"policy.checkpoint": checkpoint(tmp_path / "p.safetensors", add=0.3)})
    proposer = loop.planner._proposer
    quick, waits = proposer.policy, iter(delays)

    def propose(*arguments):
        time.sleep(next(waits))
        return quick.propose(*arguments)

    proposer.policy = Broken(quick, propose)
    loop.warm_up()
    state = initial_state(loop.task, loop.backend.model)
    made = []
    for n in range(12):
        now = 0.05 * n
        moved = dataclasses.replace(state, stamp=now)
        made.append(loop.plan(moved, Reference(), now, budget=0.05).stats)
        time.sleep(0.05)
    return made


def test_no_plan_waits_for_a_slow_policy(tmp_path):
    made = plans_with_delays(tmp_path, repeat(0.3))

    # The first tells how slow it is; then plans are used when they are there, shifted by their age.
    assert made[0].policy.time >= 0.3
    assert all(stats.plan_time < 0.3 for stats in made[1:])
    used = [stats.policy for stats in made[1:] if stats.policy.rows]
    assert 1 <= len(used) < len(made) - 1
    assert all(policy.age > 0.0 for policy in used)


def test_the_first_call_of_a_network_is_no_reason_to_call_it_slow(tmp_path):
    made = plans_with_delays(tmp_path, chain([0.3], repeat(0.0)))

    assert all(stats.policy.rows and stats.policy.age == 0.0 for stats in made)


def test_a_policy_that_was_slow_for_a_moment_makes_plans_of_the_newest_state_again(tmp_path):
    made = plans_with_delays(tmp_path, chain([0.0, 0.1], repeat(0.0)))

    assert made[2].policy.age > 0.0
    assert all(stats.policy.rows and stats.policy.age == 0.0 for stats in made[6:])


def test_a_policy_that_does_not_fit_is_left_out_and_named(tmp_path):
    path = checkpoint(tmp_path / "p.safetensors", task="ant")
    for named, reason in (
        ({"policy.checkpoint": path}, "without the policy: .*'ant', not 'cartpole'"),
        ({"policy.checkpoint": str(tmp_path / "none")}, "there is no checkpoint"),
        ({"value.checkpoint": path}, "without the value: .*is a policy, no value"),
    ):
        loop = controller(**named)
        assert len(loop.missing) == 1
        assert "\n" not in loop.missing[0]
        assert re.search(reason, loop.missing[0])
        np.testing.assert_array_equal(knots(loop, 2), knots(controller(), 2))


def value_checkpoint(path, cost):
    """A value that thinks `cost` of every state."""
    network = Value(ValueConfig(5, 8, 1))
    network.cost.fit(torch.tensor([cost, cost + 1.0]))
    network.given.fit(-torch.ones(5), torch.ones(5))
    with torch.no_grad():
        for member in network.members:
            member[-1].weight.zero_()
            member[-1].bias.zero_()
    untrained(path)
    description = read_description(path)
    save_checkpoint(
        path,
        network,
        dataclasses.replace(
            description,
            kind="value",
            history=1,
            network=dataclasses.asdict(network.config),
            plan={"rate": 50.0},
        ),
    )
    return str(path)


def test_a_value_is_a_term_of_its_own_in_the_unit_of_the_others(tmp_path):
    path = value_checkpoint(tmp_path / "v.safetensors", 7.0)
    loop = controller(**{"value.checkpoint": path, "value.weight": 2.0})
    stats = plans(loop, 1)[0].stats

    horizon = 20 * loop.config.planner.control_dt
    # 7 a period of 20 ms, as a part of the mean over the horizon, twice.
    assert stats.term_costs["value"] == pytest.approx(2.0 * 7.0 * 0.02 / horizon, rel=1e-5)
    assert stats.cost == pytest.approx(sum(stats.term_costs.values()), rel=1e-5)
    without = plans(controller(), 1)[0].stats
    assert stats.cost - stats.term_costs["value"] == pytest.approx(without.cost, rel=1e-4)


def test_a_value_of_no_weight_changes_nothing(tmp_path):
    path = value_checkpoint(tmp_path / "v.safetensors", 7.0)

    np.testing.assert_array_equal(
        knots(controller(**{"value.checkpoint": path, "value.weight": 0.0})), knots(controller())
    )


@pytest.mark.parametrize(("name", "prediction"), [("flow", "sample"), ("ddpm", "sample")])
def test_sampling_from_a_lower_level_begins_with_less_noise(name, prediction):
    process = make_process(name, prediction)
    noise = torch.ones(1, 2, 1)
    seen = []

    def predict(x, level):
        seen.append((float(x[0, 0, 0]), float(level)))
        return torch.zeros_like(x)

    assert (process.sample(predict, noise, 3, level=0.5) == 0.0).all()
    assert seen[0][1] == pytest.approx(0.5)
    _, sigma = process.scales(torch.tensor(0.5))
    assert seen[0][0] == pytest.approx(float(sigma))


SHIPPED = sorted(path.stem for path in locate("shipped:any").parent.glob("*.safetensors"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_fits_its_task_and_is_small(name):
    named = {"task": name, "policy.checkpoint": f"shipped:{name}"}
    _, found = load_parameters(PlannerNodeConfig, named)
    loop = Controller(find_task(name)(), build(PlannerNodeConfig, found), cost_weights(found))

    assert loop.missing == []
    assert loop.policy is not None
    assert locate(f"shipped:{name}").stat().st_size < 2_000_000


@pytest.mark.parametrize("name", ["ant", "hopper", "quadruped", "pusht"])
def test_a_task_plans_with_its_policy_unless_told_otherwise(name):
    _, found = load_parameters(PlannerNodeConfig, {"task": name})
    assert found["policy.checkpoint"] == f"shipped:{name}"


def test_a_shipped_policy_makes_the_quadruped_walk_at_less_cost():
    settings = {"task": "quadruped", "command.vx": 1.0, "backend.threads": 1}
    alone, helped = (
        run_episode({**settings, **named}, 3, 3.0) for named in ({"policy.checkpoint": ""}, {})
    )

    assert helped.falls == 0
    # Measured over eight trials: .57 of the cost.
    assert helped.mean_cost < 0.9 * alone.mean_cost


def test_a_shipped_policy_pushes_the_t_with_an_eighth_of_the_samples():
    few = {"task": "pusht", "planner.num_samples": 12, "backend.threads": 1}
    settings = {**few, **find_task("pusht").demo}
    alone, helped = (
        np.mean([run_episode({**settings, **named}, trial, 6.0).mean_cost for trial in range(4)])
        for named in ({"policy.checkpoint": ""}, {})
    )

    # Measured over twenty trials: .81 of the cost, less in each.
    assert helped < 0.95 * alone
