"""All figures of a check, as they go into its JSON file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusion_mpc.check.advice import suggestions
from diffusion_mpc.check.cost_terms import cost_rows, random_controls
from diffusion_mpc.check.parts import actuator_rows, contact_rows, joint_rows, nominal_row
from diffusion_mpc.check.reductions import code, feet_of, proposed, reduction_rows
from diffusion_mpc.check.rest import (
    DURATION,
    SETTLED,
    end_row,
    integrator_rows,
    rest,
)
from diffusion_mpc.check.subject import Subject, load
from diffusion_mpc.check.throughput import diverging, fit, rates
from diffusion_mpc.estimation.estimator import Estimator
from diffusion_mpc.names import ActuatorKind
from diffusion_mpc.planner.objective import Objective
from diffusion_mpc.rollout import make_backend
from diffusion_mpc.tasks.base import TaskError
from diffusion_mpc.tasks.measured import initial_state
from diffusion_mpc.tasks.model_file import compile_spec, read_spec


def check_robot(file: str, actuators: ActuatorKind = "") -> dict[str, Any]:
    """Check a model or a task.

    Args:
        file: model file, `menagerie:NAME`, name of a task or Python file with one
        actuators: actuators to add to a model that has none

    Returns:
        figures by what they are about, with suggestions in words

    Raises:
        TaskError, ConfigError: it cannot be planned for; the message is one line
    """
    subject = load(file, actuators)
    task = subject.task
    # What no message measures cannot be run, however well it rolls out.
    Estimator(task.model, task.base)
    movers = actuator_rows(task)
    backend_config = replace(
        subject.config.backend, name="function" if task.dynamics is not None else "cpu"
    )
    robust = replace(subject.config.robust, models=1)
    backend = make_backend(backend_config, subject.config.model, robust, task)
    objective = Objective(task, backend, subject.config.planner, subject.weights, robust)
    start = initial_state(task, backend.model)
    controls = random_controls(subject, objective, subject.config.planner.num_samples)
    settled = rest(subject, backend.model, SETTLED)
    figures: dict[str, Any] = {
        "task": None if subject.bare else task.name,
        "file": str(task.path),
        "nominal": nominal_row(subject),
        "joints": joint_rows(task.model),
        "actuators": movers,
        "contacts_at_keyframe": contact_rows(backend.model, task.initial_data(backend.model)),
        "contacts_at_rest": contact_rows(backend.model, settled.data),
        "constraint_rows_at_rest": int(settled.data.nefc),
        "costs": [] if subject.bare else cost_rows(subject, backend, objective, settled),
        "rest": None if task.dynamics is not None else _rest(subject),
        "diverging_fraction": diverging(subject, backend, start, controls),
        "speed": fit(subject, backend, rates(subject, [backend], start, controls)[0]),
    }
    feet = feet_of(subject)
    rows: list[dict[str, Any]] = []
    refused = ""
    if feet:
        try:
            rows = reduction_rows(subject, feet, subject.fine_model(), start, controls)
        except TaskError as error:
            # The model may be fine without it.
            refused = str(error)
    choice = proposed(rows) if rows else None
    figures["reduction"] = {
        "feet": feet,
        "rows": rows,
        "refused": refused,
        "proposed": choice,
        "code": code(subject, feet, choice["points"]) if choice else None,
    }
    figures["suggestions"] = suggestions(subject, figures)
    return figures


def _rest(subject: Subject) -> dict[str, Any]:
    fine = subject.fine_model()
    motion = rest(subject, fine)
    return {
        "duration_s": DURATION,
        "timestep_s": subject.config.model.timestep,
        "fine_timestep_s": float(fine.opt.timestep),
        "fine": end_row(subject, motion),
        "integrators": integrator_rows(subject, motion),
    }


def write_mjcf(file: str, actuators: ActuatorKind, path: Path) -> None:
    """Write a robot's model as MJCF, with what was added to it.

    Args:
        file: as `check_robot`
        actuators: as `check_robot`
        path: file to write; meshes stay where they are

    Raises:
        TaskError: the model cannot be read
    """
    task = load(file, actuators).task
    spec = read_spec(task.path, task.file.actuators)
    compile_spec(spec, f"model file '{task.path}' cannot be used")
    path.write_text(spec.to_xml(), encoding="utf-8")
