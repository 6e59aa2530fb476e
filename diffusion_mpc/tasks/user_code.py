"""Errors of a user's task as one line: what failed, how, in which file and line.

The one place that knows where the code of a task and its attributes stand.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getsourcefile, unwrap
from pathlib import Path
from typing import Any

from diffusion_mpc.tasks.errors import TaskError

PACKAGE = Path(__file__).parents[1]
LONGEST = 400
"""Longest text of an exception that is told, characters."""


def told(error: BaseException) -> str:
    """An exception in one line, with its type where it is not one of ours."""
    text = " ".join(str(error).split())[:LONGEST]
    if is_ours(error):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_ours(error: BaseException) -> bool:
    """Whether an exception is a sentence of ours, which says all that there is to say."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, TaskError) or (
        isinstance(error, ValueError)
        and bool(frames)
        and PACKAGE in Path(frames[-1].filename).parents
    )


def failure(what: str, function: Callable[..., Any], error: Exception) -> TaskError:
    """The error to raise from what a function of a task has raised.

    Args:
        what: what the function is, e.g. "cost term 'effort'"
        function: the function as its author wrote it
        error: what it has raised; one that says already what failed is passed on
    """
    if isinstance(error, TaskError):
        return error
    file, line = definition(function)
    place = _innermost(error, file) or f"{file}, line {line}"
    return TaskError(f"{what} fails: {told(error)} ({place})")


def load_failure(error: Exception, file: Path) -> str:
    """Cause of a failure to load a Python file, with file and line."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    return f"{told(error)} ({_innermost(error, str(file)) or file})"


def definition(function: Callable[..., Any]) -> tuple[str, int]:
    """File and line in which a function is defined."""
    code = unwrap(getattr(function, "__func__", function)).__code__
    return code.co_filename, code.co_firstlineno


def at(function: Callable[..., Any]) -> str:
    """`(file, line 12)` of the definition of a function."""
    return "({}, line {})".format(*definition(function))


@contextmanager
def naming(task: type, attribute: str) -> Iterator[None]:
    """Within it, what is wrong with a user's attribute of a task is told with its file and line.

    Our own tasks are not the user's to change; what does not fit them is told as it is.

    Raises:
        TaskError: in place of any exception
    """
    try:
        yield
    except Exception as error:
        place = _assignment(task, attribute)
        if not place:
            raise
        raise TaskError(
            f"{attribute} of task '{task.__name__}': {told(error)} ({place})"
        ) from error


def _innermost(error: Exception, file: str) -> str:
    """The innermost place of an exception in a file or in those beside it; empty: none there."""
    folder = Path(file).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent == folder
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _assignment(task: type, attribute: str) -> str:
    """`file, line 12` of the assignment to a class's attribute; empty in our own tasks.

    Of the class itself where no class of the user's assigns to it.
    """
    found = ""
    for owner in task.__mro__:
        try:
            file = Path(getsourcefile(owner) or "")
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (OSError, TypeError, SyntaxError):
            # Built in, or typed in at a prompt.
            continue
        if PACKAGE in file.parents:
            break
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
                found = found or f"{file}, line {node.lineno}"
                for statement in node.body:
                    if attribute in _names(statement):
                        return f"{file}, line {statement.lineno}"
    return found


def _names(statement: ast.stmt) -> set[str]:
    """Names that a statement of a class binds."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [statement.target]
        if isinstance(statement, ast.AnnAssign)
        else []
    )
    return {target.id for target in targets if isinstance(target, ast.Name)}
