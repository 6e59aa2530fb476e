"""Searches that the backend has captured: copy the inputs in, replay, copy the result out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from diffusion_mpc.planner.packing import pack, pack_tensors, shapes_of, unpack, unpack_tensors
from diffusion_mpc.planner.search import Search, SearchInput, SearchResult
from diffusion_mpc.rollout.backend import RolloutBackend, Work
from diffusion_mpc.types import Array


class SearchWork:
    """A search whose inputs, noise and result always lie in the same place.

    What a backend can capture.
    """

    def __init__(self, search: Search, inputs: SearchInput[Array], noise: torch.Tensor) -> None:
        """Make room for inputs and noise.

        Args:
            search: the search
            inputs: any that it may be given
            noise: any that it may be given
        """
        self._search, self._shapes = search, shapes_of(inputs)
        device = search.objective.backend.device
        host = torch.from_numpy(pack(inputs))
        self._host = host.pin_memory() if device.type == "cuda" else host
        self._inputs = self._host.to(device, copy=True)
        self._noise = noise.clone()

    def __call__(self) -> torch.Tensor:
        """Search; the result, packed."""
        inputs = unpack_tensors(
            SearchInput, self._inputs, self._shapes, self._search.objective.backend.dtype
        )
        result = self._search(inputs, self._noise)
        self._result_shapes = shapes_of(result)
        return pack_tensors(result)

    def begin(self, inputs: SearchInput[Array], noise: torch.Tensor) -> None:
        """Send inputs and noise to the device.

        The host's copy may be overwritten when the result has been unpacked.
        """
        np.copyto(self._host.numpy(), pack(inputs))
        self._inputs.copy_(self._host, non_blocking=True)
        self._noise.copy_(noise)

    def result(self, packed: torch.Tensor) -> SearchResult[Array]:
        """Wait for a result and unpack it, on the host."""
        return unpack(SearchResult, packed.cpu().double().numpy(), self._result_shapes)


class CapturedSearch:
    """A search of fixed structure; parameters change without another capture."""

    def __init__(self, work: SearchWork, replay: Work) -> None:
        self._work, self._replay = work, replay

    def __call__(self, inputs: SearchInput[Array], noise: torch.Tensor) -> SearchResult[Array]:
        """Result of the search, on the host. The one wait of a plan is at its end."""
        self._work.begin(inputs, noise)
        return self._work.result(self._replay())


def capture_searches(works: Sequence[SearchWork], backend: RolloutBackend) -> list[CapturedSearch]:
    """Capture searches of one planner, of which only one runs at a time.

    The list is empty where the backend cannot.

    Args:
        works: the searches, of which the first one has the most denoising steps
        backend: backend that they roll out on
    """
    replays = backend.capture_work(works, warm_up=works[:1])
    return [CapturedSearch(work, replay) for work, replay in zip(works, replays, strict=False)]
