"""Rollouts of a batch of control sequences through a model, on one of several backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from diffusion_mpc.names import BackendName
from diffusion_mpc.rollout.backend import RolloutBackend
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.rollout.function import FunctionBackend
from diffusion_mpc.rollout.variants import model_variants
from diffusion_mpc.tasks.base import TaskError

if TYPE_CHECKING:
    import mujoco

    from diffusion_mpc.config import BackendConfig, ModelConfig, RobustConfig
    from diffusion_mpc.tasks.base import Task

__all__ = ["BACKENDS", "CpuBackend", "FunctionBackend", "RolloutBackend", "make_backend"]


def make_backend(
    config: BackendConfig, model: ModelConfig, robust: RobustConfig, task: Task
) -> RolloutBackend:
    """The backend that a configuration names, on a task's planning model and its variants.

    Raises:
        TaskError: task and backend do not fit
    """
    assert config.name != "auto", "a backend has been chosen"
    planning_model = task.planning_model(
        timestep=model.timestep, integrator=model.integrator, iterations=model.iterations
    )
    if config.name != "cpu" and robust.models > 1:
        raise TaskError(
            f"robust.models is {robust.models}, but the {config.name} backend has one model "
            "only; set it to 1"
        )
    if config.name != "function" and task.dynamics is not None:
        raise TaskError(f"task '{task.name}' has dynamics of its own; set backend.name to function")
    return BACKENDS[config.name](task, planning_model, config, robust)


def _cpu_backend(
    task: Task, model: mujoco.MjModel, config: BackendConfig, robust: RobustConfig
) -> RolloutBackend:
    return CpuBackend(model_variants(model, robust), config.threads)


def _function_backend(
    task: Task, model: mujoco.MjModel, config: BackendConfig, robust: RobustConfig
) -> RolloutBackend:
    return FunctionBackend(task, model)


def _warp_backend(
    task: Task, model: mujoco.MjModel, config: BackendConfig, robust: RobustConfig
) -> RolloutBackend:
    # Not everybody has it, and it brings two seconds of start-up.
    try:
        from diffusion_mpc.rollout.warp import WarpBackend
    except ImportError as error:
        raise TaskError(
            f"backend.name is warp, which needs what is not installed ({error}); pip install "
            "'diffusion_mpc[cuda]'"
        ) from None
    return WarpBackend(task, model, capture=config.capture)


Maker = Callable[["Task", "mujoco.MjModel", "BackendConfig", "RobustConfig"], RolloutBackend]

BACKENDS: dict[BackendName, Maker] = {
    "cpu": _cpu_backend,
    "warp": _warp_backend,
    "function": _function_backend,
}
"""Constructors of backends for task, planning model and parameters, by their names."""
