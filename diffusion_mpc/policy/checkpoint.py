"""Checkpoints: weights as safetensors, with a description as JSON in the file's own header.

Nothing in them is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from diffusion_mpc.names import CheckpointKind

VERSION = 1
"""Version of the description; a reader refuses another."""

KEY = "diffusion_mpc"
"""Key of the description in the header of the file."""


SHIPPED = "shipped:"
"""Beginning of the name of a checkpoint that comes with the package."""

FOLDER = Path(__file__).with_name("shipped")
"""Folder of these checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message is one line."""


@dataclass(frozen=True)
class Description:
    """Description of a network and what it was trained for.

    Attributes:
        kind: "policy": plans (2303.04137); "optimality": plans under the label that they are better
            than their like (2505.23458); "value": cost to go; "diffuser": trajectories (2205.09991)
        task: name of the task
        model_sha256: hash of the robot's compiled model, see `bags/model_text.py`
        network: arguments of the network's configuration
        observation: size of one observation
        history: number of observations that the network sees
        plan: `num_knots`, `horizon_steps`, `control_dt` and `spline` of the plans it was trained
            on, and their `rate`, Hz
        residual: of a policy, whether it sees the previous plan, shifted to now, and proposes what
            to add to it; else it proposes the plan from the observations alone
        training: data, epochs, steps, seconds, options
        figures: validation loss, closed-loop costs
        revision: git revision of the code that trained it
        versions: versions of the packages that trained it
        version: see `VERSION`
    """

    kind: CheckpointKind
    task: str
    model_sha256: str
    network: Mapping[str, Any]
    observation: int
    history: int
    plan: Mapping[str, Any]
    residual: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION


def locate(name: str) -> Path:
    """File of a checkpoint's name: a path, or `shipped:` and the name of one of the package's."""
    if not name.startswith(SHIPPED):
        return Path(name)
    return FOLDER / f"{name.removeprefix(SHIPPED)}.safetensors"


def shipped_for(task: str, kinds: Sequence[str]) -> list[str]:
    """Names, as `locate` takes them, of the package's checkpoints of some kinds for a task."""
    described = [
        (path.stem, read_description(path)) for path in sorted(FOLDER.glob("*.safetensors"))
    ]
    return [SHIPPED + name for name, d in described if d.task == task and d.kind in kinds]


def save_checkpoint(path: Path, module: nn.Module, description: Description) -> None:
    """Write a network and its description, replacing a file of that name at once."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in module.state_dict().items()}
    data = save(tensors, {KEY: json.dumps(asdict(description))})
    write_atomically(path, data)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a kill leaves either the one before or this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_description(path: Path) -> Description:
    """Description of a checkpoint.

    Raises:
        CheckpointError: it is missing, truncated, foreign, or of another version
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint '{path}'")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"'{path}' is no checkpoint, or was cut short ({error}); take another file"
        ) from None
    if KEY not in metadata:
        raise CheckpointError(
            f"'{path}' has weights, but no description of a network of this package; make one with "
            "`diffusion-mpc train`"
        )
    values = json.loads(metadata[KEY])
    if values.get("version") != VERSION:
        raise CheckpointError(
            f"'{path}' is a checkpoint of version {values.get('version')}, this is version "
            f"{VERSION}; train it anew"
        )
    known = {f.name for f in fields(Description)}
    # Those that came later have the meaning of before as default.
    missing = sorted(known - values.keys() - {"residual"})
    if missing or values.keys() - known:
        names = ", ".join(missing or sorted(values.keys() - known))
        raise CheckpointError(f"the description in '{path}' does not fit: {names}; train it anew")
    return Description(**values)


def read_weights(path: Path, module: nn.Module) -> None:
    """Give a checkpoint's weights to a network of its description.

    Raises:
        CheckpointError: names or shapes do not fit, or a weight is not finite
    """
    try:
        with safe_open(path, framework="pt") as file:
            # safetensors' own iteration over the keys is by method only.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        module.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise CheckpointError(f"the weights in '{path}' do not fit: {line}") from None
    bad = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if bad:
        raise CheckpointError(f"weight '{bad[0]}' in '{path}' is not finite; take another file")
