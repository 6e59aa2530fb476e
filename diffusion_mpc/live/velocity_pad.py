"""A pad for the velocity command: sliders, buttons, arrow keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_mpc.config import Parameter
from diffusion_mpc.live.page_actions import Actions, Post
from diffusion_mpc.live.slider_range import slider_range
from diffusion_mpc.types import Array

if TYPE_CHECKING:
    import viser

PERIOD = 0.1
"""Time between two commands, s; well below the planner's `command.timeout`."""

AXES = {
    "command.vx": "forward",
    "command.vy": "left",
    "command.yaw_rate": "turn left",
}
"""Parameters that bound the command, and their sliders' names."""

STEPS: dict[str, tuple[int, int]] = {"▲": (0, 1), "▼": (0, -1), "◀": (2, 1), "▶": (2, -1)}
"""Buttons that change the command: which component, and in which direction."""

KEYS = {"arrowup": "▲", "arrowdown": "▼", "arrowleft": "◀", "arrowright": "▶", "space": "■"}


class VelocityPad:
    """Commands a velocity while it is switched on and somebody looks at the page."""

    def __init__(
        self,
        gui: viser.GuiApi,
        post: Post,
        actions: Actions,
        known: Mapping[str, Parameter],
        values: Mapping[str, Any],
    ) -> None:
        """Make the widgets in the current container of `gui`; the planner's parameters bound them.

        Args:
            gui: interface of all pages
            post: hands work to the thread that owns the page
            actions: carries out what people do
            known: descriptions of the planner's parameters
            values: their values
        """
        self._actions, self._due = actions, 0.0
        self._on = gui.add_checkbox(
            "drive from this page",
            False,
            hint="Publish cmd_vel, which wins over the planner's own command. Ends when the last "
            "page is closed.",
        )
        self._sliders = []
        for name, label in AXES.items():
            parameter = known[name]
            low, high, step = slider_range(parameter, float(values[name]), 1.5)
            slider = gui.add_slider(
                f"{label} [{parameter.unit}]",
                min=low,
                max=high,
                step=step,
                initial_value=0.0,
                hint=f"{parameter.description} cmd_vel while driving.",
            )
            slider.on_update(self._posted(post, self._begin))
            self._sliders.append(slider)
        buttons = gui.add_button_group(
            "steer",
            ("◀", "▲", "■", "▼", "▶"),
            hint="Turn left, faster, stop, slower, turn right; the arrow keys and space, too.",
        )
        buttons.on_click(lambda event: post(partial(self.press, event.target.value)))
        self._on.on_update(self._posted(post, self._switched))
        for key, button in KEYS.items():
            command = gui.add_command(f"Drive {button}", hotkey=key)
            command.on_trigger(lambda event, button=button: post(partial(self.press, button)))

    def _posted(self, post: Post, work: Any) -> Any:  # noqa: ANN401  (a callback of viser)
        def on_event(event: viser.GuiEvent[Any]) -> None:
            # Without a client, the page's owner has set the value.
            if event.client is not None:
                post(work)

        return on_event

    @property
    def velocity(self) -> Array:
        """Velocity (3,) that the sliders show."""
        return np.array([slider.value for slider in self._sliders])

    def press(self, button: str) -> None:
        """Change the command as a button says; one that is not in `STEPS` stops the robot."""
        if button in STEPS:
            axis, sign = STEPS[button]
            slider = self._sliders[axis]
            wanted = slider.value + sign * 0.125 * (slider.max - slider.min)
            slider.value = round(float(np.clip(wanted, slider.min, slider.max)), 6)
        else:
            for slider in self._sliders:
                slider.value = 0.0
        self._begin()

    def _begin(self) -> None:
        self._on.value = True
        self._due = 0.0

    def _switched(self) -> None:
        if not self._on.value:
            self._stop()

    def _stop(self) -> None:
        """Leave the robot standing, not with the last velocity until that is too old."""
        self._on.value = False
        for slider in self._sliders:
            slider.value = 0.0
        self._actions.drive(np.zeros(3))

    def turn(self, now: float, watched: bool) -> None:
        """Send the command where it is due; stop where nobody looks any more."""
        if not self._on.value:
            return
        if not watched:
            self._stop()
        elif now >= self._due:
            self._due = now + PERIOD
            self._actions.drive(self.velocity)
