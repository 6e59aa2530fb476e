"""A line at the top of the page: how the planner does, or that it is silent."""

from __future__ import annotations

import html
from collections import deque
from typing import TYPE_CHECKING

from diffusion_mpc.live.live_plots import ShownPlan
from diffusion_mpc.percentiles import percentiles

if TYPE_CHECKING:
    import viser

SILENCE = 2.5
"""Time (s) without a sign of life after which a planner counts as silent; it gives one a second."""

PERIOD = 0.5
"""Time between two updates, s."""

COLORS = {"ok": "#16a34a", "warn": "#d97706", "error": "#dc2626"}


class StatusLine:
    """Health of the planner and figures of its last plans."""

    def __init__(self, gui: viser.GuiApi) -> None:
        """Make the line in the current container of `gui`."""
        self._html = gui.add_html("")
        self._health = ("warn", "waiting for a planner; is one running in this ROS domain?")
        self._heard: float | None = None
        self._plans: deque[tuple[float, ShownPlan]] = deque(maxlen=500)
        self._due = 0.0
        self.text = ""

    def hear(self, level: str, text: str, now: float) -> None:
        """Take the planner's health: a key of `COLORS`, and why it is not better."""
        self._health, self._heard = (level, text), now

    def add(self, figures: ShownPlan, now: float) -> None:
        """Take the figures of a plan."""
        self._plans.append((now, figures))

    def silent(self, now: float) -> bool:
        """Whether the planner has been heard, and is not heard any more."""
        return self._heard is not None and now - self._heard > SILENCE

    def turn(self, now: float) -> None:
        """Update the line, where it is due."""
        if now < self._due:
            return
        self._due = now + PERIOD
        level, text = self._health
        if self.silent(now):
            assert self._heard is not None, "it has been heard"
            level, text = "error", f"silent for {now - self._heard:.0f} s"
        self.text = f"planner: {text}"
        lines = [
            f'<span style="color:{COLORS[level]}">●</span> <b>planner</b>: {html.escape(text)}'
        ]
        while self._plans and self._plans[0][0] < now - 3.0:
            self._plans.popleft()
        if len(self._plans) > 1:
            newest = self._plans[-1][1]
            rate = (len(self._plans) - 1) / (self._plans[-1][0] - self._plans[0][0])
            p99 = percentiles([1e3 * f.plan_time for _, f in self._plans], (99,))["p99"]
            lines.append(
                f"{html.escape(newest.label)}; {rate:.0f} plans/s, p99 {p99:.1f} ms, "
                f"{newest.missed} late; cost {sum(newest.terms.values()):.3g}"
            )
        content = "<br>".join(f'<span style="font-size:0.85em">{line}</span>' for line in lines)
        content = f'<div style="padding:0.2em 0.8em 0.6em;line-height:1.35">{content}</div>'
        if content != self._html.content:
            self._html.content = content
