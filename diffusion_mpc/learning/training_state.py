"""State of a training, to go on from after a kill: weights, average, the optimizer's moments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from diffusion_mpc.policy.checkpoint import write_atomically
from diffusion_mpc.policy.denoiser import MovingAverage

STATE = "state.safetensors"


def write_state(
    path: Path,
    module: torch.nn.Module,
    average: MovingAverage,
    optimizer: torch.optim.Optimizer,
    about: Mapping[str, Any],
) -> None:
    """Write a file that `TrainingState` reads; a kill leaves it as it was or as it is to be.

    Args:
        path: the file
        module: the network
        average: average of its parameters
        optimizer: with its moments
        about: what else there is to know, as JSON has it
    """
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.values.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": v for k, v in moments.items()}
    cpu = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    told = json.dumps({**about, "average": average.steps})
    write_atomically(path, save(cpu, {"training": told}))


class TrainingState:
    """A file of `write_state`.

    Attributes:
        about: what it was written with
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        """Read the file; its tensors go to a device."""
        with safe_open(path, framework="pt") as file:
            self.about: dict[str, Any] = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._parts: dict[str, dict[str, torch.Tensor]] = {
            "module": {},
            "average": {},
            "optimizer": {},
        }
        for name, value in tensors.items():
            part, _, key = name.partition(".")
            self._parts[part][key] = value.to(device)

    def restore(
        self, module: torch.nn.Module, average: MovingAverage, optimizer: torch.optim.Optimizer
    ) -> None:
        """Put everything back to where it was."""
        module.load_state_dict(self._parts["module"])
        average.values, average.steps = self._parts["average"], int(self.about["average"])
        state = optimizer.state_dict()
        for key, value in self._parts["optimizer"].items():
            number, _, moment = key.partition(".")
            # A step count lies on the CPU, as AdamW has it.
            kept = value.cpu() if moment == "step" else value
            state["state"].setdefault(int(number), {})[moment] = kept
        optimizer.load_state_dict(state)
