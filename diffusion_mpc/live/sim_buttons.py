"""Buttons for the simulated robot: time and pushes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from diffusion_mpc.live.page_actions import Actions, Post
from diffusion_mpc.types import Array

if TYPE_CHECKING:
    import viser

BUTTONS = ("pause", "run", "step", "reset")
"""Services of the simulation; `run` ends a pause."""

PUSHES: dict[str, Array] = {
    "←": np.array([0.0, 1.0, 0.0]),
    "↑": np.array([1.0, 0.0, 0.0]),
    "↓": np.array([-1.0, 0.0, 0.0]),
    "→": np.array([0.0, -1.0, 0.0]),
}
"""Directions of a push in the world frame."""


def add_sim_buttons(
    gui: viser.GuiApi,
    post: Post,
    actions: Actions,
    weight: float,
    told: Callable[[str], None],
) -> None:
    """Add buttons to pause, run, step, reset and push a simulated robot.

    They go into the current container of `gui`.

    Args:
        gui: interface of all pages
        post: hands work to the thread that owns the page
        actions: carries out what people do
        weight: weight of the robot, N; 0: it cannot be pushed
        told: called with what a service answers
    """

    def call(button: str) -> None:
        actions.call(f"sim/{button}", told)

    services = gui.add_button_group(
        "simulation",
        BUTTONS,
        hint="Stop time, let it go on, advance one control period in a pause, put the robot back.",
    )
    services.on_click(lambda event: post(partial(call, event.target.value)))
    if not weight:
        return
    strength = gui.add_slider(
        "push [N]",
        min=0.0,
        max=float(round(4.0 * weight)),
        step=float(max(1.0, round(0.02 * weight))),
        initial_value=float(round(weight)),
        hint="Force on the base for 0.2 s; at first the robot's weight.",
    )
    push = gui.add_button_group(
        "push", tuple(PUSHES), hint="Along the world's axes: left is +y, up is +x."
    )
    push.on_click(
        lambda event: post(partial(actions.push, PUSHES[event.target.value] * strength.value))
    )
