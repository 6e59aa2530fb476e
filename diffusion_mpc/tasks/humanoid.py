"""Base of the humanoid's tasks.

Its model, the sensors of their terms, its stance, and its falls.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_mpc.models import MODELS
from diffusion_mpc.tasks import terms
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.cost import columns, constant
from diffusion_mpc.tasks.model_file import ModelFile
from diffusion_mpc.types import RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

FALL_TIME = 0.32
"""Time constant of a fall as an inverted pendulum, sqrt(height of centre of mass / gravity), s."""


class Humanoid(Task):
    """Base of the humanoid's tasks.

    Attributes:
        joints: the servos' joints by name, in the order of the controls, with their columns in qpos
        stance: their angles in the stance, rad, which a plan of zeros commands
    """

    model_path = MODELS / "humanoid" / "humanoid.xml"
    sensors = {
        "base_velocity": ("framelinvel", "xbody", "torso"),
        "base_forward": ("framexaxis", "xbody", "torso"),
        "base_up": ("framezaxis", "xbody", "torso"),
        "mass_position": ("subtreecom", "body", "torso"),
        "mass_velocity": ("subtreelinvel", "body", "torso"),
        "left_foot": ("framepos", "site", "left_foot"),
        "right_foot": ("framepos", "site", "right_foot"),
    }
    base = "torso"
    keyframe = "stand"

    def __init__(self, model_path: str | Path | ModelFile = "") -> None:
        """Read the model; see `Task`."""
        super().__init__(model_path)
        actuated = self.model.actuator_trnid[:, 0]
        self.joints = {
            self.model.joint(joint).name: int(self.model.jnt_qposadr[joint]) for joint in actuated
        }
        self.stance = dict(zip(self.joints, self.action_centre, strict=True))

    def from_stance(self, x: RolloutBatch, *besides: str) -> Tensor:
        """Deviation of joints from the stance, (samples, horizon, joints), rad.

        No joints whose names end in one of `besides`.
        """
        names = [name for name in self.joints if not name.endswith(besides)]
        stance = constant(tuple(self.stance[name] for name in names), x.qpos.dtype, x.qpos.device)
        return columns(x.qpos, tuple(self.joints[name] for name in names)) - stance

    def failed(self, x: RolloutBatch) -> Tensor:
        """Fallen: the torso leans by more than 60 degrees, or is lower than 0.7 m."""
        return (x.sensor("base_up")[..., 2] < 0.5) | (x.qpos[..., 2] < 0.7)


def tilt(x: RolloutBatch) -> Tensor:
    """Tilt of the torso's own vertical from the world's, 1 - cos(tilt), (samples, horizon)."""
    return 1.0 - x.sensor("base_up")[..., 2]


def off_balance(x: RolloutBatch) -> Tensor:
    """Distance of the feet's middle from where it brings the robot to rest, see `terms`."""
    feet = (x.sensor("left_foot") + x.sensor("right_foot"))[..., :2] / 2.0
    return terms.off_balance(x, feet, FALL_TIME)
