"""What every node's `main` does: start, spin until a signal or until the node is finished, end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions


class RunnableNode(Protocol):
    """What `run` needs of a node besides what rclpy's Node has; `failure` says why it ended badly, empty where it did not."""

    failure: str

    def begin(self) -> None:
        """Start work; a ValueError is a reason not to."""
        ...

    def end(self) -> None:
        """Finish work, while ROS is still up."""
        ...


N = TypeVar("N", bound=RunnableNode)


def run(make: Callable[[], N], finished: Callable[[N], bool] = lambda node: False) -> int:
    """Run a node until SIGINT, SIGTERM or `finished`.

    rclpy's own signal handlers shut ROS down at once; a node that has a last command to send or a file to close needs it up.

    Returns:
        exit code: 1 where the node could not start,, with the reason in one line on standard error, or where it failed later
    """
    stop = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node: Any = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.begin()
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        rclpy.try_shutdown()
        return 1
    try:
        while not (stop or finished(node)):
            executor.spin_once(timeout_sec=0.05)
    finally:
        # Nothing is left to interrupt: a signal now would only make an exit code of -2 out of an orderly end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        node.end()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 1 if node.failure else 0
