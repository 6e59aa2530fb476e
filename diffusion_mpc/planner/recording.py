"""A search that the backend has recorded: copy its numbers in, replay, copy its outcome out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from diffusion_mpc.planner.search import Outcome, Search
from diffusion_mpc.planner.transfer import flatten, unpack
from diffusion_mpc.types import Array


class Recording:
    """A search of fixed structure whose numbers and noise lie where they always lie; parameters change without recording anew."""

    def __init__(self, search: Search, numbers: Mapping[str, Array], noise: torch.Tensor) -> None:
        """Record a search.

        Args:
            search: the search
            numbers: any that it may be given
            noise: any that it may be given

        Raises:
            NotRecordedError: the backend cannot record it
        """
        backend = search.objective.backend
        shapes = {name: values.shape for name, values in numbers.items()}
        host = torch.from_numpy(flatten(numbers))
        self._host = host.pin_memory() if backend.device.type == "cuda" else host
        self._numbers = self._host.to(backend.device, copy=True)
        self._noise = noise.clone()
        self._found: Outcome | None = None

        def work() -> torch.Tensor:
            self._found = search(unpack(self._numbers, shapes, backend.dtype), self._noise)
            return self._found.packed()

        replay = backend.record(work)
        if replay is None:
            raise NotRecordedError(f"the {backend.name} backend records nothing")
        self._replay = replay

    def __call__(self, numbers: Mapping[str, Array], noise: torch.Tensor) -> dict[str, Array]:
        """The outcome of the search by name, on the host."""
        np.copyto(self._host.numpy(), flatten(numbers))
        self._numbers.copy_(self._host, non_blocking=True)
        self._noise.copy_(noise)
        packed = self._replay()
        assert self._found is not None, "the search ran when it was recorded"
        # The one wait of a plan, after which the numbers may be overwritten.
        return self._found.unpacked(packed.cpu().double().numpy())


class NotRecordedError(RuntimeError):
    """The backend cannot record a search; it has said why."""
