"""Synthetic trajectories of a robot: sampled near a target policy, checked against MuJoCo.

Policy-Guided Diffusion (2404.06356): a model of the data's trajectories is tilted to a policy, so
that there are data of what the policy would do without a run of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_mpc.config import PlannerNodeConfig, Value, build, cost_weights, load_parameters
from diffusion_mpc.learning.dataset import Dataset, DatasetError
from diffusion_mpc.learning.executed import executed_costs
from diffusion_mpc.learning.executed_trajectories import ExecutedTrajectories
from diffusion_mpc.policy.checkpoint import locate
from diffusion_mpc.policy.diffuser import read_diffuser
from diffusion_mpc.policy.diffusion_policy import DiffusionPolicy
from diffusion_mpc.policy.policy_guided import SyntheticData, policy_guidance
from diffusion_mpc.policy.trajectory_policy import steps_of_controls
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import trajectory
from diffusion_mpc.types import Array, Reference, State

STILL = 1e-6
"""Change of a step below which a number of the state counts as constant."""


@dataclass(frozen=True)
class Starts:
    """Recorded states that trajectories begin at.

    Attributes:
        states: (n, nq + nv)
        before: (n, obs) observations a period before
        observations: (n, obs) at the states
        references: n references
        times: (n,) s
    """

    states: Array
    before: Array
    observations: Array
    references: tuple[Reference, ...]
    times: Array


class Synthesis:
    """Model of a task's trajectories, a target policy, and MuJoCo to check them.

    Attributes:
        controller: the policy's controller; it does not plan
        data: recorded data that trajectories begin in
        executed: their parts of the horizon
        period: time of a step, s
        scale: (states,) standard deviation of what a step changes in the recorded trajectories
    """

    def __init__(
        self, data: Path, diffuser: str, settings: Mapping[str, Value], duration: float = 0.0
    ) -> None:
        """Read model and policy.

        Args:
            data: recorded data
            diffuser: name of the model's checkpoint
            settings: parameters of the planner node, with the policy's
            duration: of a trajectory, s; 0: as the model was trained on

        Raises:
            CheckpointError: model or policy cannot be read, or are for something else
            ValueError: the policy adds to a previous plan; the model's steps are of another period;
                its network has no other horizon
            DatasetError: there are no such data
        """
        values = load_parameters(PlannerNodeConfig, settings)[1]
        config = build(PlannerNodeConfig, values)
        if not config.policy.checkpoint:
            raise ValueError("--augment needs the policy that it is tilted to; name it by --policy")
        self._task = find_task(config.task)(config.model.file)
        self._weights = cost_weights(values)
        self.controller = Controller(self._task, config, self._weights)
        if not isinstance(self.controller.policy, DiffusionPolicy):
            raise ValueError(
                f"'{config.policy.checkpoint}' is a diffuser, whose actions are no function of "
                "states; name a policy by --policy"
            )
        self._policy, self._config = self.controller.policy, config.policy
        self._control_dt = config.planner.control_dt
        path = locate(diffuser)
        self._model, self.period = read_diffuser(path, self.controller.purpose(config, diffuser))
        if abs(self.period * config.planner.rate - 1.0) > 1e-6:
            raise ValueError(
                f"'{path}' has steps of {self.period:g} s, and the data are of plans at "
                f"{config.planner.rate:g} Hz; train it on these data"
            )
        trained = self._model.config
        self.horizon = round(duration / self.period) or trained.horizon
        if self.horizon != trained.horizon and trained.body != "unet":
            raise ValueError(
                f"'{path}' is a {trained.body} of {trained.horizon * self.period:g} s; only a unet "
                "makes trajectories of another length"
            )
        self.data = Dataset(data)
        if self.data.index["task"] != self._task.name:
            raise DatasetError(
                f"'{data}' has data of task '{self.data.index['task']}', not '{self._task.name}'"
            )
        self.executed = ExecutedTrajectories(self.data, trained.horizon)
        self._relative = self.executed.relative
        some = self.executed.first[:: max(1, len(self.executed.first) // 500)]
        change = np.diff(self.executed.rows(some)["states"], axis=1).reshape(-1, trained.states)
        deviation = change.std(0).astype(float)
        self.scale = np.where(deviation > STILL, deviation, 1.0)
        self._scratch = mujoco.MjData(self._task.model)

    def starts(self, rows: NDArray[np.intp]) -> Starts:
        """Starts at rows of the data, which are some of `executed.first`."""
        found = self.data.rows(rows, ("state", "observation", "reference", "time"))
        references = tuple(Reference(r[:3], r[3:]) for r in found["reference"].astype(float))
        before, now = np.moveaxis(found["observation"].astype(float), 1, 0)
        return Starts(found["state"], before, now, references, found["time"])

    def sample(
        self, starts: Starts, strength: float, generator: torch.Generator
    ) -> tuple[Array, Array]:
        """States (n, horizon, nq + nv) and normalised actions (n, horizon, nu).

        Args:
            starts: first states
            strength: lambda of the paper; 0: the data's own behaviour
            generator: source of noise
        """

        def log_density(numbers: Tensor, actions: Tensor) -> Tensor:
            states = self.decode(starts, numbers.double().numpy())
            wanted = torch.from_numpy(self.policy_actions(starts, states)).to(actions)
            # Of a normal distribution of unit variance about what the policy would do.
            return -0.5 * (actions - wanted).square().sum(-1)

        first = self.encode(starts, starts.states[:, None])[:, 0]
        made = self._model.sample(
            len(starts.times),
            generator,
            horizon=self.horizon,
            start=torch.from_numpy(first).float(),
            conditions=torch.from_numpy(starts.observations).float(),
            adjust=policy_guidance(self._model, log_density, strength) if strength else None,
        )
        numbers, actions = (x.double().numpy() for x in self._model.split(made))
        states = self.decode(starts, numbers)
        # Rounded by the network's precision, it would be no state of the data.
        states[:, 0] = starts.states
        return states, actions.clip(-1.0, 1.0)

    def policy_actions(self, starts: Starts, states: Array) -> Array:
        """Actions of the policy (n, T, nu) in states (n, T, nq + nv) of trajectories."""
        seen = self.observations(starts, states)
        flat = seen[:, :, -self._policy.description.history :].reshape(
            -1, self._policy.description.history, seen.shape[-1]
        )
        actions = self._policy.act(flat, self._config.steps, self._config.guidance)
        return actions.reshape(*states.shape[:2], -1)

    def observations(self, starts: Starts, states: Array) -> Array:
        """Observations (n, T, 2, obs) of trajectories (n, T, nq + nv), each with the one before."""
        nq, seen = (
            self._task.model.nq,
            np.empty((*states.shape[:2], *starts.observations.shape[1:])),
        )
        rest = np.tile(self._task.action_centre, (states.shape[1], 1))
        for row, (start, reference) in enumerate(zip(starts.times, starts.references, strict=True)):
            x = trajectory(
                self._task.model,
                states[row, :, :nq],
                states[row, :, nq:],
                rest,
                scratch=self._scratch,
            )
            at = Reference(
                reference.velocity, reference.pose, start + self.period * np.arange(len(rest))
            )
            seen[row] = self._task.observation(x, at.on(x.qpos))[0].numpy()
        before = np.concatenate([starts.before[:, None], seen[:, :-1]], axis=1)
        return np.stack([before, seen], axis=2)

    def check(self, states: Array, actions: Array) -> Array:
        """Errors of the dynamics (n, T - 1) of trajectories.

        Root mean square over positions and velocities of the difference to where MuJoCo comes from
        the same state under the same action, each in standard deviations of what a step changes: 0
        is exact, 1 as wrong as if nothing moved.
        """
        first = states[:, 0]
        scaled = torch.from_numpy(self._relative.encode(states, first) / self.scale)

        def move(numbers: Tensor, chosen: Tensor) -> Tensor:
            before = self._relative.decode(numbers.numpy() * self.scale, first)
            moved = self.move(before, chosen.numpy())
            return torch.from_numpy(self._relative.encode(moved, first) / self.scale)

        found = SyntheticData.check(scaled, torch.from_numpy(actions), move)
        return np.asarray(found.errors.numpy()) / np.sqrt(len(self.scale))

    def move(self, states: Array, actions: Array) -> Array:
        """States (..., nq + nv) a period after others, under normalised actions (..., nu)."""
        task, nq = self._task, self._task.model.nq
        moved = np.empty_like(states)
        controls = task.action_centre + task.action_reach * actions
        for place in np.ndindex(states.shape[:-1]):
            state = State(0.0, states[place][:nq], states[place][nq:])
            planned = self.controller.predictor.planned_states(
                state, controls[place][None], self.period
            )
            moved[place] = np.concatenate([planned.qpos[1], planned.qvel[1]])
        return moved

    def recorded_error(self, seed: int, count: int = 64) -> float:
        """Mean error of the dynamics of some recorded trajectories.

        It is not 0: robots that were recorded were pushed, and were not all the nominal model.
        """
        random = np.random.default_rng(seed)
        first = random.choice(self.executed.first, min(count, len(self.executed.first)), False)
        return float(self.check(*self.recorded(first, self.starts(first))).mean())

    def recorded(self, rows: NDArray[np.intp], starts: Starts) -> tuple[Array, Array]:
        """States and actions, as `sample`, that were recorded at the rows of some starts."""
        found = self.executed.rows(rows)
        return self.decode(starts, found["states"].astype(float)), found["actions"].astype(float)

    def encode(self, starts: Starts, states: Array) -> Array:
        """Numbers (n, T, size) of trajectories (n, T, nq + nv), see `RelativeStates`."""
        return self._relative.encode(states, starts.states)

    def decode(self, starts: Starts, numbers: Array) -> Array:
        """The inverse of `encode`."""
        return self._relative.decode(numbers, starts.states)

    def costs(
        self, time: float, reference: Reference, states: Array, actions: Array
    ) -> tuple[Array, Array]:
        """Cost (T,) and failure (T,) of the steps of one trajectory, see `executed_costs`."""
        nq = self._task.model.nq
        visited = [
            State(time + self.period * step, state[:nq], state[nq:])
            for step, state in enumerate(states)
        ]
        references = len(visited) * [reference]
        return executed_costs(
            self._task, self._task.model, self._weights, visited, actions, references
        )

    def knots(self, actions: Array) -> Array:
        """Knots (T, num_knots, nu) that give the actions (T, nu) from each step on.

        By least squares; after the last action, it goes on.
        """
        to_knots = self.controller.objective.spline.to_knots
        later = steps_of_controls(to_knots.shape[1], self._control_dt, self.period)
        steps = np.arange(len(actions))[:, None] + later
        followed = actions[np.minimum(steps, len(actions) - 1)]
        return np.asarray((to_knots @ followed).clip(-1.0, 1.0))
