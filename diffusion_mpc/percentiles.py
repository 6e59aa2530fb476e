"""Percentiles of times, as figures show them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffusion_mpc.types import Array


def percentiles(
    values: Sequence[float] | Array, percents: Sequence[int], largest: bool = False
) -> dict[str, float | None]:
    """Percentiles by name, e.g. "p50", in the unit of the values; None where there are no values.

    Args:
        values: (N,)
        percents: the percentiles, 0 to 100
        largest: whether "max" is among them
    """
    wanted = {f"p{percent}": float(percent) for percent in percents} | (
        {"max": 100.0} if largest else {}
    )
    return {
        name: float(np.percentile(values, percent)) if len(values) else None
        for name, percent in wanted.items()
    }
