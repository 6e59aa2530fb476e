"""Worker processes: one core each, ended with the process that started them.

Here, or on the machines of a Ray cluster.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil

# Numerical libraries would otherwise start as many threads as there are cores in each of as many
# processes.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

RETRIES = 3
"""Times that work is begun again after its worker died."""

A = TypeVar("A")
R = TypeVar("R")


class WorkersError(ValueError):
    """Work cannot be done by worker processes; the message is one line."""


def completed(
    work: Callable[[A], R],
    arguments: Sequence[A],
    processes: int = 0,
    ray_address: str = "",
    inform: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[A, R]]:
    """Results as they come, in any order.

    Work whose worker died is begun again, on Ray by Ray itself.

    Args:
        work: function of a module, so that workers find it
        arguments: one for each piece of work, all different
        processes: worker processes on this machine; 0: one per core
        ray_address: address of a Ray cluster, `auto` for the one that runs on this machine, `local`
            for a new one; empty: worker processes without Ray
        inform: called with a line where a worker died

    Yields:
        argument and result

    Raises:
        WorkersError: workers die again and again, or Ray is not there
    """
    if ray_address:
        yield from _completed_on_ray(work, arguments, ray_address)
        return
    missing, tries = list(arguments), dict.fromkeys(arguments, 0)
    while missing:
        pool = worker_pool(min(processes or cores(), len(missing)))
        pending: dict[Future[R], A] = {}
        try:
            with one_thread_each():
                pending = {pool.submit(work, argument): argument for argument in missing}
            while pending:
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    result = done.result()
                    argument = pending.pop(done)
                    missing.remove(argument)
                    yield argument, result
        except BrokenProcessPool:
            # A worker was killed, for want of memory perhaps: what the others finished is kept.
            for argument in missing:
                tries[argument] += 1
            if missing and min(tries[argument] for argument in missing) > RETRIES:
                raise WorkersError(
                    f"worker processes die again and again, at {missing[0]}; lower --processes"
                ) from None
            inform("a worker process died; its work is begun again")
        finally:
            for process in list((pool._processes or {}).values()) if pending else []:
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


def _completed_on_ray(
    work: Callable[[A], R], arguments: Sequence[A], address: str
) -> Iterator[tuple[A, R]]:
    try:
        import ray
    except ImportError:
        raise WorkersError("--ray-address needs Ray: pip install ray") from None
    try:
        # Errors and deaths of workers are told below; the log of the cluster is Ray's.
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": ONE_THREAD},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WorkersError(f"no Ray cluster at '{address}': {reason}") from None
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
        pending = {remote.remote(work, argument): argument for argument in arguments}
        while pending:
            (done, *_), _ = ray.wait(list(pending))
            try:
                result = ray.get(done)
            except ray.exceptions.WorkerCrashedError:
                raise WorkersError(
                    f"Ray's workers die again and again, at {pending[done]}; look at their memory"
                ) from None
            except ray.exceptions.RayTaskError as error:
                # The cause itself, as worker processes without Ray raise it.
                raise error.cause from None
            yield pending.pop(done), result
    finally:
        ray.shutdown()


def _call(work: Callable[[A], R], argument: A) -> R:
    """Work of a Ray worker, with one core's worth of threads."""
    import torch

    torch.set_num_threads(1)
    return work(argument)


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
