"""Named numbers on their way to the device, all in one copy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from diffusion_mpc.types import Array

# Clock times: in single precision they would be known to minutes only.
DOUBLE = ("times",)

Shapes = Mapping[str, tuple[int, ...]]


def send(numbers: Mapping[str, Array], dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    """Arrays as tensors of a type, except for those in `DOUBLE`, on a device."""
    if device.type == "cpu":
        tensors = {name: torch.from_numpy(values) for name, values in numbers.items()}
        return tensors if dtype == torch.float64 else {n: x if n in DOUBLE else x.to(dtype) for n, x in tensors.items()}
    flat = torch.from_numpy(flatten(numbers)).pin_memory().to(device, non_blocking=True)
    return unpack(flat, {name: values.shape for name, values in numbers.items()}, dtype)


def flatten(numbers: Mapping[str, Array]) -> Array:
    """All arrays one after the other, (numbers,)."""
    return np.concatenate([values.ravel() for values in numbers.values()])


def unpack(flat: torch.Tensor, shapes: Shapes, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Tensors of the given shapes out of one that holds them all, (numbers,) in double precision; the inverse of `flatten`."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    wide, narrow = torch.split(flat, sizes), torch.split(flat.to(dtype), sizes)
    return {name: (wide if name in DOUBLE else narrow)[i].view(shape) for i, (name, shape) in enumerate(shapes.items())}
