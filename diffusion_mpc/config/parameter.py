"""Description of a parameter, config classes made of them, and values checked against them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from diffusion_mpc.config.renamed import replacement
from diffusion_mpc.names import require_known

C = TypeVar("C")
Value = bool | int | float | str


class ConfigError(ValueError):
    """A parameter is unknown, of the wrong type or out of range.

    The message is one line that says what to change.
    """


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
        rebuilt: may change while the node runs, too: a planner is built anew while the previous one
            goes on. Parameters that are neither are read once, when the node is configured
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

    def typed(self, value: Any) -> Value:  # noqa: ANN401  (anything a user may have written)
        """The value in the parameter's type; a whole number may stand for any number.

        Raises:
            ConfigError: wrong type
        """
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type:
            raise ConfigError(f"{self.name}: {value!r} is not of type {self.type.__name__}")
        return cast(Value, value)

    def check(self, value: Any) -> Value:  # noqa: ANN401  (anything a user may have written)
        """The value in the parameter's type.

        Raises:
            ConfigError: wrong type, not finite, out of range, not among the choices
        """
        value = self.typed(value)
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise ConfigError(
                f"{self.name}: {value} is not between {self.low:g} and "
                f"{self.high:g}{self.unit and ' ' + self.unit}"
            )
        if self.choices and value not in self.choices:
            known = ", ".join(choice or "''" for choice in self.choices)
            raise ConfigError(f"{self.name}: '{value}' is not one of {known}")
        return value

    def parse(self, text: str) -> Value:
        """The value that a user typed on the command line.

        Raises:
            ConfigError: as `check`
        """
        if self.type is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return self.check(
                text if self.type is str else self.type(text) if self.type is not bool else text
            )
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
    """The parameters that the fields of a config class describe, those of classes within included.

    The choices of a string are those of its type, a Literal. A mapping from names to config classes
    stands for parameters that the model decides on, and describes none.
    """
    hints = get_type_hints(config)
    for f in dataclasses.fields(config):
        hint, name = hints[f.name], f"{prefix}{f.name}"
        if dataclasses.is_dataclass(hint):
            yield from fields(cast(type, hint), f"{name}.")
        elif get_origin(hint) is Literal:
            yield Parameter(name, str, cast(Value, f.default), choices=get_args(hint), **f.metadata)
        elif get_origin(hint) is not Mapping:
            yield Parameter(name, hint, cast(Value, f.default), **f.metadata)


def check(values: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Value]:
    """Values for all known parameters: those given, checked, and defaults for the others.

    Raises:
        ConfigError: a name is unknown or one of before, or a value does not fit; the message says
            what to write instead
    """
    for name in values:
        require_parameter(name, known)
    return {
        name: p.check(values[name]) if name in values else p.default for name, p in known.items()
    }


def require_parameter(name: str, known: Iterable[str]) -> None:
    """Refuse names of no parameter.

    Raises:
        ConfigError: the name is unknown or one of before; the message says what to write instead
    """
    if name not in known:
        if instead := replacement(name, known):
            raise ConfigError(instead)
        require_known("parameter", name, known, ConfigError)


def build(config: type[C], values: Mapping[str, Value], prefix: str = "") -> C:
    """Config object from checked values by full name."""
    hints = get_type_hints(config)
    return config(
        **{
            f.name: _build(hints[f.name], values, f"{prefix}{f.name}")
            for f in dataclasses.fields(cast(Any, config))
        }
    )


def _build(hint: Any, values: Mapping[str, Value], name: str) -> object:  # noqa: ANN401  (a type hint)
    if get_origin(hint) is Mapping:
        keys = dict.fromkeys(
            full.removeprefix(f"{name}.").rpartition(".")[0]
            for full in values
            if full.startswith(f"{name}.")
        )
        return {key: build(get_args(hint)[1], values, f"{name}.{key}.") for key in keys}
    return (
        build(cast(type, hint), values, f"{name}.")
        if dataclasses.is_dataclass(hint)
        else values[name]
    )
