"""ROS parameter files: read as rcl reads them, and written with every parameter explained."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from diffusion_mpc.config.nodes import NODES, own_parameters, parameters
from diffusion_mpc.config.parameter import ConfigError, Parameter, Value
from diffusion_mpc.tasks import find_task

Section = tuple[str, dict[str, Any]]
"""Name of a node, or a pattern of names, and flat parameters."""


class _Loader(yaml.SafeLoader):
    """Takes for a number or a truth what rcl does, all keys for texts, and no key twice.

    PyYAML has 1e-3 and y as texts, 1:30 and 1_000 as numbers, and of two values the last.
    """

    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; one that has a key twice is an error."""
        for key, _ in node.value:
            # The y of a goal is a name.
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                key.tag = "tag:yaml.org,2002:str"
        keys = [self.construct_object(key) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' stands there twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    (
        "bool",
        r"y|n|yes|no|on|off|true|false|Y|N|Yes|No|On|Off|True|False|YES|NO|ON|OFF|TRUE|FALSE",
        "yYnNtTfFoO",
    ),
    ("int", r"[-+]?(0x[0-9a-fA-F]+|\d+)", "-+0123456789"),
    (
        "float",
        r"[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"({_pattern})$"), list(_first)
    )


def read_parameter_file(
    file: str, namespace: str = "", task: str = ""
) -> dict[str, dict[str, Any]]:
    """Flat parameters by node in a ROS parameter file, not checked; none where no file is named.

    Args:
        file: path; empty: none
        namespace: namespace of the nodes; empty: none
        task: task that decides which parameters there are; empty: what the file says

    Raises:
        ConfigError: the file is missing or no parameter file, or has a section whose name is nearly
            a node's
    """
    above = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    values: dict[str, dict[str, Any]] = {node: {} for node in NODES}
    sections = _sections(file) if file else []
    for pattern, section in sections:
        for node in NODES:
            if _matches(pattern, f"{above}/{node}"):
                values[node].update(section)
    shared = _shared(sections)
    return {
        node: own_parameters(NODES[node], given, shared, task) for node, given in values.items()
    }


def shared_names(files: Iterable[str]) -> set[str]:
    """Names of parameters that stand, in all of some files, in sections for any node only.

    Raises:
        ConfigError: as `read_parameter_file`
    """
    return _shared([section for file in files for section in _sections(file)])


def _shared(sections: Sequence[Section]) -> set[str]:
    by_kind: dict[bool, set[str]] = {True: set(), False: set()}
    for pattern, section in sections:
        by_kind[pattern.endswith("*")].update(section)
    return by_kind[True] - by_kind[False]


def _sections(file: str) -> list[Section]:
    """Nodes' names or patterns, and their flat parameters."""
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"parameter file '{file}' does not exist")
    try:
        content = yaml.load(path.read_text(), _Loader) or {}
        if not isinstance(content, Mapping):
            raise ConfigError("is not a mapping from nodes to their parameters")
        return list(_walk(content))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = f"is not valid YAML: {' '.join(str(error).split())}"
    except ConfigError as error:
        reason = str(error)
    raise ConfigError(f"parameter file '{file}' {reason}")


def _walk(content: Mapping[Any, Any], namespace: str = "") -> Iterator[Section]:
    """The sections below a namespace; a name may be spread over nested namespaces."""
    for name, section in content.items():
        path = f"{namespace}/{str(name).strip('/')}"
        if name != "ros__parameters":
            if not isinstance(section, Mapping):
                raise ConfigError(
                    f"has '{name}' in '{namespace or '/'}' outside of ros__parameters; write it "
                    "below ros__parameters, a key of the node"
                )
            yield from _walk(section, path)
            continue
        if not isinstance(section, Mapping) or not section:
            raise ConfigError(f"has no parameters below ros__parameters of '{namespace}'")
        # A file may hold the parameters of other nodes, but one that is nearly ours is a slip.
        node = namespace.rsplit("/", 1)[-1]
        near = difflib.get_close_matches(node, NODES, n=1, cutoff=0.75)
        if near and node not in NODES:
            raise ConfigError(f"has a section '{namespace}'; did you mean '{near[0]}'?")
        flat = _flat(section)
        if node in NODES or "*" in node:
            _require_values(flat)
        yield namespace, flat


def _require_values(section: Mapping[str, Any]) -> None:
    """Refuse what rcl takes for no value, without a word of which parameter."""
    for name, value in section.items():
        if value is None or value == [] or isinstance(value, Mapping):
            raise ConfigError(
                f"has no value for '{name}'" + ("; a list must not be empty" if value == [] else "")
            )


def _matches(pattern: str, name: str) -> bool:
    """As rcl: `*` stands for one part of a name, `**` for any number of parts."""
    parts = {"**": r"(/\w+)*", "*": r"/\w+"}
    return (
        re.fullmatch(
            "".join(parts.get(part, f"/{re.escape(part)}") for part in pattern.split("/")[1:]), name
        )
        is not None
    )


def _flat(nested: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        more = _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
        if twice := flat.keys() & more.keys():
            raise ConfigError(f"has '{min(twice)}' twice")
        flat |= more
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
