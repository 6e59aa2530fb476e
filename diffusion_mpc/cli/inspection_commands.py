"""Commands that look at tasks, at robots and at the checkout."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from diffusion_mpc.arguments import CommandError, OutputFile, write_json
from diffusion_mpc.names import ActuatorKind


def tasks(name: str | None = None, /, *, yaml: bool = False, json: OutputFile = None) -> int:
    """List the tasks, or print all parameters of one.

    example: diffusion-mpc tasks cartpole --yaml

    Args:
        name: a task: its name, or a Python file that defines one (default: all)
        yaml: print a parameter file with all parameters of all nodes, explained and at their
            defaults for the task
        json: file to write the list to
    """
    from rich.console import Console
    from rich.table import Table

    from diffusion_mpc.config import reference_yaml
    from diffusion_mpc.tasks import available_tasks, find_task

    if yaml:
        if name is None:
            raise CommandError("--yaml needs the name of a task: diffusion-mpc tasks NAME --yaml")
        sys.stdout.write(reference_yaml(name))
        return 0
    table = Table("task", "what the robot does", "reference", "cost terms")
    found = available_tasks() if name is None else {name: find_task(name)}
    for name, task in found.items():
        table.add_row(
            name, (task.__doc__ or "").splitlines()[0], task.reference, ", ".join(task.cost_terms())
        )
    Console().print(table)
    write_json(
        {
            name: {"reference": t.reference, "cost_terms": list(t.cost_terms())}
            for name, t in found.items()
        },
        json,
    )
    return 0


def check(
    file: str,
    /,
    *,
    actuators: ActuatorKind = "",
    mjcf: OutputFile = None,
    json: OutputFile = None,
) -> int:
    """Show what a robot needs before its first run: parts, rest, costs, speed, suggestions.

    example: diffusion-mpc check my_robot.urdf --actuators position

    Args:
        file: model (MJCF, URDF, menagerie:NAME), or a task: its name, or a Python file with one
        actuators: actuators to add to a model that has none (default: position for a bare URDF)
        mjcf: file to write the model to, as MJCF, with what was added to it
        json: file to write the figures to
    """
    from diffusion_mpc.check.check_tables import show
    from diffusion_mpc.check.robot_check import check_robot, write_mjcf

    figures = check_robot(file, actuators)
    show(figures)
    if mjcf is not None:
        write_mjcf(file, actuators, mjcf)
    write_json(figures, json)
    return 0


def test(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run the tests and linters of a checkout, or a group of tests.

    example: diffusion-mpc test faults

    Args:
        arguments: a group (faults, fuzz, kernels, kills, network, parity, rehearsal), or anything
            for pytest
    """
    from diffusion_mpc.testing import run_all

    return run_all(arguments)
