"""Trajectories that are sampled: what is given stays, costs steer, the best is kept."""

import math

import pytest
import torch

from diffusion_mpc.benchmark import linear_gaussian, point_maze, stopped_pendulum
from diffusion_mpc.benchmark.linear_gaussian import LinearPolicy, closed_form, moments_of
from diffusion_mpc.benchmark.offline_learning import Transitions, learn
from diffusion_mpc.benchmark.rollouts import closed_loop, open_loop
from diffusion_mpc.policy.diffuser import Diffuser, DiffuserConfig, Guidance, Known, gradient
from diffusion_mpc.policy.generative_processes import SamplingStep
from diffusion_mpc.policy.policy_guided import (
    OneStepModel,
    SyntheticData,
    coefficient,
    policy_guidance,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def diffuser(horizon=8):
    torch.manual_seed(0)
    model = Diffuser(DiffuserConfig(3, 2, horizon, goal=(0, 2), width=8, depth=2))
    model.fit_limits(torch.tensor([[[-1.0, -7.0, 0.1, -0.3, 2.0], [3.0, 1.0, 0.7, 0.9, 9.0]]]))
    return model


class Gaussian(torch.nn.Module):
    """Denoiser of independent normal entries with mean 0 and a standard deviation, exactly."""

    def __init__(self, process, deviation):
        super().__init__()
        self.process, self.deviation = process, deviation

    def forward(self, x, level, condition):
        signal, sigma = (s[:, None, None] for s in self.process.scales(level))
        variance = self.deviation**2
        return signal * variance / (signal**2 * variance + sigma**2) * x


def oracle(states=1, actions=1, deviation=0.2, **options):
    model = Diffuser(DiffuserConfig(states, actions, 4, width=8, depth=2, **options))
    model.denoiser.body = Gaussian(model.denoiser.process, deviation)
    return model


@pytest.mark.parametrize("horizon", [4, 8, 13])
@pytest.mark.parametrize("guided", [False, True])
def test_what_is_given_is_in_the_sample_to_the_last_digit(horizon, guided):
    start, goal = torch.tensor([0.123, -2.7, 0.61]), torch.tensor([2.9, 0.2])
    committed = torch.tensor([[0.37, 3.3], [0.51, 8.1]])
    made = diffuser().sample(
        3,
        generator(),
        horizon=horizon,
        start=start,
        goal=goal,
        committed=committed,
        guidance=Guidance([lambda x: x.square().sum((1, 2))]) if guided else None,
    )

    assert made.shape == (3, horizon, 5)
    assert (made[:, 0, :3] == start).all()
    assert (made[:, -1, [0, 2]] == goal).all()
    assert (made[:, :2, 3:] == committed).all()
    assert made.isfinite().all()


def test_what_cannot_be_given_is_refused_in_one_line():
    with pytest.raises(ValueError, match="9 actions are committed, more than the horizon of 8"):
        diffuser().sample(1, generator(), committed=torch.zeros(9, 2))
    with pytest.raises(ValueError, match="without goals"):
        oracle().sample(1, generator(), goal=torch.zeros(1))


def test_training_shows_given_entries_without_noise_and_lowers_the_loss():
    model = diffuser()
    data = torch.rand(32, 8, 5, generator=generator()).cumsum(1) / 8.0
    model.fit_limits(data)
    seen = []
    model.denoiser.body.register_forward_pre_hook(lambda _, given: seen.append(given))
    first = model.loss(data, generator(1))
    noisy, _, condition = seen[0]
    clean = model.denoiser.sequence.normalise(data)
    started, aimed = condition[:, 0] == 1, condition[:, 1] == 1

    assert 0 < started.sum() < 32
    assert (noisy[started, 0, :3] == clean[started, 0, :3]).all()
    assert (noisy[~started, 0, :3] != clean[~started, 0, :3]).all()
    assert (noisy[aimed][:, -1, [0, 2]] == clean[aimed][:, -1, [0, 2]]).all()
    assert (noisy[:, -1, 1] != clean[:, -1, 1]).all()

    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for i in range(10):
        optimiser.zero_grad()
        model.loss(data, generator(i)).backward()
        optimiser.step()
    assert model.loss(data, generator(1)) < 0.8 * first


def test_an_exact_denoiser_samples_its_gaussian():
    made = oracle(deviation=0.2, levels=200).sample(2000, generator())
    assert made.mean().abs() < 0.01
    assert made.std() == pytest.approx(0.2, rel=0.1)


def test_a_guided_step_moves_by_scale_times_variance_times_the_gradient_through_the_network():
    model = oracle()
    model.denoiser.sequence.fit(torch.tensor([-2.0, -2.0]), torch.tensor([2.0, 2.0]))
    x, empty = torch.full((1, 4, 2), 0.3), torch.zeros((1, 4, 2), dtype=torch.bool)

    def cost(y):
        return 0.5 * (y - 1.0).square().sum((1, 2))

    def step(index):
        before = torch.full((1, 4, 2), 0.4)
        return SamplingStep(index, 20, 0.5, 0.8, 0.1, 0.25 * before, before, lambda y: 0.25 * y)

    guidance = Guidance([cost, cost], scale=0.5, unguided=2)
    adjust = model._adjust(Known(empty, x), guidance, None, 3.0)
    # In units of the data the estimate is 0.2; two costs pull by 2 (0.2 - 1), times the reach of 2
    # and the network's derivative.
    expected = x - 0.5 * 0.1 * 2 * 2.0 * (0.2 - 1.0) * 0.25
    torch.testing.assert_close(adjust(x, step(3)), expected)
    assert (adjust(x, step(18)) == x).all()


def test_what_is_given_draws_its_neighbours_along():
    # Trajectories that stay where they begin: all entries are one normal number, and some noise.
    size, process = 8, oracle(levels=20).denoiser.process
    covariance = 0.04 * (torch.ones(size, size) + 0.05 * torch.eye(size))

    class Constant(torch.nn.Module):
        def forward(self, x, level, condition):
            signal, sigma = process.scales(level[:1])
            gain = (
                signal
                * covariance
                @ (signal**2 * covariance + sigma**2 * torch.eye(size)).inverse()
            )
            # Blind to what is given, as a network is that was trained too little.
            return (x.flatten(1) @ gain).view_as(x).clone()

    model = oracle(levels=20)
    model.denoiser.body = Constant()
    start = torch.tensor([0.4])
    gaps = []
    for weight in (0.0, 3.0):
        made = model.sample(300, generator(), start=start, reconstruction=weight)
        assert (made[:, 0, 0] == start).all()
        gaps.append(float((made[:, 1, 0] - start).abs().mean()))
    assert gaps[1] < 0.7 * gaps[0]


def test_guidance_shifts_a_gaussian_to_the_side_of_less_cost_and_more_with_scale():
    means = []
    for scale in (0.0, 1.0, 4.0):
        guidance = Guidance([lambda x: 0.5 * (x - 0.5).square().sum((1, 2))], scale)
        means.append(float(oracle().sample(500, generator(), guidance=guidance).mean()))
    assert abs(means[0]) < 0.01
    assert means[0] + 0.005 < means[1] < means[2] < 0.5


def test_gradients_are_there_in_inference_mode():
    model = diffuser()
    with torch.inference_mode():
        x = torch.tensor([[1.0, -2.0]])
        slope = gradient(lambda y: y.square().sum(-1), x)
        made = model.sample(
            2,
            generator(),
            start=torch.zeros(3),
            guidance=Guidance([lambda y: y.sum((1, 2))]),
        )
    assert slope.tolist() == [[2.0, -4.0]]
    assert made.isfinite().all()


def test_the_best_is_the_one_of_least_cost_when_rolled_out():
    model = oracle(states=1, actions=1)
    # Sampled states claim to stay; actions move by 3, by 1, and nowhere to be found.
    trajectories = torch.zeros(3, 4, 2)
    trajectories[:, :, 1] = torch.tensor([3.0, 1.0, math.nan])[:, None]

    def execute(planned):
        actions = planned[..., 1:]
        moved = torch.cat((0 * actions[:, :1], actions[:, :-1].cumsum(1)), 1)
        return torch.cat((planned[:, :1, :1] + moved, actions), -1)

    found = model.roll_out(trajectories, execute, lambda x: (x[:, -1, 0] - 4.0).abs())

    assert found.costs[:2].tolist() == [5.0, 1.0]
    assert found.best == 1
    # Off by 0, a, 2a, 3a.
    assert found.distances[:2].tolist() == [4.5, 1.5]


def test_coefficient_of_policy_guidance_by_hand():
    assert coefficient(0, 4, 2.0) == pytest.approx(2.0 * (1.0 + 0.3 * math.sqrt(0.5)))
    assert coefficient(1, 4, 2.0) == pytest.approx(2.0 * (0.75 + 0.3))
    assert coefficient(2, 4, 2.0) == pytest.approx(2.0 * (0.5 + 0.3 * math.sqrt(0.5)))
    assert coefficient(3, 4, 2.0) == 0.0


def test_policy_guidance_takes_the_gradient_of_the_actions_alone_back_through_the_network():
    model = oracle()
    adjust = policy_guidance(model, lambda s, a: -0.5 * (a - s).square().sum(-1), 2.0)
    x, before = torch.zeros(1, 4, 2), torch.tensor([0.8, 0.2]).expand(1, 4, 2)

    def denoise(y):
        # States half as far; actions are what the state is, and a quarter of their own.
        return torch.stack((0.5 * y[..., 0], y[..., 0] + 0.25 * y[..., 1]), -1)

    moved = adjust(x, SamplingStep(1, 4, 0.5, 0.8, 0.1, denoise(before), before, denoise))

    # The estimated action is 0.85, the state 0.4: log density pulls the action by -0.45.
    pull = 2.0 * 1.05 * 0.1 * -0.45
    torch.testing.assert_close(moved[..., 0], torch.full((1, 4), pull * 1.0))
    torch.testing.assert_close(moved[..., 1], torch.full((1, 4), pull * 0.25))
    last = SamplingStep(3, 4, 1.0, 0.0, 0.1, denoise(before), before, denoise)
    assert (adjust(x, last) == x).all()


def test_policy_guidance_brings_actions_nearer_to_the_policy_the_stronger_it_is():
    def log_density(states, actions):
        return -0.5 * ((actions - 0.3) / 0.1).square().sum(-1)

    apart = []
    for strength in (0.0, 1.0, 4.0):
        model = oracle(levels=50)
        adjust = policy_guidance(model, log_density, strength)
        states, actions = model.split(model.sample(500, generator(), adjust=adjust))
        apart.append(float((actions - 0.3).abs().mean()))
        # The oracle's states have nothing to do with actions, and stay.
        assert states.mean().abs() < 0.02
    assert apart[2] < 0.7 * apart[1] < 0.5 * apart[0]


def test_one_step_model_learns_a_linear_system():
    torch.manual_seed(0)
    data = closed_loop(
        linear_gaussian.move,
        linear_gaussian.starts(200, generator()),
        linear_gaussian.BEHAVIOUR.mean,
        16,
    )
    data[..., 2:] += torch.randn(200, 16, 1, generator=generator(1))
    states, actions = data[:, :-1, :2], data[:, :-1, 2:]
    moves = [x.flatten(0, 1) for x in (states, actions, linear_gaussian.move(states, actions))]
    model = OneStepModel(2, 1, width=32)
    model.fit_limits(*moves)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        model.loss(*moves).backward()
        optimiser.step()
    with torch.no_grad():
        made = closed_loop(model, states[:, 0], lambda s: s @ torch.zeros(2, 1), 5)
    truth = open_loop(linear_gaussian.move, made[:, 0, :2], made[..., 2:])
    assert (made[..., :2] - truth).norm(dim=-1).mean() < 0.1 * truth.norm(dim=-1).mean()


def test_synthetic_data_say_which_step_disagrees_with_the_system():
    move, policy = stopped_pendulum.move, stopped_pendulum.TARGET
    data = closed_loop(move, stopped_pendulum.starts(5, generator()), policy.mean, 10)
    exact = SyntheticData.check(data[..., :2], data[..., 2:], move)
    assert exact.errors.shape == (5, 9)
    assert exact.errors.max() < 1e-6
    data[2, 4:, 0] += 0.01
    found = SyntheticData.check(data[..., :2], data[..., 2:], move).errors
    assert found.argmax() == 2 * 9 + 3
    assert found[2, 3] == pytest.approx(0.01, rel=0.01)
    assert found[[0, 1, 3, 4]].max() < 1e-6


def test_trajectories_of_a_linear_policy_have_the_closed_forms_moments():
    target, behaviour = linear_gaussian.TARGET, linear_gaussian.BEHAVIOUR
    draw = generator()
    start = linear_gaussian.starts(20000, draw)
    made = moments_of(closed_loop(linear_gaussian.move, start, lambda s: target.act(s, draw), 16))
    exact = closed_form(target)
    torch.testing.assert_close(made.covariance, exact.covariance, atol=0.1, rtol=0.1)
    assert made.distance(exact) < 0.1
    assert made.distance(closed_form(behaviour)) > 1.0


def test_a_tilt_by_the_policy_itself_narrows_its_noise_and_one_by_another_comes_nearer():
    target, behaviour = linear_gaussian.TARGET, linear_gaussian.BEHAVIOUR
    # pi^(1 + 3) has a quarter of the variance; starts stay.
    narrow = closed_form(LinearPolicy(behaviour.gain, behaviour.noise / 2.0))
    tilted = closed_form(behaviour, behaviour, 3.0)
    torch.testing.assert_close(tilted.covariance, narrow.covariance)
    apart = [closed_form(behaviour, target, by).distance(closed_form(target)) for by in (0, 1, 100)]
    assert apart[1] < 0.3 * apart[0]
    assert apart[1] < apart[2]


def test_the_pendulum_bounces_off_its_stops():
    state = torch.tensor([[0.75, 2.0], [-0.75, -2.0], [0.0, 1.0]])
    moved = stopped_pendulum.move(state, torch.zeros(3, 1))
    assert (moved[0] == -moved[1]).all()
    speed = 2.0 - 0.1 * (4.0 * math.sin(0.75) + 0.2 * 2.0)
    assert moved[0].tolist() == pytest.approx([1.6 - (0.75 + 0.1 * speed), -0.6 * speed])
    assert moved[2, 0] > 0.0
    draw = generator()
    data = closed_loop(
        stopped_pendulum.move, state, lambda s: stopped_pendulum.BEHAVIOUR.act(s, draw), 100
    )
    assert data[..., 0].abs().max() <= stopped_pendulum.STOP


def test_policies_learned_from_data_act_better_than_the_data():
    torch.manual_seed(0)
    draw = generator()
    states, actions = (torch.randn((2, 500, 1), generator=draw) for _ in range(2))
    # The best action is half the state; what follows is another random state.
    rewards = -(actions - 0.5 * states).square()[..., 0]
    following = torch.randn((2, 500, 1), generator=draw)
    actors = learn(Transitions(states, actions, rewards, following), 200, draw)
    with torch.no_grad():
        found = -(actors(states) - 0.5 * states).square()[..., 0]
    assert found.shape == (2, 500)
    assert (found.mean(1) > 0.3 * rewards.mean(1)).all()


def test_a_controller_follows_planned_positions_whatever_the_planned_actions():
    planned = point_maze.wander(20, 32, generator())
    planned[..., 4:] = 0.0
    apart = (point_maze.follow(planned) - planned)[..., :2].norm(dim=-1)
    assert apart.mean() < 0.05
    assert (point_maze.obey(planned) - planned)[:, -1, :2].norm(dim=-1).mean() > 0.5


def test_walls_of_the_maze_and_its_wanderers():
    places = torch.tensor([[0.5, 0.5], [1.0, 1.5], [2.5, 1.5], [-0.2, 2.5], [1.9, 1.5]])
    expected = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.1])
    torch.testing.assert_close(point_maze.depth(places), expected)
    data = point_maze.wander(20, 200, generator())
    torch.testing.assert_close(point_maze.obey(data), data, atol=1e-3, rtol=1e-3)
    free = point_maze.windows(data, 32, 8)
    assert len(free) > 300
    assert (free[:, 0, :2] - free[:, -1, :2]).norm(dim=-1).median() > 0.5
