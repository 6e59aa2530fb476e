"""A simulation from beginning to end.

Start the nodes, show how it goes, stop them, evaluate what was recorded.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from diffusion_mpc.bringup.description import Options, isolation, processes
from diffusion_mpc.evaluation.report import write_report
from diffusion_mpc.node_processes import Running
from diffusion_mpc.ros.observers import Status
from diffusion_mpc.ros.spin import ENDING, on_ending

REFRESH = 0.5
START_TIMEOUT = 180.0
PAGE = "page: "
"""Words before the address of the page in the log of the viewer node."""


class SimulationError(ValueError):
    """A node ended too early, or nothing moved; the message says which and why."""


def new_run_folder() -> Path:
    """`runs/<time>` in the current folder; not created yet."""
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def simulate(
    task: str,
    duration: float,
    folder: Path | None,
    video: bool,
    lockstep: bool = False,
    headless: bool = True,
    page: bool = False,
    params_file: str = "",
    settings: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Run a task until its duration is over or the user interrupts, and evaluate it.

    Args:
        task: name or file of the task
        duration: simulated time, s; 0: until interrupted
        folder: new folder for bag, report and plot; None: nothing is kept
        video: render a video into the folder
        lockstep: the simulation waits for every command
        headless: without a viewer window
        page: serve the live page
        params_file: ROS parameter file; empty: none
        settings: parameters by name, as texts

    Returns:
        the figures of `evaluation.metrics.summarise`

    Raises:
        ConfigError, TaskError: the description of what to run is wrong
        SimulationError: a node failed
    """
    if folder is not None and folder.exists():
        raise SimulationError(f"'{folder}' exists already; name a new folder")
    with tempfile.TemporaryDirectory(prefix="diffusion_mpc_") as scratch:
        where = folder if folder is not None else Path(scratch)
        bag = where / "bag"
        options = Options(
            task,
            params_file,
            headless=headless,
            page=page,
            record=str(bag.absolute()),
            lockstep=lockstep,
            duration=duration,
            settings=settings or {},
        )
        started = processes(options)
        logs = where / "nodes"
        os.environ.update(isolation())
        logs.mkdir(parents=True)
        with Interrupt() as interrupt, Running(started, logs) as running:
            # From here on this process only looks on; it must not take time from a planner that
            # shares the machine.
            os.nice(15)
            plans = _watch(running, duration, interrupt)
        if interrupt.came and not plans:
            # Nothing was recorded that could be reported.
            raise KeyboardInterrupt
        failures = running.failures()
        report = write_report(bag, "", where, video=video, plot=folder is not None)
        sys.stdout.write(report.text() if folder is not None else report.table())
        failures += [report.failure] if report.failure else []
        if failures:
            raise SimulationError("; ".join(failures))
        return report.summary


class Interrupt:
    """Signals of `ENDING` while the block lasts: taken note of, for an orderly end."""

    def __enter__(self) -> Interrupt:
        """Take the signals over."""
        self.came = False
        self._before = {number: signal.getsignal(number) for number in ENDING}
        on_ending(self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if number == signal.SIGHUP:
            _leave_terminal()


def _leave_terminal() -> None:
    """Write to nowhere from now on: what a terminal that is gone is told, raises an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _watch(running: Running, duration: float, interrupt: Interrupt) -> int:
    """Show a status line until the simulation has ended or the user interrupts.

    Returns the number of plans that have been seen.
    """
    began = time.monotonic()
    waiting = set(running.helpers)
    with (
        Status(duration) as status,
        Live(
            status.text(), console=Console(stderr=True), auto_refresh=False, transient=True
        ) as live,
    ):
        while not interrupt.came:
            ended = running.ended()
            for name in [*waiting]:
                if told := _about_helper(running, name):
                    waiting.remove(name)
                    live.console.print(told, markup=False, soft_wrap=True)
            for name, code in ended.items():
                if name not in running.helpers and (code != 0 or name == "planner"):
                    raise SimulationError(running.reason(name))
            if "sim" in ended:
                break
            if not status.plans and time.monotonic() - began > START_TIMEOUT:
                raise SimulationError(
                    f"no plan came within {START_TIMEOUT:g} s: {status.waiting}; the sim node's "
                    f"log ends: {running.log('sim', lines=1)}"
                )
            status.update()
            while status.alarms:
                live.console.print(status.alarms.popleft(), markup=False, soft_wrap=True)
            live.update(status.text(), refresh=True)
            time.sleep(REFRESH)
        return status.plans


def _about_helper(running: Running, name: str) -> str:
    """News of a node that the others can do without: where its page is, or why it failed."""
    if name in running.ended():
        return f"the run goes on without the {name}: {running.reason(name)}"
    address = running.announced(name, PAGE)
    return f"{PAGE}{address}" if address else ""
