"""Spline knots and the controls between them."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from diffusion_mpc.caching import cached
from diffusion_mpc.names import SplineKind
from diffusion_mpc.types import Array

DEGREES: dict[SplineKind, int] = {"zero": 0, "linear": 1, "quadratic": 2, "cubic": 3}


class Spline:
    """Linear map from knots at evenly spaced times over the horizon to values at any time.

    A spline through given values is linear in those values, so interpolation, evaluation and
    shifting are one matrix product each.
    """

    def __init__(
        self, num_knots: int, horizon_steps: int, control_dt: float, kind: SplineKind
    ) -> None:
        """Place the knots.

        Args:
            num_knots: number of knots; the first at time 0, the last at the last control
            horizon_steps: number of controls
            control_dt: time between two controls, s
            kind: interpolation between knots

        Raises:
            ValueError: too few knots or controls for the kind, or more knots than controls
        """
        self.degree = DEGREES[kind]
        least = self.degree + 1
        if horizon_steps < least:
            raise ValueError(
                f"planner.horizon_steps is {horizon_steps}; planner.spline {kind} needs {least} at "
                "least"
            )
        if not least <= num_knots <= horizon_steps:
            raise ValueError(
                f"planner.num_knots is {num_knots}; planner.spline {kind} over "
                f"planner.horizon_steps {horizon_steps} needs {least} to {horizon_steps}"
            )
        self.knot_times = np.linspace(
            0.0, (horizon_steps - 1) * control_dt, num_knots, dtype=np.float64
        )
        control_times: Array = np.arange(horizon_steps, dtype=np.float64) * control_dt
        self.to_controls = torch.from_numpy(self._weights(control_times))
        # Sent to a device once, not with every plan.
        self._to_controls = lru_cache(maxsize=4)(self.to_controls.to)
        self._shift_by = cached(self._later_weights, maxsize=16)

    @cached_property
    def to_knots(self) -> Array:
        """Matrix (num_knots, horizon_steps) from controls to knots that give them most nearly.

        By least squares.
        """
        return np.asarray(np.linalg.pinv(self.to_controls.numpy()))

    def controls(self, knots: torch.Tensor) -> torch.Tensor:
        """Controls (..., horizon_steps, nu) of knots (..., num_knots, nu), both in [-1, 1]."""
        weights = self._to_controls(knots.device, knots.dtype)
        # `matmul` comes to the same, and takes several times as long to find out.
        product = (
            torch.bmm(weights.expand(len(knots), -1, -1), knots)
            if knots.ndim == 3
            else torch.matmul(weights, knots)
        )
        return product.clamp_(-1.0, 1.0)

    def shift(self, knots: Array, elapsed: float) -> Array:
        """Knots (num_knots, nu) of the same curve `elapsed` seconds later.

        Past its end the curve stays where it ended.
        """
        return np.asarray(self._shift_by(round(elapsed, 6)) @ knots)

    def _later_weights(self, elapsed: float) -> Array:
        return self._weights(self.knot_times + elapsed)

    def _weights(self, times: Array) -> Array:
        if self.degree == 0:
            # A knot's value begins at its time, which rounding must not put just before it.
            times = np.asarray(times + 1e-9)
        inside = np.clip(times, self.knot_times[0], self.knot_times[-1])
        basis = make_interp_spline(self.knot_times, np.eye(len(self.knot_times)), k=self.degree)
        return np.ascontiguousarray(basis(inside))
