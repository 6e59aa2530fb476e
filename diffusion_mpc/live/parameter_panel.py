"""Sliders, switches and choices for the parameters of a node, made of their descriptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from diffusion_mpc.config import Parameter, Value
from diffusion_mpc.live.page_actions import Post
from diffusion_mpc.live.slider_range import slider_range

if TYPE_CHECKING:
    import viser

PAUSE = 0.1
"""Time (s) between two values of a slider that is being moved, as the node is told them."""

SETTLING = 0.7
"""Time (s) without a change after which a node is told a value that it builds a planner for."""

TITLES = {
    "cost": "cost weights",
    "planner": "search",
    "policy": "policy",
    "value": "value at the horizon",
    "command": "velocity without cmd_vel",
    "goal": "goal without goal_pose",
    "prediction": "prediction of the state",
    "output": "commands",
    "gains": "gains of joints",
    "robust": "perturbed models",
    "markers": "traces",
    "": "safety",
}
"""Titles of groups that are called otherwise than their parameters."""

FIRST = ("cost", "planner", "policy")
"""Groups at the top, of which the first is open."""

CHANGED = " ●"
"""Mark of a parameter that is not at its default."""


OWN, NONE = "as above", "none"
"""Choices of a list that leave a text as it is, and that clear it."""


@dataclass
class Pending:
    """A value that the node is to be told at a time (s, monotonic)."""

    value: Value
    due: float


class ParameterPanel:
    """The parameters of a node that may change while it runs.

    A value that the node refuses goes back to what it was. One that changes elsewhere is shown.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        post: Post,
        known: Iterable[Parameter],
        values: Mapping[str, Value],
        send: Callable[[str, Value, Callable[[str], None]], None],
        refused: Callable[[str], None],
        offered: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Make the widgets in the current container of `gui`.

        Args:
            gui: interface of all pages
            post: hands work to the thread that owns the page
            known: descriptions of the parameters to show
            values: values of all of the node's parameters
            send: tells the node a value, and the callback then why it refused it; empty: it did not
            refused: called with the reason of a refusal
            offered: values of texts that people choose from, beside their own
        """
        self._gui, self._post, self._send, self._refused = gui, post, send, refused
        self.values, self._offered = dict(values), offered or {}
        self._known = {p.name: p for p in known}
        self._widgets: dict[str, Any] = {}
        self._pending: dict[str, Pending] = {}
        self._asked: dict[str, Value] = {}
        groups: dict[str, list[Parameter]] = {}
        for parameter in self._known.values():
            groups.setdefault(_group(parameter.name), []).append(parameter)
        order = [*FIRST, *(group for group in groups if group and group not in FIRST), ""]
        for number, group in enumerate(name for name in order if name in groups):
            title = TITLES.get(group, group)
            with gui.add_folder(title, expand_by_default=number == 0):
                for parameter in groups[group]:
                    self._add(parameter)
                names = [parameter.name for parameter in groups[group]]
                button = gui.add_button(
                    "back to the defaults", color="gray", hint=f"Defaults of the task for {title}."
                )
                button.on_click(lambda event, names=names: post(partial(self.reset, names)))

    def _add(self, p: Parameter) -> None:
        value, gui = self.values[p.name], self._gui
        unit = f" [{p.unit}]" if p.unit else ""
        common = {
            "label": p.name.removeprefix(f"{_group(p.name)}.").replace("_", " ") + unit,
            "hint": f"{p.name}: {p.description} Default {p.default}{unit}"
            + (", a planner is built anew." if p.rebuilt else "."),
        }
        if p.type is bool:
            widget: Any = gui.add_checkbox(initial_value=bool(value), **common)
        elif p.choices:
            widget = gui.add_dropdown(options=p.choices, initial_value=str(value), **common)
        elif p.type is str:
            widget = gui.add_text(initial_value=str(value), **common)
            self._offer(p, widget)
            # With a button, for a text that is being written is none that anybody means.
            button = gui.add_button(f"set {p.name}", color="gray")
            button.on_click(lambda event: self._post(lambda: self.wish(p.name, widget.value)))
        elif p.rebuilt:
            # A number, not a slider: on its way to a value it would ask for many planners.
            widget = gui.add_number(
                initial_value=p.typed(value),
                min=p.typed(p.type(p.low)),
                max=p.type(p.high),
                **common,
            )
        else:
            low, high, step = map(p.type, slider_range(p, float(value)))
            widget = gui.add_slider(
                initial_value=p.type(value), min=low, max=high, step=step, **common
            )
        self._widgets[p.name] = widget
        self._mark(p.name)

        def on_update(event: viser.GuiEvent[Any]) -> None:
            # Without a client, this panel has set the value.
            if event.client is not None and (p.choices or p.type is not str):
                self._post(partial(self.wish, p.name, event.target.value))

        widget.on_update(on_update)

    def _offer(self, p: Parameter, text: Any) -> None:  # noqa: ANN401  (viser's handles have no common type)
        """Add a list that fills in a text."""
        if p.name not in self._offered:
            return
        choice = self._gui.add_dropdown(
            f"choose {p.name}", (OWN, NONE, *self._offered[p.name]), hint="Fills in the text above."
        )

        def fill(chosen: str) -> None:
            if chosen != OWN:
                text.value = "" if chosen == NONE else chosen
                self.wish(p.name, text.value)
                choice.value = OWN

        choice.on_update(lambda event: self._post(partial(fill, event.target.value)))

    def wish(self, name: str, value: Value) -> None:
        """Tell the node a value in a moment, unless another one follows."""
        p = self._known[name]
        pause = SETTLING if p.rebuilt else PAUSE
        # The first moment counts for a slider, the last for what is expensive.
        before = self._pending.get(name)
        due = before.due if before is not None and not p.rebuilt else time.monotonic() + pause
        self._pending[name] = Pending(p.type(value), due)

    def reset(self, names: Iterable[str]) -> None:
        """Tell the node the defaults of parameters."""
        for name in names:
            if self.values[name] != self._known[name].default:
                self.wish(name, self._known[name].default)

    def turn(self, now: float) -> None:
        """Tell the node what is due at a time (s, monotonic), one value of a parameter at once."""
        due = [name for name, pending in self._pending.items() if pending.due <= now]
        for name in due:
            if name not in self._asked:
                value = self._pending.pop(name).value
                self._asked[name] = value
                self._send(name, value, partial(self._settle, name, value))

    def _settle(self, name: str, value: Value, reason: str) -> None:
        del self._asked[name]
        if reason:
            self._refused(f"{name}: {reason}" if name not in reason else reason)
        else:
            self.values[name] = value
        if name not in self._pending:
            self._display(name)

    def show(self, name: str, value: Value) -> None:
        """Show a value that the node has now; not where people are about to change it."""
        if name in self._known:
            self.values[name] = self._known[name].type(value)
            if name not in self._pending and name not in self._asked:
                self._display(name)

    def _display(self, name: str) -> None:
        p, value, widget = self._known[name], self.values[name], self._widgets[name]
        if hasattr(widget, "max") and not p.rebuilt and p.type in (int, float):
            low, high, step = map(p.type, slider_range(p, float(value)))
            if value > widget.max or (value >= 0.99 * widget.max and widget.max < p.high):
                widget.max, widget.step = high, step
            if value < widget.min:
                widget.min = low
        widget.value = value
        self._mark(name)

    def _mark(self, name: str) -> None:
        label = self._widgets[name].label.removesuffix(CHANGED)
        label += CHANGED if self.values[name] != self._known[name].default else ""
        if self._widgets[name].label != label:
            self._widgets[name].label = label


def _group(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""
