"""Robots from URDF files, with what a URDF lacks: a floor, light, a free base, a nominal pose."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np

from diffusion_mpc.names import ActuatorKind
from diffusion_mpc.tasks.added_actuators import add_actuators
from diffusion_mpc.tasks.errors import TaskError, as_task_error
from diffusion_mpc.tasks.geometry import lowest_point

HOME = "home"
"""Keyframe that is added: all joints at zero, or at the nearest end of their range."""

SOFT = 0.04
"""Time constant of contacts with the added floor and of joint limits, s.

Twice the planner's time step, 0.02 s: so they are as stiff for the planner as for the simulation.
"""

CLEARANCE = 0.01
"""Least height of a fixed robot's moving links above the floor in the keyframe, m."""

WORLD = "world"
PACKAGE = "package://"
FORMATS = (".stl", ".obj", ".msh")


def is_urdf(path: Path) -> bool:
    """Whether a file is a URDF: by its ending, or by its first element."""
    if path.suffix in (".urdf", ".xacro"):
        return True
    try:
        return bool(next(ET.iterparse(path, events=("start",)))[1].tag == "robot")
    except (ET.ParseError, StopIteration, UnicodeDecodeError):
        return False


def read_urdf(path: Path, actuators: ActuatorKind = "") -> mujoco.MjSpec:
    """A URDF as a specification, completed.

    The root link gets a free joint unless it is called "world"; a robot that stands fixed hangs on
    a link of that name by a fixed joint. Links joined by fixed joints stay bodies of their own, so
    that tasks can name them. Mimic joints become equalities. Any two links may collide but for a
    link and its parent.

    Args:
        path: the file
        actuators: actuators to add; empty: none

    Raises:
        TaskError: it cannot be read, a mesh is missing, or actuators cannot be added
    """
    robot = _parse(path)
    _set_compiler(robot, path)
    with as_task_error(f"model file '{path}' cannot be read"):
        spec = mujoco.MjSpec.from_string(ET.tostring(robot, encoding="unicode"))
    joints = [j for j in robot.findall("joint") if j.find("parent") is not None]
    children = {_link(joint, "child") for joint in joints}
    for link in robot.findall("link"):
        name = link.get("name", "")
        if name != WORLD and name not in children:
            spec.body(name).add_freejoint()
    for joint in spec.joints:
        joint.solref_limit[0] = SOFT
    _exclude_neighbours(spec, joints)
    _add_surroundings(spec, path)
    if actuators:
        limits = {
            joint.get("name", ""): float(limit.get("velocity", 0.0))
            for joint in joints
            for limit in joint.findall("limit")
        }
        add_actuators(spec, actuators, path, limits)
    return spec


def _parse(path: Path) -> ET.Element:
    try:
        robot = ET.parse(path).getroot()
    except (ET.ParseError, UnicodeDecodeError) as error:
        raise TaskError(f"model file '{path}' cannot be read: {error}") from None
    if path.suffix == ".xacro" or any("xacro}" in str(e.tag) for e in robot.iter()):
        raise TaskError(
            f"model file '{path}' is a xacro; expand it first: xacro {path} > {path.stem}.urdf"
        )
    if robot.tag != "robot":
        raise TaskError(
            f"model file '{path}' is no URDF: it begins with <{robot.tag}>, not with <robot>"
        )
    return robot


def _set_compiler(robot: ET.Element, path: Path) -> None:
    """Give all meshes that are read their paths, and keep bodies that fixed joints connect."""
    extension = robot.find("mujoco")
    if extension is None:
        extension = ET.SubElement(robot, "mujoco")
    compiler = extension.find("compiler")
    if compiler is None:
        compiler = ET.SubElement(extension, "compiler")
    folder = path.parent / compiler.attrib.pop("meshdir", "")
    compiler.set("strippath", "false")
    compiler.set("fusestatic", compiler.get("fusestatic", "false"))
    looks = compiler.get("discardvisual", "true") == "false"
    for link in robot.findall("link"):
        for part in [*link.findall("collision"), *(link.findall("visual") if looks else ())]:
            for mesh in part.iter("mesh"):
                mesh.set("filename", str(_mesh(mesh.get("filename", ""), path, folder)))


