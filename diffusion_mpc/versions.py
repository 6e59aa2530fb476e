"""Versions of the packages that decide results."""

from __future__ import annotations

from importlib.metadata import version


def versions(*packages: str) -> dict[str, str]:
    """Version of each package, by name; without names, of those that every result depends on."""
    return {package: version(package) for package in packages or ("mujoco", "numpy", "torch")}
