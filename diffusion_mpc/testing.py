"""The checks of a checkout: tests, linter, formatter, type checker, layers.

The same at home and in continuous integration.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

GROUPS = {
    "faults": ["-m", "faults and not network"],
    "fuzz": ["-m", "fuzz", "--fuzz-messages=10000"],
    "kernels": ["-m", "kernels"],
    "kills": ["-m", "kills", "--timeout=3000"],
    "network": ["-m", "network"],
    "parity": ["-m", "parity"],
    "rehearsal": ["-m", "rehearsal"],
}
"""Parts of the tests by name, and what they are to pytest."""


def checkout() -> Path:
    """The checkout that this module was installed from, or the one that is the current folder.

    Raises:
        ValueError: there is none
    """
    for folder in (Path(__file__).resolve().parents[1], Path.cwd()):
        if (folder / "package.xml").is_file() and (folder / "test").is_dir():
            return folder
    raise ValueError("tests are run in a checkout of diffusion_mpc; change to its folder")


def run_all(arguments: Sequence[str]) -> int:
    """Run all checks and say which failed.

    Args:
        arguments: for pytest, the first may be one of `GROUPS`; with any, only pytest runs

    Returns:
        exit code: 0 where all passed
    """
    root = checkout()
    if arguments and arguments[0] in GROUPS:
        arguments = [*GROUPS[arguments[0]], *arguments[1:]]
    python = [sys.executable, "-m"]
    checks = {
        "ruff check": [*python, "ruff", "check", "."],
        "ruff format": [*python, "ruff", "format", "--check", "."],
        "mypy": [*python, "mypy"],
        "imports": [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        "pytest": [*python, "pytest", *arguments],
        # In a process of its own: DDS notes a process's network interfaces once, and this test has
        # others.
        "pytest, network": [*python, "pytest", *GROUPS["network"]],
    }
    if arguments:
        checks = {"pytest": checks["pytest"]}
    # Off-screen rendering needs no display; a machine's own choice stands.
    environment = {"MUJOCO_GL": "egl", **os.environ}
    failed = []
    for name, command in checks.items():
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        if subprocess.run(command, cwd=root, env=environment).returncode != 0:
            failed.append(name)
    sys.stdout.write(f"== failed: {', '.join(failed)}\n" if failed else "== all checks passed\n")
    return 1 if failed else 0
