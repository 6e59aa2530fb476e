"""Messages of a bag, read by rosbags.

Those of a damaged MCAP file by mcap, as far as its records are whole.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import mcap.records
from mcap.exceptions import EndOfFile
from mcap.stream_reader import StreamReader
from mcap.well_known import SchemaEncoding
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

FORMATS = {
    SchemaEncoding.ROS2: MessageDefinitionFormat.MSG,
    SchemaEncoding.ROS2IDL: MessageDefinitionFormat.IDL,
}
"""Formats of message definitions by the encoding of an MCAP schema."""

ROBOT_TOPICS = ("joint_states", "joint_command", "planner/stats")
"""Topics of which every robot has one of its own, in its namespace."""


class BagError(ValueError):
    """A bag cannot be used; the message is one line that names it and the cause."""


@dataclass(frozen=True)
class Message:
    """One message of a bag.

    Attributes:
        topic: its topic
        type: its type, e.g. "sensor_msgs/msg/JointState"
        received: time at which it was recorded, s
        content: its fields, as `rosbags` makes them
    """

    topic: str
    type: str
    received: float
    content: Any


@dataclass(frozen=True)
class Messages:
    """Contents of a bag.

    Attributes:
        messages: the wanted ones, in the order of their recording
        types: type of every topic
        counts: number of messages on every topic, wanted or not
        problems: what could not be read, one line each
        namespace: namespace of the robot that they are read for
    """

    messages: list[Message]
    types: Mapping[str, str]
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    namespace: str = ""

    def robots(self) -> list[str]:
        """Namespaces in which there is a robot, e.g. "/robot1"; "" is the root."""
        return sorted(
            {
                topic.removesuffix(f"/{name}")
                for topic in self.types
                for name in ROBOT_TOPICS
                if topic.endswith(f"/{name}")
            }
        )

    def of_robot(self, bag: Path, namespace: str | None = None) -> Messages:
        """The same messages, of which `find_topic` finds those of one robot.

        Args:
            bag: where they come from
            namespace: namespace of the robot; None: there is only one

        Raises:
            BagError: there are several and none is named, or none of that name
        """
        robots = self.robots()
        listed = ", ".join(robot or "/" for robot in robots)
        if namespace is None:
            if len(robots) > 1:
                raise BagError(
                    f"bag '{bag}' holds robots in several namespaces: {listed}; choose one with "
                    "--namespace"
                )
            return replace(self, namespace=robots[0] if robots else "")
        chosen = f"/{namespace.strip('/')}".rstrip("/")
        if chosen not in robots:
            raise BagError(
                f"bag '{bag}' holds no robot in the namespace {chosen or '/'}; there are: {listed}"
            )
        return replace(self, namespace=chosen)

    def find_topic(self, name: str, types: Collection[str], problems: list[str]) -> str | None:
        """Topic of the robot by its name.

        Args:
            name: name without namespace
            types: message types that are understood
            problems: gets a line where there is no such topic, or where it has another type; None
                is returned then
        """
        topic = f"{self.namespace}/{name}"
        kind = self.types.get(topic)
        if kind in types:
            return topic
        problems.append(
            f"no topic {topic}"
            if kind is None
            else f"topic {topic} is left out: it has the type {kind}, understood are "
            f"{', '.join(types)}"
        )
        return None

    def on(self, topic: str | None) -> list[Message]:
        """Messages of a topic; none where it is None."""
        return [message for message in self.messages if message.topic == topic]


def read_messages(bag: Path, wanted: Callable[[str, str], bool]) -> Messages:
    """Read a bag; nothing is written to it or next to it.

    Args:
        bag: rosbag2 folder or .mcap file
        wanted: (topic, type) -> whether its messages are needed

    Raises:
        BagError: there is no bag, or nothing in it can be read
    """
    if not bag.exists():
        raise BagError(f"bag '{bag}' does not exist")
    contents = _Contents(wanted)
    if not _read(bag, contents) and bag.is_dir():
        for file in sorted(bag.glob("*.mcap")):
            _read(file, contents)
    problems = (
        *contents.problems,
        *(f"{reason} ({count} messages)" for reason, count in contents.undecoded.items()),
    )
    if not contents.types:
        raise BagError(
            f"bag '{bag}' cannot be read: {problems[0] if problems else 'it holds no topics'}"
        )
    return Messages(
        sorted(contents.messages, key=lambda message: message.received),
        contents.types,
        dict(sorted(contents.counts.items())),
        problems,
    )


class _Contents:
    """Messages that the files of a bag have given so far."""

    def __init__(self, wanted: Callable[[str, str], bool]) -> None:
        self._wanted = wanted
        self.messages: list[Message] = []
        self.types: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.undecoded: Counter[str] = Counter()

    def add_topic(self, topic: str, kind: str) -> None:
        self.types[topic] = kind
        self.counts[topic] += 0

    def add_message(
        self, topic: str, kind: str, definition: MessageDefinition, received: int, data: bytes
    ) -> None:
        self.counts[topic] += 1
        if not self._wanted(topic, kind):
            return
        try:
            content = _typestore(kind, definition).deserialize_cdr(data, kind)
        except Exception as error:
            # One bad message or definition must not hide the others.
            self.undecoded[f"{topic}: {_reason(error)}"] += 1
            return
        self.messages.append(Message(topic, kind, received * 1e-9, content))


def _read(path: Path, contents: _Contents) -> bool:
    """Read a bag or one of its files; whether it could be opened."""
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:
        # Damaged input makes rosbags raise whatever parsing ran into.
        recovered = _recover(path, contents) if path.is_file() else ""
        contents.problems.append(recovered or f"{path.name}: {_reason(error)}")
        return False
    for connection in reader.connections:
        contents.add_topic(connection.topic, connection.msgtype)
    try:
        for connection, received, data in reader.messages():
            contents.add_message(
                connection.topic, connection.msgtype, connection.msgdef, received, data
            )
    except Exception as error:
        contents.problems.append(f"{path.name}: {_reason(error)}; what comes before is read")
    reader.close()
    return True


def _recover(file: Path, contents: _Contents) -> str:
    """Read the whole records of a damaged MCAP file.

    Where they end, as a line of text, or nothing where there are none.
    """
    definitions: dict[int, tuple[str, MessageDefinition]] = {
        0: ("", MessageDefinition(MessageDefinitionFormat.NONE, ""))
    }
    channels: dict[int, mcap.records.Channel] = {}
    count, end = 0, "has a damaged index"
    try:
        with file.open("rb") as stream:
            # A damaged length must not ask for more memory than the file has bytes.
            for record in StreamReader(
                stream, validate_crcs=True, record_size_limit=file.stat().st_size
            ).records:
                if isinstance(record, mcap.records.Schema):
                    kind = FORMATS.get(record.encoding, MessageDefinitionFormat.NONE)
                    definitions[record.id] = (
                        record.name,
                        MessageDefinition(kind, record.data.decode(errors="replace")),
                    )
                elif isinstance(record, mcap.records.Channel):
                    channels[record.id] = record
                    contents.add_topic(record.topic, definitions[record.schema_id][0])
                elif isinstance(record, mcap.records.Message):
                    channel = channels[record.channel_id]
                    contents.add_message(
                        channel.topic, *definitions[channel.schema_id], record.log_time, record.data
                    )
                    count += 1
    except Exception as error:
        # The end of the file in the middle of a record needs no other reason.
        reason = "" if isinstance(error, EndOfFile | struct.error) else f" ({_reason(error)})"
        end = f"breaks off after {count} messages{reason}"
    return f"{file.name} {end}; what comes before is read" if channels else ""


@lru_cache(maxsize=128)
def _typestore(kind: str, definition: MessageDefinition) -> Typestore:
    """Each type with the definition recorded with it.

    A bag may come from another version of the interfaces.
    """
    if definition.format == MessageDefinitionFormat.NONE:
        return get_typestore(Stores.LATEST)
    store = get_typestore(Stores.EMPTY)
    if definition.format == MessageDefinitionFormat.IDL:
        store.register(get_types_from_idl(definition.data))
    else:
        store.register(get_types_from_msg(definition.data, kind))
    return store


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
