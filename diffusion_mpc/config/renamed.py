"""Names that parameters had before, and what to set in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

RENAMED: Mapping[str, str] = {
    "planner.mirrored": "planner.antithetic",
    "planner.success_share": "planner.success_fraction",
    "planner.elite_share": "planner.elite_fraction",
    "output.takeover": "output.blend_time",
}
"""The name now, by the name before."""

GAINS: Mapping[str, str] = {"output.kp": "p", "output.kd": "d"}
"""The gain of a joint, by the parameter that held those of all joints before."""


def replacement(name: str, known: Iterable[str]) -> str:
    """Advice on a parameter's former name, in one line; empty where the name was never one.

    Args:
        name: name of a parameter
        known: names of all parameters
    """
    if name in RENAMED:
        return f"parameter '{name}' is now '{RENAMED[name]}'"
    if name not in GAINS:
        return ""
    gains = [new for new in known if new.startswith("gains.") and new.endswith(f".{GAINS[name]}")]
    now = (
        f"gains are parameters of each joint: {', '.join(gains)}"
        if gains
        else "no joint of this robot is driven by effort"
    )
    return f"parameter '{name}' is no more; {now}"
