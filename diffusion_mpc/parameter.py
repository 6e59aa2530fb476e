"""Description of a parameter, and values checked against it. What parameters there are is in `config`."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_type_hints

C = TypeVar("C")
Value = bool | int | float | str


class ConfigError(ValueError):
    """A parameter is unknown, of the wrong type or out of range; the message is one line that says what to change."""


@dataclass(frozen=True)
class Parameter:
    """Description of one parameter.

    Attributes:
        name: full name with dots, as ROS shows it
        type: bool, int, float or str
        default: value where nothing else is set
        description: what it does, one sentence
        unit: unit of the value; empty for a number without one
        low, high: inclusive bounds of a number
        choices: allowed values of a string; empty: any
        live: may change while the node runs
        rebuilt: may change while the node runs, too: a planner is built anew while the one before goes on. Parameters that are
            neither are read once, when the node is configured
    """

    name: str
    type: type
    default: Value
    description: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    live: bool = False
    rebuilt: bool = False

    def check(self, value: Any) -> Value:  # noqa: ANN401  (anything a user may have written)
        """The value in the parameter's type.

        Raises:
            ConfigError: wrong type, not finite, out of range, not among the choices
        """
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type:
            raise ConfigError(f"{self.name}: {value!r} is not of type {self.type.__name__}")
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise ConfigError(f"{self.name}: {value} is not between {self.low:g} and {self.high:g}{self.unit and ' ' + self.unit}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name}: '{value}' is not one of {', '.join(self.choices)}")
        return cast(Value, value)

    def parse(self, text: str) -> Value:
        """The value that a user typed on the command line.

        Raises:
            ConfigError: as `check`
        """
        if self.type is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return self.check(text if self.type is str else self.type(text) if self.type is not bool else text)
        except ValueError as error:
            raise (
                error
                if isinstance(error, ConfigError)
                else ConfigError(f"{self.name}: '{text}' is not of type {self.type.__name__}")
            ) from None


def param(default: Value, description: str, **details: Any) -> Any:  # noqa: ANN401  (stands where a field's default stands)
    """A dataclass field that describes a parameter; `details` are fields of `Parameter`."""
    return field(default=default, metadata={"description": description, **details})


def fields(config: type, prefix: str = "") -> Iterator[Parameter]:
    """The parameters that the fields of a config class describe, those of classes within included."""
    hints = get_type_hints(config)
    for f in dataclasses.fields(config):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from fields(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield Parameter(f"{prefix}{f.name}", hints[f.name], cast(Value, f.default), **f.metadata)


def check(values: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Value]:
    """Values for all known parameters: those given, checked, and defaults for the others.

    Raises:
        ConfigError: a name is unknown (the message names the nearest one) or a value does not fit
    """
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigError(f"unknown parameter '{name}'; did you mean '{near[0]}'?")
    return {name: p.check(values[name]) if name in values else p.default for name, p in known.items()}


def build(config: type[C], values: Mapping[str, Value], prefix: str = "") -> C:
    """Config object from checked values by full name."""
    hints = get_type_hints(config)
    return config(
        **{
            f.name: build(hints[f.name], values, f"{prefix}{f.name}.")
            if dataclasses.is_dataclass(hints[f.name])
            else values[f"{prefix}{f.name}"]
            for f in dataclasses.fields(config)  # type: ignore[arg-type]
        }
    )
