"""Health of the planner node as a diagnostic message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from diffusion_mpc.runtime.health import Level

LEVELS = {
    Level.OK: DiagnosticStatus.OK,
    Level.WARN: DiagnosticStatus.WARN,
    Level.ERROR: DiagnosticStatus.ERROR,
}


def diagnostic(
    stamp: Time, name: str, level: Level, text: str, values: Mapping[str, object]
) -> DiagnosticArray:
    """One status, with key-value pairs."""
    status = DiagnosticStatus(
        level=LEVELS[level], name=name, message=text, hardware_id="diffusion_mpc"
    )
    status.values = [
        KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def log(level: Level, text: str, logger: Any) -> None:  # noqa: ANN401  (rclpy's loggers have no public type)
    """Log a report at its level."""
    # rclpy ties a severity to a line of code.
    if level == Level.ERROR:
        logger.error(text)
    elif level == Level.WARN:
        logger.warning(text)
    else:
        logger.info(text)
