"""The simulated robot: a MuJoCo model at a finer time step than the planner's.

Knows nothing of ROS.
"""

from __future__ import annotations

import mujoco
import numpy as np

from diffusion_mpc.config import PlantModelConfig, PushConfig
from diffusion_mpc.rollout.backend import substeps
from diffusion_mpc.rollout.variants import perturbed
from diffusion_mpc.tasks.base import Task, TaskError
from diffusion_mpc.types import Array, ControlLaw, State

DIVERGED = [int(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{what}")) for what in ("POS", "VEL", "ACC")]

PUSH_TIME = 0.2
"""Duration of a push by parameters, s."""


class Plant:
    """Steps the robot under a control law that is evaluated at every physics step."""

    def __init__(
        self,
        task: Task,
        config: PlantModelConfig,
        mass: float = 1.0,
        friction: float = 1.0,
        pushes: PushConfig | None = None,
    ) -> None:
        """Load the model at its initial state.

        Args:
            task: the robot and where it starts
            config: how the model is stepped
            mass: factor of all masses and inertias
            friction: factor of the sliding friction of all geoms
            pushes: pushes that come by themselves; None: none do

        Raises:
            TaskError: factors for a robot that moves by dynamics of the task's own, which know
                neither; pushes for one whose base does not float
        """
        model = task.compile(
            timestep=config.timestep, integrator=config.integrator, iterations=config.iterations
        )
        if (mass, friction) != (1.0, 1.0):
            if task.dynamics is not None:
                raise TaskError(
                    f"task '{task.name}' has dynamics of its own; leave mass_scale and "
                    "friction_scale at 1"
                )
            model = perturbed(model, mass, friction, gain=1.0)
        self.model = model
        self._task, self._pushes = task, pushes or PushConfig()
        if self._pushes.impulse and (task.base is None or task.dynamics is not None):
            raise TaskError(
                f"task '{task.name}' has no floating base to push; leave push.impulse at 0"
            )
        self.data = mujoco.MjData(self.model)
        self._wrenches = dict[str, Array]()
        self.reset()

    @property
    def time(self) -> float:
        """Simulated time since the last reset, s."""
        return float(self.data.time)

    @property
    def diverged(self) -> bool:
        """Whether the state became NaN or huge since the last reset.

        MuJoCo puts it back to an innocent one, and counts that.
        """
        counts = any(self.data.warning[kind].number for kind in DIVERGED)
        return counts or not np.isfinite(self.data.qpos).all()

    def reset(self) -> None:
        """Back to the task's initial state."""
        # In place: a viewer may be looking at it.
        mujoco.mj_copyData(self.data, self.model, self._task.initial_data(self.model))
        self._wrenches.clear()

    def step(self, control: ControlLaw, duration: float) -> None:
        """Advance by `duration` seconds, a multiple of the physics time step.

        Args:
            control: control (nu,) in actuator units at a state (qpos, qvel)
            duration: simulated time to advance, s
        """
        for _ in range(substeps(duration, self.model.opt.timestep, "a period")):
            self.data.ctrl[:] = control(self.data.qpos, self.data.qvel)
            if self._pushes.impulse:
                self._push_from_the_side()
            self._task.step(self.model, self.data)

    def push(self, body: str, force: Array, torque: Array) -> None:
        """Apply a force (3,) in N and a torque (3,) in N m, world frame, to a body until changed.

        Raises:
            KeyError: there is no such body
            TaskError: the robot moves by dynamics of the task's own, which know no forces
        """
        if self._task.dynamics is not None:
            raise TaskError(
                f"task '{self._task.name}' has dynamics of its own; a push does not act on them"
            )
        self._wrenches[body] = np.concatenate([force, torque])
        self.data.body(body).xfrc_applied[:] = self._wrenches[body]

    def _push_from_the_side(self) -> None:
        """Begin, go on with or end a push by parameters; one by `push` goes on beside it."""
        base, number = self.data.body(self._task.base), int(self.time / self._pushes.every)
        wrench = self._wrenches.get(str(self._task.base), np.zeros(6)).copy()
        if number and self.time - number * self._pushes.every < PUSH_TIME:
            x, y, _ = base.xmat.reshape(3, 3)[:, 0]
            # From the left, to the robot's right, first. Straight up or down, it has no left.
            left = np.array([-y, x]) / max(np.hypot(x, y), 1e-6)
            side = -1.0 if number % 2 else 1.0
            wrench[:2] += side * self._pushes.impulse / PUSH_TIME * left
        base.xfrc_applied[:] = wrench

    def state(self, stamp: float) -> State:
        """The true state, with a stamp in s."""
        return State(stamp, self.data.qpos.copy(), self.data.qvel.copy(), self.data.act.copy())
