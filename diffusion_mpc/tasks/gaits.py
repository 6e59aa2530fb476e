"""Gaits: which foot is to be how high when.

Foot heights of a gait stand in for a search over the order of steps, as in DIAL-MPC (arXiv
2409.15610).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from diffusion_mpc.names import require_known
from diffusion_mpc.tasks.cost import constant
from diffusion_mpc.tasks.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gait:
    """Cyclic heights of the feet.

    Foot i is in its cycle at `(cadence * t + phases[i]) mod 1`. It stands while that is less than
    `duty`, and then swings up and down in half a sine.

    Attributes:
        duty: fraction of the cycle that a foot stands
        cadence: cycles per second, Hz
        swing_height: highest lift of a foot, m
        phases: phase of each foot, in cycles
    """

    duty: float
    cadence: float
    swing_height: float
    phases: tuple[float, ...]

    def heights(self, times: Tensor) -> Tensor:
        """Heights (horizon, feet) above the ground, m, at times (horizon,), s, in double precision.

        Stamps of a clock are large; only the phase is small enough for single precision.
        """
        swing = (self._phase(times) - self.duty) / max(1.0 - self.duty, 1e-6)
        return self.swing_height * (torch.pi * swing.clamp(0.0, 1.0)).sin()

    def strides(self, times: Tensor) -> Tensor:
        """Times (horizon, feet), s, that feet are ahead of their middle place, in double precision.

        Multiplied by the robot's velocity, the way that they are ahead of it. Standing feet fall
        behind as the robot goes on; swinging ones come forward in half a cosine.
        """
        cycle = self._phase(times)
        stance = 0.5 - cycle / max(self.duty, 1e-6)
        swing = (cycle - self.duty) / max(1.0 - self.duty, 1e-6)
        ahead = torch.where(cycle < self.duty, stance, -0.5 * (torch.pi * swing).cos())
        return ahead * self.duty / self.cadence

    def direction(self, times: Tensor) -> Tensor:
        """Sine and cosine (horizon, 2) of the phase of the cycle, in double precision."""
        angle = 2.0 * torch.pi * (self.cadence * times % 1.0)
        return torch.stack([angle.sin(), angle.cos()], -1)

    def mirror_time(self) -> float:
        """Time, s, by which the gait of the reflected robot is ahead; NaN: it is another gait.

        Feet come in pairs of left and right.
        """
        phases = np.array(self.phases)
        swapped = phases.reshape(-1, 2)[:, ::-1].ravel()
        for ahead in (0.0, 0.5):
            if (abs((swapped - phases - ahead + 0.5) % 1.0 - 0.5) < 1e-9).all():
                return ahead / self.cadence
        return math.nan

    def _phase(self, times: Tensor) -> Tensor:
        """Phase of each foot, (horizon, feet), in [0, 1)."""
        phases = constant(self.phases, times.dtype, times.device)
        return (self.cadence * times[:, None] + phases) % 1.0


GAITS: dict[int, dict[str, Gait]] = {
    2: {
        "stand": Gait(1.0, 1.0, 0.0, (0.0, 0.0)),
        "walk": Gait(0.5, 1.25, 0.08, (0.5, 0.0)),
        "run": Gait(0.35, 1.6, 0.1, (0.5, 0.0)),
    },
    4: {
        "stand": Gait(1.0, 1.0, 0.0, (0.0, 0.0, 0.0, 0.0)),
        "walk": Gait(0.75, 1.0, 0.08, (0.0, 0.5, 0.75, 0.25)),
        "trot": Gait(0.5, 2.0, 0.08, (0.0, 0.5, 0.5, 0.0)),
        "pace": Gait(0.45, 2.0, 0.08, (0.0, 0.5, 0.0, 0.5)),
        "bound": Gait(0.4, 2.5, 0.08, (0.0, 0.0, 0.5, 0.5)),
    },
}
"""Gaits by number of feet and name.

Phases of two feet: left, right; of four: front left, front right, rear left, rear right.
"""


def find_gait(gait: str | Gait, feet: int) -> Gait:
    """A gait by its name, or the gait itself, which has a phase for every foot.

    Raises:
        TaskError: there is none of that name for so many feet, or phases and feet differ in number
    """
    if isinstance(gait, str):
        known = GAITS.get(feet, {})
        return known[require_known(f"gait for {feet} feet", gait, known, TaskError)]
    if len(gait.phases) != feet:
        raise TaskError(f"the gait has {len(gait.phases)} phases for {feet} feet; give each one")
    return gait
