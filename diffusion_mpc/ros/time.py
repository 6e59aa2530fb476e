"""Times as seconds in float64 (a tenth of a microsecond in this century) and as ROS messages."""

from __future__ import annotations

from builtin_interfaces.msg import Time


def to_stamp(seconds: float) -> Time:
    """ROS time message of a time in s."""
    nanoseconds = round(seconds * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def to_seconds(stamp: Time) -> float:
    """Time in s of a ROS time message."""
    return stamp.sec + stamp.nanosec * 1e-9
