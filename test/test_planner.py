"""The planner's parts, and what it promises as a whole."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_mpc.config import (
    ConfigError,
    PlannerNodeConfig,
    SearchConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.planner.algorithm import Belief
from diffusion_mpc.planner.algorithms import ALGORITHMS, CEM, MBD
from diffusion_mpc.planner.sampler import draw_noise, sample_knots
from diffusion_mpc.planner.schedule import (
    alpha_bars,
    dial_noise,
    knot_profile,
    noise_levels,
    online_noise,
)
from diffusion_mpc.planner.score import (
    Evaluation,
    NoFeasibleSampleError,
    effective_sample_size,
    elite_weights,
    ranked_weights,
    require_finite,
    sample_weights,
    score_ascent,
    search_costs,
    success_rate,
    weighted_mean,
)
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.planner.stagnation import StagnationDetector
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Reference, State


def make_controller(task="cartpole", **settings):
    _, values = load_parameters(PlannerNodeConfig, {"task": task, **settings})
    return Controller(find_task(task)(), build(PlannerNodeConfig, values), cost_weights(values))


def initial_state(controller, stamp=0.0):
    data = controller.task.initial_data(controller.backend.model)
    return State(stamp, data.qpos.copy(), data.qvel.copy())


# Spline


@pytest.mark.parametrize("kind", ["zero", "linear", "quadratic", "cubic"])
def test_controls_pass_through_the_knots(kind):
    spline = Spline(num_knots=5, horizon_steps=21, control_dt=0.02, kind=kind)
    knots = torch.rand(5, 3, dtype=torch.float64) * 0.5
    torch.testing.assert_close(spline.controls(knots)[::5], knots)


@pytest.mark.parametrize("kind", ["linear", "quadratic", "cubic"])
def test_a_shifted_straight_line_is_the_same_line_later(kind):
    spline = Spline(num_knots=5, horizon_steps=21, control_dt=0.02, kind=kind)
    line = spline.knot_times[:, None]
    expected = np.minimum(spline.knot_times + 0.03, spline.knot_times[-1])[:, None]
    np.testing.assert_allclose(spline.shift(line, 0.03), expected, atol=1e-12)


def test_a_shift_by_nothing_changes_nothing():
    spline = Spline(num_knots=6, horizon_steps=20, control_dt=0.02, kind="cubic")
    knots = np.random.default_rng(0).uniform(size=(6, 2))
    np.testing.assert_allclose(spline.shift(knots, 0.0), knots, atol=1e-12)


def test_a_shift_past_the_horizon_holds_the_last_knot():
    spline = Spline(num_knots=4, horizon_steps=10, control_dt=0.02, kind="quadratic")
    knots = np.random.default_rng(0).uniform(size=(4, 2))
    np.testing.assert_allclose(spline.shift(knots, 9.0), np.tile(knots[-1:], (4, 1)))


def test_too_few_knots_for_the_spline_are_refused():
    with pytest.raises(
        ValueError,
        match=r"num_knots is 3; planner\.spline cubic over planner\.horizon_steps 20 needs 4 to 20",
    ):
        Spline(num_knots=3, horizon_steps=20, control_dt=0.02, kind="cubic")


# Schedule


@pytest.mark.parametrize(
    ("levels", "first", "last"), [(100, 0.63, 0.010), (200, 0.80, 0.010), (300, 0.88, 0.010)]
)
def test_noise_levels_are_those_of_the_paper(levels, first, last):
    sigma = noise_levels(alpha_bars(levels))
    assert sigma[-1] == pytest.approx(first, abs=0.01)
    assert sigma[0] == pytest.approx(last, abs=1e-3)


def test_online_noise_goes_from_start_to_end_in_equal_ratios():
    levels = [online_noise(step, 3, start=0.8, end=0.2) for step in range(3)]
    assert levels == pytest.approx([0.8, 0.4, 0.2])
    assert online_noise(0, 1, start=0.8, end=0.2) == 0.8


def test_steps_without_time_are_those_of_the_most_noise():
    search = MBD(SearchConfig(iterations=4))
    np.testing.assert_allclose(search.sigmas(2), search.sigmas(4)[2:])


def test_the_knot_profile_grows_and_keeps_the_mean_noise():
    profile = knot_profile(5, growth=3.0)
    assert profile[-1] / profile[0] == pytest.approx(3.0)
    assert profile.mean() == pytest.approx(1.0)


# Score


def searched(costs):
    """Costs as algorithms see them, of costs as a rollout may leave them."""
    return search_costs(Evaluation(costs=costs))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.floats(0.01, 10.0))
def test_weights_are_a_distribution_that_prefers_cheap_samples(costs, temperature):
    costs = torch.tensor(costs, dtype=torch.float64)
    weights = sample_weights(costs, temperature)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert (weights >= 0).all()
    assert weights[costs.argmin()] == weights.max()


def test_equal_costs_weigh_the_same():
    weights = sample_weights(torch.full((8,), 3.0, dtype=torch.float64), 0.1)
    torch.testing.assert_close(weights, torch.full((8,), 0.125, dtype=torch.float64))
    assert effective_sample_size(weights.numpy()) == pytest.approx(8.0)


def test_weights_by_hand():
    # mean 2, standard deviation 1: standardised -1 and 1, divided by the temperature -2 and 2
    weights = sample_weights(torch.tensor([1.0, 3.0], dtype=torch.float64), temperature=0.5)
    expected = np.exp([2.0, -2.0]) / np.exp([2.0, -2.0]).sum()
    np.testing.assert_allclose(weights, expected)


def test_nan_and_infinite_costs_weigh_nothing_and_leave_the_others_alone():
    good = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    bad = torch.tensor([1.0, np.nan, 2.0, np.inf, 4.0], dtype=torch.float64)
    weights = sample_weights(searched(bad), 0.3)
    torch.testing.assert_close(weights[[0, 2, 4]], sample_weights(good, 0.3))
    assert weights[1] == weights[3] == 0.0


def test_no_feasible_sample_is_an_error():
    costs = searched(torch.tensor([np.nan, np.inf]))
    for weights in (sample_weights(costs, 0.1), elite_weights(costs, 1)):
        with pytest.raises(NoFeasibleSampleError, match="all 2 samples"):
            require_finite(weights)


@given(st.integers(2, 99), st.integers(0, 2**31))
def test_score_ascent_forgets_the_noisy_iterate(level, seed):
    generator = torch.Generator().manual_seed(seed)
    noisy, clean = torch.randn((2, 4, 3), generator=generator, dtype=torch.float64)
    bars = alpha_bars(100)
    alpha = bars[level] / bars[level - 1]
    torch.testing.assert_close(
        score_ascent(noisy, clean, alpha, bars[level]),
        bars[level - 1] ** 0.5 * clean,
        rtol=1e-9,
        atol=1e-9,
    )


def test_the_weighted_mean_by_hand():
    knots = torch.tensor([[[0.0]], [[1.0]]])
    assert float(weighted_mean(torch.tensor([0.25, 0.75]), knots)) == pytest.approx(0.75)


def test_the_first_sample_is_the_mean_and_all_are_within_bounds():
    mean = torch.tensor([[0.9], [-0.9]], dtype=torch.float64)
    noise = draw_noise(1, 100, mean, torch.Generator().manual_seed(0))[0]
    samples = sample_knots(mean, torch.ones(2, 1, dtype=torch.float64), noise)
    torch.testing.assert_close(samples[0], mean)
    assert samples.abs().max() == 1.0
    assert samples[1:].std() > 0.3


def test_dials_noise_by_hand():
    # two steps, two knots, beta1 = 0.5 and beta2 = 1: the first step's last knot has 1, a step less
    # e^-1, a knot less e^-0.5
    np.testing.assert_allclose(dial_noise(0, 2, 2, 0.5, 1.0), [np.exp(-0.5), 1.0])
    np.testing.assert_allclose(dial_noise(1, 2, 2, 0.5, 1.0), [np.exp(-1.5), np.exp(-1.0)])


def test_elites_weigh_the_same_and_bad_samples_are_none():
    costs = searched(torch.tensor([3.0, np.nan, 1.0, np.inf, 2.0], dtype=torch.float64))
    assert elite_weights(costs, 2).tolist() == [0.0, 0.0, 0.5, 0.0, 0.5]
    assert elite_weights(costs, 5).tolist() == pytest.approx([1 / 3, 0.0, 1 / 3, 0.0, 1 / 3])
    assert ranked_weights(costs, (3.0, 1.0)).tolist() == [0.0, 0.0, 0.75, 0.0, 0.25]


# Algorithms


def begin(algorithm, mean, steps, noise_scale=1.0, stagnated=0.0):
    """What a planner would begin a search with."""
    sigmas = torch.from_numpy(algorithm.sigmas(steps))[..., None]
    hyperparameters = algorithm.unpack(torch.from_numpy(algorithm.pack()))
    noise_scale = torch.as_tensor(noise_scale, dtype=mean.dtype).expand_as(mean)
    return algorithm.start(
        Belief(
            mean, noise_scale, sigmas, hyperparameters, torch.tensor(stagnated, dtype=mean.dtype)
        )
    )


def noise_for(algorithm, mean, steps):
    return draw_noise(
        steps,
        algorithm.config.num_samples,
        mean,
        torch.Generator().manual_seed(0),
        algorithm.antithetic,
    )


def test_cem_refits_mean_and_deviation_to_the_elites():
    cem = CEM(SearchConfig(num_knots=2, elite_fraction=0.5, noise_floor=0.2))
    knots = torch.tensor(
        [[[1.0], [0.5]], [[0.0], [0.5]], [[9.0], [9.0]], [[9.0], [9.0]]], dtype=torch.float64
    )
    costs = torch.tensor([1.0, 2.0, 3.0, np.nan], dtype=torch.float64)
    belief, _ = cem.update(begin(cem, torch.zeros(2, 1, dtype=torch.float64), 2), knots, costs)
    assert belief.mean.flatten().tolist() == [0.5, 0.5]
    assert belief.noise_scale.flatten().tolist() == [0.5, 0.2]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_rolls_out_as_many_samples_within_bounds_the_mean_among_them(name):
    algorithm = ALGORITHMS[name](SearchConfig(num_samples=17, num_knots=4, noise_start=1.0))
    previous = torch.tensor([[0.9, 0.0], [-0.9, 0.1], [0.5, 0.2], [0.0, 0.3]], dtype=torch.float64)
    belief, noise = begin(algorithm, previous, 2), noise_for(algorithm, previous, 2)
    for step in range(2):
        knots = algorithm.sample(belief, step, noise[step])
        assert knots.shape == (17, 4, 2)
        assert knots.abs().max() <= 1.0
        torch.testing.assert_close(knots[0], belief.mean)
        belief, _ = algorithm.update(belief, knots, knots.square().sum((1, 2)))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_bad_samples_weigh_nothing_in_every_algorithm(name):
    algorithm = ALGORITHMS[name](SearchConfig(num_samples=16, num_knots=4))
    mean = torch.zeros(4, 2, dtype=torch.float64)
    belief = begin(algorithm, mean, 2)
    knots = algorithm.sample(belief, 0, noise_for(algorithm, mean, 2)[0])
    costs = knots.square().sum((1, 2))
    costs[1::2], costs[4] = torch.nan, torch.inf
    belief, weights = algorithm.update(belief, knots, searched(costs))
    assert float(weights.sum()) == pytest.approx(1.0)
    assert weights[1::2].abs().max() == weights[4] == 0.0
    assert belief.mean.isfinite().all()
    with pytest.raises(NoFeasibleSampleError):
        require_finite(algorithm.update(belief, knots, searched(costs * torch.nan))[1])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_finds_the_bottom_of_a_bowl(name):
    algorithm = ALGORITHMS[name](
        SearchConfig(num_samples=64, num_knots=4, iterations=30, noise_start=0.2, noise_end=0.02)
    )
    mean = torch.zeros(4, 2, dtype=torch.float64)
    belief, noise = begin(algorithm, mean, 30), noise_for(algorithm, mean, 30)
    for step in range(30):
        knots = algorithm.sample(belief, step, noise[step])
        belief, _ = algorithm.update(belief, knots, (knots - 0.4).square().sum((1, 2)))
    assert float((belief.mean - 0.4).abs().max()) < 0.2


# Planner


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("samples", [2, 3, 5, 6])
def test_few_samples_make_a_plan_or_one_line_that_names_both_parameters(algorithm, samples):
    sizes = {"planner.horizon_steps": 6, "planner.num_knots": 3, "backend.threads": 1}
    given = {"planner.algorithm": algorithm, "planner.num_samples": samples, **sizes}
    if samples < ALGORITHMS[algorithm].least_samples:
        with pytest.raises(ConfigError) as caught:
            make_controller(**given)
        assert str(caught.value) == (
            f"planner.num_samples is {samples}; planner.algorithm {algorithm} needs "
            f"{ALGORITHMS[algorithm].least_samples} at least"
        )
        return
    controller = make_controller(**given)
    for time in (0.0, 0.02):
        plan = controller.plan(initial_state(controller, time), Reference(), time)
        assert np.isfinite(plan.controls).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_and_state_give_the_same_plan(algorithm):
    plans = []
    for _ in range(2):
        controller = make_controller(**{"planner.algorithm": algorithm})
        plans.append(
            [
                controller.plan(initial_state(controller, t), Reference(), t).controls
                for t in (0.0, 0.02)
            ]
        )
    np.testing.assert_array_equal(plans[0], plans[1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_warming_up_leaves_no_trace(algorithm):
    cold, warm = (
        make_controller(**{"planner.algorithm": algorithm}),
        make_controller(**{"planner.algorithm": algorithm}),
    )
    warm.warm_up()
    np.testing.assert_array_equal(
        cold.plan(initial_state(cold), Reference(), 0.0).controls,
        warm.plan(initial_state(warm), Reference(), 0.0).controls,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_term_costs_add_up_to_the_cost(algorithm):
    controller = make_controller("ant", **{"planner.algorithm": algorithm})
    stats = controller.plan(
        initial_state(controller), Reference(velocity=np.array([1.0, 0.0, 0.0])), 0.0
    ).stats
    assert sum(stats.term_costs.values()) == pytest.approx(stats.cost)
    assert stats.cost <= stats.cost_mean
    assert 1.0 <= stats.effective_sample_size <= 64.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_more_denoising_finds_cheaper_plans(algorithm):
    few, many = (
        make_controller(**{"planner.algorithm": algorithm, "planner.iterations": 1}),
        make_controller(**{"planner.algorithm": algorithm, "planner.iterations": 20}),
    )
    costs = [c.plan(initial_state(c), Reference(), 0.0).stats.cost for c in (few, many)]
    assert costs[1] < costs[0]


def test_a_plan_leaves_out_the_denoising_steps_that_its_time_does_not_allow():
    controller = make_controller(**{"planner.iterations": 5})
    state = initial_state(controller)
    assert controller.plan(state, Reference(), 0.0).stats.iterations == 5
    assert controller.plan(state, Reference(), 0.0, budget=0.0).stats.iterations == 1
    assert controller.plan(state, Reference(), 0.0, budget=60.0).stats.iterations == 5


def test_a_plan_says_what_its_search_started_from():
    controller = make_controller(**{"planner.num_samples": 8})
    plans = [
        controller.plan(initial_state(controller, stamp), Reference(), stamp)
        for stamp in (0.0, 0.02)
    ]
    controller.reset()
    plans.append(controller.plan(initial_state(controller), Reference(), 0.0))
    assert [plan.stats.warm_start for plan in plans] == ["none", "plan", "none"]


def test_the_success_rate_counts_equals_as_half_and_nan_as_worse():
    costs = torch.tensor([2.0, 1.0, 2.0, 3.0, math.nan], dtype=torch.float64)
    assert float(success_rate(searched(costs))) == pytest.approx((1.0 + 0.5) / 4)
    # Where all are bad nobody beats anybody.
    assert float(success_rate(searched(costs * math.nan))) == 0.0
    assert float(success_rate(searched(torch.tensor([math.nan, 1.0, 2.0])))) == 1.0


def test_noise_grows_where_samples_beat_the_plan_and_shrinks_where_none_does():
    mbd, mean = (
        MBD(SearchConfig(num_samples=64, num_knots=4)),
        torch.zeros(4, 2, dtype=torch.float64),
    )
    good = bad = begin(mbd, mean, 1)
    for noise in noise_for(mbd, mean, 5):
        knots = mbd.sample(good, 0, noise)
        good, _ = mbd.update(good, knots, knots.square().sum((1, 2)))
        good = replace(good, mean=torch.zeros_like(good.mean))
        knots = mbd.sample(bad, 0, noise)
        bad, _ = mbd.update(bad, knots, -knots.square().sum((1, 2)))
        bad = replace(bad, mean=torch.zeros_like(bad.mean))
    assert float(good.noise_scale.mean()) == pytest.approx(math.exp(-0.5 * 0.1 * 5), rel=1e-6)
    assert float(bad.noise_scale.mean()) == pytest.approx(1.5, rel=1e-6)


def test_noise_shrinks_most_where_it_costs_most():
    mbd, mean = (
        MBD(SearchConfig(num_samples=256, num_knots=4, temperature=0.3)),
        torch.zeros(4, 2, dtype=torch.float64),
    )
    belief = begin(mbd, mean, 1)
    for noise in noise_for(mbd, mean, 10):
        knots = mbd.sample(belief, 0, noise)
        belief, _ = mbd.update(belief, knots, knots[..., 0].square().sum(1))
    assert float((belief.noise_scale[:, 0] / belief.noise_scale[:, 1]).max()) < 0.8


def test_plans_stagnate_where_one_is_worse_than_usual_by_more_than_its_samples_differ():
    detector, seen = StagnationDetector(), []
    for cost, mean_cost in [
        (5.0, 5.1),
        *[(1.0, 1.5)] * 9,
        (3.0, 5.1),
        (3.0, 4.9),
        (3.0, 4.9),
        (1.0, 1.0),
        *[(3.0, 3.1)] * 60,
    ]:
        detector.note(cost, mean_cost)
        seen.append(detector.stagnated)
    assert seen[:14] == [False] * 11 + [True, True, False]
    # What stays as bad becomes usual.
    assert seen[14:20] == [True] * 6
    assert not seen[-1]


def test_where_plans_stagnate_the_noise_is_that_of_the_schedule_at_least():
    mbd, mean = MBD(SearchConfig(num_knots=4)), torch.zeros(4, 2, dtype=torch.float64)
    narrow = torch.linspace(0.1, 0.5, 8, dtype=torch.float64).view(4, 2)
    torch.testing.assert_close(begin(mbd, mean, 1, narrow).noise_scale, narrow)
    torch.testing.assert_close(
        begin(mbd, mean, 1, narrow, stagnated=1.0).noise_scale, narrow / narrow.mean()
    )
    wide = 1.0 + narrow
    torch.testing.assert_close(begin(mbd, mean, 1, wide, stagnated=1.0).noise_scale, wide)


def test_a_pole_that_falls_makes_the_search_reach_further():
    controller = make_controller()
    noise = []
    for number in range(40):
        pole = 0.0 if number < 30 else math.pi
        controller.plan(
            State(0.02 * number, np.array([0.0, pole]), np.zeros(2)), Reference(), 0.02 * number
        )
        noise.append(controller.current.stats.noise)
    assert noise[29] < 0.5 * noise[0]
    # The first plan of the fall is what tells.
    assert noise[31] > 2.0 * noise[30]


def test_a_planner_goes_on_from_the_plan_of_another_and_from_its_noise_where_they_are_alike():
    first = make_controller()
    first.plan(initial_state(first), Reference(), 0.0)
    assert not (first.planner._warm_start.noise_scale == 1.0).all()
    for name in ALGORITHMS:
        second = make_controller(**{"planner.algorithm": name, "planner.num_samples": 8})
        second.take_over(first)
        kept = np.array_equal(
            second.planner._warm_start.noise_scale, first.planner._warm_start.noise_scale
        )
        assert kept == (name == "mbd")
        plan = second.plan(initial_state(second, 0.02), Reference(), 0.02)
        assert np.isfinite(plan.controls).all()
        assert plan.stats.warm_start == "plan"


@given(st.integers(2, 40))
def test_antithetic_noise_comes_in_pairs_that_cancel(num_samples):
    mean = torch.tensor([[0.2], [-0.1]], dtype=torch.float64)
    noise = draw_noise(3, num_samples, mean, torch.Generator().manual_seed(0), antithetic=True)
    assert noise.shape == (3, num_samples, 2, 1)
    knots = sample_knots(mean, torch.full((2, 1), 0.01), noise[2])
    assert knots.shape == (num_samples, 2, 1)
    torch.testing.assert_close(knots[0], mean)
    pairs = (num_samples - 1) // 2
    first, second = knots[1 : 1 + pairs], knots[1 + num_samples // 2 :]
    assert len(second) == pairs
    torch.testing.assert_close((first + second) / 2.0, mean.expand(pairs, 2, 1))
    assert len(knots.unique(dim=0)) == num_samples


def test_the_last_step_of_a_shortened_plan_has_the_least_noise():
    config = SearchConfig(num_samples=2000, iterations=4, noise_start=0.4, noise_end=0.1)
    mbd, mean = ALGORITHMS["mbd"](config), torch.zeros((5, 1), dtype=torch.float64)
    noise = noise_for(mbd, mean, 1)[0]
    deviations = [
        float(mbd.sample(begin(mbd, mean, steps), steps - 1, noise).std()) for steps in (2, 4)
    ]
    assert deviations == pytest.approx([0.1, 0.1], rel=0.05)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_controls_stay_within_the_control_range(algorithm):
    controller = make_controller(**{"planner.algorithm": algorithm, "planner.noise_start": 2.0})
    controls = controller.plan(initial_state(controller), Reference(), 0.0).controls
    low, high = controller.task.ctrl_limits
    assert (controls >= low).all()
    assert (controls <= high).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_impossible_state_keeps_the_previous_plan(algorithm):
    controller = make_controller(**{"planner.algorithm": algorithm})
    before = controller.plan(initial_state(controller), Reference(), 0.0)
    broken = State(0.02, np.full(2, np.nan), np.zeros(2))
    with pytest.raises(NoFeasibleSampleError):
        controller.plan(broken, Reference(), 0.02)
    assert controller.current is before


def test_a_plan_is_evaluated_by_time():
    controller = make_controller()
    plan = controller.plan(initial_state(controller, 5.0), Reference(), 5.0)
    np.testing.assert_array_equal(plan.control(5.0), plan.controls[0])
    np.testing.assert_array_equal(plan.control(5.0399999999), plan.controls[2])
    np.testing.assert_array_equal(plan.control(5.041), plan.controls[2])
    np.testing.assert_array_equal(plan.control(1e9), plan.controls[-1])


def test_a_control_step_that_is_no_multiple_of_the_time_step_is_refused():
    with pytest.raises(
        ValueError,
        match=r"planner.control_dt of 0.03 s is not a multiple of model.timestep of 0.02 s",
    ):
        make_controller(**{"planner.control_dt": 0.03})


@pytest.mark.slow
def test_the_cartpole_swings_up_and_balances():
    from diffusion_mpc.simulation.closed_loop import run_episode

    angles = run_episode({"task": "cartpole"}, trial=0, duration=6.0).qpos[:, 1]
    assert np.cos(angles[-100:]).min() > 0.95


def test_a_plan_holds_as_many_of_its_cheapest_samples_as_asked():
    controller = make_controller(
        "ant", **{"backend.threads": 1, "planner.num_samples": 8, "markers.count": 3}
    )
    plan = controller.plan(initial_state(controller), Reference(), 0.0)
    assert plan.traces.shape == (3, len(plan.controls), controller.backend.model.nq)
    np.testing.assert_array_equal(plan.traces[0], plan.path)
    assert (plan.traces[1] != plan.traces[0]).any()
    # a base that does not float has no path to draw
    cartpole = make_controller(**{"backend.threads": 1})
    assert len(cartpole.plan(initial_state(cartpole), Reference(), 0.0).traces) == 0
