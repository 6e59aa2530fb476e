"""Recordings that begin and end while a robot runs: a recorder node started from another node."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path

from diffusion_mpc.config import Value
from diffusion_mpc.node_processes import Process, Running

NODE = "page_bag"
"""Name of the node: a run that is recorded anyway has a `recorder` of its own.

Unlike that name, which a section of a parameter file may not be mistaken for.
"""


class Recording:
    """A recorder as a process of its own, whose bag is whole when it has ended.

    Attributes:
        bag: folder of the bag
    """

    def __init__(self, parent: Path, namespace: str, parameters: Mapping[str, Value]) -> None:
        """Start a recorder.

        Args:
            parent: folder in which the recording gets one of its own, named by the time
            namespace: namespace of the recorder
            parameters: its parameters beside the folder

        Raises:
            OSError: the folder cannot be made
        """
        folder = (parent / time.strftime("%Y%m%d-%H%M%S")).absolute()
        folder.mkdir(parents=True)
        self.bag, self._begin = folder / "bag", time.monotonic()
        values = {**parameters, "directory": str(self.bag)}
        self._running = Running([Process("recorder", values, namespace, node=NODE)], folder)
        self._finishing = False

    def finish(self) -> None:
        """Ask the recorder to write what has arrived, and end."""
        if not self._finishing:
            self._finishing = True
            self._running.send("recorder", signal.SIGINT)

    def stop(self) -> None:
        """Finish, and wait for the end."""
        self._running.stop()

    @property
    def ended(self) -> bool:
        """Whether the recorder has ended, by itself or because it was asked to."""
        return bool(self._running.ended())

    @property
    def begun(self) -> bool:
        """Whether the recorder has made its bag; loading it takes seconds on a busy machine."""
        return self.bag.is_dir()

    @property
    def failure(self) -> str:
        """Reason for which a recorder that has ended failed; empty where it did not."""
        if self._finishing and not self.begun:
            return ""
        return self._running.reason("recorder") if any(self._running.ended().values()) else ""

    @property
    def text(self) -> str:
        """State of the recording, for people."""
        if self.failure:
            return self.failure
        if not self.begun:
            return "ended before it had begun" if self._finishing else "starting the recorder"
        if self.ended:
            return f"recorded; see it with: diffusion-mpc evaluate {self.bag}"
        if self._finishing:
            return f"writing the last of '{self.bag}'"
        return f"recording to '{self.bag}' for {time.monotonic() - self._begin:.0f} s"
