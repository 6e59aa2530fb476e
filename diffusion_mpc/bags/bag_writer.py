"""A bag that is being written.

An MCAP file with the message definitions inside, in a rosbag2 folder with metadata.yaml.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mcap.well_known import MessageEncoding, Profile, SchemaEncoding
from mcap.writer import CompressionType, Writer
from rosbags.typesys.store import Typestore

VERSION = 8
"""Version of rosbag2's metadata; 9 is read by newer ROS distributions only."""


@dataclass(frozen=True)
class _Topic:
    name: str
    type: str
    type_hash: str
    channel: int


class BagWriter:
    """Writes serialised messages (CDR) to a new bag.

    Attributes:
        folder: the bag
        count: number of messages written
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder and begin the file.

        Raises:
            FileExistsError: the folder exists
            OSError: it cannot be made
        """
        folder.mkdir(parents=True)
        self.folder = folder
        self.count = 0
        self._file = folder / f"{folder.name}.mcap"
        self._stream = self._file.open("xb")
        # Compression would take time from a planner that shares the machine.
        self._writer = Writer(self._stream, compression=CompressionType.NONE)
        self._writer.start(profile=Profile.ROS2)
        self._schemas: dict[str, int] = {}
        self._topics: dict[str, _Topic] = {}
        self._counts: Counter[str] = Counter()
        self._first = self._last = 0

    def add(self, topic: str, kind: str, definitions: Typestore) -> None:
        """Announce a topic.

        Args:
            topic: its name
            kind: its message type, e.g. "std_msgs/msg/Header"
            definitions: definitions of that type and of all types in it
        """
        if kind not in self._schemas:
            text, _ = definitions.generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._writer.register_schema(
                kind, SchemaEncoding.ROS2, text.encode()
            )
        type_hash = definitions.hash_rihs01(kind)
        metadata = {"offered_qos_profiles": "", "topic_type_hash": type_hash}
        channel = self._writer.register_channel(
            topic, MessageEncoding.CDR, self._schemas[kind], metadata
        )
        self._topics[topic] = _Topic(topic, kind, type_hash, channel)

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Append a serialised message that was received at `stamp` (ns)."""
        self._writer.add_message(
            self._topics[topic].channel, log_time=stamp, data=data, publish_time=stamp
        )
        self._first = min(self._first, stamp) if self.count else stamp
        self._last = max(self._last, stamp) if self.count else stamp
        self._counts[topic] += 1
        self.count += 1

    def flush(self) -> None:
        """Write out buffered messages: a reader finds them should this process be killed."""
        self._writer.flush()

    def close(self) -> None:
        """Write index and metadata."""
        metadata = self._metadata()
        # As rosbag2 does, for whoever has the file without its folder.
        self._writer.add_metadata(
            "rosbag2", {"serialized_metadata": yaml.safe_dump(metadata, sort_keys=False)}
        )
        self._writer.finish()
        self._stream.close()
        scratch = self.folder / "metadata.yaml.tmp"
        scratch.write_text(
            yaml.safe_dump({"rosbag2_bagfile_information": metadata}, sort_keys=False),
            encoding="utf-8",
        )
        scratch.replace(self.folder / "metadata.yaml")

    def _extent(self) -> dict[str, Any]:
        return {
            "starting_time": {"nanoseconds_since_epoch": self._first},
            "duration": {"nanoseconds": self._last - self._first},
            "message_count": self.count,
        }

    def _metadata(self) -> dict[str, Any]:
        """Description of the bag as rosbag2 has it (rosbag2_storage, `BagMetadata`)."""
        topics = [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": MessageEncoding.CDR,
                    "offered_qos_profiles": "",
                    "type_description_hash": topic.type_hash,
                },
                "message_count": self._counts[topic.name],
            }
            for topic in self._topics.values()
        ]
        return {
            "version": VERSION,
            "storage_identifier": "mcap",
            "relative_file_paths": [self._file.name],
            **self._extent(),
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "files": [{"path": self._file.name, **self._extent()}],
            "custom_data": None,
            "ros_distro": os.environ.get("ROS_DISTRO", ""),
        }
