"""The robot that is checked: a task, or a bare model with a task round it that asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mujoco

from diffusion_mpc.config import (
    PlannerNodeConfig,
    SimConfig,
    build,
    check,
    cost_weights,
    parameters,
    split_sim,
)
from diffusion_mpc.estimation.reference import parameter_reference
from diffusion_mpc.names import ActuatorKind
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.menagerie import PREFIX
from diffusion_mpc.tasks.model_file import ModelFile, compile_spec, read_spec
from diffusion_mpc.tasks.urdf import is_urdf
from diffusion_mpc.types import Reference

MODELS = (".xml", ".mjcf", ".urdf", ".xacro", ".mjb")
"""Endings of model files; anything else is a task."""

NOMINAL = ("home", "stand")
"""Keyframes that are taken for a bare model's nominal pose before any other."""


@dataclass(frozen=True)
class Subject:
    """A robot to check.

    Attributes:
        task: the task, or one made for the model
        bare: whether it is a model without a task
        config: parameters of the planner, with the task's defaults and its demo
        sim: parameters of the simulation
        weights: of the cost terms
    """

    task: Task
    bare: bool
    config: PlannerNodeConfig
    sim: SimConfig
    weights: Mapping[str, float]

    @property
    def reference(self) -> Reference:
        """The reference of the task's demo."""
        return parameter_reference(self.config)

    def fine_model(self) -> mujoco.MjModel:
        """The model to compare with, at steps of about a millisecond."""
        steps = max(1, round(self.config.model.timestep / 0.001))
        return self.task.compile(
            timestep=self.config.model.timestep / steps, integrator="implicitfast", iterations=50
        )

    def planning_model(self, **options: float | int | str) -> mujoco.MjModel:
        """The model that plans are made with, with some of its options changed."""
        model = self.config.model
        return self.task.planning_model(
            **{
                "timestep": model.timestep,
                "integrator": model.integrator,
                "iterations": model.iterations,
                **options,
            }
        )


def load(file: str, actuators: ActuatorKind = "") -> Subject:
    """The robot that a user names.

    Args:
        file: model file, `menagerie:NAME`, name of a task or Python file with one
        actuators: actuators to add to a model that has none; empty: position servos for a URDF
            without a task, else none

    Raises:
        TaskError: it cannot be used
    """
    bare = file.startswith(PREFIX) or Path(file).suffix.lower() in MODELS
    kind = _bare_task(ModelFile(file, actuators)) if bare else find_task(file)
    given = ModelFile("", actuators)
    demo, _ = split_sim(kind.demo)
    values = check(demo, parameters(PlannerNodeConfig, kind, given))
    config = build(PlannerNodeConfig, values)
    sim = build(SimConfig, check({}, parameters(SimConfig, kind)))
    used = ModelFile(config.model.path, actuators or config.model.actuators)
    return Subject(kind(used), bare, config, sim, cost_weights(values))


def _bare_task(model: ModelFile) -> type[Task]:
    """A task that asks for nothing, for the model of a file."""
    path = model.located()
    if path.is_file() and is_urdf(path) and not model.actuators:
        model = ModelFile(model.path, "position")
    compiled = compile_spec(read_spec(path, model.actuators), f"model file '{path}' cannot be used")
    keys = [name for i in range(compiled.nkey) if (name := compiled.key(i).name)]
    nominal = [name for name in NOMINAL if name in keys] or keys
    free = [
        compiled.body(int(compiled.jnt_bodyid[joint])).name
        for joint in range(compiled.njnt)
        if compiled.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE
    ]

    class Bare(Task):
        """Ask for nothing."""

        name = path.stem
        model_path = path.absolute()
        actuators = model.actuators
        keyframe = nominal[0] if nominal else None
        base = free[0] if free else None

    return Bare
