"""The `main` of every node: start, spin until a signal or until the node is finished, end."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVar

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from diffusion_mpc.config import ConfigError, shared_names
from diffusion_mpc.names import ERROR
from diffusion_mpc.ros.parameters import parameter_files
from diffusion_mpc.runtime import trace_events
from diffusion_mpc.tasks.user_code import is_ours, told


class RunnableNode(Protocol):
    """A node as `run` needs it, beside rclpy's Node.

    `failure` says why it ended badly, empty where it did not.
    """

    failure: str

    def begin(self) -> None:
        """Start work; an exception is a reason not to."""
        ...

    def end(self) -> None:
        """Finish work, while ROS is still up."""
        ...


N = TypeVar("N", bound=RunnableNode)

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that ask for an orderly end: by a user, a supervisor, a terminal that is gone."""


def on_ending(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals of `ENDING`, but a hang-up that `nohup` has ignored."""
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def prepare_logging() -> None:
    """Look through all modules, as rclpy does with `inspect` in the first log from a file.

    It takes a tenth of a second, for which a node that controls would take no message.
    """
    inspect.getmodule(inspect.currentframe(), "")


def turn(executor: Executor, node: Node) -> None:
    """Run one callback.

    One that fails is reported, and the node goes on: who controls a robot must not leave for one
    odd message.

    rclpy itself raises for some, a `/clock` before 1970 for one.
    """
    try:
        executor.spin_once(timeout_sec=0.05)
    except Exception:
        node.get_logger().error(
            f"a callback failed: {traceback.format_exc()}", throttle_duration_sec=1.0
        )


def _init() -> None:
    """Take rclpy up.

    Raises:
        ConfigError: the ROS arguments cannot be understood
    """
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise ConfigError(" ".join(str(error).split())) from None


def run(
    make: Callable[[], N],
    finished: Callable[[N], bool] = lambda node: False,
    survives: bool = False,
) -> int:
    """Run a node until a signal of `ENDING` or `finished`.

    rclpy's own signal handlers shut ROS down at once; a node that has a last command to send or a
    file to close needs it up.

    Args:
        make: makes the node
        finished: whether the node has nothing more to do
        survives: whether the node goes on after a callback that failed; otherwise it ends

    Returns:
        exit code: 1 where the node could not start, with the reason in one line on standard error,
        or where it failed later
    """
    stop = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    on_ending(on_signal)
    try:
        # First by our own reader, which says more than rcl of what is wrong with a file.
        shared_names(parameter_files(sys.argv))
        _init()
        node: Any = make()
        trace_events.begin(node.get_name())
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.begin()
    except Exception as error:
        log_traceback(error)
        rclpy.try_shutdown()
        return _failed(told(error))
    try:
        while not (stop or finished(node)):
            turn(executor, node) if survives else executor.spin_once(timeout_sec=0.05)
    except Exception as error:
        log_traceback(error)
        node.failure = told(error)
    finally:
        # Nothing is left to interrupt: a signal now would only make an exit code of -2 out of an
        # orderly end.
        on_ending(signal.SIG_IGN)
        node.end()
        trace_events.end()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return _failed(node.failure) if node.failure else 0


def leave(code: int) -> NoReturn:
    """End the process of a node that is nice to others, at once.

    The interpreter would take seconds to put away what was imported, and whoever waits for the end
    of a node kills it after as many.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failed(why: str) -> int:
    sys.stderr.write(f"{ERROR}{why}\n")
    return 1


def log_traceback(error: Exception) -> None:
    """Log how an exception came about, where it is not one of ours that says all by itself."""
    if not is_ours(error) or error.__cause__ is not None:
        # By hand: a node that could not be made has no logger.
        get_logger("diffusion_mpc").error("".join(traceback.format_exception(error)))
