"""Labels and weights from advantages against values worked out by hand, and guidance by labels."""

import json
import math

import pytest
import torch

from diffusion_mpc.benchmark import toy_bandit, toy_maze
from diffusion_mpc.cli import main
from diffusion_mpc.policy.denoiser import DenoiserConfig
from diffusion_mpc.policy.optimality import advantage_weights, optimality


def test_rows_that_are_better_than_their_like_have_the_label():
    label = optimality(torch.tensor([0.5, 0.0, -2.0]))

    assert label.tolist() == [[1.0], [0.0], [0.0]]


def test_weights_of_regression_grow_with_the_advantage_up_to_a_limit():
    found = advantage_weights(torch.tensor([-1.0, 0.0, 0.5, 100.0]), 0.5, 5.0)

    expected = torch.tensor([math.exp(-2.0), 1.0, math.e, 5.0])
    torch.testing.assert_close(found, expected)


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="choose one above 0"):
        advantage_weights(torch.zeros(1), 0.0)


def test_guidance_above_one_raises_the_return_of_a_bandit():
    source = torch.Generator().manual_seed(0)
    actions = toy_bandit.behaviour(5000, source)
    seen = toy_bandit.reward(actions) + 0.3 * torch.randn(5000, generator=source)
    config = DenoiserConfig(1, 2, 1, label=1, width=64, depth=2)
    data = (actions, torch.zeros(5000, 1))
    model = toy_bandit.fit(config, data, 300, 0, optimality(seen - seen.mean()))

    def mean_return(w, limit):
        found = toy_bandit.returns(model, 500, 0, torch.ones(500, 1), w, limit)
        return found["mean_return"]

    for limit in (None, 1.0):
        assert mean_return(3.0, limit) > mean_return(1.0, limit) + 0.05
        assert mean_return(1.0, limit) > mean_return(0.0, limit) + 0.05


def test_an_episode_is_worth_the_discounted_time_to_the_goal_and_nothing_after_a_wall():
    goal, far, wall = toy_maze.GOAL.tolist(), [2.5, 1.5], [1.0, 1.5]
    places = torch.tensor([[far, far, goal, far], [far, wall, far, goal], [far, far, far, far]])
    states = torch.cat((places, torch.zeros(3, 4, 2)), dim=-1)

    found = toy_maze.returns_to_go(states, toy_maze.GOAL)

    discount = toy_maze.DISCOUNT
    expected = [[discount, 1.0, 0.0, 0.0], [0.0, discount, 1.0, 0.0], [0.0] * 4]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_guidance_above_one_reaches_a_goal_that_wanderers_rarely_reach():
    source = torch.Generator().manual_seed(0)
    data = toy_maze.offline(4000, 400, source, 0)

    rows = toy_maze.guided(data, 400, toy_maze.starts(100, source), 0)

    found = {row["setting"]: row for row in rows}

    assert found[3.0]["mean_return"] > found[1.0]["mean_return"] + 0.02
    assert found[1.0]["mean_return"] > found[0.0]["mean_return"]


def test_every_part_of_the_benchmark_runs_and_is_tabled(tmp_path, capsys):
    path = tmp_path / "generative.json"
    budget = ["--seeds", "1", "--steps", "2", "--samples", "4", "--rows", "400"]
    budget += ["--repetitions", "1", "--episodes", "2"]

    assert main(["benchmark", "generative", *budget, "--json", str(path)]) == 0

    found = json.loads(path.read_text())
    assert found["complete"]
    assert {row["part"] for row in found["rows"]} == {"modes", "bandit", "maze", "latency"}
    out = capsys.readouterr().out
    assert "two modes" in out
    assert "bandit" in out
    assert "any goal" in out
    assert "guidance at its best weight" in out
    assert "8 plans" in out
