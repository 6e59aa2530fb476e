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
from diffusion_mpc.bringup.processes import Running
from diffusion_mpc.evaluation.report import write_report
from diffusion_mpc.ros.observers import Status
from diffusion_mpc.ros.spin import ENDING, on_ending

REFRESH = 0.5
START_TIMEOUT = 180.0


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
            record=str(bag.absolute()),
            lockstep=lockstep,
            duration=duration,
            settings=settings or {},
        )
        started = processes(options)
        logs = where / "nodes"
        logs.mkdir(parents=True)
        os.environ.update(isolation())
        with Running(started, logs) as running:
            # From here on this process only looks on; it must not take time from a planner that
            # shares the machine.
            os.nice(15)
            _watch(running, duration)
        report = write_report(bag, "", where, video=video, plot=folder is not None)
        sys.stdout.write(report.text() if folder is not None else report.table())
        if report.failure:
            raise SimulationError(report.failure)
        return report.summary


def _watch(running: Running, duration: float) -> None:
    """Show a status line until the simulation has ended or the user interrupts."""
    stop = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        stop = True
        if number == signal.SIGHUP:
            _leave_terminal()

    before = {number: signal.getsignal(number) for number in ENDING}
    on_ending(on_signal)
    began = time.monotonic()
    try:
        with (
            Status(duration) as status,
            Live(
                status.text(), console=Console(stderr=True), auto_refresh=False, transient=True
            ) as live,
        ):
            while not stop:
                ended = running.ended()
                for name, code in ended.items():
                    if code != 0 or name == "planner":
                        raise SimulationError(
                            f"the {name} node ended with exit code {code}: {running.log(name)}"
                        )
                if "sim" in ended:
                    break
                if not status.plans and time.monotonic() - began > START_TIMEOUT:
                    raise SimulationError(
                        f"no plan came within {START_TIMEOUT:g} s; the nodes' logs are in "
                        f"{running.folder}"
                    )
                status.update()
                live.update(status.text(), refresh=True)
                time.sleep(REFRESH)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Write to nowhere from now on: what a terminal that is gone is told, raises an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
