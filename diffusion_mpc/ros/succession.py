"""Who plans, and who comes after: what a planner is built of changes by a successor, built while the one before goes on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from functools import partial

from diffusion_mpc.config import ConfigError, NodeConfig, Value, build, cost_weights, parameters
from diffusion_mpc.controller import Controller
from diffusion_mpc.rollout.choice import Choice
from diffusion_mpc.ros.realtime import scheduled
from diffusion_mpc.tasks.base import Task

Values = Mapping[str, Value]
REBUILT = tuple(p.name for p in parameters(NodeConfig).values() if p.rebuilt)
FIXED = tuple(p.name for p in parameters(NodeConfig).values() if not (p.live or p.rebuilt))
AT_START = ("task", "autostart")
"""Parameters that decide which others there are, or what happens at the start: no service changes them."""


def refuse_fixed(node: str, before: Values, wanted: Values) -> None:
    """Parameters that are read when the node is configured do not change while it is.

    Args:
        node: name of the node
        before: values of all parameters
        wanted: what they are to be

    Raises:
        ConfigError: one of those changes; the message says what to do
    """
    for name in FIXED:
        if wanted[name] != before[name]:
            raise ConfigError(
                f"{name} is read when the node is configured; first `ros2 lifecycle set {node} deactivate`, then `cleanup`; "
                "set it, then `configure` and `activate`"
            )


class Succession:
    """The controller that serves, and its successor.

    Attributes:
        controller: the one that serves
        planning: held while a plan is made
        sending: held while a command is made; taken after `planning` where both are
        choice: how the backend was chosen; None where it was named
        failure: why the newest successor did not take over; empty while it may
    """

    def __init__(self, task: Task, values: Values, ready: Callable[[], None], warn: Callable[[str], object]) -> None:
        """Build the first controller and warm it up.

        Args:
            task: task to control
            values: all parameters
            ready: called after a successor has taken over, in its thread
            warn: called with the reason when a successor cannot, in its thread, and where the scheduling asked for is not permitted

        Raises:
            ValueError: parameters do not fit each other
        """
        self.planning, self.sending = threading.Lock(), threading.Lock()
        self._task, self._ready, self._warn = task, ready, warn
        self._values = values
        self._built: Values = structure(values)
        self._wanted = self._built
        self._thread: threading.Thread | None = None
        self.choice: Choice | None = None
        self.failure = ""
        self.controller = self._make(values)
        self.choice = self.controller.choice
        self._warm_up(self.controller)

    def prepare(self, values: Values) -> Callable[[], None]:
        """Make all that changed parameters need, and change nothing yet.

        Returns:
            what puts the change into force

        Raises:
            ValueError: parameters do not fit each other
        """
        if values["backend.name"] == "auto" and self.choice is None:
            raise ConfigError(
                "backend.name: auto is measured when the node is configured; name a backend, or restart the node with it"
            )
        # Tens of milliseconds; what takes long is the first plan.
        successor = self._make(values) if structure(values) != self._wanted else None
        return partial(self._change, values, successor)

    def describe(self) -> str:
        """What plans at present, for people."""
        planner = self.controller.config.planner
        sizes = f"{planner.num_samples} samples x {planner.horizon_steps} steps x {planner.iterations}"
        chosen = f"; backend auto: {self.choice.describe()}" if self.choice else ""
        return f"{sizes} on {self.controller.backend.name}{chosen}"

    def close(self) -> None:
        """Wait for a successor that is being prepared; it no longer takes over."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _make(self, values: Values) -> Controller:
        if self.choice is not None and values["backend.name"] == "auto":
            # Measured once: to measure again would take the time of the planner that serves.
            values = {**values, "backend.name": self.choice.name}
        config = build(NodeConfig, values)
        # Where backends are measured, with the cores that the chosen one will have.
        with scheduled(config.realtime, self._warn):
            return Controller(self._task, config, cost_weights(values))

    def _warm_up(self, controller: Controller) -> None:
        # The threads of rollouts begin with the first one.
        with scheduled(controller.config.realtime, self._warn):
            controller.warm_up()

    def _change(self, values: Values, successor: Controller | None) -> None:
        self._values = values
        self._configure()
        if successor is not None:
            self.failure = ""
            self._wanted = structure(values)
            self._thread = threading.Thread(target=self._succeed, args=(successor, self._wanted), name="successor", daemon=True)
            self._thread.start()

    def _configure(self) -> None:
        # Until its successor serves, a controller stays what it was built of.
        values = {**self._values, **self._built}
        self.controller.configure(build(NodeConfig, values), cost_weights(values))

    def _succeed(self, successor: Controller, built: Values) -> None:
        try:
            self._warm_up(successor)
        except Exception as error:
            self.failure = f"the planner before goes on, for the new one raised {type(error).__name__}: {error}"
            self._warn(self.failure)
            return
        with self.planning, self.sending:
            if self._thread is not threading.current_thread():
                # Another one is on its way already.
                return
            successor.take_over(self.controller)
            self.controller, self._built = successor, built
        # What was changed meanwhile.
        self._configure()
        self._ready()
        # The controller before, which nobody else collects.
        del successor
        gc.collect()


def structure(values: Values) -> dict[str, Value]:
    """The parameters that a controller is built of."""
    return {name: values[name] for name in REBUILT}
