"""Training of the small networks of benchmarks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusion_mpc.policy.denoiser import MovingAverage


def train(module: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = 2e-3) -> None:
    """Minimise a loss; the module ends with averaged parameters.

    Args:
        module: network
        loss: loss () of a batch that it draws
        steps: gradient steps
        rate: largest learning rate, of one cycle
    """
    optimiser = torch.optim.AdamW(module.parameters(), rate, weight_decay=1e-6)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    average = MovingAverage(module)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        average.update(module)
    average.copy_to(module)
    module.eval()


def batch(data: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random rows (size, ...) of data (count, ...)."""
    return data[torch.randint(len(data), (size,), generator=generator)]
