"""Model-Based Diffusion of black-box functions, and open-loop trajectory optimisation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_planner import initial_state, make_controller

from diffusion_mpc.cli import main
from diffusion_mpc.config import PlannerNodeConfig, build, cost_weights, load_parameters
from diffusion_mpc.optimize.functions import FUNCTIONS
from diffusion_mpc.optimize.reverse_diffusion import (
    Candidate,
    Settings,
    minimize,
    select_modes,
)
from diffusion_mpc.optimize.trajectory import TrajectoryProblem, optimize_trajectory
from diffusion_mpc.planner.objective import Demonstration, Objective
from diffusion_mpc.planner.schedule import alpha_bars
from diffusion_mpc.planner.score import (
    Evaluation,
    NoFeasibleSampleError,
    reverse_sde,
    sample_weights,
    score_ascent,
    search_costs,
)
from diffusion_mpc.types import Reference


def sphere(x):
    return (x - 0.3).square().sum(-1)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# Functions


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dim", [1, 2, 20])
def test_the_minimum_is_where_it_is_known_to_be(name, dim):
    function = FUNCTIONS[name]
    at = torch.full((1, dim), function.minimiser, dtype=torch.float64)
    assert float(function.value(at)) == pytest.approx(0.0, abs=1e-12)
    around = at + torch.randn(
        (200, dim), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert (function.value(around) > 0.0).all()


def test_values_of_the_functions_by_hand():
    one = torch.ones((1, 2), dtype=torch.float64)
    assert float(FUNCTIONS["ackley"].value(one)) == pytest.approx(20.0 - 20.0 * np.exp(-0.2))
    assert float(FUNCTIONS["rastrigin"].value(one / 2)) == pytest.approx(2 * (0.25 + 20.0))
    # w = (0.5, 1): sin^2(pi/2) + 0.25 (1 + 10 sin^2(pi/2 + 1)) + 0
    expected = 1.0 + 0.25 * (1.0 + 10.0 * np.sin(np.pi / 2 + 1.0) ** 2)
    assert float(FUNCTIONS["levy"].value(tensor([-1.0, 1.0]))) == pytest.approx(expected)


def test_the_cube_is_scaled_to_the_domain():
    torch.testing.assert_close(
        FUNCTIONS["ackley"].scale(tensor(-1.0, 0.0, 1.0)), tensor(-5.0, 2.5, 10.0)
    )


# The reverse pass


def reference_pass(function, dim, s):
    """One whole reverse pass in plain NumPy, with the noise of the same generator."""
    generator = torch.Generator().manual_seed(s.seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).numpy()

    beta = np.linspace(1e-4, 1e-2, s.levels)
    bar = np.cumprod(1.0 - beta)
    Y = np.zeros(dim) if s.variant == "code" else normal(dim)
    for i in range(s.levels - 1, 0, -1):
        noise = normal(s.samples, dim)
        if s.variant == "code":
            Y0 = np.clip(Y / np.sqrt(bar[i]) + np.sqrt(1.0 - bar[i]) * noise, -1.0, 1.0)
        else:
            Y0 = Y / np.sqrt(bar[i - 1]) + np.sqrt(1.0 / bar[i - 1] - 1.0) * noise
        J = function(torch.from_numpy(Y0)).numpy()
        w = np.exp(-(J - J.mean()) / J.std() / s.temperature)
        Ybar = (w / w.sum()) @ Y0
        score = -Y / (1.0 - bar[i]) + np.sqrt(bar[i]) / (1.0 - bar[i]) * Ybar
        if s.variant == "sde":
            Y = (Y + 0.5 * beta[i] * score) / np.sqrt(1.0 - beta[i]) + np.sqrt(beta[i]) * normal(
                dim
            )
        else:
            Y = (Y + (1.0 - bar[i]) * score) / np.sqrt(1.0 - beta[i])
    return Ybar


@pytest.mark.parametrize("variant", ["paper", "code", "sde"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_pass_is_that_of_the_equations(variant, name):
    # Rastrigin's many minima make the pass chaotic: a rounding error grows some threefold a step,
    # so few steps can be compared.
    levels = 10 if name == "rastrigin" else 30
    settings = Settings(samples=32, levels=levels, temperature=0.3, variant=variant, seed=7)
    function = FUNCTIONS[name].normalised
    result = minimize(function, 4, settings)
    np.testing.assert_allclose(
        result.final.point.numpy(), reference_pass(function, 4, settings), rtol=1e-7, atol=1e-9
    )
    assert result.final.cost == pytest.approx(float(function(result.final.point[None])))


@given(st.integers(2, 99), st.integers(0, 2**31))
def test_score_ascent_forgets_the_iterate_and_the_reverse_sde_does_not(level, seed):
    noisy, other, clean, noise = torch.randn(
        (4, 6), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    bars = alpha_bars(100)
    alpha = bars[level] / bars[level - 1]
    expected = bars[level - 1] ** 0.5 * clean
    for iterate in (noisy, other):
        torch.testing.assert_close(
            score_ascent(iterate, clean, alpha, bars[level]), expected, rtol=1e-9, atol=1e-9
        )
    zero = torch.zeros_like(noise)
    mean = reverse_sde(noisy, clean, alpha, bars[level], zero)
    assert not torch.allclose(mean, expected, atol=1e-3)
    assert not torch.allclose(mean, reverse_sde(other, clean, alpha, bars[level], zero), atol=1e-3)
    torch.testing.assert_close(
        reverse_sde(noisy, clean, alpha, bars[level], noise) - mean, (1 - alpha) ** 0.5 * noise
    )


@pytest.mark.parametrize("variant", ["geometric", "paper", "code"])
def test_the_minimum_of_a_bowl_is_found(variant):
    result = minimize(sphere, 5, Settings(samples=128, variant=variant))
    assert result.best.cost < 1e-2
    assert result.best.cost <= min(level.best_cost for level in result.history) + 1e-12
    assert result.evaluations == 128 * 99 + 1
    assert [level.level for level in result.history] == list(range(99, 0, -1))
    assert result.history[0].sigma > result.history[-1].sigma


@pytest.mark.parametrize("samples", [16, 17])
def test_the_geometric_variant_narrows_in_equal_ratios_with_antithetic_samples(
    samples,
):
    seen = []

    def objective(x):
        seen.append(x)
        return sphere(x - 0.1)

    settings = Settings(samples=samples, levels=50)
    sigmas = [level.sigma for level in minimize(objective, 3, settings).history]
    ratios = np.array(sigmas[1:]) / np.array(sigmas[:-1])
    np.testing.assert_allclose(ratios, ratios[0])
    authors = [
        level.sigma
        for level in minimize(
            sphere, 3, Settings(samples=samples, levels=50, variant="code")
        ).history
    ]
    assert sigmas[0] == pytest.approx(authors[0])
    assert sigmas[-1] * ratios[0] == pytest.approx(0.01, rel=0.01)
    # Far from the bounds, pairs lie opposite each other at the centre of their level.
    first, second = seen[48][:8], seen[48][8:16]
    centre = (first + second) / 2
    assert len(seen[48]) == samples
    torch.testing.assert_close(centre, centre[:1].expand_as(centre))
    assert (first - second).abs().min() > 0.0


def test_same_seed_same_result():
    results = [
        minimize(FUNCTIONS["ackley"].normalised, 3, Settings(levels=10, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(results[0].best.point, results[1].best.point)
    assert not torch.equal(results[0].best.point, results[2].best.point)


def test_nan_costs_are_passed_over_and_nothing_but_nan_is_an_error():
    holes = minimize(
        lambda x: torch.where(x[:, 0] < 0.0, torch.nan, sphere(x)), 3, Settings(levels=30)
    )
    assert holes.best.cost < 0.1
    with pytest.raises(NoFeasibleSampleError):
        minimize(lambda x: x[:, 0] * torch.nan, 3, Settings(levels=30))


def test_an_interrupted_pass_returns_what_it_has():
    def interrupt(level):
        if level.level == 20:
            raise KeyboardInterrupt

    result = minimize(sphere, 3, Settings(levels=30), on_level=interrupt)
    assert not result.complete
    assert len(result.history) == 10
    assert result.best.cost < float(sphere(torch.zeros(3)))


@pytest.mark.parametrize(
    "wrong", [{"variant": "ddim"}, {"samples": 1}, {"levels": 1}, {"temperature": 0.0}]
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(
        ValueError, match=r"unknown variant 'ddim'; there are: geometric|needs at least 2 samples"
    ):
        Settings(**wrong)


# Constraints, demonstrations, modes


def test_infeasible_samples_rank_behind_feasible_ones_by_violation():
    found = Evaluation(
        costs=tensor(5.0, 3.0, -9.0, -9.0, np.nan), violation=tensor(0.0, 0.0, 2.0, 1.0, 0.0)
    )
    costs = search_costs(found)
    assert costs[:4].argsort().tolist() == [1, 0, 3, 2]
    weights = sample_weights(costs, 0.5)
    assert weights[4] == 0.0
    assert weights.isfinite().all()


def test_where_nothing_is_feasible_the_least_violation_leads():
    costs = search_costs(
        Evaluation(costs=tensor(-5.0, 0.0, np.inf), violation=tensor(3.0, 1.0, 0.5))
    )
    torch.testing.assert_close(costs, tensor(3.0, 1.0, np.inf))
    assert sample_weights(costs, 0.1).argmax() == 1


def test_a_constrained_minimum_is_feasible_and_on_the_border():
    # the bowl's minimum lies at 0.3; only x_0 <= -0.2 is allowed, so the best there is costs 0.25
    result = minimize(sphere, 2, Settings(samples=256), constraint=lambda x: x[:, :1] + 0.2)
    assert result.best.violation == 0.0
    assert float(result.best.point[0]) <= -0.2
    assert result.best.cost == pytest.approx(0.25, abs=0.02)


def test_a_demonstration_lowers_the_cost_of_samples_near_it_only():
    found = Evaluation(
        tensor(1.0, 4.0, 2.0, np.inf), torch.zeros(4), demo_costs=tensor(3.0, 0.5, 3.0, 0.5)
    )
    torch.testing.assert_close(search_costs(found), tensor(1.0, 0.5, 2.0, np.inf))


def test_modes_are_apart_and_best_first():
    ranked = [
        Candidate(tensor(x, x), cost, 0.0)
        for x, cost in ((0.0, 0.0), (0.05, 0.1), (0.5, 0.2), (-0.5, 0.3))
    ]
    assert [mode.cost for mode in select_modes(ranked, 2, 0.1)] == [0.0, 0.2]


def test_both_minima_of_a_double_well_are_among_the_modes():
    result = minimize(
        lambda x: (x.square() - 0.25).square().sum(-1),
        1,
        Settings(samples=256, modes=2, mode_distance=0.5),
    )
    assert sorted(round(float(mode.point[0]), 1) for mode in result.modes) == [-0.5, 0.5]


# Trajectories


def make_problem(demonstration=None, **settings):
    controller = make_controller("cartpole", **settings)
    _, values = load_parameters(PlannerNodeConfig, {"task": "cartpole", **settings})
    config, weights = build(PlannerNodeConfig, values).planner, cost_weights(values)
    state = initial_state(controller)
    objective = Objective(controller.task, controller.backend, config, weights)
    return TrajectoryProblem(
        objective, replace(objective.pose(state, Reference()), demonstration=demonstration)
    )


def test_a_trajectory_is_a_point_of_one_coordinate_a_knot():
    problem = make_problem(**{"planner.num_knots": 50, "planner.spline": "zero"})
    assert problem.origin.shape == (50,)
    point = torch.linspace(-1.0, 1.0, 50, dtype=torch.float64)
    low, high = problem.objective.task.ctrl_limits
    np.testing.assert_allclose(
        problem.controls(point).numpy()[:, 0], np.linspace(low[0], high[0], 50)
    )


def test_costs_of_trajectories_do_not_depend_on_their_batch():
    problem = make_problem()
    points = torch.rand((3, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = problem.evaluate(points).costs.clone()
    torch.testing.assert_close(
        torch.cat([problem.evaluate(p[None]).costs for p in points]), together
    )


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_an_open_loop_pass_beats_doing_nothing_and_its_controls_cost_what_it_says(variant):
    problem = make_problem()
    result = optimize_trajectory(problem, Settings(samples=64, levels=20, variant=variant))
    # In the second that the horizon lasts the cart cannot swing the pole up, only begin to.
    assert result.best.cost < 0.96 * float(problem.evaluate(problem.origin[None]).costs)
    assert float(problem.evaluate(result.best.point[None]).costs) == pytest.approx(result.best.cost)


def test_the_density_of_a_demonstration_by_hand():
    problem = make_problem()
    batch = problem.objective.backend.rollout(
        problem.problem.start, problem.controls(problem.origin[None]), problem.objective.control_dt
    )
    there = batch.qpos[0, :, :1].clone()
    assert float(Demonstration(there, (0,), 0.5, 0.0).log_density(batch)) == 0.0
    assert float(Demonstration(there + 0.1, (0,), 0.5, 0.0).log_density(batch)) == pytest.approx(
        -0.04
    )
    assert float(Demonstration(there + 9.0, (0,), 0.5, 0.0).log_density(batch)) == -1.0


def test_a_demonstration_draws_a_search_whose_cost_is_flat():
    """As with the paper's car in the maze: without a demonstration all weights are equal."""
    flat = {"cost.upright": 0.0, "cost.centred": 0.0, "cost.still": 0.0, "cost.effort": 0.0}
    target = torch.linspace(0.0, 0.5, 50, dtype=torch.float64)[:, None]
    demonstration = Demonstration(target, (0,), 0.5, cost=-2.0)
    apart = []
    for given_demonstration in (demonstration, None):
        problem = make_problem(given_demonstration, **flat)
        point = optimize_trajectory(problem, Settings(samples=64, levels=30)).final.point
        batch = problem.objective.backend.rollout(
            problem.problem.start, problem.controls(point[None]), problem.objective.control_dt
        )
        apart.append(float((batch.qpos[0, :, :1] - target).norm()))
    assert apart[0] < 0.5 * apart[1]


