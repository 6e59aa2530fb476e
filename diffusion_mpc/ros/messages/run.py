"""Description of a node's run on latched topics: whoever listens or records later gets it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from diffusion_mpc.bags.run_facts import MODEL, RUN, run_facts, run_text
from diffusion_mpc.config import Value

if TYPE_CHECKING:
    from diffusion_mpc.tasks.base import Task

TASK = "task"
"""Topic of the viewer: the task that people have chosen, for whoever can start its nodes."""

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class RunPublisher:
    """Publishes `~/run`, and `~/model` of a node that has a task; see `run_text`, `model_text`."""

    def __init__(
        self, node: Node, parameters: Mapping[str, Value], task: Task | None = None
    ) -> None:
        """Publish both."""
        self._node, self._facts = node, run_facts(str(parameters.get("task", "")), task)
        self._run = node.create_publisher(String, f"~/{RUN}", LATCHED)
        self._publishers = [self._run]
        if task is not None:
            self._publishers.append(node.create_publisher(String, f"~/{MODEL}", LATCHED))
            self._publish_model(task)
        self.changed(parameters)

    def _publish_model(self, task: Task) -> None:
        # Here: it brings torch, and a recorder, which has no task, starts in half the time without.
        from diffusion_mpc.bags.model_text import model_text

        try:
            self._publishers[-1].publish(String(data=model_text(task)))
        except Exception as error:
            # No robot stands still because MuJoCo cannot write a model that it can read.
            self._node.get_logger().warning(f"a bag of this run will lack its model: {error}")

    def changed(self, parameters: Mapping[str, Value]) -> None:
        """Publish other values of the parameters."""
        self._run.publish(String(data=run_text(parameters, self._facts)))

    def close(self) -> None:
        """Take back what was published."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
