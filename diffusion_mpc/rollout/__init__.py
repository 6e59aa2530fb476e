"""Rollouts of a batch of control sequences through a model, on one of several backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffusion_mpc.rollout.base import RolloutBackend
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.rollout.function import FunctionBackend
from diffusion_mpc.rollout.variants import model_variants
from diffusion_mpc.tasks.base import TaskError

if TYPE_CHECKING:
    import mujoco

    from diffusion_mpc.config import BackendConfig, ModelConfig, RobustConfig
    from diffusion_mpc.tasks.base import Task

__all__ = ["CpuBackend", "FunctionBackend", "RolloutBackend", "make_backend"]


def make_backend(config: BackendConfig, model: ModelConfig, robust: RobustConfig, task: Task) -> RolloutBackend:
    """The backend that a configuration names, on a planning model of the task and its perturbed variants.

    Raises:
        TaskError: task and backend do not fit
    """
    planning_model = task.compile(timestep=model.timestep, integrator=model.integrator, iterations=model.iterations)
    if config.name != "cpu" and robust.models > 1:
        raise TaskError(f"robust.models is {robust.models}, but the {config.name} backend has one model only; set it to 1")
    if config.name == "function":
        return FunctionBackend(task, planning_model)
    if task.dynamics is not None:
        raise TaskError(f"task '{task.name}' has dynamics of its own; set backend.name to function")
    if config.name == "warp":
        return _warp_backend(task, planning_model, config.capture)
    return CpuBackend(model_variants(planning_model, robust), config.threads)


def _warp_backend(task: Task, model: mujoco.MjModel, capture: str) -> RolloutBackend:
    # Not everybody has it, and it brings two seconds of start-up.
    try:
        from diffusion_mpc.rollout.warp import WarpBackend
    except ImportError as error:
        raise TaskError(
            f"backend.name is warp, which needs what is not installed ({error}); pip install 'diffusion_mpc[cuda]'"
        ) from None
    return WarpBackend(task, model, capture=capture)
