"""Times in seconds as ROS messages; `message_fields.to_seconds` is the way back."""

from __future__ import annotations

from builtin_interfaces.msg import Duration, Time


def to_stamp(seconds: float) -> Time:
    """ROS time message of a time in s.

    The nearest where a message (32 bits of seconds, until 2038) cannot hold it.
    """
    nanoseconds = max(-(2**31) * 10**9, min(round(seconds * 1e9), 2**31 * 10**9 - 1))
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def to_duration(seconds: float) -> Duration:
    """ROS duration message of a time span in s."""
    nanoseconds = round(seconds * 1e9)
    return Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
