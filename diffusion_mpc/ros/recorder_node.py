"""Recorder: writes the topics that evaluation needs to a bag.

Messages go from the middleware to the file as they are (raw CDR), and at low priority: recording
must not take time from a planner that shares the machine.
"""

from __future__ import annotations

import importlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Fielddefs, Typesdict
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from diffusion_mpc.bags.bag_writer import BagWriter
from diffusion_mpc.bags.run_facts import MODEL, RUN
from diffusion_mpc.config import ConfigError, RecorderConfig, build
from diffusion_mpc.estimation.objects import OBJECTS
from diffusion_mpc.names import NOT_BEGUN, RECORDED
from diffusion_mpc.ros.messages.run import RunPublisher
from diffusion_mpc.ros.parameters import declare
from diffusion_mpc.ros.spin import leave, run

TOPICS = (
    "joint_states",
    "odom",
    "joint_command",
    "cmd_vel",
    "goal_pose",
    "planner/plan",
    "planner/stats",
    "/diagnostics",
    "/clock",
)
"""Recorded topics, as far as somebody publishes them, beside those of all objects.

Names are relative to the node's namespace and may be remapped.
"""
RECORDS = (
    f"~/{RUN}",
    *(f"{node}/{what}" for node in ("planner", "sim") for what in (RUN, MODEL)),
)
"""Latched topics that say what is run: recorded whenever they were sent."""

# Deep enough for what arrives while the disk is busy, or the cores are with others.
DEPTH = 1000
NICENESS = 15

# At the end: time to take what has arrived, s, less than `Running.stop` waits; and turns without a
# message that say it is all.
PATIENCE, IDLE_TURNS = 3.0, 20


