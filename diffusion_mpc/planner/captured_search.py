"""A search that the backend has captured: copy its inputs in, replay, copy its result out."""

from __future__ import annotations

import numpy as np
import torch

from diffusion_mpc.planner.packing import pack, pack_tensors, shapes_of, unpack, unpack_tensors
from diffusion_mpc.planner.search import Search, SearchInput, SearchResult
from diffusion_mpc.types import Array


class CapturedSearch:
    """A search of fixed structure whose inputs and noise lie where they always lie; parameters change without another capture."""

    def __init__(self, search: Search, inputs: SearchInput[Array], noise: torch.Tensor) -> None:
        """Capture a search.

        Args:
            search: the search
            inputs: any that it may be given
            noise: any that it may be given

        Raises:
            NotCapturedError: the backend cannot capture it
        """
        backend = search.objective.backend
        shapes = shapes_of(inputs)
        host = torch.from_numpy(pack(inputs))
        self._host = host.pin_memory() if backend.device.type == "cuda" else host
        self._inputs = self._host.to(backend.device, copy=True)
        self._noise = noise.clone()

        def work() -> torch.Tensor:
            inputs = unpack_tensors(SearchInput, self._inputs, shapes, backend.dtype)
            result = search(inputs, self._noise)
            self._shapes = shapes_of(result)
            return pack_tensors(result)

        replay = backend.record(work)
        if replay is None:
            raise NotCapturedError(f"the {backend.name} backend captures nothing")
        self._replay = replay

    def __call__(self, inputs: SearchInput[Array], noise: torch.Tensor) -> SearchResult[Array]:
        """Result of the search, on the host."""
        np.copyto(self._host.numpy(), pack(inputs))
        self._inputs.copy_(self._host, non_blocking=True)
        self._noise.copy_(noise)
        # The one wait of a plan, after which the inputs may be overwritten.
        return unpack(SearchResult, self._replay().cpu().double().numpy(), self._shapes)


class NotCapturedError(RuntimeError):
    """The backend cannot capture a search; it has said why."""
