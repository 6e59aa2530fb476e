"""Error of a task or its model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TaskError(ValueError):
    """A task or its model cannot be used.

    The message is one line that names the file or field and the cause.
    """


@contextmanager
def as_task_error(failure: str) -> Iterator[None]:
    """Within it, what MuJoCo refuses is a `TaskError` whose line begins with `failure`."""
    try:
        yield
    except ValueError as error:
        raise TaskError(f"{failure}: {' '.join(str(error).split())}") from None
