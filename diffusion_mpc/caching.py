"""Results of methods, kept for as long as their object lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast
from weakref import WeakMethod

P = ParamSpec("P")
R = TypeVar("R")


def cached(method: Callable[P, R], maxsize: int | None) -> Callable[P, R]:
    """Memory of the last results of a method, an attribute of the method's object.

    With `lru_cache` alone, object and memory would keep each other alive: where the garbage
    collector has frozen them, for ever.
    """
    weak = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = weak()
        assert bound is not None, "the object calls"
        return bound(*args, **kwargs)

    return cast(Callable[P, R], lru_cache(maxsize=maxsize)(call))
