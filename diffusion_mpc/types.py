"""Types along the data path: measured state, reference, rollouts, plan.

Frozen, shaped and stamped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.names import require_known

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

Array = NDArray[np.float64]

ControlLaw = Callable[[Array, Array], Array]
"""Control (nu,) in actuator units at a state (qpos, qvel).

A command, with the gains round its targets where it has any.
"""

CommandHistory = Sequence[tuple[float, ControlLaw]]
"""Commands one after the other, each with the time (s) from which it is in force."""


@dataclass(frozen=True)
class PastControls:
    """Controls before a state, some of which delayed actuators have yet to obey.

    Attributes:
        times: (n,) s from the state's stamp on, none above 0, rising; the first control was in
            force before, too
        values: (n, nu) controls in actuator units, each in force until the time of the next
    """

    times: Array
    values: Array


@dataclass(frozen=True)
class State:
    """State of the robot in MuJoCo's order and frames.

    A floating base has its position (m, world), unit quaternion (wxyz, world from body), linear
    velocity (m/s, world frame) and angular velocity (rad/s, body frame), as MuJoCo's free joint
    does.

    Attributes:
        stamp: time of the measurement, s (ROS time)
        qpos: (nq,) positions
        qvel: (nv,) velocities
        act: (na,) actuator activations; empty where actuators have none
        past: controls on their way to delayed actuators; None: as at rest
    """

    stamp: float
    qpos: Array
    qvel: Array
    act: Array = field(default_factory=lambda: np.zeros(0))
    past: PastControls | None = None

    def on(self, dtype: dtype, device: device) -> StateTensors:
        """The state on a device."""
        return StateTensors(
            *(_on(values, dtype, device) for values in (self.qpos, self.qvel, self.act))
        )


@dataclass(frozen=True)
class StateTensors:
    """State that rollouts start from, as tensors on the backend's device.

    Attributes:
        qpos: (nq,) positions
        qvel: (nv,) velocities
        act: (na,) actuator activations
        history: (nhistory,) controls on their way to delayed actuators, as MuJoCo keeps them, at
            time 0; None: the model's own
    """

    qpos: Tensor
    qvel: Tensor
    act: Tensor
    history: Tensor | None = None


@dataclass(frozen=True)
class Reference:
    """Reference to track. A task uses the part that it names in `Task.reference`.

    Attributes:
        velocity: (3,) forward and lateral velocity in m/s and yaw rate in rad/s, in the heading
            frame of the base
        pose: (7,) goal position (m) and unit quaternion (wxyz) in the world frame
        times: (horizon,) time that each row of a rollout stands for, s; the planner fills it in
    """

    velocity: Array = field(default_factory=lambda: np.zeros(3))
    pose: Array = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    times: Array = field(default_factory=lambda: np.zeros(0))

    def on(self, like: Tensor) -> ReferenceTensors:
        """The reference with the type and on the device of a tensor."""
        velocity, pose = (
            _on(values, like.dtype, like.device) for values in (self.velocity, self.pose)
        )
        return ReferenceTensors(velocity, pose, _on(self.times, None, like.device))


@dataclass(frozen=True)
class ReferenceTensors:
    """The reference as cost terms see it: tensors on the device of the trajectories.

    Attributes:
        velocity: (3,) as `Reference.velocity`
        pose: (7,) as `Reference.pose`
        times: (horizon,) as `Reference.times`, in double precision: in single, a clock's time is
            known to minutes only. Reduce it to a phase before it meets the trajectories.
    """

    velocity: Tensor
    pose: Tensor
    times: Tensor


def _on(values: Array, dtype: dtype | None, device: device) -> Tensor:
    import torch

    return torch.from_numpy(values).to(device=device, dtype=dtype)


@dataclass(frozen=True)
class RolloutBatch:
    """Trajectories of one batch, as torch tensors on the backend's device.

    Row `t` is what `mj_step` leaves behind after control step `t`: the state at its end, and the
    sensors evaluated at the state from which its last physics step started (MuJoCo's convention:
    sensors lag the state by one physics step).

    Attributes:
        qpos: (samples, horizon, nq)
        qvel: (samples, horizon, nv)
        ctrl: (samples, horizon, nu) controls in actuator units
        sensordata: (samples, horizon, nsensordata)
        sensor_slices: sensor name -> its columns of `sensordata`
        invalid: (samples,) whether the simulator could not complete the trajectory; None: it
            completed all
    """

    qpos: Tensor
    qvel: Tensor
    ctrl: Tensor
    sensordata: Tensor
    sensor_slices: Mapping[str, slice]
    invalid: Tensor | None = None

    def sensor(self, name: str) -> Tensor:
        """Values of one sensor, (samples, horizon, dim).

        Raises:
            ValueError: there is no such sensor
        """
        if name not in self.sensor_slices:
            require_known("sensor", name, self.sensor_slices)
        return self.sensordata[..., self.sensor_slices[name]]


@dataclass(frozen=True)
class PolicyStats:
    """Part of a policy in a plan; see msg/PlannerStats.msg for the meaning of the figures."""

    rows: int
    weight: float
    cost: float
    planner_cost: float
    time: float
    age: float
    guidance: float
    failure: str = ""


@dataclass(frozen=True)
class PlanStats:
    """Statistics of a plan; see msg/PlannerStats.msg for the meaning of the figures."""

    warm_start: str
    cost: float
    cost_mean: float
    term_costs: Mapping[str, float]
    effective_sample_size: float
    noise: float
    infeasible_fraction: float
    violation: float
    iterations: int
    plan_time: float = 0.0
    policy: PolicyStats | None = None


@dataclass(frozen=True)
class PlannedStates:
    """States that the controls of a plan lead to.

    Attributes:
        qpos: (horizon + 1, nq) positions at the beginning of each control step, and at the end of
            the last one
        qvel: (horizon + 1, nv) velocities, as above
    """

    qpos: Array
    qvel: Array


@dataclass(frozen=True)
class Plan:
    """Controls over the horizon, to be evaluated by time.

    Attributes:
        stamp: stamp of the measured state that the plan follows from, s
        start_time: time that the first control is meant for, s
        control_dt: time between two rows of `controls`, s
        controls: (horizon, nu) controls in actuator units
        knots: (num_knots, nu) normalised spline knots that the controls come from
        path: (horizon, nq) predicted positions in the cheapest sample
        stats: how the plan came about
        traces: (k, horizon, nq) predicted positions in the cheapest samples, as many as
            `markers.count` asks for
        planned_states: states that `controls` lead to, where commands need them
        previous: (num_knots, nu) knots that the search began with
        elites: (k, num_knots, nu) knots of the cheapest samples, where they are asked for
        elite_costs: (k,) of these
    """

    stamp: float
    start_time: float
    control_dt: float
    controls: Array
    knots: Array
    path: Array
    stats: PlanStats
    traces: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    planned_states: PlannedStates | None = None
    previous: Array = field(default_factory=lambda: np.zeros((0, 0)))
    elites: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    elite_costs: Array = field(default_factory=lambda: np.zeros(0))

    def control(self, time: float) -> Array:
        """Control (nu,) that the plan holds at `time` (s).

        Constant within a control step, and before and after the horizon.
        """
        # A command that is due exactly at a step's beginning must not fall into the step before
        # through rounding of the stamps.
        step = int(np.floor((time - self.start_time) / self.control_dt + 1e-3))
        return self.controls[min(max(step, 0), len(self.controls) - 1)]
