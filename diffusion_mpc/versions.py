"""Causes of results beside the code's own words: versions, revision, model, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import mujoco
import numpy as np
import psutil


def versions(*packages: str) -> dict[str, str]:
    """Version of each package, by name; without names, of those that every result depends on."""
    return {package: version(package) for package in packages or ("mujoco", "numpy", "torch")}


def revision() -> str:
    """Git revision of the checkout that this package is in, with "-dirty" where it was edited.

    Empty where the package is in none.
    """
    file = Path(__file__).resolve()
    git = ["git", "-C", str(file.parent)]
    try:
        # A package that is installed below somebody's checkout is not of that checkout.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", file.name], capture_output=True, check=True
        )
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def model_hash(model: mujoco.MjModel) -> str:
    """SHA-256 of a compiled model as MuJoCo saves it (MJB)."""
    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content.tobytes()).hexdigest()


def machine() -> dict[str, str | int]:
    """Name, system, processor, number of cores and memory (bytes) of this machine."""
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory": int(psutil.virtual_memory().total),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
