"""`mujoco.rollout` alone, on the batches of a plan."""

from __future__ import annotations

import time
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from mujoco import rollout

from diffusion_mpc.rollout.backend import RolloutBackend
from diffusion_mpc.types import Array, RolloutBatch, StateTensors
from diffusion_mpc.workers import cores


def log_rollouts(backend: RolloutBackend) -> list[tuple[StateTensors, torch.Tensor]]:
    """List to which the backend adds state and controls of each rollout from now on."""
    calls: list[tuple[StateTensors, torch.Tensor]] = []
    rollouts = backend.rollout

    def logged(start: StateTensors, controls: torch.Tensor, control_dt: float) -> RolloutBatch:
        calls.append((start, controls))
        return rollouts(start, controls, control_dt)

    backend.rollout = logged  # type: ignore[method-assign]
    return calls


class RawRollout:
    """`mujoco.rollout` and nothing else.

    A persistent pool of threads that writes into arrays made once.
    """

    def __init__(self, models: Sequence[mujoco.MjModel], threads: int) -> None:
        """Start the threads.

        Args:
            models: models that every control sequence is rolled out on
            threads: number of threads; 0: one per core that this process may use
        """
        count = threads or cores()
        self._models = list(models)
        self._pool = rollout.Rollout(nthread=count)
        self._data = [mujoco.MjData(models[0]) for _ in range(count)]
        self._outputs: dict[tuple[int, int], tuple[Array, Array]] = {}

    def time(self, state: StateTensors, controls: torch.Tensor, repeats: int) -> float:
        """Time that the rollouts take, s, without preparing their inputs.

        Args:
            state: state that all start from
            controls: (samples, horizon, nu), in actuator units
            repeats: physics steps in a control step
        """
        model, variants = self._models[0], len(self._models)
        inputs = np.ascontiguousarray(
            controls.double().cpu().numpy().repeat(repeats, axis=1).repeat(variants, axis=0)
        )
        models = model if variants == 1 else self._models * (len(inputs) // variants)
        start = np.concatenate(
            [
                [0.0],
                *(
                    torch.as_tensor(x).cpu().numpy()
                    for x in (state.qpos, state.qvel, state.act, state.history)
                    if x is not None
                ),
            ]
        )
        starts = np.repeat(start[None], len(inputs), axis=0)
        shape = inputs.shape[:2]
        if shape not in self._outputs:
            size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS.value)
            self._outputs[shape] = np.empty((*shape, size)), np.empty((*shape, model.nsensordata))
        states, sensors = self._outputs[shape]
        began = time.perf_counter()
        self._pool.rollout(models, self._data, starts, inputs, state=states, sensordata=sensors)
        return time.perf_counter() - began
