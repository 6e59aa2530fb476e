"""Options common to several commands, and how their figures are shown and written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np

SetOption = Annotated[tuple[str, ...], cyclopts.Parameter(name="--set", consume_multiple=False)]
"""Parameters of a node as texts, `NAME=VALUE` each."""


class CommandError(Exception):
    """A command cannot do what it was asked to; the message is one line."""


def require_writable(kind: object, path: Path | None) -> None:
    """Make the folder of a file that a command will write; what it has measured is not lost then.

    Args:
        kind: type of the option, which the parser tells
        path: the file; None: none is written

    Raises:
        ValueError: the file cannot be written; the message is one line
    """
    if path is None:
        return
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise ValueError(f"'{path}' cannot be written: {error.strerror}") from None


OutputFile = Annotated[Path | None, cyclopts.Parameter(validator=require_writable)]
"""File that a command writes at its end."""


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """Texts of parameters by name.

    Raises:
        ValueError: not of the form NAME=VALUE
    """
    values = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: write NAME=VALUE")
        values[name] = value
    return values


def write_json(figures: object, path: Path | None) -> None:
    """Write figures, NumPy's numbers among them, to a file, where one is named."""
    if path is not None:
        path.write_text(
            json.dumps(figures, indent=2, default=np.generic.item) + "\n", encoding="utf-8"
        )


def print_figures(figures: Mapping[str, Any], indent: str = "") -> None:
    """Print figures by name, those within others below them."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            sys.stdout.write(f"{indent}{name}\n")
            print_figures(value, indent + "  ")
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            sys.stdout.write(f"{indent}{name.replace('_', ' '):<{26 - len(indent)}}{shown}\n")
