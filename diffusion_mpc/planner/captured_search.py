"""A search as a CUDA graph: copy its inputs in, replay, copy its outcome out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from diffusion_mpc.planner.search import Outcome, Search
from diffusion_mpc.planner.transfer import flatten, unpack
from diffusion_mpc.types import Array


class CapturedSearch:
    """A search of fixed structure whose inputs and noise lie where they always lie; parameters change without another capture."""

    def __init__(self, search: Search, inputs: Mapping[str, Array], noise: torch.Tensor) -> None:
        """Capture a search.

        Args:
            search: the search
            inputs: any that it may be given
            noise: any that it may be given

        Raises:
            NotCapturedError: the backend cannot capture it
        """
        backend = search.objective.backend
        shapes = {name: values.shape for name, values in inputs.items()}
        host = torch.from_numpy(flatten(inputs))
        self._host = host.pin_memory() if backend.device.type == "cuda" else host
        self._inputs = self._host.to(backend.device, copy=True)
        self._noise = noise.clone()
        self._outcome: Outcome | None = None

        def work() -> torch.Tensor:
            self._outcome = search(unpack(self._inputs, shapes, backend.dtype), self._noise)
            return self._outcome.packed()

        replay = backend.capture_work(work)
        if replay is None:
            raise NotCapturedError(f"the {backend.name} backend captures nothing: {backend.capture_failure}")
        self._replay = replay

    def __call__(self, inputs: Mapping[str, Array], noise: torch.Tensor) -> dict[str, Array]:
        """The outcome of the search by name, on the host."""
        np.copyto(self._host.numpy(), flatten(inputs))
        self._inputs.copy_(self._host, non_blocking=True)
        self._noise.copy_(noise)
        packed = self._replay()
        assert self._outcome is not None, "the search ran when it was captured"
        # The one wait of a plan, after which the inputs may be overwritten.
        return self._outcome.unpacked(packed.cpu().double().numpy())


class NotCapturedError(RuntimeError):
    """The backend cannot capture a search; it has said why."""