def _mesh(name: str, path: Path, folder: Path) -> Path:
    """File of a mesh.

    Args:
        name: as the URDF has it
        path: the URDF
        folder: where it says that meshes are

    Raises:
        TaskError: there is none, or MuJoCo does not read its format
    """
    file = next((place for place in _places(name, path, folder) if place.is_file()), None)
    if file is None:
        advice = (
            "source the workspace that has the package, or put the mesh where the URDF says"
            if name.startswith(PACKAGE)
            else "put it there, or correct the URDF"
        )
        raise TaskError(f"model file '{path}' needs mesh '{name}', which does not exist; {advice}")
    if file.suffix.lower() not in FORMATS:
        raise TaskError(
            f"model file '{path}' needs mesh '{name}', whose format MuJoCo does not read; convert "
            f"it to one of {', '.join(FORMATS)}"
        )
    return file.resolve()


def _places(name: str, path: Path, folder: Path) -> Iterator[Path]:
    """Places in which a mesh may be, the likeliest first."""
    above = path.resolve().parents
    if name.startswith(PACKAGE):
        package, _, rest = name.removeprefix(PACKAGE).partition("/")
        if (installed := _installed(package)) is not None:
            yield installed / rest
        # A description that is not installed: the package is one of the folders that the URDF is
        # in, or beside one of them.
        yield from (place / rest for place in above if place.name == package)
        yield from (place / package / rest for place in above)
        yield from (place / rest for place in above if (place / "package.xml").is_file())
        return
    local = name.removeprefix("file://")
    yield from (folder / local, path.parent / local, folder / Path(local).name)


def _installed(package: str) -> Path | None:
    """Folder of a ROS package's files; None where it is not installed, or ROS is not."""
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return None
    try:
        return Path(get_package_share_directory(package))
    except (PackageNotFoundError, LookupError, ValueError):
        return None


def _link(joint: ET.Element, which: str) -> str:
    end = joint.find(which)
    return "" if end is None else end.get("link", "")


def _exclude_neighbours(spec: mujoco.MjSpec, joints: list[ET.Element]) -> None:
    """Let no link of a fixed base collide with the links that it carries.

    Anywhere else MuJoCo leaves parents and children out by itself.
    """
    static = {WORLD}
    # Parents may be written after their children.
    for _ in joints:
        static |= {
            _link(joint, "child")
            for joint in joints
            if joint.get("type") == "fixed" and _link(joint, "parent") in static
        }
    for joint in joints:
        parent, child = _link(joint, "parent"), _link(joint, "child")
        if parent in static - {WORLD} and child not in static:
            spec.add_exclude(bodyname1=parent, bodyname2=child)


def _add_surroundings(spec: mujoco.MjSpec, path: Path) -> None:
    """Add floor and light, and the keyframe, in which a robot that is free stands on the floor."""
    with as_task_error(f"model file '{path}' cannot be read"):
        model = spec.compile()
    data = mujoco.MjData(model)
    for joint in range(model.njnt):
        if model.jnt_limited[joint]:
            low, high = model.jnt_range[joint]
            data.qpos[model.jnt_qposadr[joint]] = np.clip(0.0, low, high)
    for e in range(model.neq):
        if model.eq_type[e] == mujoco.mjtEq.mjEQ_JOINT and model.eq_obj2id[e] >= 0:
            follows, leads = (model.jnt_qposadr[i[e]] for i in (model.eq_obj1id, model.eq_obj2id))
            data.qpos[follows] = np.polynomial.Polynomial(model.eq_data[e, :5])(data.qpos[leads])
    mujoco.mj_kinematics(model, data)
    lowest = lowest_point(model, data) or 0.0
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    for i in free:
        data.qpos[model.jnt_qposadr[i] + 2] -= lowest
        spec.bodies[model.jnt_bodyid[i]].pos[2] -= lowest
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.0, 0.0, 1.0],
        pos=[0.0, 0.0, 0.0 if len(free) else min(0.0, lowest - CLEARANCE)],
        rgba=[0.4, 0.45, 0.5, 1.0],
        solref=[SOFT, 1.0],
        # Contacts of the robot's parts with the floor are as the floor says.
        priority=1,
    )
    spec.worldbody.add_light(
        pos=[0.0, 0.0, 4.0], dir=[0.0, 0.2, -1.0], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    )
    spec.add_key(name=HOME, qpos=data.qpos)
