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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from diffusion_mpc.bringup.description import Options, isolation, processes
from diffusion_mpc.names import NOT_BEGUN, PAGE, RECORDED
from diffusion_mpc.node_processes import Process, Running
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
    options = Options(
        task,
        params_file,
        headless=headless,
        page=page,
        lockstep=lockstep,
        duration=duration,
        settings=settings or {},
    )
    with tempfile.TemporaryDirectory(prefix="diffusion_mpc_") as scratch:
        runs = _run(options, folder if folder is not None else Path(scratch))
        from diffusion_mpc.evaluation.report import write_report

        reports = [
            write_report(run / "bag", "", run, video=video, plot=folder is not None) for run in runs
        ]
        failures = [failure for failure in runs.values() if failure]
        for report in reports:
            sys.stdout.write(report.text() if folder is not None else report.table())
            failures += [report.failure] if report.failure else []
        if failures:
            raise SimulationError("; ".join(failures))
        return reports[-1].summary


def _run(options: Options, folder: Path) -> dict[Path, str]:
    """Run a task, and others that people choose on the page, until the last one has ended.

    The first one has the options given, and again when it is chosen again. Others have the defaults
    of their own: settings and parameters were meant for that one.

    Args:
        options: what to run first
        folder: folder for it; those that follow get folders in it

    Returns:
        folders of the runs that have made plans, each with the reason why a node failed, or empty

    Raises:
        KeyboardInterrupt: the user interrupted before anything was recorded
    """
    os.environ.update(isolation())
    given, runs = options, dict[Path, str]()
    where, number = folder, count(2)
    helpers, nodes = _nodes(given, folder)
    # The one that looks on must not take time from a planner that shares the machine. It is a
    # thread of its own: nodes that are started later would inherit its low priority.
    with (
        Interrupt() as interrupt,
        Running(helpers, _logs(folder)) as page,
        ThreadPoolExecutor(1, initializer=os.nice, initargs=(15,)) as onlooker,
    ):
        silent = {*page.names}
        while True:
            with Running(nodes, _logs(where)) as running:
                watched = onlooker.submit(_watch, running, page, silent, options, interrupt)
                # Seconds to load, which the nodes need as well before they plan.
                import diffusion_mpc.evaluation.report  # noqa: F401

                plans, task = watched.result()
            # Where it was left before it had begun there is nothing to report.
            if plans or not interrupt.came or _has_commands(running):
                runs[where] = "; ".join(running.failures())
            if not task:
                break
            own = replace(given, task=task, params_file="", settings={})
            options = given if task == given.task else own
            where = folder / f"{next(number)}-{Path(task).stem}"
            _, nodes = _nodes(options, where)
    if not runs:
        raise KeyboardInterrupt
    return runs


def _nodes(options: Options, folder: Path) -> tuple[list[Process], list[Process]]:
    """Nodes that outlast a change of the task, and the others, which record to a folder."""
    started = processes(replace(options, record=str((folder / "bag").absolute())))
    return [p for p in started if p.helper], [p for p in started if not p.helper]


def _has_commands(running: Running) -> bool:
    """Whether the bag of a run that has ended has commands; the status line may not have seen any.

    As the recorder says at its end.
    """
    ended = bool(running.announced("recorder", RECORDED))
    return ended and not running.announced("recorder", NOT_BEGUN)


def _logs(folder: Path) -> Path:
    """New folder for parameter files and logs of the nodes of a run."""
    logs = folder / "nodes"
    logs.mkdir(parents=True, exist_ok=True)
    return logs


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


def _watch(
    running: Running, page: Running, silent: set[str], options: Options, interrupt: Interrupt
) -> tuple[int, str]:
    """Show a status line until the simulation has ended, or the user wants something else.

    Args:
        running: nodes of the run
        page: nodes that outlast it
        silent: those of them that nothing has been told of yet; others are taken out
        options: what is run
        interrupt: signals

    Returns:
        the number of plans that have been seen, and the task that the user has chosen; empty: none
    """
    began = time.monotonic()
    with (
        Status(options.duration) as status,
        Live(
            status.text(), console=Console(stderr=True), auto_refresh=False, transient=True
        ) as live,
    ):
        # Another task waits for the first plan of this one: every run has something to report.
        while not (interrupt.came or (status.chosen_task and status.plans)):
            for name in [*silent]:
                if told := _about_helper(page, name):
                    silent.remove(name)
                    live.console.print(told, markup=False, soft_wrap=True)
            ended = running.ended()
            for name, code in ended.items():
                if code != 0 or name == "planner":
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
        return status.plans, status.chosen_task


def _about_helper(page: Running, name: str) -> str:
    """News of a node that the others can do without: where its page is, or why it failed."""
    if name in page.ended():
        return f"the run goes on without the {name}: {page.reason(name)}"
    address = page.announced(name, PAGE)
    return f"{PAGE}{address}" if address else ""
