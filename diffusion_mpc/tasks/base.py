"""Base class of tasks.

A model, named weighted cost terms, a reference, and the states that count as failures.

A task is one file. It subclasses `Task`, names its model and the sensors that its terms read, and
marks each term with `@cost`:

    class Reacher(Task):
        name = "reacher"
        model_path = Path("reacher.xml")
        sensors = {"tip": ("framepos", "site", "tip")}

        @cost(weight=1.0, unit="m")
        def reach(self, x, reference):
            "Distance of the tip from the goal."
            return x.sensor("tip") - reference.pose[:3]

A term returns a residual of shape (samples, horizon) or (samples, horizon, k); its norm makes that
a cost of (samples, horizon). Terms see positions, velocities, controls, sensors and the reference
and nothing else, all of them tensors on the backend's device, so that one definition serves every
rollout backend. They must not ask for the value of a tensor (`float`, `if`), which would make the
host wait for the device, nor send it numbers; `constant` and `columns` send them once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import mujoco
import numpy as np
import torch

from diffusion_mpc.names import Integrator
from diffusion_mpc.types import Reference, ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

Norm = Callable[["Tensor"], "Tensor"]
Residual = Callable[..., "Tensor"]
Dynamics = Callable[["Tensor", "Tensor", "Tensor", float], tuple["Tensor", "Tensor"]]
R = TypeVar("R", bound=Residual)


class TaskError(ValueError):
    """A task or its model cannot be used.

    The message is one line that names the file or field and the cause.
    """


def quadratic(residual: Tensor) -> Tensor:
    """Square of each component: `r^2`."""
    return residual.square()


def smooth_abs(residual: Tensor) -> Tensor:
    """Quadratic near zero and linear far away: `sqrt(r^2 + 0.1^2) - 0.1`."""
    return (residual.square() + 0.01).sqrt() - 0.1


def linear(residual: Tensor) -> Tensor:
    """The residual itself, for terms that are costs already."""
    return residual


@dataclass(frozen=True)
class CostTerm:
    """One named term of a task's cost; `weight` is its default, changeable while planning runs."""

    name: str
    residual: Residual
    weight: float
    norm: Norm
    unit: str
    description: str

    def __call__(self, task: Task, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Unweighted cost (samples, horizon)."""
        value = self.norm(self.residual(task, x, reference))
        return value.sum(-1) if value.ndim > x.qpos.ndim - 1 else value


def cost(weight: float, norm: Norm = quadratic, unit: str = "1") -> Callable[[R], R]:
    """Mark a method of a task as a cost term.

    Args:
        weight: default weight; a ROS parameter `cost.<method name>` changes it
        norm: what turns the residual into a cost
        unit: unit of the residual
    """

    def mark(method: R) -> R:
        description = (method.__doc__ or "").strip()
        if not description:
            raise TaskError(
                f"cost term '{method.__name__}' has no docstring; it becomes the parameter's "
                "description"
            )
        term = CostTerm(method.__name__, method, weight, norm, unit, " ".join(description.split()))
        method.__cost_term__ = term  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True)
class Constraint:
    """One named constraint of a task, `g(x, u) <= 0`; see `constraint`."""

    name: str
    value: Residual
    tightening: float
    unit: str
    description: str

    def violation(
        self, task: Task, x: RolloutBatch, reference: ReferenceTensors, tightened: bool = True
    ) -> Tensor:
        """Mean over the horizon of the sum of all positive values, (samples,).

        0 where the constraint is met throughout.
        """
        value = self.value(task, x, reference)
        value = value if value.ndim > x.qpos.ndim - 1 else value[..., None]
        if tightened and self.tightening:
            horizon = value.shape[1]
            value = (
                value
                + self.tightening
                * torch.arange(1, horizon + 1, dtype=value.dtype, device=value.device)[:, None]
                / horizon
            )
        return value.clamp(min=0.0).sum(-1).mean(-1)


def constraint(tightening: float = 0.0, unit: str = "1") -> Callable[[R], R]:
    """Mark a method of a task as a constraint.

    Its values, (samples, horizon) or (samples, horizon, k), are to be 0 or less.

    A plan that breaks a constraint is worse than any that does not, whatever they cost.

    Args:
        tightening: what is added to the values at the end of the horizon, and in proportion before.
            The robot does not do quite what the model says; a plan that keeps more distance the
            farther it looks leaves one that is feasible to the next
        unit: unit of the values
    """

    def mark(method: R) -> R:
        description = (method.__doc__ or "").strip()
        if not description:
            raise TaskError(
                f"constraint '{method.__name__}' has no docstring; say in one what must hold"
            )
        method.__constraint__ = Constraint(  # type: ignore[attr-defined]
            method.__name__, method, tightening, unit, " ".join(description.split())
        )
        return method

    return mark


@cache
def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers, or tuples of them, as a tensor that is sent to the device once."""
    return torch.tensor(values, dtype=dtype, device=device)


def columns(x: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """Columns of a tensor (..., dim) by number, (..., len(chosen))."""
    return x.index_select(-1, constant(chosen, torch.int64, x.device))


class Task:
    """Base class of all tasks.

    Attributes:
        name: what users type
        model_path: MJCF file
        sensors: MuJoCo sensors the terms read, `name -> (type, object type, object name)`, e.g.
            `("framelinvel", "xbody", "torso")`; those the MJCF lacks are added on loading
        reference: "none", "cmd_vel" or "goal_pose"
        base: body with the floating base, or None; its free joint is measured by `odom`, all other
            joints by `joint_states`
        keyframe: keyframe the simulation starts from; without it the model's `qpos0`
        defaults: parameters whose default differs for this task, e.g. `{"planner.horizon_steps":
            25}`; those of the simulated robot begin with `sim.`, e.g. `{"sim.model.timestep":
            0.002}`
        demo: parameters that `sim`, `demo` and the simulation launch file set on top, e.g. a
            command to follow
        trial_duration: simulated time of one run of `benchmark quality`, s; long enough to see what
            the task is about
        demonstrated: joints whose positions a bag demonstrates, named as in
            `planner/demonstration.py`; empty: all
        dynamics: how the robot moves, where that is not MuJoCo's business: a method `(qpos, qvel,
            ctrl, dt) -> (qpos, qvel)` on batches (samples, nq), (samples, nv), (samples, nu) of
            torch tensors, one physics step of dt seconds. Planner, predictor and simulation all
            move by it (`backend.name` function); the model then gives names, limits and looks.
    """

    name: ClassVar[str]
    model_path: ClassVar[Path]
    sensors: ClassVar[Mapping[str, tuple[str, str, str]]] = {}
    reference: ClassVar[str] = "none"
    base: ClassVar[str | None] = None
    keyframe: ClassVar[str | None] = None
    defaults: ClassVar[Mapping[str, bool | int | float | str]] = {}
    demo: ClassVar[Mapping[str, bool | int | float | str]] = {}
    trial_duration: ClassVar[float] = 6.0
    demonstrated: ClassVar[tuple[str, ...]] = ()
    dynamics: Dynamics | None = None

    @classmethod
    @cache
    def cost_terms(cls) -> Mapping[str, CostTerm]:
        """The task's terms by name, in the order of their definition, base classes first."""
        members = {name: value for c in reversed(cls.__mro__) for name, value in vars(c).items()}
        return {
            name: value.__cost_term__
            for name, value in members.items()
            if hasattr(value, "__cost_term__")
        }

    @classmethod
    @cache
    def constraints(cls) -> Mapping[str, Constraint]:
        """The task's constraints by name, in the order of their definition, base classes first."""
        members = {name: value for c in reversed(cls.__mro__) for name, value in vars(c).items()}
        return {
            name: value.__constraint__
            for name, value in members.items()
            if hasattr(value, "__constraint__")
        }

    def violation(
        self, x: RolloutBatch, reference: ReferenceTensors, tightened: bool = True
    ) -> Tensor:
        """By how much the constraints are broken, (samples,); see `Constraint.violation`."""
        return torch.stack(
            [c.violation(self, x, reference, tightened) for c in self.constraints().values()]
        ).sum(0)

    def costs(self, x: RolloutBatch, reference: ReferenceTensors) -> dict[str, Tensor]:
        """Unweighted cost of every term, (samples, horizon) each."""
        return {name: term(self, x, reference) for name, term in self.cost_terms().items()}

    def goal_errors(self, x: RolloutBatch, reference: ReferenceTensors) -> dict[str, Tensor]:
        """Distances from the goal pose, (samples, horizon), by names that end in the unit.

        For the evaluation of tasks that pursue a `goal_pose`. A model may show the goal by a mocap
        body named "goal".
        """
        return {}

    def failed(self, x: RolloutBatch) -> Tensor:
        """Whether the robot has failed (fallen), boolean (samples, horizon).

        No robot fails unless its task says how.
        """
        return x.qpos[..., 0].isnan()

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether runs have done what the task asks for, boolean (samples,), for the evaluation.

        Here: nothing failed or violated.

        Args:
            x: whole runs, the horizon being their length
            reference: what was asked for, with the time of every row
        """
        well = ~self.failed(x).any(-1)
        return (
            well & (self.violation(x, reference, tightened=False) <= 0.0)
            if self.constraints()
            else well
        )

    def normalise(self, ctrl: Tensor) -> Tensor:
        """Controls of (..., nu) in actuator units as actions in [-1, 1]."""
        centre, scale = self._normaliser(ctrl.dtype, ctrl.device)
        return (ctrl - centre) * scale

    @cache  # noqa: B019  (a handful of tasks, each kept as long as its planner)
    def _normaliser(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        low, high = (
            torch.as_tensor(limit, dtype=dtype, device=device) for limit in self.ctrl_limits
        )
        return (low + high) / 2.0, 2.0 / (high - low)

    def __init__(self, model_path: str | Path = "") -> None:
        """Read the model.

        Args:
            model_path: MJCF file to use in place of the task's own

        Raises:
            TaskError: the file is missing or broken, or does not fit the task
        """
        self.path = Path(model_path) if str(model_path) else self.model_path
        self.model = self.compile()
        self.ctrl_limits = _limits(self.model, self.path)

    def compile(self, **options: float | int | str) -> mujoco.MjModel:
        """A model with the task's sensors.

        Args:
            options: fields of `mjOption` to set, e.g. `timestep=0.02, integrator="implicitfast"`
        """
        spec = _read(self.path)
        for name, (kind, object_type, object_name) in self.sensors.items():
            if spec.sensor(name) is None:
                _add_sensor(spec, name, kind, object_type, object_name)
        try:
            model = spec.compile()
        except ValueError as error:
            raise TaskError(
                f"task '{self.name}' does not fit model '{self.path}': {_one_line(error)}"
            ) from None
        for key, value in options.items():
            setattr(
                model.opt,
                key,
                INTEGRATORS[cast(Integrator, value)] if isinstance(value, str) else value,
            )
        return model

    def effort_joints(self) -> list[str]:
        """Named joints that an actuator drives by effort, in the order of the actuators."""
        model = self.model
        by_effort = [
            i for i in range(model.nu) if drives_joint(model, i) and not is_servo(model, i)
        ]
        joints = dict.fromkeys(model.joint(model.actuator_trnid[i, 0]).name for i in by_effort)
        return [name for name in joints if name]

    def step(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Advance `data` by one time step of a model of this task, under the controls in it."""
        if self.dynamics is None:
            mujoco.mj_step(model, data)
            return
        import torch

        before, velocity, ctrl = (torch.tensor(x[None]) for x in (data.qpos, data.qvel, data.ctrl))
        qpos, qvel = self.dynamics(before, velocity, ctrl, model.opt.timestep)
        data.qpos[:], data.qvel[:] = qpos[0].numpy(), qvel[0].numpy()
        data.time += model.opt.timestep
        mujoco.mj_forward(model, data)

    def initial_data(self, model: mujoco.MjModel) -> mujoco.MjData:
        """Data at the task's keyframe, with forward kinematics done."""
        data = mujoco.MjData(model)
        if self.keyframe is not None:
            key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, self.keyframe)
            if key < 0:
                raise TaskError(
                    f"model '{self.path}' has no keyframe '{self.keyframe}', which task "
                    f"'{self.name}' starts from"
                )
            mujoco.mj_resetDataKeyframe(model, data, key)
        mujoco.mj_forward(model, data)
        return data

    def trial_state(
        self, model: mujoco.MjModel, data: mujoco.MjData, random: np.random.Generator
    ) -> None:
        """Change the initial state in `data` to that of one trial of a benchmark.

        Here, a little of everything.

        Degrees of freedom are displaced by 0.01 rad or m, and their velocities by 0.05 rad/s or m/s
        (standard deviations).
        """
        displacement = random.normal(0.0, 0.01, model.nv)
        mujoco.mj_integratePos(model, data.qpos, displacement, 1.0)
        data.qvel[:] += random.normal(0.0, 0.05, model.nv)
        mujoco.mj_forward(model, data)

    def trial_reference(self, reference: Reference, random: np.random.Generator) -> Reference:
        """Reference of one trial of a benchmark.

        Here `reference`, which comes from `demo`, in all of them.
        """
        return reference


TWO_STEPS = {
    "planner.iterations": 2,
    "planner.noise_start": 0.6,
    "planner.noise_end": 0.3,
    "planner.noise_growth": 1.0,
    "planner.temperature": 0.05,
}
"""Defaults for tasks that two steps suit better than four, see docs/experiments/search.md."""

INTEGRATORS: dict[Integrator, int] = {
    "euler": int(mujoco.mjtIntegrator.mjINT_EULER),
    "rk4": int(mujoco.mjtIntegrator.mjINT_RK4),
    "implicit": int(mujoco.mjtIntegrator.mjINT_IMPLICIT),
    "implicitfast": int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST),
}


