"""Our processes against Hugging Face's `diffusers`, where it is installed."""

import numpy as np
import pytest
import torch

from diffusion_mpc.policy.generative_processes import DDPM, Flow

diffusers = pytest.importorskip("diffusers", reason="an extra comparison: pip install diffusers")

LEVELS = 100
SCHEDULE = {
    "num_train_timesteps": LEVELS,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "timestep_spacing": "trailing",
}


def network(x, level):
    """Any function of iterate and level will do."""
    return (0.7 * x + 0.3 * level[:, None, None]).tanh()


def start():
    return torch.randn((3, 5, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_schedule_is_theirs():
    theirs = diffusers.DDPMScheduler(**SCHEDULE).alphas_cumprod.double()
    torch.testing.assert_close(DDPM(levels=LEVELS).alpha_bar[1:], theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("prediction", "theirs"), [("noise", "epsilon"), ("sample", "sample")])
@pytest.mark.parametrize("steps", [2, 5, 10, 100])
def test_ddim_is_theirs(prediction, theirs, steps):
    ours = DDPM(prediction, LEVELS).sample(network, start(), steps)
    scheduler = diffusers.DDIMScheduler(**SCHEDULE, prediction_type=theirs)
    scheduler.set_timesteps(steps)
    x = start()
    for t in scheduler.timesteps:
        # Their step t is our level t + 1. They use the noise as predicted, we that of the clipped
        # estimate, as their own option has it.
        level = ((t + 1) / LEVELS).double().expand(len(x))
        x = scheduler.step(network(x, level), t, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


def test_ancestral_sampling_is_theirs():
    process = DDPM("sample", LEVELS)
    ours = process.sample(
        network, start(), LEVELS, eta=1.0, generator=torch.Generator().manual_seed(1)
    )
    scheduler = diffusers.DDPMScheduler(
        **SCHEDULE, prediction_type="sample", variance_type="fixed_small"
    )
    scheduler.set_timesteps(LEVELS)
    x, generator = start(), torch.Generator().manual_seed(1)
    for t in scheduler.timesteps:
        level = ((t + 1) / LEVELS).double().expand(len(x))
        x = scheduler.step(network(x, level), t, x, generator=generator).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_euler_on_a_flow_is_theirs(steps):
    # They predict the noise less the data, we the data less the noise.
    ours = Flow("velocity").sample(network, start(), steps, limit=None)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1].tolist())
    x = start()
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(-network(x, sigma.double().expand(len(x))), t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-5)
