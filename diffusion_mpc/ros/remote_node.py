"""Another node as the page sees it: what it says of itself, and its parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import ParameterEvent
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from rclpy.task import Future
from std_msgs.msg import String

from diffusion_mpc.bags.run_facts import MODEL, RUN
from diffusion_mpc.config import Parameter, Value, model_file, parameters
from diffusion_mpc.ros.messages.run import LATCHED
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.errors import TaskError

PATIENCE = 5.0
"""Time that a node has to answer, s; it may be building a planner."""


class RemoteNode:
    """Listens to a node's latched topics and to changes of its parameters, and sets them.

    Attributes:
        name: name of the node, relative to the namespace
        facts: what `run_text` says of it; empty: nothing yet
        model: what `model_text` says of its model; empty: nothing yet
    """

    def __init__(
        self,
        node: Node,
        name: str,
        config: type,
        on_described: Callable[[], None],
        on_changed: Callable[[str, Value], None],
    ) -> None:
        """Listen.

        Args:
            node: the node that listens
            name: name of the other one
            config: class of `diffusion_mpc.config` that describes its parameters
            on_described: called when it has said anew what it is
            on_changed: called with name and value of a parameter that has changed
        """
        self.name, self._node, self._config = name, node, config
        self._on_described, self._on_changed = on_described, on_changed
        self.facts: dict[str, Any] = {}
        self.model = ""
        self._full_name = f"{node.get_namespace().rstrip('/')}/{name}"
        self._client = AsyncParameterClient(node, name)
        self._waiting: dict[Future[Any], tuple[float, Callable[[str], None]]] = {}
        node.create_subscription(String, f"{name}/{RUN}", self._on_run, LATCHED)
        node.create_subscription(String, f"{name}/{MODEL}", self._on_model, LATCHED)
        node.create_subscription(ParameterEvent, "/parameter_events", self._on_event, 100)

    def forget(self) -> None:
        """Forget what it is: another one is to take its place."""
        self.facts, self.model = {}, ""

    @property
    def signature(self) -> object:
        """Equal for two descriptions that differ in values of parameters only."""
        return self.model, sorted(self.facts["parameters"])

    def described(self) -> tuple[dict[str, Parameter], Mapping[str, Value]]:
        """Descriptions of its parameters, as far as they are known here, and all values.

        Of a task whose file is not on this machine, nobody here knows the cost terms.
        """
        values = self.facts["parameters"]
        try:
            known = parameters(self._config, find_task(str(values["task"])), model_file(values))
        except TaskError as error:
            self._node.get_logger().warning(f"cost weights are not shown: {error}")
            known = parameters(self._config)
        return {name: p for name, p in known.items() if name in values}, values

    def set(self, name: str, value: Value, settled: Callable[[str], None], now: float) -> None:
        """Set a parameter; `settled` is called with why not, empty where it is set."""
        if not self._client.services_are_ready():
            settled(f"{self.name} is not there")
            return
        future = self._client.set_parameters([RosParameter(name, value=value)])
        self._waiting[future] = (now + PATIENCE, settled)
        future.add_done_callback(self._on_answer)

    def _on_answer(self, future: Future[Any]) -> None:
        if future in self._waiting:
            _, settled = self._waiting.pop(future)
            answer: Any = future.result()
            result = answer.results[0]
            settled("" if result.successful else result.reason or "refused")

    def turn(self, now: float) -> None:
        """Give up on answers that do not come."""
        late = [future for future, (until, _) in self._waiting.items() if until < now]
        for future in late:
            _, settled = self._waiting.pop(future)
            settled(f"{self.name} does not answer")

    def _on_run(self, message: String) -> None:
        self.facts = json.loads(message.data)
        self._on_described()

    def _on_model(self, message: String) -> None:
        self.model = message.data
        self._on_described()

    def _on_event(self, event: ParameterEvent) -> None:
        if event.node == self._full_name:
            for parameter in [*event.new_parameters, *event.changed_parameters]:
                value: Any = parameter_value_to_python(parameter.value)
                self._on_changed(parameter.name, value)
