"""Between `config` and ROS parameters.

Declaration with description, range and read-only flag, and checked changes.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from diffusion_mpc.config import (
    ROS_OWN,
    ConfigError,
    Parameter,
    Value,
    check,
    load_parameters,
    own_parameters,
    require_parameter,
    shared_names,
)


class RefusedSetError(ParameterNotDeclaredException):
    """A set of a parameter that there is not, or to a value of another type.

    Rclpy answers with the text of this exception, and with that of no other.
    """

    def __init__(self, reason: str) -> None:
        """Take what to tell who sets it."""
        Exception.__init__(self, reason)


def not_live(parameter: Parameter) -> bool:
    """Whether a parameter is read once and never again."""
    return not parameter.live


def declare(
    node: Node,
    config: type,
    on_change: Callable[[Mapping[str, Value]], None] | None = None,
    read_only: Callable[[Parameter], bool] = not_live,
) -> dict[str, Value]:
    """Declare all parameters of a config class on a node, with the values that it was started with.

    The node has to be made with `automatically_declare_parameters_from_overrides=True`: so names
    nobody knows come to light.

    Args:
        node: node that owns the parameters
        config: class of `diffusion_mpc.config`
        on_change: called with all values before a change takes place; it may raise ValueError to
            refuse it
        read_only: parameters that may not change after the start

    Returns:
        checked values of all parameters by name

    Raises:
        ConfigError: an unknown name or a value that does not fit
        TaskError: the task does not exist
    """
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if not name.startswith(ROS_OWN)
    }
    known, values = load_parameters(
        config, own_parameters(config, given, shared_names(parameter_files(sys.argv)))
    )
    for name in given:
        node.undeclare_parameter(name)
    for name, description in known.items():
        node.declare_parameter(
            name,
            values[name],
            descriptor(description, read_only(description)),
            ignore_override=True,
        )
    current = dict(values)

    def validate(changes: Sequence[RosParameter[Any]]) -> SetParametersResult:
        try:
            ours = {p.name: p.value for p in changes if not p.name.startswith(ROS_OWN)}
            wanted = check({**current, **ours}, known)
            if on_change is not None:
                on_change(wanted)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        current.update(wanted)
        return SetParametersResult(successful=True)

    def with_types(changes: list[RosParameter[Any]]) -> list[RosParameter[Any]]:
        # Every node has a few parameters that are rclpy's.
        return [
            change
            if node.has_parameter(change.name) and change.name not in known
            else typed(change, known)
            for change in changes
        ]

    node.add_pre_set_parameters_callback(with_types)
    node.add_on_set_parameters_callback(validate)
    return values


def typed(change: RosParameter[Any], known: Mapping[str, Parameter]) -> RosParameter[Any]:
    """A change in the parameter's own type: a whole number may stand for any number.

    Raises:
        RefusedSetError: there is no such parameter, or the type is another
    """
    try:
        require_parameter(change.name, known)
        return RosParameter(change.name, value=known[change.name].typed(change.value))
    except ConfigError as error:
        raise RefusedSetError(str(error)) from None


def parameter_files(arguments: Sequence[str]) -> list[str]:
    """Parameter files that a command line names."""
    return [file for option, file in itertools.pairwise(arguments) if option == "--params-file"]


def descriptor(parameter: Parameter, read_only: bool) -> ParameterDescriptor:
    """Description, range and read-only flag of a parameter.

    A float range has step 0: sliders move freely.
    """
    unit = f" [{parameter.unit}]" if parameter.unit else ""
    result = ParameterDescriptor(
        name=parameter.name,
        description=parameter.description + unit,
        additional_constraints=f"one of: {', '.join(parameter.choices)}"
        if parameter.choices
        else "",
        read_only=read_only,
    )
    if math.isfinite(parameter.low) and math.isfinite(parameter.high):
        if parameter.type is float:
            result.floating_point_range = [
                FloatingPointRange(from_value=parameter.low, to_value=parameter.high, step=0.0)
            ]
        elif parameter.type is int:
            result.integer_range = [
                IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high), step=1)
            ]
    return result
