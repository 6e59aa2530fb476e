"""Protocol of the rollout backends.

A new one needs a class like this and a function that makes it in `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import mujoco
import torch

from diffusion_mpc.names import Capture
from diffusion_mpc.types import RolloutBatch, StateTensors

Work = Callable[[], torch.Tensor]
"""Work on a device, that returns its result."""


class RolloutBackend(Protocol):
    """Rolls a batch of control sequences out from one state.

    Attributes:
        name: what users type
        model: planning model
        device: where the tensors lie
        dtype: floating type of the tensors
        variants: models that every control sequence is rolled out on
        capture: what of a plan is captured and replayed: "plan", "step" (the physics of a control
            step) or "none"
        capture_failure: why that is less than was asked for, in one line; empty where it is not
        overflows: samples since the start that the backend had too little memory for; they were
            invalid
    """

    name: str
    model: mujoco.MjModel
    device: torch.device
    dtype: torch.dtype
    variants: int
    capture: Capture
    capture_failure: str

    @property
    def overflows(self) -> int:
        """See above."""
        ...

    def rollout(
        self, start: StateTensors, controls: torch.Tensor, control_dt: float
    ) -> RolloutBatch:
        """Trajectories that the controls lead to.

        Independent of earlier calls: time, activations and the solver's warm start begin anew.
        Nothing waits for the device.

        Args:
            start: state that all samples start from
            controls: (samples, horizon, nu) in actuator units, each held for one control step
            control_dt: length of a control step, s; a multiple of the model's time step

        Returns:
            the trajectories, `variants` rows for each sample, the first on `model` itself; valid
            until the next call, which may reuse their memory
        """
        ...

    def capture_work(
        self, works: Sequence[Work], warm_up: Sequence[Work] | None = None
    ) -> Sequence[Work]:
        """A replay of each work, all at once, which reads and writes the same memory.

        None where they cannot be captured.

        Args:
            works: rollouts and other work on the device, that wait for nothing; they share memory,
                so only one may run at a time
            warm_up: those that use all the kernels and as much memory as any; None: all of them
        """
        ...


def substeps(duration: float, timestep: float, of: str = "planner.control_dt") -> int:
    """Physics steps in a duration, s.

    Raises:
        ValueError: the duration, `of` which the message speaks, is not a multiple of the physics
            step
    """
    if not is_multiple(duration, timestep):
        raise ValueError(
            f"{of} of {duration:g} s is not a multiple of model.timestep of {timestep:g} s"
        )
    return round(duration / timestep)


def is_multiple(duration: float, timestep: float) -> bool:
    """Whether a duration is one or more physics steps, s."""
    count = round(duration / timestep)
    return count >= 1 and abs(count * timestep - duration) <= 1e-9