# The command


def test_the_command_minimises_a_function(capsys, tmp_path):
    path = tmp_path / "out.json"
    assert (
        main(
            [
                "optimize",
                "levy",
                "--dim",
                "3",
                "--levels",
                "20",
                "--variant",
                "paper",
                "--json",
                str(path),
            ]
        )
        == 0
    )
    assert "final estimate" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert figures["evaluations"] == 256 * 19 + 1
    assert figures["best_cost"] == pytest.approx(
        float(FUNCTIONS["levy"].value(tensor(*figures["best"])))
    )


def test_the_command_optimises_a_trajectory(capsys, tmp_path):
    path = tmp_path / "out.json"
    assert (
        main(["optimize", "cartpole", "--samples", "16", "--levels", "5", "--json", str(path)]) == 0
    )
    assert np.array(json.loads(path.read_text())["best"]).shape == (50, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ackly"], "unknown task 'ackly'"),
        (["ackley", "--dim", "0"], "--dim 0: a function has at least one dimension"),
        (
            ["ackley", "--levels", "1"],
            "a reverse pass needs at least 2 samples, 2 levels and a temperature above 0",
        ),
    ],
)
def test_what_cannot_be_optimised_is_said_in_one_line(capsys, arguments, message):
    assert main(["optimize", *arguments]) == 1
    assert message in capsys.readouterr().err
