"""Names that users type.

Those that a parameter or an option chooses among, and what to write in place of an unknown one.

Each set of names is a type, so that the parameter, the launch argument, the option and the registry
of what the names stand for agree. It imports nothing else of the package, so that all of them can
reach it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

AlgorithmName = Literal["mbd", "predictive_sampling", "mppi", "cem", "dial", "cma_es", "policy"]
"""Searches for a plan: the keys of `ALGORITHMS`, and a policy alone, which searches for none."""

SplineKind = Literal["zero", "linear", "quadratic", "cubic"]
"""Interpolations between knots: the keys of `DEGREES`."""

BackendName = Literal["cpu", "warp", "function"]
"""Rollout backends: the keys of `BACKENDS`."""

BackendChoice = Literal[BackendName, "auto"]
"""A backend, or the one measured to be fastest."""

Capture = Literal["plan", "step", "none"]
"""Parts of a plan that are captured as a CUDA graph."""

Integrator = Literal["euler", "rk4", "implicit", "implicitfast", "discrete"]
"""Integrators: the keys of `INTEGRATORS`."""

ActuatorKind = Literal["", "position", "motor"]
"""Actuators to add to a model file that has none."""

Aggregate = Literal["mean", "worst", "cvar"]
"""Aggregations of a sample's costs on several models into one."""

OutputType = Literal["joint_command", "float64_multi_array", "joint_trajectory"]
"""Types of command messages: the keys of `MESSAGES`."""

ObjectType = Literal["pose_stamped", "odometry"]
"""Types of messages that measure objects: the keys of `OBJECT_MESSAGES`."""

TwistFrame = Literal["child", "header"]
"""Frames that the twist of an odometry may be in: the base's or the world's."""

SafeCommand = Literal["zero", "hold", "damping"]
"""Commands for when control is lost."""

CheckpointKind = Literal["policy", "optimality", "value", "diffuser"]
"""Kinds of networks, see `Description.kind`."""

PlanTarget = Literal["planned", "executed"]
"""Plans that a policy learns: the teacher's, or those that give what was executed after all."""

FusionName = Literal["rows", "max_rule"]
"""Ways in which a policy's plan takes part in a search."""

BodyName = Literal["mlp", "unet", "transformer"]
"""Bodies of networks."""

ProcessName = Literal["ddpm", "flow"]
"""Generative processes."""

Prediction = Literal["sample", "noise", "velocity"]
"""Quantities that a network may predict."""

SettingsSource = Literal["tpe", "random", "grid"]
"""Sources of the settings of a sweep."""

Variant = Literal["geometric", "code", "paper", "sde"]
"""Variants of an offline reverse pass."""

ERROR = "error: "
"""Beginning of the line on standard error in which a command or a node says why it failed."""

PAGE = "page: "
"""Words before the page's address in the log of the viewer node."""

RECORDED = "recorded "
"""Words that the recorder ends with; what it recorded follows."""

NOT_BEGUN = "the bag holds only "
"""Words of the recorder where what it waits for never came."""

FEW = 20
"""Number of names that fit into a message."""


def hint(name: str, known: Iterable[str]) -> str:
    """Advice on an unknown name.

    The nearest one, or, where none is near and they are few, any of them.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6 if len(names) <= FEW else 0.0)
    return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names) or 'none'}"


def require_known(
    kind: str, name: str, known: Iterable[str], error: type[ValueError] = ValueError
) -> str:
    """The name, which is one of those known.

    Raises:
        ValueError: it is not, as `error`; the message says what to write instead
    """
    names = list(known)
    if name not in names:
        raise error(f"unknown {kind} '{name}'; {hint(name, names)}")
    return name
