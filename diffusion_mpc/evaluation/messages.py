"""Reads messages out of a bag, as far as it can be read; a bag that broke off is no reason to lose what came before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

MAGIC = b"\x89MCAP0\r\n"
DATA_END, FOOTER = 0x0F, 0x02


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
    """What a bag holds.

    Attributes:
        messages: the wanted ones, in the order of their recording
        types: type of every topic
        counts: number of messages on every topic, wanted or not
        problems: what could not be read, one line each
    """

    messages: list[Message]
    types: Mapping[str, str]
    counts: Mapping[str, int]
    problems: tuple[str, ...]


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
    messages: list[Message] = []
    types: dict[str, str] = {}
    counts: Counter[str] = Counter()
    problems: list[str] = []
    with TemporaryDirectory() as scratch:
        for reader in _readers(bag, Path(scratch), problems):
            types.update({connection.topic: connection.msgtype for connection in reader.connections})
            counts.update({connection.topic: 0 for connection in reader.connections})
            _read(reader, wanted, messages, counts, problems)
            reader.close()
    if not types:
        raise BagError(f"bag '{bag}' cannot be read: {problems[0] if problems else 'it holds no topics'}")
    return Messages(messages, types, dict(sorted(counts.items())), tuple(problems))


def _readers(bag: Path, scratch: Path, problems: list[str]) -> Iterator[Reader]:
    """An open reader of the whole bag, or else one for each file that can be read."""
    if bag.is_dir():
        try:
            yield _opened(bag)
            return
        except Exception as error:
            # Damaged input makes rosbags raise whatever parsing ran into.
            problems.append(f"{bag.name}: {_reason(error)}")
    for file in sorted(bag.glob("*.mcap")) if bag.is_dir() else [bag]:
        try:
            yield _opened(file)
            continue
        except Exception as error:
            problem = f"{file.name}: {_reason(error)}"
        try:
            if repaired := _repair(file, scratch / file.name):
                yield _opened(repaired)
                problem = f"{file.name} breaks off; what comes before is read"
        except Exception as error:
            problem = f"{file.name}: {_reason(error)}"
        problems.append(problem)


def _opened(path: Path) -> Reader:
    reader = Reader(path)
    reader.open()
    return reader


def _repair(file: Path, copy: Path) -> Path | None:
    """Copy of all whole records of an MCAP file, with an end of its own; None where it is no MCAP file."""
    with file.open("rb") as source, copy.open("wb") as target:
        if source.read(len(MAGIC)) != MAGIC:
            return None
        target.write(MAGIC)
        while True:
            head = source.read(9)
            length = int.from_bytes(head[1:], "little")
            # The index behind the data may be damaged as well: without it, the reader scans the data.
            if len(head) < 9 or head[0] in (DATA_END, FOOTER) or length > file.stat().st_size - source.tell():
                break
            target.write(head + source.read(length))
        target.write(bytes([DATA_END]) + (4).to_bytes(8, "little") + bytes(4))
        target.write(bytes([FOOTER]) + (20).to_bytes(8, "little") + bytes(20) + MAGIC)
    return copy


def _read(
    reader: Reader,
    wanted: Callable[[str, str], bool],
    messages: list[Message],
    counts: Counter[str],
    problems: list[str],
) -> None:
    stores: dict[str, Typestore] = {}
    broken: Counter[str] = Counter()
    try:
        for connection, timestamp, data in reader.messages():
            topic, kind = connection.topic, connection.msgtype
            counts[topic] += 1
            if not wanted(topic, kind):
                continue
            try:
                if kind not in stores:
                    stores[kind] = _typestore(connection)
                content = stores[kind].deserialize_cdr(data, kind)
            except Exception as error:
                # One bad message or definition must not hide the others.
                broken[f"{topic}: {_reason(error)}"] += 1
                continue
            messages.append(Message(topic, kind, timestamp * 1e-9, content))
    except Exception as error:
        # Damaged input makes rosbags raise whatever parsing ran into.
        problems.append(f"{Path(str(reader.path)).name}: {_reason(error)}; what comes before is read")
    problems += [f"{text} ({count} messages)" for text, count in broken.items()]


def _typestore(connection: Connection) -> Typestore:
    """Each type with the definition recorded with it: a bag may come from another version of the interfaces."""
    definition = connection.msgdef
    if definition.format == MessageDefinitionFormat.NONE:
        return get_typestore(Stores.LATEST)
    store = get_typestore(Stores.EMPTY)
    if definition.format == MessageDefinitionFormat.IDL:
        store.register(get_types_from_idl(definition.data))
    else:
        store.register(get_types_from_msg(definition.data, connection.msgtype))
    return store


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
