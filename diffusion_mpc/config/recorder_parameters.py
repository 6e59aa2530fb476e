"""Parameters of the recorder node."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_mpc.config.parameter import param


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of the recorder node."""

    directory: str = param("", "New folder for the bag; empty: bag_<time> in the current folder.")
    start_on: str = param(
        "joint_command",
        "Topic whose first message starts the recording; empty: record from the start.",
    )
    stop_on: str = param(
        "sim/finished",
        "Topic whose first message ends the recording; empty: record until shut down.",
    )
