"""Health of the planner node as a diagnostic message."""

from __future__ import annotations

from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def diagnostic(stamp: Time, name: str, level: bytes, text: str, values: Mapping[str, object]) -> DiagnosticArray:
    """One status, with key-value pairs."""
    status = DiagnosticStatus(level=level, name=name, message=text, hardware_id="diffusion_mpc")
    status.values = [
        KeyValue(key=key, value=f"{value:.4g}" if isinstance(value, float) else str(value)) for key, value in values.items()
    ]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
