"""Range and step of a slider for a parameter, whose bounds are often too wide to slide in."""

from __future__ import annotations

import math

from diffusion_mpc.config import Parameter

WIDER = 4.0
"""End of a slider as a multiple of the default, or of the value where that is larger."""


def slider_range(
    parameter: Parameter, value: float, wider: float = WIDER
) -> tuple[float, float, float]:
    """Lowest value, highest value and step of a slider: within the bounds, round the value."""
    largest = wider * max(abs(float(parameter.default)), abs(value)) or 1.0
    if parameter.type is int:
        largest = math.ceil(max(largest, 4.0))
    low, high = max(parameter.low, -largest), min(parameter.high, largest)
    step = 1.0 if parameter.type is int else 10.0 ** (math.floor(math.log10(high - low)) - 2)
    return low, high, step
