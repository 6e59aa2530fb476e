"""Nodes as processes of their own, without `ros2`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from diffusion_mpc.config import Value, write_parameter_file
from diffusion_mpc.names import ERROR
from diffusion_mpc.runtime import trace_events


@dataclass(frozen=True)
class Process:
    """A node to start.

    Attributes:
        name: kind of the node, and its name; its executable is `<name>_node`
        parameters: its parameters, by full name, as far as they are not left at their defaults
        namespace: namespace of the node and of its topics; empty: none
        respawn: whether it is started again when it dies; by `ros2 launch` only
        helper: whether the others go on when it fails
        node: name of the node, where it is another
    """

    name: str
    parameters: Mapping[str, Value]
    namespace: str = ""
    respawn: bool = False
    helper: bool = False
    node: str = ""


class Running:
    """Nodes as processes of their own, without `ros2`.

    Use as a context manager: on leaving, every process has ended.
    """

    def __init__(self, started: Sequence[Process], folder: Path, traced: bool = False) -> None:
        """Start the nodes.

        Args:
            started: what to start, in order
            folder: existing folder for parameter files, logs and traces
            traced: whether nodes write traces
        """
        self.folder = folder
        self._environment = os.environ | ({trace_events.VARIABLE: str(folder)} if traced else {})
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for process in started:
            self._children[process.name] = self._start(process)

    def __enter__(self) -> Running:
        """The running nodes."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all of them."""
        self.stop()

    def _start(self, process: Process) -> subprocess.Popen[bytes]:
        path = self.folder / f"{process.name}.yaml"
        write_parameter_file(path, process.node or process.name, process.parameters)
        module = f"diffusion_mpc.ros.{process.name}_node"
        command = [sys.executable, "-m", module, "--ros-args", "--params-file", str(path)]
        if process.namespace:
            command += ["-r", f"__ns:=/{process.namespace.strip('/')}"]
        if process.node:
            command += ["-r", f"__node:={process.node}"]
        with (self.folder / f"{process.name}.log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                preexec_fn=_die_with_parent,
            )

    @property
    def names(self) -> list[str]:
        """Names of the nodes."""
        return [*self._children]

    def ended(self) -> dict[str, int]:
        """Exit codes of the nodes that have ended."""
        codes = {name: child.poll() for name, child in self._children.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a node."""
        self._children[name].send_signal(number)

    def resident(self, name: str) -> int:
        """Resident memory of a node, bytes; 0 where it has ended or may not be looked at."""
        try:
            return int(psutil.Process(self._children[name].pid).memory_info().rss)
        except psutil.Error:
            return 0

    def log(self, name: str, lines: int = 5) -> str:
        """Last lines that a node has written."""
        return "\n".join(
            (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:]
        )

    def reason(self, name: str) -> str:
        """Reason for which a node has failed, in one line: the last of its log that says so."""
        lines = self.log(name, lines=20).splitlines()
        if said := [line for line in lines if line.startswith(ERROR)]:
            return f"{name}: {said[-1].removeprefix(ERROR)}"
        last = lines[-1] if lines else "nothing"
        return (
            f"the {name} node ended with exit code {self.ended().get(name)}; its log ends: {last}"
        )

    def failures(self) -> list[str]:
        """Reasons of the nodes that have failed by themselves, one line each."""
        return [self.reason(name) for name, code in self.ended().items() if code > 0]

    def announced(self, name: str, mark: str) -> str:
        """Rest of the first line in a node's log that has `mark`; empty where there is none."""
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        _, found, rest = text.partition(mark)
        return rest.partition("\n")[0] if found and "\n" in rest else ""

    def stop(self, patience: float = 5.0) -> None:
        """Interrupt the nodes, the last started first.

        Kill those that do not end within `patience` seconds.
        """
        for child in reversed(self._children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                _wait(child, patience)
            if child.poll() is None:
                child.kill()
                child.wait()


def _wait(child: subprocess.Popen[bytes], patience: float) -> None:
    deadline = time.monotonic() + patience
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def _die_with_parent() -> None:
    # Out of the terminal's group, so that Ctrl-C reaches the nodes through `stop`, in order; no
    # orphan if this process is killed.
    os.setsid()
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
