"""Parameters that a sweep varies, and the values that each may have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffusion_mpc.config import (
    SIM,
    ConfigError,
    Parameter,
    PlannerNodeConfig,
    SimConfig,
    Value,
    load_parameters,
    require_parameter,
    split_sim,
)
from diffusion_mpc.simulation.closed_loop import NOT_IN_LOCKSTEP

# What a run in lockstep depends on.
VARIED = (
    "cost.",
    "model.",
    "planner.",
    "policy.",
    "prediction.",
    "robust.",
    "value.",
    "sim.actuator_lag",
    "sim.command_delay",
    "sim.command_dropout",
    "sim.friction_scale",
    "sim.mass_scale",
    "sim.model.",
    "sim.state_",
)
ASKED = ("command.", "goal.")

WRITE = "write NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=VALUE,VALUE"


@dataclass(frozen=True)
class Axis:
    """One parameter with the values that it may have: a list or a range.

    Attributes:
        parameter: its description; the default is the value that it has otherwise
        values: the list; empty: a range
        low, high: inclusive bounds of the range
        log: whether the range is searched in equal ratios
    """

    parameter: Parameter
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def name(self) -> str:
        """Full name of the parameter, that of a simulation's with `sim.`."""
        return self.parameter.name

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.parameter.type in (int, float)

    def text(self) -> str:
        """The values as `--over` takes them."""
        if self.values:
            return ",".join(str(value) for value in self.values)
        return f"{self.low:g}..{self.high:g}" + ":log" * self.log


def known_parameters(task: str, settings: Mapping[str, str]) -> dict[str, Parameter]:
    """Parameters of planner and, with the prefix `sim.`, simulation of a task.

    Args:
        task: name of the task
        settings: values as texts; they are the defaults of what comes back

    Raises:
        ConfigError, TaskError: there is no such task, or a setting is wrong
    """
    planned, _ = split_sim(settings)
    # Only a model decides which parameters there are; the others are texts still.
    model = {
        name: text for name, text in planned.items() if name in ("model.path", "model.actuators")
    }
    known, values = load_parameters(PlannerNodeConfig, {**model, "task": task})
    plant, plant_values = load_parameters(SimConfig, {"task": task})
    known |= {
        SIM + name: dataclasses.replace(p, name=SIM + name, default=plant_values[name])
        for name, p in plant.items()
    }
    known |= {
        name: dataclasses.replace(known[name], default=value) for name, value in values.items()
    }
    for name, text in settings.items():
        require_parameter(name, known)
        known[name] = dataclasses.replace(known[name], default=known[name].parse(text))
    return known


def parse_space(
    texts: Sequence[str], known: Mapping[str, Parameter], settings: Mapping[str, str]
) -> tuple[Axis, ...]:
    """Axes of a sweep from what a user typed.

    Args:
        texts: `NAME=LOW..HIGH`, `NAME=LOW..HIGH:log` or `NAME=VALUE,VALUE` each
        known: descriptions of all parameters
        settings: parameters that are set and therefore stay

    Raises:
        ConfigError: there is nothing to vary, a parameter is unknown, stands twice or decides
            nothing in lockstep, or a value does not fit
    """
    if not texts:
        raise ConfigError(f"--over says what to vary: {WRITE}")
    axes = dict[str, Axis]()
    for text in texts:
        axis = _axis(text, known)
        if axis.name in axes:
            raise ConfigError(f"--over {text}: {axis.name} stands there twice; keep one")
        if axis.name in settings:
            raise ConfigError(f"{axis.name} stands in --over and in --set; keep one")
        axes[axis.name] = axis
    return tuple(axes.values())


def _axis(text: str, known: Mapping[str, Parameter]) -> Axis:
    name, _, said = text.partition("=")
    if not said:
        raise ConfigError(f"--over {text}: {WRITE}")
    require_parameter(name, known)
    parameter = known[name]
    if name.startswith(ASKED):
        raise ConfigError(
            f"--over {text}: {name} is what the robot is asked to do; give it by --set"
        )
    if not name.startswith(VARIED) or name in NOT_IN_LOCKSTEP:
        raise ConfigError(f"--over {text}: {name} decides nothing in lockstep; vary another one")
    if ".." in said and parameter.type in (int, float):
        return _range(text, said, parameter)
    values = tuple(parameter.parse(part.strip()) for part in said.split(","))
    if len(set(values)) < len(values):
        raise ConfigError(f"--over {text}: a value stands there twice")
    if len(values) < 2:
        raise ConfigError(f"--over {text}: one value is no choice; {WRITE}, or --set {text}")
    return Axis(parameter, values)


def _range(text: str, said: str, parameter: Parameter) -> Axis:
    bounds, _, scale = said.partition(":")
    ends = bounds.split("..")
    if scale not in ("", "log") or len(ends) != 2:
        raise ConfigError(f"--over {text}: {WRITE}")
    low, high = (float(parameter.parse(end)) for end in ends)
    if low >= high:
        raise ConfigError(f"--over {text}: the lower bound comes first")
    if scale and low <= 0.0:
        raise ConfigError(f"--over {text}: with :log the lower bound is above 0")
    return Axis(parameter, low=low, high=high, log=bool(scale))
