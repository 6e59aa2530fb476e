"""Facts of a run that every node says on a latched topic of its own, so that any recorder has them.

Imports no torch, which a recorder does without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_mpc.config import Value
from diffusion_mpc.versions import machine, model_hash, revision, versions

if TYPE_CHECKING:
    from diffusion_mpc.tasks.base import Task

RUN, MODEL = "run", "model"
"""Topics of a node, below its name: its run, and its model."""


def run_facts(task_name: str, task: Task | None) -> dict[str, Any]:
    """Facts that do not change while a node runs.

    `task_file`, `task_source`: the task's file and its text, where it is one;
    `model_sha256`: see `model_hash`; `base`, `reference`: the task's, see `Task`; `revision`,
    `versions`, `machine`.

    Args:
        task_name: name or file of the task; empty: none
        task: the task, where the node has one
    """
    file = Path(task_name)
    return {
        "task_file": str(file.resolve()) if file.suffix == ".py" else "",
        "task_source": file.read_text(encoding="utf-8") if file.suffix == ".py" else "",
        "model_sha256": model_hash(task.model) if task is not None else "",
        "base": (task.base or "") if task is not None else "",
        "reference": task.reference if task is not None else "",
        "revision": revision(),
        "versions": {**versions(), "ros": os.environ.get("ROS_DISTRO", "")},
        "machine": machine(),
    }


def run_text(parameters: Mapping[str, Value], facts: Mapping[str, Any]) -> str:
    """A node's part of a run as JSON: `parameters`, all of the node, and `run_facts`."""
    return json.dumps({"parameters": dict(parameters), **facts})
