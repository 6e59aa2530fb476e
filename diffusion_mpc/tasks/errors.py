"""Error of a task or its model."""


class TaskError(ValueError):
    """A task or its model cannot be used.

    The message is one line that names the file or field and the cause.
    """
