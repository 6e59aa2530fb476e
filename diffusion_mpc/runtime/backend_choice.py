"""`backend.name: auto`.

The backend that rolls out more samples before a plan is due, as measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch

from diffusion_mpc.config import RobustConfig
from diffusion_mpc.names import BackendName
from diffusion_mpc.tasks.base import Task, TaskError

SIZES = (16, 64, 256, 1024, 4096, 16384, 65536)
"""Samples that plans are timed with, as far as they end in time."""


@dataclass(frozen=True)
class ChosenBackend:
    """The backend chosen by `backend.name: auto`, and the times that it was chosen by.

    Attributes:
        times: time of a plan in s, by backend and number of samples; the last of each backend may
            come too late
        deadline: time that a plan may take, s
        excluded: why other backends were not measured, by their name
    """

    times: Mapping[BackendName, Mapping[int, float]]
    deadline: float
    excluded: Mapping[str, str]

    @property
    def name(self) -> BackendName:
        """The backend with the most samples in time; of those with as many, the faster one."""

        def merit(name: BackendName) -> tuple[int, float]:
            samples = self.samples(name)
            return samples, -self.times[name][samples or min(self.times[name])]

        return max(self.times, key=merit)

    def samples(self, name: BackendName) -> int:
        """The most samples that a backend had in time; 0: not even the fewest."""
        return max(
            (samples for samples, time in self.times[name].items() if time <= self.deadline),
            default=0,
        )

    def describe(self) -> str:
        """In one line, for people."""

        def figures(name: BackendName) -> str:
            times, samples = self.times[name], self.samples(name)
            shown = [f"{samples} samples in {times[samples] * 1e3:.1f} ms"] if samples else []
            shown += [
                f"{most} in {times[most] * 1e3:.1f} ms"
                for most in [max(times)]
                if times[most] > self.deadline
            ]
            return f"{name}: {', '.join(shown)}"

        parts = [
            *map(figures, self.times),
            *(f"no {name}: {reason}" for name, reason in self.excluded.items()),
        ]
        return (
            f"{self.name}, for plans of {self.deadline * 1e3:.1f} ms at most ({'; '.join(parts)})"
        )


def choose(
    task: Task,
    robust: RobustConfig,
    plan_time: Callable[[BackendName, int], float],
    deadline: float,
) -> ChosenBackend:
    """Time plans on all backends that can be used here.

    Args:
        task: what is planned for
        robust: models that every sample is rolled out on
        plan_time: (backend, samples) -> time of a plan, s; raises TaskError where that backend
            cannot run the task
        deadline: time that a plan may take, s

    Raises:
        TaskError: no backend can be used
    """
    names, excluded = candidates(task, robust)
    times: dict[BackendName, dict[int, float]] = {}
    for name in names:
        try:
            times[name] = _times(partial(plan_time, name), deadline)
        except TaskError as error:
            excluded[name] = str(error)
    if not times:
        raise TaskError(
            "backend.name is auto, but there is "
            f"{'; '.join(f'no {n}: {why}' for n, why in excluded.items())}"
        )
    return ChosenBackend(times, deadline, excluded)


def _times(plan_time: Callable[[int], float], deadline: float) -> dict[int, float]:
    found: dict[int, float] = {}
    for samples in SIZES:
        found[samples] = plan_time(samples)
        if found[samples] > deadline:
            break
    return found


def candidates(task: Task, robust: RobustConfig) -> tuple[Sequence[BackendName], dict[str, str]]:
    """Backends that can be used for a task on this machine, and why others cannot."""
    if task.dynamics is not None:
        return ["function"], {}
    if robust.models > 1:
        return ["cpu"], {"warp": f"robust.models is {robust.models}"}
    if find_spec("mujoco_warp") is None:
        return ["cpu"], {"warp": "mujoco-warp is not installed; pip install 'diffusion_mpc[cuda]'"}
    if not torch.cuda.is_available():
        return ["cpu"], {"warp": "PyTorch finds no CUDA device"}
    return ["cpu", "warp"], {}