class RecorderNode(Node):
    """Node that records; its parameters are described in `config.RecorderConfig`."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401  (forwarded to rclpy's Node)
        """Make the bag's folder.

        Raises:
            ConfigError: a parameter is unknown or does not fit, or the folder exists or cannot be
                made
        """
        super().__init__(
            "recorder", automatically_declare_parameters_from_overrides=True, **arguments
        )
        values = declare(self, RecorderConfig)
        config = build(RecorderConfig, values)
        self.finished = False
        self.failure = ""
        self.bag = new_bag(Path(config.directory or time.strftime("bag_%Y_%m_%d-%H_%M_%S")))
        self._start_on = self.resolve_topic_name(config.start_on) if config.start_on else ""
        self._stop_on = self.resolve_topic_name(config.stop_on) if config.stop_on else ""
        self._records = set(map(self.resolve_topic_name, RECORDS))
        topics = [*map(self.resolve_topic_name, (*RECORDS, *TOPICS)), self._start_on, self._stop_on]
        self._undiscovered = [topic for topic in dict.fromkeys(topics) if topic]
        # Which objects there are, only the model of a task knows, and the recorder has none.
        self._objects, self._known = self.resolve_topic_name(OBJECTS.rstrip("/")) + "/", set[str]()
        self._since: int | None = None if self._start_on else 0
        self._early: dict[str, deque[tuple[int, int, bytes]]] = {}
        self._until: int | None = None
        self._taken = 0
        self._newest: dict[str, tuple[int, bytes]] = {}
        self._run = RunPublisher(self, values)

    def begin(self) -> None:
        """Look for publishers from now on."""
        # On a steady clock: discovery and flushing go on where a simulation's clock stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._discover, clock=clock)
        self.create_timer(1.0, partial(self._guarded, self.bag.flush), clock=clock)
        self._discover()
        since = f" from the first {self._start_on} on" if self._start_on else ""
        self.get_logger().info(f"recording to '{self.bag.folder}'{since}")

    def end(self) -> None:
        """Take the messages that have arrived already, and close the bag."""
        self._catch_up()
        if self._since is None:
            self.get_logger().warning(
                f"no {self._start_on} came; {NOT_BEGUN}the newest message of each topic"
            )
            self._newest = {
                topic: (messages[-1][0], messages[-1][2]) for topic, messages in self._early.items()
            }
        self._guarded(self._write_newest)
        self._guarded(self.bag.close)
        if not self.failure:
            self.get_logger().info(f"{RECORDED}{self.bag.count} messages to '{self.bag.folder}'")

    def _catch_up(self) -> None:
        """Take messages until there are no more; not for ever, since others may go on sending."""
        assert self.executor is not None
        deadline, idle = time.monotonic() + PATIENCE, 0
        while idle < IDLE_TURNS and time.monotonic() < deadline:
            before = self._taken
            self.executor.spin_once(timeout_sec=0.0)
            idle = idle + 1 if self._taken == before else 0

    def _discover(self) -> None:
        for topic, _ in self.get_topic_names_and_types():
            if topic.startswith(self._objects) and topic not in self._known:
                self._known.add(topic)
                self._undiscovered.append(topic)
        for topic in list(self._undiscovered):
            publishers = self.get_publishers_info_by_topic(topic)
            if publishers:
                self._undiscovered.remove(topic)
                self._subscribe(topic, publishers)

    def _subscribe(self, topic: str, publishers: list[TopicEndpointInfo]) -> None:
        kind = publishers[0].topic_type
        others = sorted({p.topic_type for p in publishers} - {kind})
        if others:
            self.get_logger().error(
                f"{topic}: {kind} is recorded, {', '.join(others)} of another publisher is not"
            )
        try:
            message = message_class(kind)
            self.bag.add(topic, kind, definition(kind))
        except (ImportError, AttributeError, PackageNotFoundError, OSError) as error:
            self.get_logger().error(f"{topic} is not recorded: no definition of {kind} ({error})")
            return
        self.create_subscription(
            message, topic, partial(self._on_message, topic), matching_qos(publishers), raw=True
        )

    def _on_message(self, topic: str, data: bytes, info: Mapping[str, int]) -> None:
        self._taken += 1
        stamp = self.get_clock().now().nanoseconds
        # The time it was sent. A recorder that lags behind takes messages up in another order.
        sent = info["source_timestamp"]
        if self._since is None and topic == self._start_on:
            self._since = sent
            self._sort_early(stamp)
        if self._until is not None and sent > self._until:
            return
        if self._since is None:
            self._early.setdefault(topic, deque(maxlen=DEPTH)).append((stamp, sent, data))
        elif sent < self._since and topic not in self._records:
            self._newest[topic] = (stamp, data)
        else:
            self._guarded(partial(self._write, topic, stamp, data))
        if topic == self._stop_on:
            self.finished, self._until = True, sent

    def _sort_early(self, stamp: int) -> None:
        """Keep the newest early message before the first command, and all sent after it."""
        assert self._since is not None
        for topic, messages in self._early.items():
            for received, sent, data in messages:
                if sent < self._since and topic not in self._records:
                    self._newest[topic] = (received, data)
                else:
                    self._guarded(partial(self._write, topic, stamp, data))
        self._early.clear()

    def _write(self, topic: str, stamp: int, data: bytes) -> None:
        if topic in self._newest:
            # The state that the first command answers came before it, and so may its plan. It gets
            # a stamp that keeps the file in order, for a file that breaks off can only be read in
            # order.
            self.bag.write(topic, stamp, self._newest.pop(topic)[1])
        self.bag.write(topic, stamp, data)

    def _write_newest(self) -> None:
        for topic, (stamp, data) in sorted(self._newest.items(), key=lambda item: item[1][0]):
            self.bag.write(topic, stamp, data)

    def _guarded(self, write: Callable[[], None]) -> None:
        if self.failure:
            return
        try:
            write()
        except OSError as error:
            self.failure, self.finished = (
                f"cannot write to '{self.bag.folder}': {error.strerror or error}",
                True,
            )
            self.get_logger().error(self.failure)


def new_bag(folder: Path) -> BagWriter:
    """Make a new bag.

    Raises:
        ConfigError: the folder exists or cannot be made
    """
    try:
        return BagWriter(folder)
    except FileExistsError:
        raise ConfigError(
            f"directory: '{folder}' exists already; give the recording a folder of its own"
        ) from None
    except OSError as error:
        raise ConfigError(f"directory: '{folder}' cannot be made: {error}") from None


def message_class(kind: str) -> type:
    """Class of a message type, e.g. "std_msgs/msg/Header".

    Raises:
        ImportError, AttributeError: it is not installed
    """
    package, folder, name = kind.split("/")
    message: type = getattr(importlib.import_module(f"{package}.{folder}"), name)
    return message


def definition(kind: str) -> Typestore:
    """Definitions of a message type and of all types in it, from the installed .msg files.

    Raises:
        PackageNotFoundError, OSError: one of them is not installed
    """
    types: Typesdict = {}
    wanted = [kind]
    while wanted:
        package, folder, name = wanted.pop().split("/")
        file = Path(get_package_share_directory(package), folder, f"{name}.msg")
        parsed = get_types_from_msg(file.read_text(encoding="utf-8"), f"{package}/{folder}/{name}")
        types.update(parsed)
        wanted += [
            used for _, fields in parsed.values() for used in _used(fields) if used not in types
        ]
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def _used(fields: Fielddefs) -> Iterator[str]:
    for _, field in fields:
        element = field[1][0] if field[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE) else field
        if element[0] == Nodetype.NAME:
            yield str(element[1])


def matching_qos(publishers: list[TopicEndpointInfo]) -> QoSProfile:
    """The strictest quality of service that all publishers offer."""
    profiles = [p.qos_profile for p in publishers]
    reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
    latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def main() -> NoReturn:
    """Run the node until it is stopped.

    The exit code is 1 where it could not start or not write.
    """
    # Started by a node that is nice already, it must not starve.
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    leave(run(RecorderNode, lambda node: node.finished, survives=True))


if __name__ == "__main__":
    main()
