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

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import mujoco
import numpy as np
import torch

from diffusion_mpc.caching import cached
from diffusion_mpc.names import ActuatorKind, Integrator, require_known
from diffusion_mpc.tasks.actions import ActionScale, action_centre, action_scale
from diffusion_mpc.tasks.actuation import (
    begin_at_rest,
    drive,
    fit_delays,
    has_memory,
    place_mocap_bodies,
    require_single_controls,
)
from diffusion_mpc.tasks.cost import (
    Constraint,
    CostTerm,
    constraint,
    cost,
    linear,
    quadratic,
    smooth_abs,
)
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.menagerie import PREFIX as MENAGERIE
from diffusion_mpc.tasks.model_file import (
    INTEGRATORS,
    ModelFile,
    Sensors,
    add_sensors,
    compile_spec,
    control_limits,
    joint_names,
    keyframe_number,
    read_spec,
)
from diffusion_mpc.tasks.observation import ObservedColumns, default_observation, observed_columns
from diffusion_mpc.tasks.user_code import naming
from diffusion_mpc.types import Array, Reference, ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "TWO_STEPS",
    "Dynamics",
    "Task",
    "TaskError",
    "constraint",
    "cost",
    "linear",
    "quadratic",
    "smooth_abs",
]

REFERENCES = ("none", "cmd_vel", "goal_pose")
"""References that a task can track."""

Dynamics = Callable[["Tensor", "Tensor", "Tensor", float], tuple["Tensor", "Tensor"]]


