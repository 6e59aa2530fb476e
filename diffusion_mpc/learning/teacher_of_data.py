"""Planner and task that data were collected with, from their index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusion_mpc.config import PlannerNodeConfig, build, load_parameters
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task


def teacher_of(index: Mapping[str, Any]) -> PlannerNodeConfig:
    """Parameters of the planner that made the data of an index."""
    return build(PlannerNodeConfig, load_parameters(PlannerNodeConfig, index["parameters"])[1])


def task_of(index: Mapping[str, Any]) -> Task:
    """Task of the data of an index, with the model that it was given."""
    teacher = teacher_of(index)
    return find_task(teacher.task)(teacher.model.file)