def _read(path: Path) -> mujoco.MjSpec:
    if not path.is_file():
        raise TaskError(f"model file '{path}' does not exist; set model.path to an MJCF file")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise TaskError(f"model file '{path}' cannot be read: {_one_line(error)}") from None


def _add_sensor(
    spec: mujoco.MjSpec, name: str, kind: str, object_type: str, object_name: str
) -> None:
    try:
        sensor_type = getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}")
        mujoco_type = getattr(mujoco.mjtObj, f"mjOBJ_{object_type.upper()}")
    except AttributeError:
        raise TaskError(
            f"sensor '{name}' has an unknown type: '{kind}' of '{object_type}'"
        ) from None
    spec.add_sensor(name=name, type=sensor_type, objtype=mujoco_type, objname=object_name)


def _limits(model: mujoco.MjModel, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if model.nu == 0:
        raise TaskError(f"model file '{path}' has no actuators, so there is nothing to plan")
    for i in range(model.nu):
        if not model.actuator_ctrllimited[i]:
            raise TaskError(
                f"actuator '{model.actuator(i).name or i}' of model file '{path}' has no "
                "ctrlrange; give it one"
            )
    return model.actuator_ctrlrange[:, 0].copy(), model.actuator_ctrlrange[:, 1].copy()


def drives_joint(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether an actuator acts on a joint, not on a tendon or a site."""
    return int(model.actuator_trntype[actuator]) == int(mujoco.mjtTrn.mjTRN_JOINT)


def is_servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether an actuator has gains of its own; one that has none is driven by effort."""
    return int(model.actuator_biastype[actuator]) == int(mujoco.mjtBias.mjBIAS_AFFINE)


def sensor_slices(model: mujoco.MjModel) -> dict[str, slice]:
    """Columns of `sensordata` by sensor name."""
    return {
        model.sensor(i).name: slice(model.sensor_adr[i], model.sensor_adr[i] + model.sensor_dim[i])
        for i in range(model.nsensor)
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
