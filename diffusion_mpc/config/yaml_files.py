"""ROS parameter files: read as rcl reads them, and written with every parameter explained."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from diffusion_mpc.config.nodes import NODES, parameters
from diffusion_mpc.config.parameter import ConfigError, Parameter, Value
from diffusion_mpc.tasks import find_task


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as rcl does; PyYAML wants 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_parameter_file(file: str, namespace: str = "") -> dict[str, dict[str, Any]]:
    """Flat parameters by node in a ROS parameter file, not checked; none where no file is named.

    Args:
        file: path; empty: none
        namespace: namespace of the nodes; empty: none

    Raises:
        ConfigError: the file is missing or no parameter file, or has a section whose name is nearly
            a node's
    """
    above = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    values: dict[str, dict[str, Any]] = {node: {} for node in NODES}
    if not file:
        return values
    for pattern, section in _sections(_content(file)):
        # A file may hold the parameters of other nodes, but one that is nearly ours is a slip.
        name = pattern.rsplit("/", 1)[-1]
        near = difflib.get_close_matches(name, NODES, n=1, cutoff=0.75)
        if near and name not in NODES:
            raise ConfigError(
                f"parameter file '{file}' has a section '{pattern}'; did you mean '{near[0]}'?"
            )
        for node in NODES:
            if _matches(pattern, f"{above}/{node}"):
                values[node].update(_flat(section))
    return values


def _content(file: str) -> Mapping[Any, Any]:
    if not Path(file).is_file():
        raise ConfigError(f"parameter file '{file}' does not exist")
    try:
        content = yaml.load(Path(file).read_text(), _Loader) or {}
    except OSError as error:
        raise ConfigError(f"parameter file '{file}' cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"parameter file '{file}' is not valid YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"parameter file '{file}' is not a mapping from nodes to their parameters"
        )
    return content


def _sections(
    content: Mapping[Any, Any], namespace: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Nodes' names or patterns, and their parameters.

    A name may be spread over nested namespaces.
    """
    for name, section in content.items():
        path = f"{namespace}/{str(name).strip('/')}"
        if name == "ros__parameters" and isinstance(section, Mapping):
            yield namespace, section
        elif isinstance(section, Mapping):
            yield from _sections(section, path)


def _matches(pattern: str, name: str) -> bool:
    """As rcl: `*` stands for one part of a name, `**` for any number of parts."""
    parts = {"**": r"(/\w+)*", "*": r"/\w+"}
    return (
        re.fullmatch(
            "".join(parts.get(part, f"/{re.escape(part)}") for part in pattern.split("/")[1:]), name
        )
        is not None
    )


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat.update(
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat


def write_parameter_file(file: Path, node: str, values: Mapping[str, Value]) -> None:
    """Write values of a node's parameters."""
    file.write_text(yaml.safe_dump({f"/**/{node}": {"ros__parameters": dict(values)}}))


def reference_yaml(task: str) -> str:
    """ROS parameter file with every parameter of every node at its default for a task, commented.

    Raises:
        TaskError: there is no such task
    """
    lines = [
        f"# Parameters of all nodes for the task '{task}', at their defaults, as `diffusion-mpc "
        f"tasks {task} --yaml` prints them.",
        "# 'live': may change while the node runs. 'rebuilt': so may these; a planner that is "
        "built anew takes over.",
        "# The others are read when the node is configured.",
    ]
    for node, config in NODES.items():
        lines += ["", f"/**/{node}:", "  ros__parameters:"]
        for p in parameters(config, find_task(task)).values():
            lines += [
                f"    # {p.description}{_details(p)}",
                f"    {p.name}: {_scalar(p.default if p.name != 'task' else task)}",
            ]
    return "\n".join(lines) + "\n"


def _details(p: Parameter) -> str:
    parts = [p.unit] if p.unit else []
    if p.choices:
        parts.append(" | ".join(choice or "''" for choice in p.choices))
    elif math.isfinite(p.low):
        parts.append(f"{p.low:g} to {p.high:g}")
    parts += [word for word, said in (("live", p.live), ("rebuilt", p.rebuilt)) if said]
    return f" [{', '.join(parts)}]" if parts else ""


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)
