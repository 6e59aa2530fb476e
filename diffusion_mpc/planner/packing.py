"""Dataclasses of arrays as one array and back.

What goes to the device, and what comes from it, is copied at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch

from diffusion_mpc.types import Array

DOUBLE = ("times",)
"""Fields that stay in double precision.

Clock times, which single precision knows to minutes only.
"""

Shapes = Sequence[tuple[int, ...]]
T = TypeVar("T")


def shapes_of(group: Any) -> Shapes:  # noqa: ANN401
    """Shapes of the arrays or tensors of a dataclass, in the order of its fields."""
    return [tuple(values.shape) for values in _values(group)]


def pack(group: Any) -> Array:  # noqa: ANN401
    """All arrays of a dataclass one after the other, (numbers,)."""
    return np.concatenate([values.ravel() for values in _values(group)])


def unpack(kind: type[T], flat: Array, shapes: Shapes) -> T:
    """A dataclass of arrays, views of those that lie one after the other in `flat`, (numbers,)."""
    parts = np.split(flat, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return kind(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def pack_tensors(group: Any) -> torch.Tensor:  # noqa: ANN401
    """All tensors of a dataclass one after the other, (numbers,)."""
    return torch.cat([values.flatten() for values in _values(group)])


def unpack_tensors(kind: type[T], flat: torch.Tensor, shapes: Shapes, dtype: torch.dtype) -> T:
    """Dataclass of tensors of a type, but for those in `DOUBLE`, out of `flat` (numbers,)."""
    sizes = [math.prod(shape) for shape in shapes]
    parts = zip(
        _names(kind),
        torch.split(flat, sizes),
        torch.split(flat.to(dtype), sizes),
        shapes,
        strict=True,
    )
    return kind(
        *((wide if name in DOUBLE else narrow).view(shape) for name, wide, narrow, shape in parts)
    )


def send(kind: type[T], group: Any, dtype: torch.dtype, device: torch.device) -> T:  # noqa: ANN401
    """A dataclass of arrays as one of tensors of a type, but for those in `DOUBLE`, on a device.

    On the CPU, they share memory.
    """
    if device.type == "cpu":
        parts = zip(_names(kind), _values(group), strict=True)
        return kind(
            *(
                torch.from_numpy(values).to(torch.float64 if name in DOUBLE else dtype)
                for name, values in parts
            )
        )
    flat = torch.from_numpy(pack(group)).pin_memory().to(device, non_blocking=True)
    return unpack_tensors(kind, flat, shapes_of(group), dtype)


def _names(kind: Any) -> list[str]:  # noqa: ANN401
    return [field.name for field in fields(kind)]


def _values(group: Any) -> list[Any]:  # noqa: ANN401
    return [getattr(group, name) for name in _names(group)]
