"""Record of a run in its bag: task, parameters, model, versions, machine; see `run_facts`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_mpc.bags.bag_reader import BagError, read_messages
from diffusion_mpc.bags.model_text import write_model
from diffusion_mpc.bags.run_facts import MODEL, RUN
from diffusion_mpc.config import Value, cost_weights
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.model_file import OWN, ModelFile

RECORD_TYPE = "std_msgs/msg/String"
"""Message type of the topics `RUN` and `MODEL`."""


@dataclass(frozen=True)
class RunRecord:
    """Description of a run in its bag.

    Attributes:
        nodes: what `run_text` says of each node, by the node's name
        model: what `model_text` says of the planner's model; the robot's where there is no planner
    """

    nodes: Mapping[str, Mapping[str, Any]]
    model: str

    @property
    def _main(self) -> Mapping[str, Any]:
        return self.nodes.get("planner") or self.nodes["sim"]

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the cost terms."""
        return cost_weights(self._main["parameters"])

    @property
    def parameters(self) -> dict[str, Value]:
        """Parameters of the planner, and those of the simulation as `sim.NAME`."""
        planner, sim = (
            self.nodes.get(node, {}).get("parameters", {}) for node in ("planner", "sim")
        )
        return {**planner, **{f"sim.{name}": value for name, value in sim.items()}}

    @property
    def machine(self) -> str:
        """Machine and revision of the run, for people."""
        told, made_by = self._main["machine"], str(self._main["revision"])
        cores = f"{told['processor']}, {told['cores']} cores"
        return f"{cores}, revision {made_by[:10]}" if made_by else cores

    @contextmanager
    def opened(self) -> Iterator[tuple[str, ModelFile]]:
        """The task, as `find_task` takes it, and its model, as files that last for the block.

        Raises:
            BagError: the task's file or one that the model needs is missing, or has changed
        """
        name, file = str(self._main["parameters"]["task"]), self._main["task_file"]
        # Code that comes in a bag is not run: a bag may be anybody's.
        if file and _text(Path(file)) != self._main["task_source"]:
            raise BagError(
                f"the run's task file '{file}' is not on this machine as it was (its text is in "
                "the bag, on planner/run); put it there, or name a task: --task"
            )
        with tempfile.TemporaryDirectory(prefix="diffusion_mpc_") as scratch:
            yield file or name, write_model(self.model, Path(scratch))


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def read_record(bag: Path, namespace: str | None = None) -> RunRecord | None:
    """Description of a run in its bag; None where there is none.

    Args:
        bag: rosbag2 folder or .mcap file
        namespace: namespace of the robot; None: the bag holds only one

    Raises:
        BagError: nothing can be read, or there are several robots and none is chosen
    """
    messages = read_messages(bag, lambda topic, kind: kind == RECORD_TYPE).of_robot(bag, namespace)
    newest = {message.topic: message.content.data for message in messages.messages}
    texts = {
        node: newest.get(f"{messages.namespace}/{node}/{RUN}")
        for node in ("planner", "sim", "recorder")
    }
    models = [newest.get(f"{messages.namespace}/{node}/{MODEL}") for node in ("planner", "sim")]
    model = next((text for text in models if text is not None), None)
    try:
        nodes = {node: json.loads(text) for node, text in texts.items() if text is not None}
    except ValueError as error:
        raise BagError(f"bag '{bag}': what it says of its run cannot be read: {error}") from None
    return RunRecord(nodes, model) if model is not None and nodes.keys() - {"recorder"} else None


@contextmanager
def task_of(
    bag: Path, task: str = "", namespace: str | None = None
) -> Iterator[tuple[str, ModelFile, Mapping[str, float]]]:
    """The task of a bag, as `find_task` takes it, its model, and the weights of its cost terms.

    Args:
        bag: rosbag2 folder or .mcap file
        task: task to take in place of the run's, with its own model and weights; empty: the run's
        namespace: namespace of the robot; None: the bag holds only one

    Raises:
        BagError: the bag does not say which task was run, and none is given, or see `read_record`
        TaskError: there is no such task
    """
    if task:
        find_task(task)
        yield task, OWN, {}
        return
    record = read_record(bag, namespace)
    if record is None:
        raise BagError(f"bag '{bag}' does not say which task was run; name it: --task NAME")
    with record.opened() as (name, model):
        yield name, model, record.weights
