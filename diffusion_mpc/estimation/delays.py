"""Controls on their way to delayed actuators."""

from __future__ import annotations

from bisect import bisect_right

import mujoco
import numpy as np

from diffusion_mpc.types import Array, PastControls

ROUNDING = 1e-9
"""Times are sums of rounded steps, s."""


class ControlRecord:
    """Controls that were given to the actuators, and when, as far as some have yet to obey."""

    def __init__(self, delays: Array, past: PastControls | None, rest: Array) -> None:
        """Begin with the controls of the past.

        Args:
            delays: (nu,) time until an actuator obeys, s
            past: controls before time 0; None: none but those at rest
            rest: (nu,) controls at rest, in actuator units
        """
        self._delays, self._longest = delays, float(delays.max(initial=0.0))
        self._times = [-self._longest] if past is None else past.times.tolist()
        self._values = [rest] if past is None else list(past.values)

    def give(self, time: float, control: Array) -> Array:
        """Give the actuators a control (nu,) at a time (s), not before the last one.

        Returns:
            (nu,) what they obey at that time
        """
        if not self._longest:
            return control
        self._times.append(time)
        self._values.append(np.array(control))
        return np.array([self.at(time - delay)[i] for i, delay in enumerate(self._delays.tolist())])

    def past(self, time: float) -> PastControls | None:
        """Controls that some actuator has yet to obey at a time (s); None without delays."""
        if not self._longest:
            return None
        first = self._row(time - self._longest)
        return PastControls(
            np.minimum(np.array(self._times[first:]) - time, 0.0), np.array(self._values[first:])
        )

    def at(self, time: float) -> Array:
        """Control (nu,) in force at a time (s), the last one from there on."""
        return self._values[self._row(time)]

    def _row(self, time: float) -> int:
        return max(bisect_right(self._times, time + ROUNDING) - 1, 0)


class HistoryBuffer:
    """Past controls as MuJoCo keeps them, for rollouts of a model that begin at time 0."""

    def __init__(self, model: mujoco.MjModel, rest: Array) -> None:
        """Take the model, and its controls (nu,) at rest, in actuator units."""
        self._model, self._rest = model, rest
        self._data = mujoco.MjData(model)
        self._delayed = np.flatnonzero(model.actuator_delay > 0.0).tolist()

    def at(self, past: PastControls | None) -> Array:
        """The buffer (nhistory,) of a state with these controls before it; None: those at rest.

        A step of the model obeys the control that is in force in its middle.
        """
        model, step = self._model, float(self._model.opt.timestep)
        record = ControlRecord(model.actuator_delay, past, self._rest)
        for i in self._delayed:
            samples, interpolation = model.actuator_history[i].tolist()
            delay = float(model.actuator_delay[i])
            # Steps that will ask for a control from before time 0, and those before them.
            asking = np.ceil(delay / step - ROUNDING) + np.arange(-samples, 0.0)
            asked = asking * step - delay
            values = [record.at(t + 0.5 * step)[i] for t in asked.tolist()]
            # Held values change between two steps, where rounding does not matter.
            times = asked if interpolation else asked - 0.5 * step
            mujoco.mj_initCtrlHistory(
                model, self._data, i, times[:, None], np.array(values)[:, None]
            )
        return np.array(self._data.history)
