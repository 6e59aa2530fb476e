"""Models as files: reading them, the sensors that terms need, what actuators are and may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mujoco

from diffusion_mpc.names import ActuatorKind, Integrator, hint
from diffusion_mpc.tasks.added_actuators import add_actuators
from diffusion_mpc.tasks.errors import TaskError, as_task_error
from diffusion_mpc.tasks.menagerie import PREFIX, find_robot
from diffusion_mpc.tasks.urdf import is_urdf, read_urdf
from diffusion_mpc.types import Array

INTEGRATORS: dict[Integrator, int] = {
    "euler": int(mujoco.mjtIntegrator.mjINT_EULER),
    "rk4": int(mujoco.mjtIntegrator.mjINT_RK4),
    "implicit": int(mujoco.mjtIntegrator.mjINT_IMPLICIT),
    "implicitfast": int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST),
    "discrete": int(mujoco.mjtIntegrator.mjINT_DISCRETE),
}

CONTACT = "contact"
"""Type of a sensor that measures the net force (3,), N, world frame, of an object on the world."""

NET_FORCE = [1 << int(mujoco.mjtConDataField.mjCONDATA_FORCE), 3, 1]
"""A contact sensor's data, reduction and number of slots: one net force."""

SINGLE = [int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)]
"""Joints of one degree of freedom."""

Sensors = Mapping[str, tuple[str, str, str]]
"""Sensors by name: type, type of object, name of object; see `Task.sensors`."""


@dataclass(frozen=True)
class ModelFile:
    """A model as users name it.

    Attributes:
        path: MJCF or URDF file, or a robot of Menagerie, `menagerie:NAME`; empty: the task's own
        actuators: actuators to add to a file that has none, as `add_actuators` says; empty: none
    """

    path: str = ""
    actuators: ActuatorKind = ""

    def located(self) -> Path:
        """The file.

        Raises:
            TaskError: a robot of Menagerie is not on this machine
        """
        if self.path.startswith(PREFIX):
            return find_robot(self.path.removeprefix(PREFIX))
        return Path(self.path)


OWN = ModelFile()
"""The task's own model."""


def read_spec(path: Path, actuators: ActuatorKind = "") -> mujoco.MjSpec:
    """A model file as a specification.

    Args:
        path: MJCF or URDF file
        actuators: actuators to add; empty: none

    Raises:
        TaskError: the file is missing or broken, or actuators cannot be added to it
    """
    if not path.is_file():
        raise TaskError(
            f"model file '{path}' does not exist; set model.path to an MJCF or URDF file"
        )
    if path.suffix.lower() == ".mjb":
        raise TaskError(
            f"model file '{path}' is a compiled model (MJB), which cannot be changed any more; use "
            "the MJCF that it was made from"
        )
    if is_urdf(path):
        return read_urdf(path, actuators)
    with as_task_error(f"model file '{path}' cannot be read"):
        spec = mujoco.MjSpec.from_file(str(path))
    if actuators:
        add_actuators(spec, actuators, path, {})
    return spec


def compile_spec(spec: mujoco.MjSpec, failure: str) -> mujoco.MjModel:
    """The model of a specification.

    Raises:
        TaskError: MuJoCo refuses it; the message begins with `failure`
    """
    with as_task_error(failure):
        return spec.compile()


def add_sensors(spec: mujoco.MjSpec, sensors: Sensors) -> None:
    """Add the sensors that the specification lacks.

    Raises:
        TaskError: MuJoCo has no sensor or object of that type, or the model no such object
    """
    for name, (kind, object_type, object_name) in sensors.items():
        if spec.sensor(name) is not None:
            continue
        try:
            sensor_type = getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}")
            mujoco_type = getattr(mujoco.mjtObj, f"mjOBJ_{object_type.upper()}")
        except AttributeError:
            raise TaskError(
                f"sensor '{name}' has an unknown type: '{kind}' of '{object_type}'"
            ) from None
        _require_object(spec, name, object_type, object_name)
        sensor = spec.add_sensor(
            name=name, type=sensor_type, objtype=mujoco_type, objname=object_name
        )
        if kind == CONTACT:
            sensor.reftype, sensor.refname = mujoco.mjtObj.mjOBJ_BODY, "world"
            sensor.intprm[:3] = NET_FORCE


def _require_object(spec: mujoco.MjSpec, sensor: str, kind: str, name: str) -> None:
    """Refuse a sensor of an object that the model does not have."""
    kind = kind.removeprefix("x")
    objects = getattr(spec, "bodies" if kind == "body" else f"{kind}s", None)
    if objects is not None and name not in (names := [there.name for there in objects]):
        raise TaskError(
            f"sensor '{sensor}': unknown {kind} '{name}'; {hint(name, [n for n in names if n])}"
        )


def control_limits(model: mujoco.MjModel, path: Path) -> tuple[Array, Array]:
    """Lowest and highest controls (nu,).

    Raises:
        TaskError: the model has no actuators, or one without a range
    """
    if model.nu == 0:
        raise TaskError(
            f"model file '{path}' has no actuators, so there is nothing to plan; "
            "give it some, or set model.actuators to position or motor"
        )
    for i in range(model.nu):
        if not model.actuator_ctrllimited[i]:
            raise TaskError(
                f"actuator '{model.actuator(i).name or i}' of model file '{path}' has no "
                "ctrlrange; give it one"
            )
    return model.actuator_ctrlrange[:, 0].copy(), model.actuator_ctrlrange[:, 1].copy()


def keyframe_number(model: mujoco.MjModel, name: str, path: Path) -> int:
    """Number of a keyframe.

    Raises:
        TaskError: the model has none of that name
    """
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, name)
    if key < 0:
        raise TaskError(f"model '{path}' has no keyframe '{name}', which the task starts from")
    return int(key)


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


def joint_names(model: mujoco.MjModel) -> list[str]:
    """Names of the joints in MuJoCo's order."""
    return [model.joint(i).name for i in range(model.njnt)]


def actuator_names(model: mujoco.MjModel) -> list[str]:
    """Names of the actuators in MuJoCo's order; the number of one that has none."""
    return [model.actuator(i).name or str(i) for i in range(model.nu)]
