"""A case to time: a task with parameters of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_mpc.config import NodeConfig, Value, load_parameters
from diffusion_mpc.tasks import find_task


@dataclass(frozen=True)
class Case:
    """A task, and planner parameters as texts."""

    task: str
    settings: Mapping[str, str]

    def parameters(self) -> dict[str, Value]:
        """Parameters of the closed loop that differ from the task's defaults.

        Raises:
            ConfigError, TaskError: it names an unknown task, algorithm or parameter
        """
        known, _ = load_parameters(NodeConfig, {"task": self.task})
        demo = {name: value for name, value in find_task(self.task).demo.items() if not name.startswith("sim.")}
        given: dict[str, Value] = {name: known[name].parse(text) if name in known else text for name, text in self.settings.items()}
        return demo | given | {"task": self.task}

    def all_parameters(self) -> dict[str, Value]:
        """All parameters of the planner node, checked.

        Raises:
            ConfigError, TaskError: it names an unknown task, algorithm or parameter
        """
        return load_parameters(NodeConfig, self.parameters())[1]
