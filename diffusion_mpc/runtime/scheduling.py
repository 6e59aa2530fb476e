"""Cores and priority of the threads that must be on time.

Planning, its rollouts, and commanding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_mpc.config import ConfigError, RealtimeConfig

HOW = (
    "allow it with rtprio and nice in /etc/security/limits.conf, "
    "or with the capability CAP_SYS_NICE"
)


@contextmanager
def scheduled(
    config: RealtimeConfig, warn: Callable[[str], object], above: int = 0
) -> Iterator[None]:
    """Threads started within run on the cores and at the priority that are asked for.

    Linux gives a thread what the one has that starts it. So this holds as well for threads that a
    library starts, whose ids nobody knows: those of a pool of rollouts.

    Args:
        config: what is asked for
        warn: called with a line for each thing that is not permitted; the threads then do without
        above: by how much the priority lies above the one asked for, where one is

    Raises:
        ConfigError: the cores are not written as a list
    """
    cores = parse_cores(config.cpus)
    before, nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    if cores:
        _try(
            lambda: os.sched_setaffinity(0, cores),
            f"realtime.cpus {config.cpus}",
            f"there are {_text(before)}",
            warn,
        )
    if config.priority:
        level = os.sched_param(config.priority + above)
        _try(
            lambda: os.sched_setscheduler(0, os.SCHED_FIFO, level),
            f"realtime.priority {config.priority}",
            HOW,
            warn,
        )
    elif config.nice:
        _try(
            lambda: os.setpriority(os.PRIO_PROCESS, 0, config.nice),
            f"realtime.nice {config.nice}",
            HOW,
            warn,
        )
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def parse_cores(text: str) -> set[int]:
    """Cores of a list as `taskset` takes it, such as 0,2-3; empty: none are named.

    Raises:
        ConfigError: it is not such a list
    """
    cores: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise ConfigError(f"realtime.cpus: '{part}' is no core; write a list such as 0,2-3")
        cores |= set(range(int(first), int(last or first) + 1))
    return cores


def resident_memory() -> float:
    """Memory of this process that lies in RAM, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _try(change: Callable[[], None], what: str, how: str, warn: Callable[[str], object]) -> None:
    try:
        change()
    except OSError as error:
        warn(f"{what} is not possible here ({error.strerror}), and planning goes on without; {how}")


def _text(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))
