"""The tasks by name.

Ours, those that other packages register, and those in a Python file of the user's.

Another package registers a task class through the entry point group `diffusion_mpc.tasks`.
Importing this brings no torch, which takes seconds: a recorder does without.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from diffusion_mpc.names import require_known
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.user_code import load_failure

if TYPE_CHECKING:
    from diffusion_mpc.tasks.base import Task

ENTRY_POINTS = "diffusion_mpc.tasks"


def available_tasks() -> dict[str, type[Task]]:
    """All task classes by name, our own and those of installed packages."""
    modules = [
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if info.name != "base"
    ]
    classes = [task for module in modules for task in _defined_in(module)]
    classes += [entry.load() for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    return {task.name: task for task in sorted(classes, key=lambda task: task.name)}


def find_task(name: str) -> type[Task]:
    """The task class of that name, or the one defined in the Python file of that path.

    Raises:
        TaskError: there is no such task; the message names the nearest one
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    tasks = available_tasks()
    return tasks[require_known("task", name, tasks, TaskError)]


def _from_file(path: Path) -> type[Task]:
    from diffusion_mpc.tasks.code_check import require_marks

    if not path.is_file():
        raise TaskError(f"task file '{path}' does not exist")
    spec = importlib.util.spec_from_file_location(f"diffusion_mpc_task_{path.stem}", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # As for a script: what lies beside it can be imported. Last, so that it hides no library.
    if (folder := str(path.parent.absolute())) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TaskError(
            f"task file '{path}' cannot be read: {load_failure(error, path)}"
        ) from error
    classes = _defined_in(module)
    if len(classes) != 1:
        raise TaskError(
            f"task file '{path}' defines {len(classes)} tasks; it has to define one subclass of "
            "Task with a name"
        )
    require_marks(classes[0])
    return classes[0]


def _defined_in(module: ModuleType) -> list[type[Task]]:
    from diffusion_mpc.tasks.base import Task

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Task)
        and value.__module__ == module.__name__
        and hasattr(value, "name")
    ]