class Task:
    """Base class of all tasks.

    Attributes:
        name: what users type
        model_path: MJCF or URDF file, relative to the task's own file, or a robot of MuJoCo
            Menagerie, e.g. `"menagerie:unitree_go2"`
        actuators: "position" or "motor": actuators to add to a model that has none, see
            `added_actuators.py`
        sensors: MuJoCo sensors the terms read, `name -> (type, object type, object name)`, e.g.
            `("framelinvel", "xbody", "torso")`; those the MJCF lacks are added on loading
        reference: "none", "cmd_vel" or "goal_pose"
        base: body with the floating base, or None; its free joint is measured by `odom`, all other
            joints by `joint_states`
        keyframe: keyframe the simulation starts from; without it the model's `qpos0`
        action_scale: reach of the actions on either side of their centre, the keyframe's control:
            a fraction of the range, or values by actuator, see `ActionScale`
        weights: default weights by term, where they differ from the base class's. These,
            `sensors` and `defaults` add to those of the base classes
        defaults: parameters whose default differs for this task, e.g. `{"planner.horizon_steps":
            25}`; those of the simulated robot begin with `sim.`, e.g. `{"sim.model.timestep":
            0.002}`
        demo: parameters that `sim`, `demo` and the simulation launch file set on top, e.g. a
            command to follow
        trial_duration: simulated time of one run of `benchmark quality`, s; long enough to see what
            the task is about
        demonstrated: joints whose positions a bag demonstrates, named as in
            `planner/demonstration.py`; empty: all
        sides: what is exchanged in the names of joints and actuators where the robot is reflected,
            e.g. `("left", "right")`; None: it is not symmetric. Learning sees mirror images, too
        mirror_time: time, s, by which the reflected robot is ahead in what is periodic
        cyclic: joints whose position only says where the robot is; observations leave it out
        dynamics: how the robot moves, where that is not MuJoCo's business: a method `(qpos, qvel,
            ctrl, dt) -> (qpos, qvel)` on batches (samples, nq), (samples, nv), (samples, nu) of
            torch tensors, one physics step of dt seconds. Planner, predictor and simulation all
            move by it (`backend.name` function); the model then gives names, limits and looks.
    """

    name: ClassVar[str]
    model_path: ClassVar[str | Path]
    actuators: ClassVar[ActuatorKind] = ""
    sensors: ClassVar[Sensors] = {}
    reference: ClassVar[str] = "none"
    base: ClassVar[str | None] = None
    keyframe: ClassVar[str | None] = None
    action_scale: ClassVar[ActionScale] = 1.0
    weights: ClassVar[Mapping[str, float]] = {}
    defaults: ClassVar[Mapping[str, bool | int | float | str]] = {}
    demo: ClassVar[Mapping[str, bool | int | float | str]] = {}
    trial_duration: ClassVar[float] = 6.0
    demonstrated: ClassVar[tuple[str, ...]] = ()
    cyclic: ClassVar[tuple[str, ...]] = ()
    sides: ClassVar[tuple[str, str] | None] = None
    mirror_time: float = 0.0
    dynamics: Dynamics | None = None

    def __init_subclass__(cls) -> None:
        """Add what the base classes have of sensors, defaults and weights."""
        super().__init_subclass__()
        for name in ("sensors", "defaults", "weights"):
            every = [vars(c).get(name, {}) for c in reversed(cls.__mro__)]
            setattr(cls, name, {key: value for part in every for key, value in part.items()})

    @classmethod
    @cache
    def cost_terms(cls) -> Mapping[str, CostTerm]:
        """The task's terms by name, in the order of their definition, base classes first.

        Raises:
            TaskError: `weights` names a term that there is not
        """
        terms: dict[str, CostTerm] = cls._marked("__cost_term__")
        with naming(cls, "weights"):
            for name, weight in cls.weights.items():
                known = require_known("cost term", name, terms, TaskError)
                terms[known] = replace(terms[known], weight=weight)
        return terms

    @classmethod
    @cache
    def constraints(cls) -> Mapping[str, Constraint]:
        """The task's constraints by name, in the order of their definition, base classes first."""
        return cls._marked("__constraint__")

    @classmethod
    def _marked(cls, mark: str) -> dict[str, Any]:
        """Marks of the methods of the class and its bases, by their names."""
        members = {name: value for c in reversed(cls.__mro__) for name, value in vars(c).items()}
        return {
            name: getattr(value, mark) for name, value in members.items() if hasattr(value, mark)
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

    def observation(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Observation (samples, horizon, obs) of policies, see `tasks/observation.py`.

        The same wherever the robot is and faces. Written as cost terms are.
        """
        return default_observation(self, x, reference)

    @cached_property
    def observed(self) -> ObservedColumns:
        """Columns of states that observations consist of."""
        return observed_columns(self)

    def normalise(self, ctrl: Tensor) -> Tensor:
        """Controls of (..., nu) in actuator units as actions in [-1, 1]."""
        centre, scale = self._normaliser(ctrl.dtype, ctrl.device)
        return (ctrl - centre) * scale

    def _make_normaliser(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        centre, scale = (
            torch.as_tensor(x, dtype=dtype, device=device)
            for x in (self.action_centre, self.action_reach)
        )
        return centre, 1.0 / scale

    def __init__(self, model_path: str | Path | ModelFile = "") -> None:
        """Read the model.

        Args:
            model_path: model to use in place of the task's own

        Raises:
            TaskError: the file is missing or broken, or does not fit the task
        """
        self._normaliser = cached(self._make_normaliser, maxsize=4)
        kind = type(self)
        given = model_path if isinstance(model_path, ModelFile) else ModelFile(path=str(model_path))
        if given.path:
            self.file = given
            self.path = self.file.located()
        else:
            with naming(kind, "model_path"):
                self.file = self.own_model(given.actuators)
                self.path = self.file.located()
        with naming(kind, "reference"):
            require_known("reference", self.reference, REFERENCES, TaskError)
        spec = self._spec()
        self.model = self._compile(spec, {})
        self.ctrl_limits = control_limits(self.model, self.path)
        with naming(kind, "base"):
            if self.base is not None:
                names = [self.model.body(i).name for i in range(1, self.model.nbody)]
                require_known("body", self.base, names, TaskError)
        with naming(kind, "keyframe"):
            if self.keyframe is not None:
                keyframe_number(self.model, self.keyframe, self.path)
            self.action_centre: Array = action_centre(
                spec, self.model, self.keyframe, self.ctrl_limits
            )
        with naming(kind, "action_scale"):
            self.action_reach: Array = action_scale(
                self.model, self.action_scale, self.action_centre, self.ctrl_limits
            )

    @classmethod
    def own_model(cls, actuators: ActuatorKind = "") -> ModelFile:
        """The task's own model, with its own actuators where none are named."""
        path = str(cls.model_path)
        if not path.startswith(MENAGERIE):
            owner = next(c for c in cls.__mro__ if "model_path" in vars(c))
            file = getattr(sys.modules.get(owner.__module__), "__file__", None)
            path = str(Path(file or "").parent / path)
        return ModelFile(path, actuators or cls.actuators)

    def _spec(self) -> mujoco.MjSpec:
        kind = type(self)
        with naming(kind, "model_path"):
            spec = read_spec(self.path, self.file.actuators)
        with naming(kind, "prepare"):
            self.prepare(spec)
        with naming(kind, "sensors"):
            add_sensors(spec, self.required_sensors(spec))
        return spec

    def nominal_actions(self, times: Array, reference: Reference) -> Array:
        """Actions (n, nu) in [-1, 1] that plans are searched round, at times (n,), s.

        The first plan is these, and where the previous plan ends, the next one goes on as far from
        them as that one was. Here zeros, the centre: the next plan holds the last action.
        """
        return np.zeros((len(times), self.model.nu))

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Add to the file's model what the task needs; here nothing."""

    def required_sensors(self, spec: mujoco.MjSpec) -> Sensors:
        """Sensors that the terms read, for a model: `sensors`, where they do not depend on it."""
        return self.sensors

    def simplify(self, spec: mujoco.MjSpec) -> None:
        """Change the robot's model to the one that plans are made with.

        Joints, actuators and sensors stay. Here, nothing is changed; `tasks/reduction.py` has
        ready-made reductions.
        """

    def compile(self, **options: float | int | str) -> mujoco.MjModel:
        """The robot's model with the task's sensors.

        Args:
            options: fields of `mjOption` to set, e.g. `timestep=0.02, integrator="implicitfast"`
        """
        return self._compile(self._spec(), options)

    def planning_model(self, **options: float | int | str) -> mujoco.MjModel:
        """The model that plans are made with: `compile` after `simplify`.

        Raises:
            TaskError: `simplify` changed joints, actuators or sensors
        """
        if type(self).simplify is Task.simplify:
            return self.compile(**options)
        spec = self._spec()
        self.simplify(spec)
        model = self._compile(spec, options)
        mine, robots = (
            (m.nq, m.nv, m.nu, m.na, m.nsensordata, joint_names(m)) for m in (model, self.model)
        )
        if mine != robots:
            raise TaskError(
                f"task '{self.name}': simplify has changed joints, actuators or sensors, which "
                "must stay"
            )
        return model

    def _compile(
        self, spec: mujoco.MjSpec, options: Mapping[str, float | int | str]
    ) -> mujoco.MjModel:
        fit_delays(spec, float(options.get("timestep", spec.option.timestep)))
        model = compile_spec(spec, f"task '{self.name}' does not fit model '{self.path}'")
        require_single_controls(model)
        if self.keyframe is not None and model.nmocap:
            place_mocap_bodies(model, keyframe_number(model, self.keyframe, self.path))
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
        by_effort = [i for i in range(model.nu) if drive(model, i) == "effort"]
        joints = dict.fromkeys(model.joint(model.actuator_trnid[i, 0]).name for i in by_effort)
        return [name for name in joints if name]

    def step(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Advance `data` by one time step of a model of this task, under the controls in it."""
        if self.dynamics is None:
            mujoco.mj_step(model, data)
            return
        before, velocity, ctrl = (torch.tensor(x[None]) for x in (data.qpos, data.qvel, data.ctrl))
        qpos, qvel = self.dynamics(before, velocity, ctrl, model.opt.timestep)
        data.qpos[:], data.qvel[:] = qpos[0].numpy(), qvel[0].numpy()
        data.time += model.opt.timestep
        mujoco.mj_forward(model, data)

    def initial_data(self, model: mujoco.MjModel) -> mujoco.MjData:
        """Data at the task's keyframe, with forward kinematics done.

        The robot has stood there under the controls at the centre, which is what its actuators
        remember, unless the keyframe gives activations.
        """
        data = mujoco.MjData(model)
        if self.keyframe is not None:
            key = keyframe_number(model, self.keyframe, self.path)
            mujoco.mj_resetDataKeyframe(model, data, key)
        data.ctrl[:] = self.action_centre
        mujoco.mj_forward(model, data)
        if has_memory(model):
            begin_at_rest(model, data, self.initial_activations(model))
            mujoco.mj_forward(model, data)
        return data

    def initial_activations(self, model: mujoco.MjModel) -> Array | None:
        """Activations (na,) at the keyframe; None where it gives none."""
        if self.keyframe is None or not model.na:
            return None
        act = model.key_act[keyframe_number(model, self.keyframe, self.path)]
        return np.array(act) if act.any() else None

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

    def training_reference(self, reference: Reference, random: np.random.Generator) -> Reference:
        """One of the references, one after the other, that policies are trained on.

        Velocities from standing to a little more than the demo's, to either side, and turning; or
        goals as in trials.

        Args:
            reference: as `demo` has it
            random: source of randomness
        """
        if self.reference != "cmd_vel":
            return self.trial_reference(reference, random)
        forward, aside, turn = random.uniform((0.0, -0.25, -0.5), (1.2, 0.25, 0.5))
        speed = float(np.linalg.norm(reference.velocity[:2])) or 0.5
        moving = float(random.random() > 0.1)
        return replace(
            reference, velocity=moving * np.array([forward * speed, aside * speed, turn])
        )


TWO_STEPS = {
    "planner.iterations": 2,
    "planner.noise_start": 0.6,
    "planner.noise_end": 0.3,
    "planner.noise_growth": 1.0,
    "planner.temperature": 0.05,
}
"""Defaults for tasks that two steps suit better than four, see docs/experiments/search.md."""
