"""A case to time: a task with parameters of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_mpc.config import PlannerNodeConfig, Value, load_parameters, split_sim
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
        known, _ = load_parameters(PlannerNodeConfig, {"task": self.task})
        demo, _ = split_sim(find_task(self.task).demo)
        given: dict[str, Value] = {
            name: known[name].parse(text) if name in known else text
            for name, text in self.settings.items()
        }
        return demo | given | {"task": self.task}

    def all_parameters(self) -> dict[str, Value]:
        """All parameters of the planner node, checked.

        Raises:
            ConfigError, TaskError: it names an unknown task, algorithm or parameter
        """
        return load_parameters(PlannerNodeConfig, self.parameters())[1]
