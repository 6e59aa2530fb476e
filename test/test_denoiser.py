"""Denoisers: processes and bodies against known answers, checkpoints that are refused."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from diffusion_mpc.benchmark import toy_distributions
from diffusion_mpc.policy.checkpoint import (
    KEY,
    CheckpointError,
    Description,
    read_description,
    read_weights,
    save_checkpoint,
)
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig, MovingAverage
from diffusion_mpc.policy.generative_processes import DDPM, Flow, make_process
from diffusion_mpc.policy.normaliser import Limits

BODIES = {"mlp": (64, 2), "unet": (16, 2), "transformer": (32, 2)}
PREDICTIONS = [
    ("ddpm", "sample"),
    ("ddpm", "noise"),
    ("flow", "sample"),
    ("flow", "velocity"),
]


def denoiser(body="mlp", **options):
    width, depth = BODIES[body]
    torch.manual_seed(0)
    return Denoiser(DenoiserConfig(5, 3, 4, body=body, width=width, depth=depth, **options))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("process", ["ddpm", "flow"])
def test_an_untrained_network_that_predicts_samples_proposes_zeros(body, process):
    model = denoiser(body, process=process, prediction="sample", symmetric=True)
    model.fit_limits((torch.full((3,), -2.0), torch.ones(3)), (-torch.ones(4), torch.ones(4)))
    noise = torch.randn(8, 5, 3, generator=generator())

    assert model.sample(torch.rand(8, 4), noise, 4).abs().max() == 0.0


@pytest.mark.parametrize(("process", "prediction"), PREDICTIONS)
def test_a_network_that_knows_the_answer_returns_it_in_any_number_of_steps(process, prediction):
    made = DDPM(prediction) if process == "ddpm" else Flow(prediction)
    answer = torch.tensor([0.3, -0.7]).expand(2, 4, 2).double()

    def oracle(x, level):
        signal, sigma = (s[:, None, None] for s in made.scales(level))
        return made.target(answer, (x - signal * answer) / sigma)

    for steps in (1, 2, 10):
        noise = torch.randn(2, 4, 2, generator=generator(), dtype=torch.float64)
        found = made.sample(oracle, noise, steps)
        torch.testing.assert_close(found, answer, atol=1e-6, rtol=0.0)


def test_schedule_is_the_squared_cosine_of_improved_ddpm():
    process = DDPM("noise", levels=100)

    half = process.alpha_bar[50]  # cos^2((0.5 + s)/(1 + s) pi/2) / cos^2(s/(1 + s) pi/2), s = 0.008
    assert float(half) == pytest.approx(0.493844, abs=1e-6)
    assert float(process.alpha_bar[0]) == 1.0
    signal, sigma = process.scales(torch.tensor([0.5], dtype=torch.float64))
    assert float(signal**2 + sigma**2) == pytest.approx(1.0)


def test_euler_on_a_flow_is_ddim():
    flow = Flow("velocity")
    velocity = torch.tensor([[[0.5]]])
    x = torch.tensor([[[0.25]]])

    found = flow.sample(lambda x, level: velocity, x, 4, limit=None)

    assert float(found) == pytest.approx(0.75)


def test_ancestral_sampling_of_gaussian_data_has_their_spread():
    # Data N(0, s^2) are denoised exactly by x_hat = x signal s^2 / (signal^2 s^2 + sigma^2).
    process, spread = DDPM("sample", levels=100), 0.4

    def posterior_mean(x, level):
        signal, sigma = (s[:, None, None] for s in process.scales(level))
        return x * signal * spread**2 / (signal**2 * spread**2 + sigma**2)

    noise = torch.randn(20_000, 1, 1, generator=generator())
    for eta, steps in ((1.0, 100), (0.0, 100)):
        found = process.sample(
            posterior_mean, noise, steps, limit=None, eta=eta, generator=generator(1)
        )
        assert float(found.std()) == pytest.approx(spread, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("process", "prediction"), [("ddpm", "sample"), ("flow", "sample")])
def test_two_modes_are_met_in_their_shares(body, process, prediction):
    width, depth = BODIES[body]
    torch.manual_seed(0)
    config = DenoiserConfig(
        4, 2, 1, body=body, process=process, prediction=prediction, width=width, depth=depth
    )
    model, source = Denoiser(config), generator()
    optimizer, average = torch.optim.AdamW(model.parameters(), 2e-3), MovingAverage(model)
    for _ in range(600):
        mode = 2.0 * (torch.rand(128, 1, 1, generator=source) < 0.3) - 1.0
        rows = 0.6 * mode + 0.03 * torch.randn(128, 4, 2, generator=source)
        loss = model.loss(rows, torch.zeros(128, 1), source)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
    average.copy_to(model)

    with torch.inference_mode():
        noise = torch.randn(500, 4, 2, generator=source)
        found = model.sample(torch.zeros(500, 1), noise, 10).mean((1, 2))

    assert 0.2 < float((found > 0.0).float().mean()) < 0.4
    assert float((found.abs() < 0.3).float().mean()) < 0.05


def test_guidance_extrapolates_from_the_unconditional_prediction():
    model = denoiser(label=1, prediction="velocity", dropout=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator()))
    condition, noise = torch.rand(2, 4), torch.randn(2, 5, 3, generator=generator())
    label = torch.ones(2, 1)

    def one_step(label, guidance=1.0):
        return model.sample(condition, noise, 1, label, guidance, limit=None)

    without, with_label = one_step(None), one_step(label)
    assert (with_label - without).abs().max() > 1e-3
    torch.testing.assert_close(
        one_step(label, 3.0), without + 3.0 * (with_label - without), atol=1e-6, rtol=1e-5
    )


def test_limits_map_the_data_to_one_and_leave_constants_alone():
    limits = Limits(3)
    limits.fit(torch.tensor([-1.0, 2.0, 5.0]), torch.tensor([3.0, 4.0, 5.0]))

    found = limits.normalise(torch.tensor([[3.0, 2.0, 5.0]]))

    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0, 0.0]]))
    torch.testing.assert_close(limits.restore(found), torch.tensor([[3.0, 2.0, 5.0]]))


DESCRIPTION = Description("policy", "ant", "abc", {"length": 5}, 4, 1, {"num_knots": 5})


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path, model = tmp_path / "policy.safetensors", denoiser()
    save_checkpoint(path, model, DESCRIPTION)
    other = denoiser()
    with torch.no_grad():
        other.body.first.weight.zero_()

    read_weights(path, other)

    assert read_description(path) == DESCRIPTION
    for name, values in model.state_dict().items():
        assert torch.equal(values, other.state_dict()[name]), name


def test_checkpoints_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    path, model = tmp_path / "policy.safetensors", denoiser()

    def load(path):
        read_description(path)
        read_weights(path, model)

    def refusal(match):
        with pytest.raises(CheckpointError, match=match) as caught:
            load(path)
        assert "\n" not in str(caught.value)

    refusal("there is no checkpoint")
    path.write_bytes(b"not a checkpoint at all")
    refusal("is no checkpoint, or was cut short")
    save_file({"w": torch.zeros(1)}, path)
    refusal("no description")
    save_checkpoint(path, model, DESCRIPTION)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    refusal("cut short")
    older = {**dataclasses.asdict(DESCRIPTION), "version": 0}
    save_file({"w": torch.zeros(1)}, path, {KEY: json.dumps(older)})
    refusal("version 0")
    save_checkpoint(path, denoiser("transformer"), DESCRIPTION)
    refusal("do not fit")
    with torch.no_grad():
        model.body.first.bias[0] = torch.nan
    save_checkpoint(path, model, DESCRIPTION)
    refusal("not finite")


@pytest.mark.parametrize(
    ("process", "steps", "eta", "tolerance"),
    [("ddpm", 100, 1.0, 0.05), ("ddpm", 10, 0.0, 0.1), ("flow", 10, 0.0, 0.1)],
)
def test_samplers_meet_the_fractions_of_two_modes_where_the_network_knows_the_answer(
    process, steps, eta, tolerance
):
    made = make_process(process, "sample")
    noise = torch.randn(20_000, 4, 2, generator=generator())

    predict = toy_distributions.best_estimate(made)
    found = toy_distributions.modes(
        made.sample(predict, noise, steps, eta=eta, generator=generator(1))
    )

    assert abs(found["error"]) < tolerance
    assert found["between"] < 1e-3
