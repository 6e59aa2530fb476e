"""Named cost terms and constraints of a task, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.user_code import at, failure
from diffusion_mpc.types import ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_mpc.tasks.base import Task

Norm = Callable[["Tensor"], "Tensor"]
Residual = Callable[..., "Tensor"]
R = TypeVar("R", bound=Residual)


def quadratic(residual: Tensor) -> Tensor:
    """Square of each component: `r^2`."""
    return residual.square()


def smooth_abs(residual: Tensor) -> Tensor:
    """Quadratic near zero and linear far away: `sqrt(r^2 + 0.1^2) - 0.1`."""
    return (residual.square() + 0.01).sqrt() - 0.1


def linear(residual: Tensor) -> Tensor:
    """The residual itself, for terms that are costs already."""
    return residual


@dataclass(frozen=True)
class CostTerm:
    """One named term of a task's cost; `weight` is its default, changeable while planning runs."""

    name: str
    residual: Residual
    weight: float
    norm: Norm
    unit: str
    description: str

    def __call__(self, task: Task, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Unweighted cost (samples, horizon).

        Raises:
            TaskError: residual or norm fail; the message names the term, the file and the line
        """
        try:
            value = self.norm(self.residual(task, x, reference))
            return value.sum(-1) if value.ndim > x.qpos.ndim - 1 else value
        except Exception as error:
            raise failure(f"cost term '{self.name}'", self.residual, error) from error


def cost(weight: float, norm: Norm = quadratic, unit: str = "1") -> Callable[[R], R]:
    """Mark a method of a task as a cost term.

    Args:
        weight: default weight; a ROS parameter `cost.<method name>` changes it
        norm: what turns the residual into a cost
        unit: unit of the residual
    """
    _require_called("cost", "@cost(weight=1.0)", weight)

    def mark(method: R) -> R:
        description = (method.__doc__ or "").strip()
        if not description:
            raise TaskError(
                f"cost term '{method.__name__}' has no docstring; it becomes the parameter's "
                f"description {at(method)}"
            )
        term = CostTerm(method.__name__, method, weight, norm, unit, " ".join(description.split()))
        method.__cost_term__ = term  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True)
class Constraint:
    """One named constraint of a task, `g(x, u) <= 0`; see `constraint`."""

    name: str
    value: Residual
    tightening: float
    unit: str
    description: str

    def violation(
        self, task: Task, x: RolloutBatch, reference: ReferenceTensors, tightened: bool = True
    ) -> Tensor:
        """Mean over the horizon of the sum of all positive values, (samples,).

        0 where the constraint is met throughout.

        Raises:
            TaskError: the constraint fails; the message names it, the file and the line
        """
        try:
            return self._violation(self.value(task, x, reference), x, tightened)
        except Exception as error:
            raise failure(f"constraint '{self.name}'", self.value, error) from error

    def _violation(self, value: Tensor, x: RolloutBatch, tightened: bool) -> Tensor:
        value = value if value.ndim > x.qpos.ndim - 1 else value[..., None]
        if tightened and self.tightening:
            horizon = value.shape[1]
            value = (
                value
                + self.tightening
                * torch.arange(1, horizon + 1, dtype=value.dtype, device=value.device)[:, None]
                / horizon
            )
        return value.clamp(min=0.0).sum(-1).mean(-1)


def constraint(tightening: float = 0.0, unit: str = "1") -> Callable[[R], R]:
    """Mark a method of a task as a constraint.

    Its values, (samples, horizon) or (samples, horizon, k), are to be 0 or less.

    A plan that breaks a constraint is worse than any that does not, whatever they cost.

    Args:
        tightening: what is added to the values at the end of the horizon, and in proportion before.
            The robot does not do quite what the model says; a plan that keeps more distance the
            farther it looks leaves one that is feasible to the next
        unit: unit of the values
    """
    _require_called("constraint", "@constraint()", tightening)

    def mark(method: R) -> R:
        description = (method.__doc__ or "").strip()
        if not description:
            raise TaskError(
                f"constraint '{method.__name__}' has no docstring; say in one what must hold "
                f"{at(method)}"
            )
        method.__constraint__ = Constraint(  # type: ignore[attr-defined]
            method.__name__, method, tightening, unit, " ".join(description.split())
        )
        return method

    return mark


def _require_called(mark: str, example: str, first: object) -> None:
    """Refuse `@cost` without parentheses, which would make no term of the method."""
    if callable(first):
        raise TaskError(
            f"@{mark} of '{getattr(first, '__name__', first)}' has no parentheses; "
            f"write {example} {at(first)}"
        )


@cache
def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers, or tuples of them, as a tensor that is sent to the device once."""
    return torch.tensor(values, dtype=dtype, device=device)


def columns(x: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """Columns of a tensor (..., dim) by number, (..., len(chosen))."""
    return x.index_select(-1, constant(chosen, torch.int64, x.device))
