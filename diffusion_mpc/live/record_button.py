"""A button that begins and ends a recording."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from diffusion_mpc.live.page_actions import Actions, Post

if TYPE_CHECKING:
    import viser

LABELS = {False: "record", True: "end the recording"}


class RecordButton:
    """The button, and a line that says where the bag is."""

    def __init__(self, gui: viser.GuiApi, post: Post, actions: Actions) -> None:
        """Add both to the current container of `gui`.

        Args:
            gui: interface of all pages
            post: hands work to the thread that owns the page
            actions: carries out what people do
        """
        self._button = gui.add_button(
            LABELS[False],
            color="red",
            hint="Bag of states, commands, plans and parameters, on the machine of this page.",
        )
        self._button.on_click(lambda event: post(actions.record))
        self._line = gui.add_html("")

    def show(self, text: str, active: bool) -> None:
        """Show what a recording does, and whether it goes on."""
        if self._button.label != LABELS[active]:
            self._button.label = LABELS[active]
        content = f'<div style="padding:0 0.8em;font-size:0.85em">{html.escape(text)}</div>'
        if self._line.content != content:
            self._line.content = content
