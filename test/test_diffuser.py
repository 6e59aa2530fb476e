"""Trajectories that are sampled: what is given stays, costs steer, the best is kept."""

import math

import pytest
import torch

from diffusion_mpc.benchmark import linear_gaussian, point_maze
from diffusion_mpc.policy.diffuser import Diffuser, DiffuserConfig, Guidance, Known, gradient
from diffusion_mpc.policy.generative_processes import SamplingStep
from diffusion_mpc.policy.policy_guided import OneStepModel, coefficient, policy_guidance


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


def test_a_guided_step_moves_by_scale_times_variance_times_the_gradient():
    model = oracle()
    model.denoiser.sequence.fit(torch.tensor([-2.0, -2.0]), torch.tensor([2.0, 2.0]))
    x, empty = torch.full((1, 4, 2), 0.3), torch.zeros((1, 4, 2), dtype=torch.bool)

    def cost(y):
        return 0.5 * (y - 1.0).square().sum((1, 2))

    guidance = Guidance([cost, cost], scale=0.5, repeats=1, unguided=2)
    adjust = model._adjust(Known(empty, x), guidance, None)
    moved = adjust(x, SamplingStep(3, 20, 0.5, 0.8, 0.1, x))
    # In units of the data x is 0.6; two costs pull by 2 (0.6 - 1), times the reach of 2.
    torch.testing.assert_close(moved, x - 0.5 * 0.1 * 2 * 2.0 * (0.6 - 1.0))
    assert (adjust(x, SamplingStep(18, 20, 0.5, 0.8, 0.1, x)) == x).all()


def test_guidance_shifts_a_gaussian_to_the_side_of_less_cost_and_more_with_scale():
    means = []
    for scale in (0.0, 0.3, 1.0):
        guidance = Guidance([lambda x: 0.5 * (x - 0.5).square().sum((1, 2))], scale)
        means.append(float(oracle().sample(500, generator(), guidance=guidance).mean()))
    assert abs(means[0]) < 0.01
    assert means[0] + 0.005 < means[1] < means[2] < 0.5


def test_gradients_are_there_in_inference_mode():
    model = oracle()
    with torch.inference_mode():
        x = torch.tensor([[1.0, -2.0]])
        slope = gradient(lambda y: y.square().sum(-1), x)
        made = model.sample(2, generator(), guidance=Guidance([lambda y: y.sum((1, 2))]))
    assert slope.tolist() == [[2.0, -4.0]]
    assert made.isfinite().all()


def test_the_best_is_the_one_of_least_cost_when_rolled_out():
    model = oracle(states=1, actions=1)
    # Sampled states claim to stay; actions move by 3, by 1, and nowhere to be found.
    trajectories = torch.zeros(3, 4, 2)
    trajectories[:, :, 1] = torch.tensor([3.0, 1.0, math.nan])[:, None]

    def rollout(start, actions):
        return start[:, None] + torch.cat((0 * actions[:, :1], actions[:, :-1].cumsum(1)), 1)

    found = model.roll_out(trajectories, rollout, lambda s, a: (s[:, -1, 0] - 4.0).abs())

    assert found.costs[:2].tolist() == [5.0, 1.0]
    assert found.best == 1
    # Off by 0, a, 2a, 3a.
    assert found.distances[:2].tolist() == [4.5, 1.5]


def test_coefficient_of_policy_guidance_by_hand():
    assert coefficient(0, 4, 2.0) == pytest.approx(2.0 * (1.0 + 0.3 * math.sqrt(0.5)))
    assert coefficient(1, 4, 2.0) == pytest.approx(2.0 * (0.75 + 0.3))
    assert coefficient(2, 4, 2.0) == pytest.approx(2.0 * (0.5 + 0.3 * math.sqrt(0.5)))
    assert coefficient(3, 4, 2.0) == 0.0


def test_policy_guidance_moves_actions_alone_down_the_policys_distance():
    model = oracle()
    adjust = policy_guidance(model, lambda s, a: -0.5 * (a - s).square().sum(-1), 2.0)
    x = torch.zeros(1, 4, 2)
    estimate = torch.tensor([0.8, 0.2]).expand(1, 4, 2)
    moved = adjust(x, SamplingStep(1, 4, 0.5, 0.8, 0.1, estimate))

    assert (moved[..., 0] == 0.0).all()
    torch.testing.assert_close(moved[..., 1], torch.full((1, 4), 2.0 * 1.05 * 0.1 * 0.6))
    assert (adjust(x, SamplingStep(3, 4, 1.0, 0.0, 0.1, estimate)) == x).all()


def test_one_step_model_learns_a_linear_system():
    torch.manual_seed(0)
    data = linear_gaussian.trajectories(200, linear_gaussian.BEHAVIOUR, generator())
    states, actions, following = data[:, :-1, :2], data[:, :-1, 2:], data[:, 1:, :2]
    moves = [x.flatten(0, 1) for x in (states, actions, following)]
    model = OneStepModel(2, 1, width=32)
    model.fit_limits(*moves)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        model.loss(*moves).backward()
        optimiser.step()
    with torch.no_grad():
        made = torch.cat(model.roll_out(states[:, 0], lambda s: s @ torch.zeros(2, 1), 5), -1)
    truth = linear_gaussian.roll_out(made[:, 0, :2], made[..., 2:])
    assert (made[..., :2] - truth).norm(dim=-1).mean() < 0.1 * truth.norm(dim=-1).mean()


def test_trajectories_of_a_linear_policy_have_the_closed_forms_moments():
    target, behaviour = linear_gaussian.TARGET, linear_gaussian.BEHAVIOUR
    made = linear_gaussian.trajectories(20000, target, generator())
    torch.testing.assert_close(
        made.flatten(1).T.cov(), linear_gaussian.covariance(target), atol=0.1, rtol=0.1
    )
    assert linear_gaussian.distance(made, target) < 0.1
    assert linear_gaussian.distance(made, behaviour) > 1.0


def test_walls_of_the_maze_and_its_wanderers():
    places = torch.tensor([[0.5, 0.5], [1.0, 1.5], [2.5, 1.5], [-0.2, 2.5], [1.9, 1.5]])
    expected = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.1])
    torch.testing.assert_close(point_maze.depth(places), expected)
    data = point_maze.wander(20, 200, generator())
    rolled = point_maze.roll_out(data[:, 0, :4], data[..., 4:])
    torch.testing.assert_close(rolled, data[..., :4], atol=1e-3, rtol=1e-3)
    free = point_maze.windows(data, 32, 8)
    assert len(free) > 300
    assert (free[:, 0, :2] - free[:, -1, :2]).norm(dim=-1).median() > 0.5
