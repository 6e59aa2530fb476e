"""Rollouts from states as they are measured."""


def roll_out(backend, state, controls, control_dt):
    """Trajectories of controls from a `State`."""
    return backend.rollout(state.on(backend.dtype, backend.device), controls, control_dt)
