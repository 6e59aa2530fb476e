"""Try of a user's task before anything moves.

What every term, constraint and test of success returns on a small batch at rest, and what nobody
calls because its mark is missing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mujoco
import numpy as np
import torch

from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.measured import initial_state, trajectory
from diffusion_mpc.tasks.user_code import at, failure
from diffusion_mpc.types import Array, Reference, RolloutBatch

SIZES = (5, 7, 11, 13, 17, 19, 23, 29)
"""Sizes that a batch is made with; those that mean something else in a model are left out."""

TIME, STEP = 1.0, 0.02
"""Time of the first row and time between rows, s."""

TERM = ("(samples, horizon)", "(samples, horizon, k)")
Shape = tuple[int, ...]


def require_marks(task: type[Task]) -> None:
    """Refuse a method that looks like a cost term, has no mark, and is called by nobody.

    Raises:
        TaskError: there is one; the message says where
    """
    methods = {n: f for c in task.__mro__ for n, f in vars(c).items() if inspect.isfunction(f)}
    used = {name for f in methods.values() for name in _names(f.__code__)}
    for name, method in vars(task).items():
        if (
            inspect.isfunction(method)
            and not name.startswith("_")
            and not hasattr(Task, name)
            and name not in used
            and not hasattr(method, "__cost_term__")
            and not hasattr(method, "__constraint__")
            and list(inspect.signature(method).parameters) == ["self", "x", "reference"]
        ):
            raise TaskError(
                f"method '{name}' of task '{task.name}' looks like a cost term and nothing calls "
                f"it; mark it with @cost or @constraint, or begin its name with _ {at(method)}"
            )


def _names(code: Any) -> set[str]:  # noqa: ANN401  (a code object)
    """Names that code refers to, that of functions within it included."""
    inner = [constant for constant in code.co_consts if hasattr(constant, "co_names")]
    return {*code.co_names}.union(*(_names(part) for part in inner))


@dataclass(frozen=True)
class _Batch:
    x: RolloutBatch
    samples: int
    horizon: int

    def require(
        self,
        what: str,
        function: Callable[..., Any],
        call: Callable[[], Any],
        shapes: Sequence[str],
        dtype: torch.dtype,
    ) -> None:
        """Refuse what a function returns where it is not a finite tensor of one of the shapes.

        Args:
            what: name of the function in messages
            function: the function, for its file and line
            call: call of the function
            shapes: shapes that fit, in words
            dtype: type of the numbers
        """
        try:
            value = call()
        except Exception as error:
            raise failure(what, function, error) from error
        if reason := self._wrong(value, shapes, dtype):
            raise TaskError(f"{what} returns {reason} {at(function)}")

    def _wrong(self, value: object, shapes: Sequence[str], dtype: torch.dtype) -> str:
        sizes = {"samples": self.samples, "horizon": self.horizon}
        fitting = " or ".join(shapes)
        if not isinstance(value, torch.Tensor):
            kind = type(value)
            found = "None" if value is None else f"{kind.__module__}.{kind.__qualname__}"
            return f"{found.removeprefix('builtins.')}; it has to be a torch tensor {fitting}"
        for shape in shapes:
            wanted = [sizes.get(name) for name in shape.strip("(,)").split(", ")]
            if len(wanted) == value.ndim and all(
                size in (None, have) for size, have in zip(wanted, value.shape, strict=True)
            ):
                break
        else:
            return (
                f"shape {tuple(value.shape)}; it has to be {fitting}, "
                f"here samples = {self.samples} and horizon = {self.horizon}"
            )
        if value.dtype != dtype:
            return f"{value.dtype}; it has to be {dtype}"
        if value.device != self.x.qpos.device:
            return f"a tensor on {value.device}; it has to be on {self.x.qpos.device}, as x.qpos is"
        if not bool(value.isfinite().all()):
            return "NaN or infinity at rest, where it has to be finite"
        return ""


def require_sound(
    task: Task, model: mujoco.MjModel, dtype: torch.dtype, device: torch.device | str
) -> None:
    """Try what a task computes of trajectories, on one of its own at rest.

    Args:
        task: the task
        model: model of the task that is planned with
        dtype: type of the backend's tensors
        device: where they lie

    Raises:
        TaskError: a function raises, or returns something else than it should; the message names
            it, its file and its line
    """
    # Once for each task: a planner that is replaced while it runs must not wait for it.
    tried = task.__dict__.setdefault("_tried", set())
    if (dtype, str(device)) in tried:
        return
    batch = _at_rest(task, model, dtype, device)
    x, kind = batch.x, type(task)
    times: Array = TIME + STEP * np.arange(0.0, batch.horizon)
    reference = Reference(times=times).on(x.qpos)
    for name, term in task.cost_terms().items():
        what, residual = f"cost term '{name}'", term.residual
        batch.require(what, residual, partial(residual, task, x, reference), TERM, dtype)
        batch.require(what, residual, partial(term, task, x, reference), TERM[:1], dtype)
    for name, limit in task.constraints().items():
        what, value = f"constraint '{name}'", limit.value
        batch.require(what, value, partial(value, task, x, reference), TERM, dtype)
    name = f"of task '{task.name}'"
    batch.require(f"failed {name}", kind.failed, partial(task.failed, x), TERM[:1], torch.bool)
    batch.require(
        f"succeeded {name}",
        kind.succeeded,
        partial(task.succeeded, x, reference),
        ("(samples,)",),
        torch.bool,
    )
    tried.add((dtype, str(device)))


def _at_rest(
    task: Task, model: mujoco.MjModel, dtype: torch.dtype, device: torch.device | str
) -> _Batch:
    """The robot at its initial state, in every sample and at every time."""
    taken = {model.nq, model.nv, model.nu, model.na, model.nsensordata, *model.sensor_dim.tolist()}
    samples, horizon = [size for size in SIZES if size not in taken][:2]
    start = initial_state(task, model)
    one = trajectory(
        model, start.qpos[None], start.qvel[None], task.action_centre[None], dtype, device
    )
    qpos, qvel, ctrl, sensordata = (
        values.repeat(samples, horizon, 1)
        for values in (one.qpos, one.qvel, one.ctrl, one.sensordata)
    )
    if task.dynamics is not None:
        # A robot that MuJoCo does not move has no sensors.
        return _Batch(RolloutBatch(qpos, qvel, ctrl, sensordata[..., :0], {}), samples, horizon)
    return _Batch(RolloutBatch(qpos, qvel, ctrl, sensordata, one.sensor_slices), samples, horizon)
