"""Worker processes: one core each, ended with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import psutil

# Numerical libraries would otherwise start as many threads as there are cores in each of as many
# processes.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Pool of so many workers; what they are given has to be importable."""
    # Spawned, not forked: MuJoCo's and torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)


def cores() -> int:
    """Number of cores that this process may use."""
    return len(psutil.Process().cpu_affinity())


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Environment for the processes that are started within, with one thread a library."""
    before = dict(os.environ)
    os.environ |= ONE_THREAD
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _begin() -> None:
    """Set a worker up: Ctrl-C is for the process that waits, without which this one ends.

    One core's worth of threads.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
