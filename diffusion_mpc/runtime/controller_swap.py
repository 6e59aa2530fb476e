"""Replacement of the running controller, built and warmed up in the background."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from functools import partial

from diffusion_mpc.config import (
    ConfigError,
    PlannerNodeConfig,
    Value,
    build,
    cost_weights,
    parameters,
)
from diffusion_mpc.runtime.backend_choice import ChosenBackend
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.runtime.scheduling import scheduled
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.user_code import told

Values = Mapping[str, Value]
REBUILT = tuple(p.name for p in parameters(PlannerNodeConfig).values() if p.rebuilt)


class ControllerSwap:
    """The controller in service, and the one that is to replace it.

    Attributes:
        controller: the one in service
        planning: held while a plan is made
        sending: held while a command is made; taken after `planning` where both are
        choice: how the backend was chosen; None where it was named
        failure: why the newest replacement did not take over; empty while it may
    """

    def __init__(
        self, task: Task, values: Values, ready: Callable[[], None], warn: Callable[[str], object]
    ) -> None:
        """Build the first controller and warm it up.

        Args:
            task: task to control
            values: all parameters
            ready: called after a replacement has taken over, in its thread
            warn: called with the reason where one cannot, in its thread, and where the scheduling
                asked for is not permitted

        Raises:
            ValueError: parameters do not fit each other
        """
        self.planning, self.sending = threading.Lock(), threading.Lock()
        self._task, self._ready, self._warn = task, ready, warn
        self._values = values
        self._built: Values = rebuilt_values(values)
        self._wanted = self._built
        self._thread: threading.Thread | None = None
        self.choice: ChosenBackend | None = None
        self.failure = ""
        self.controller = self._make(values)
        self.choice = self.controller.choice
        self._warm_up(self.controller)

    def prepare(self, values: Values) -> Callable[[], None]:
        """Make all that changed parameters need, and change nothing yet.

        Returns:
            function that puts the change into force

        Raises:
            ValueError: parameters do not fit each other
        """
        if values["backend.name"] == "auto" and self.choice is None:
            raise ConfigError(
                "backend.name: auto is measured when the node is configured; name a backend, or "
                "restart the node with it"
            )
        # Tens of milliseconds; what takes long is the first plan.
        replacement = self._make(values) if rebuilt_values(values) != self._wanted else None
        return partial(self._change, values, replacement)

    def describe(self) -> str:
        """Sizes and backend of the controller in service, for people."""
        planner = self.controller.config.planner
        sizes = (
            f"{planner.num_samples} samples x {planner.horizon_steps} steps x {planner.iterations}"
        )
        chosen = f"; backend auto: {self.choice.describe()}" if self.choice else ""
        return f"{sizes} on {self.controller.backend.name}{chosen}"

    def close(self) -> None:
        """Wait for a replacement that is being warmed up; it no longer takes over."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _make(self, values: Values) -> Controller:
        if self.choice is not None and values["backend.name"] == "auto":
            # Measured once: to measure again would take the time of the planner in service.
            values = {**values, "backend.name": self.choice.name}
        config = build(PlannerNodeConfig, values)
        # Where backends are measured, with the cores that the chosen one will have.
        with scheduled(config.realtime, self._warn):
            return Controller(self._task, config, cost_weights(values))

    def _warm_up(self, controller: Controller) -> None:
        # The threads of rollouts begin with the first one.
        with scheduled(controller.config.realtime, self._warn):
            controller.warm_up()

    def _change(self, values: Values, replacement: Controller | None) -> None:
        self._values = values
        self._configure()
        if replacement is not None:
            self.failure = ""
            self._wanted = rebuilt_values(values)
            self._thread = threading.Thread(
                target=self._replace,
                args=(replacement, self._wanted),
                name="controller swap",
                daemon=True,
            )
            self._thread.start()

    def _configure(self) -> None:
        # Until it is replaced, a controller stays what it was built of.
        values = {**self._values, **self._built}
        self.controller.configure(build(PlannerNodeConfig, values), cost_weights(values))

    def _replace(self, replacement: Controller, built: Values) -> None:
        """Warm up and take over, in a thread of its own."""
        try:
            self._warm_up(replacement)
        except Exception as error:
            self.failure = f"the previous planner goes on, for the new one failed: {told(error)}"
            self._warn(self.failure)
            return
        with self.planning, self.sending:
            if self._thread is not threading.current_thread():
                # Another one is on its way already.
                return
            replacement.take_over(self.controller)
            self.controller, self._built = replacement, built
        # What was changed meanwhile.
        self._configure()
        self._ready()
        # The previous controller, which nobody else collects.
        del replacement
        gc.collect()


def rebuilt_values(values: Values) -> dict[str, Value]:
    """The parameters that a controller is built of."""
    return {name: values[name] for name in REBUILT}
