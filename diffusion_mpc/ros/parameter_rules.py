"""Which parameters may change in which state of the planner node."""

from __future__ import annotations

from collections.abc import Mapping

from diffusion_mpc.config import ConfigError, PlannerNodeConfig, Value, parameters

FIXED = tuple(p.name for p in parameters(PlannerNodeConfig).values() if not (p.live or p.rebuilt))
AT_START = ("task", "model.path", "model.actuators", "autostart")
"""Parameters that decide which others there are, or what happens at the start.

No service changes them.
"""


def refuse_fixed(node: str, before: Mapping[str, Value], wanted: Mapping[str, Value]) -> None:
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
                f"{name} is read when the node is configured; first `ros2 lifecycle set {node} "
                "deactivate`, then `cleanup`; "
                "set it, then `configure` and `activate`"
            )
