"""The live page: one server, many browsers, all of which see and do the same."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mujoco
import viser

from diffusion_mpc.config import Parameter, Value, ViewerConfig
from diffusion_mpc.live.access import Guard
from diffusion_mpc.live.live_plots import LivePlots, ShownPlan
from diffusion_mpc.live.page_actions import Actions
from diffusion_mpc.live.parameter_panel import ParameterPanel
from diffusion_mpc.live.record_button import RecordButton
from diffusion_mpc.live.robot_view import RobotView
from diffusion_mpc.live.sim_buttons import add_sim_buttons
from diffusion_mpc.live.status_line import StatusLine
from diffusion_mpc.live.velocity_pad import VelocityPad
from diffusion_mpc.types import Array

CONTROLS, PLOTS = 330, 300
"""Widths of the panels at the sides, pixels; a tablet has about 1000."""

NOTICE = 8.0
"""Time for which a notice stays, s."""


class _Server(viser.ViserServer):
    """A server that does not offer the page to the internet, whatever a browser asks for."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Refuse."""
        return None


@dataclass(frozen=True)
class Described:
    """A node as it describes itself.

    Attributes:
        known: descriptions of its parameters by name
        values: their values
        reference: what the task tracks: "none", "cmd_vel" or "goal_pose"
        offered: values of texts that people may choose from, by parameter
    """

    known: Mapping[str, Parameter]
    values: Mapping[str, Value]
    reference: str = "none"
    offered: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Page:
    """A server with the page.

    One thread owns it and calls its methods; what people do on the page waits for its `turn`.
    """

    def __init__(self, config: ViewerConfig, actions: Actions) -> None:
        """Serve a page that shows nothing yet.

        Raises:
            ConfigError: there is no such address
        """
        self._config, self._actions = config, actions
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        guard = Guard(config.host, config.token)
        # viser writes a banner to the terminal, and has no other way to be silent.
        with (
            guard.watching(),
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            self._server = _Server(config.host, config.port, label="diffusion_mpc", verbose=False)
        host = "127.0.0.1" if config.host == "localhost" else config.host
        self.address = f"http://{host}:{self._server.get_port()}"
        self.secret_address = (
            f"{self.address}/?token={guard.token}" if guard.token else self.address
        )
        gui = self._server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        gui.main_panel.dock_right()
        gui.main_panel.set_width(CONTROLS)
        self._status = StatusLine(gui)
        self._tabs: Any = None
        self._plots_panel: Any = None
        self._task_choice: Any = None
        self._sim_buttons: Any = None
        self.view: RobotView | None = None
        self.plots: LivePlots | None = None
        self.pad: VelocityPad | None = None
        self._record_button: RecordButton | None = None
        self._recording = ("", False)
        self.panels: dict[str, ParameterPanel] = {}
        self._drawing_due = 0.0

    def post(self, work: Callable[[], None]) -> None:
        """Have the thread that owns the page do something in its next turn. Any thread."""
        self._jobs.put(work)

    @property
    def watched(self) -> bool:
        """Whether the page is open anywhere."""
        return bool(self._server.get_clients())

    @property
    def status(self) -> str:
        """The status line, without its figures."""
        return self._status.text

    def turn(self, now: float) -> None:
        """Do what people asked for, and draw what is due at a time (s, monotonic)."""
        while True:
            try:
                work = self._jobs.get_nowait()
            except queue.Empty:
                break
            work()
        for panel in self.panels.values():
            panel.turn(now)
        if self.pad is not None:
            self.pad.turn(now, self.watched)
        self._status.turn(now)
        if self.watched and now >= self._drawing_due:
            self._drawing_due = now + 1.0 / self._config.scene_rate
            if self.view is not None:
                self.view.draw()
            if self.plots is not None:
                self.plots.turn(now)

    # What is shown

    def show_model(self, model: mujoco.MjModel, base: str) -> None:
        """Draw a model; `base` is the body that the view follows, empty where it stays."""
        self.view = RobotView(self._server, self.post, model, base)

    def describe(self, planner: Described) -> None:
        """Make the controls for a planner that describes itself."""
        gui = self._server.gui
        if self._tabs is not None:
            self._tabs.remove()
            self._plots_panel.remove()
        self.pad, self.panels = None, {}
        self._tabs = gui.add_tab_group()
        with self._tabs.add_tab("drive"):
            # Filled later: what is taken away while a browser loads the page leaves errors there.
            self._task_choice = gui.add_folder(None)
            if planner.reference == "cmd_vel":
                self.pad = VelocityPad(gui, self.post, self._actions, planner.known, planner.values)
            if planner.reference == "goal_pose" and self.view is not None:
                gui.add_markdown("Drag the arrows in the scene to move the goal.")
                self.view.offer_goal(self._actions.pursue)
            if self.view is not None and self.view.base:
                follow = gui.add_checkbox("follow the robot", True)
                follow.on_update(lambda event: self._follow(event.target.value))
            self._sim_buttons = gui.add_folder(None)
            forget = gui.add_button(
                "forget the plan", color="gray", hint="The planner begins anew, as at the start."
            )
            forget.on_click(lambda event: self.post(self._forget))
            self._record_button = RecordButton(gui, self.post, self._actions)
            self._record_button.show(*self._recording)
        self._add_panel("tune", "planner", planner, lambda p: p.live)
        self._add_panel("structure", "planner", planner, lambda p: p.rebuilt)
        terms = [name.removeprefix("cost.") for name in planner.known if name.startswith("cost.")]
        self._plots_panel = gui.add_panel()
        with self._plots_panel.add_tab("plots"):
            self.plots = LivePlots(gui, terms, self._config.history, planner.reference == "cmd_vel")
        self._plots_panel.dock_left()
        self._plots_panel.set_width(PLOTS)

    def offer_tasks(self, tasks: Sequence[str], current: str) -> None:
        """Add a list of tasks to choose another from."""
        with self._task_choice:
            choice = self._server.gui.add_dropdown(
                "task",
                tasks,
                initial_value=current,
                hint="Ends this run, and starts the robot of another task with its own defaults.",
            )
        choice.on_update(
            lambda event: self.post(partial(self._actions.choose_task, event.target.value))
        )

    def describe_simulation(self, sim: Described) -> None:
        """Add the controls for a simulation that describes itself, after the planner's."""
        weight = self.view.weight if self.view is not None else 0.0
        with self._sim_buttons:
            add_sim_buttons(self._server.gui, self.post, self._actions, weight, self.notify)
        self._add_panel("simulation", "sim", sim, lambda p: p.live)

    def _forget(self) -> None:
        self._actions.call("planner/reset", self.notify)

    def _follow(self, wanted: bool) -> None:
        if self.view is not None:
            self.view.follow = wanted

    def _add_panel(
        self, title: str, node: str, described: Described, chosen: Callable[[Parameter], bool]
    ) -> None:
        foreign = {"cmd_vel": "command.", "goal_pose": "goal."}
        foreign.pop(described.reference, None)
        known = [
            p
            for p in described.known.values()
            if chosen(p) and not p.name.startswith(tuple(foreign.values()))
        ]

        def send(name: str, value: Value, settled: Callable[[str], None]) -> None:
            self._actions.set_parameter(node, name, value, settled)

        with self._tabs.add_tab(title):
            self.panels[title] = ParameterPanel(
                self._server.gui,
                self.post,
                known,
                described.values,
                send,
                self.notify,
                described.offered,
            )

    def show_parameter(self, name: str, value: Value, panels: tuple[str, ...]) -> None:
        """Show a value that a parameter has been set to, here or elsewhere."""
        for title in panels:
            if title in self.panels:
                self.panels[title].show(name, value)

    def show_plan(self, figures: ShownPlan, now: float) -> None:
        """Take the figures of a plan."""
        self._status.add(figures, now)
        if self.plots is not None:
            self.plots.add(figures, now)

    def show_health(self, level: str, text: str, now: float) -> None:
        """Take the planner's health: "ok", "warn" or "error", and why it is not better."""
        self._status.hear(level, text, now)

    def show_goal(self, position: Array, quaternion: Array) -> None:
        """Show the goal that plans pursue."""
        if self.view is not None:
            self.view.show_goal(position, quaternion)

    def show_recording(self, text: str, active: bool) -> None:
        """Show what a recording does, and whether it goes on."""
        self._recording = text, active
        if self._record_button is not None:
            self._record_button.show(text, active)

    def notify(self, text: str) -> None:
        """Tell all who look."""
        for client in self._server.get_clients().values():
            client.add_notification("", text, auto_close_seconds=NOTICE, color="red")

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()
