"""Ready-made reductions of a model for planning, to be called from `Task.simplify`.

    def simplify(self, spec):
        reduce_contacts(spec, ["left_foot", "right_foot"], points=2, keyframe=self.keyframe)

Joints, actuators, sensors, keyframes and the inertia of every body stay. What a contact costs is
rows of constraints, which the solver's time grows with faster than linearly.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from diffusion_mpc.names import hint
from diffusion_mpc.tasks.errors import TaskError, as_task_error
from diffusion_mpc.tasks.geometry import collides, points
from diffusion_mpc.types import Array

CONTACTS = {
    mujoco.mjtGeom.mjGEOM_SPHERE: 1,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: 1,
    mujoco.mjtGeom.mjGEOM_CAPSULE: 2,
}
"""Most contacts of a geom with a plane; of any other, four."""

FLAT = 0.1
"""Part of a foot's height, from its lowest point upwards, that counts as its sole."""

THIN = 1e-3
"""Half of a length of the sole below which it counts as none, m."""

ROUNDING = 0.15
"""Radius of the balls that replace a foot without round parts, as a fraction of its width."""


def reduce_contacts(
    spec: mujoco.MjSpec,
    feet: Sequence[str],
    points: int = 4,
    keyframe: str | None = None,
) -> None:
    """All reductions: nothing but the feet touches the ground, with few contacts each, no visuals.

    Args:
        spec: model to reduce
        feet: names of bodies, or patterns such as `*_foot`
        points: most contacts of a foot with the ground: 1, 2 or 4
        keyframe: pose in which the soles lie on the ground; None: the initial one

    Raises:
        TaskError: there is no such body, keyframe or number of points, or a foot has nothing to
            stand on
    """
    limit_contacts(spec, feet, points, keyframe)
    keep_collisions(spec, feet)
    discard_visuals(spec)


def simple_friction(spec: mujoco.MjSpec) -> None:
    """Friction with the fewest constraint rows: pyramids without torsion, joints without friction.

    A contact then has four rows, of `condim` 6 it has ten; each joint with `frictionloss` has one.
    """
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.impratio = 1.0
    for geom in spec.geoms:
        geom.condim = min(geom.condim, 3)
    for joint in spec.joints:
        joint.frictionloss = 0.0


def discard_visuals(spec: mujoco.MjSpec) -> None:
    """Remove geoms that touch nothing and that nothing refers to, and meshes, materials, textures.

    Where the model has a rangefinder, which sees such geoms, nothing is removed.
    """
    if not any(sensor.type == mujoco.mjtSensor.mjSENS_RANGEFINDER for sensor in spec.sensors):
        spec.discard_visual()


def keep_collisions(spec: mujoco.MjSpec, bodies: Sequence[str]) -> None:
    """Leave collisions of some bodies with the world only; contact pairs of others are removed.

    The world is everything that cannot move. Geoms that touch nothing any more stay as visuals.

    Args:
        spec: model to reduce
        bodies: names of bodies, or patterns

    Raises:
        TaskError: there is no such body
    """
    model = _compiled(spec)
    chosen = {body.name for body in _bodies(spec, bodies)}
    mine = [g for g in spec.geoms if g.parent.name in chosen]
    world = [g for g in spec.geoms if model.body_weldid[g.parent.id] == 0]

    def touch(a: mujoco.MjsGeom, b: mujoco.MjsGeom) -> bool:
        return bool((a.contype & b.conaffinity) or (b.contype & a.conaffinity))

    touching = [g.id for g in mine if any(touch(g, ground) for ground in world)]
    touched = [g.id for g in world if any(touch(g, geom) for geom in mine)]
    of = {geom.name: geom for geom in (*mine, *world) if geom.name}
    for pair in list(spec.pairs):
        ends = [of.get(name) for name in (pair.geomname1, pair.geomname2)]
        static = [end is not None and end in world for end in ends]
        if None in ends or sum(static) != 1:
            spec.delete(pair)
    for geom in spec.geoms:
        geom.contype, geom.conaffinity = int(geom.id in touched), int(geom.id in touching)


def limit_contacts(
    spec: mujoco.MjSpec, feet: Sequence[str], points: int, keyframe: str | None = None
) -> None:
    """Replace what feet collide with by shapes that make few contacts with the ground.

    One: a sphere below the middle of the sole; two: a capsule along its longer side; four: spheres
    at its corners. The height of the sole and the rectangle that its contacts span stay (one
    contact spans none). A sole that is a line gets two contacts at most, one that is a point one;
    a foot that makes no more contacts than allowed stays as it is.

    A sensor that names a geom of the foot goes on: a contact sensor measures the whole foot, any
    other the geom, which then touches nothing.

    Args:
        spec: model to reduce
        feet: names of bodies, or patterns
        points: most contacts of a foot: 1, 2 or 4
        keyframe: pose in which the soles lie on the ground; None: the initial one

    Raises:
        TaskError: as `reduce_contacts`
    """
    if points not in (1, 2, 4):
        raise TaskError(f"a foot cannot be reduced to {points} contacts; choose 1, 2 or 4")
    model = _compiled(spec)
    bodies = _bodies(spec, feet)
    data = mujoco.MjData(model)
    if keyframe is not None:
        key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, keyframe)
        if key < 0:
            names = [model.key(i).name for i in range(model.nkey)]
            raise TaskError(f"the model has no keyframe '{keyframe}'; {hint(keyframe, names)}")
        mujoco.mj_resetDataKeyframe(model, data, key)
    mujoco.mj_kinematics(model, data)
    paired = {name for pair in spec.pairs for name in (pair.geomname1, pair.geomname2)}
    replaced = []
    for body in bodies:
        old = [g for g in body.geoms if collides(model, g.id) or (g.name and g.name in paired)]
        if not old:
            raise TaskError(f"body '{body.name}' has no geom that collides, so it is no foot")
        if is_wheel(model, body.id):
            raise TaskError(
                f"body '{body.name}' turns without end, as wheels do; only feet can be reduced"
            )
        if sum(CONTACTS.get(geom.type, 4) for geom in old) > points:
            replaced.append((body, old, _sole(model, data, body, old)))
    for body, old, sole in replaced:
        spec.adopt_inertial(body)
        _replace(spec, body, old, sole, sole.contacts(points))


def is_wheel(model: mujoco.MjModel, body: int) -> bool:
    """Whether a body turns about a hinge without limits, so that no side of it is a sole."""
    first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
    return any(
        model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE and not model.jnt_limited[joint]
        for joint in range(first, first + count)
    )


@dataclass(frozen=True)
class Sole:
    """Contact of a foot with flat ground, in the frame of its body.

    Attributes:
        middle: (3,) middle of the rectangle that its contacts span
        along, across: (3,) from there to the middles of a short and of a long side
        down: (3,) downwards, of unit length
        radius: radius of the balls to put there, whose lowest points touch the ground, m
        lowest: geom that touches the ground first
    """

    middle: Array
    along: Array
    across: Array
    down: Array
    radius: float
    lowest: mujoco.MjsGeom

    def contacts(self, most: int) -> int:
        """Number of contacts that the sole is worth: 1, 2 or 4, and `most` at most."""
        if np.linalg.norm(self.along) < THIN:
            return 1
        return min(most, 2) if np.linalg.norm(self.across) < THIN else most

    def centres(self, count: int) -> Array:
        """Centres (count, 3) of balls at the middle, at the short sides, or at the corners."""
        signs = {
            1: [(0, 0)],
            2: [(-1, 0), (1, 0)],
            4: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
        }[count]
        lifted = self.middle - self.radius * self.down
        return np.array([lifted + a * self.along + b * self.across for a, b in signs])


def _sole(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    body: mujoco.MjsBody,
    geoms: Sequence[mujoco.MjsGeom],
) -> Sole:
    """The sole that geoms of a body make in a pose."""
    places, radii, owners = list[Array](), list[float](), list[int]()
    for i, geom in enumerate(geoms):
        own, radius = points(model, geom.id)
        places.append(own @ data.geom_xmat[geom.id].reshape(3, 3).T + data.geom_xpos[geom.id])
        radii += [radius] * len(own)
        owners += [i] * len(own)
    if not radii:
        raise TaskError(f"body '{body.name}' collides with no shape that has a sole")
    centres, radius_of = np.concatenate(places), np.array(radii)
    bottoms = centres[:, 2] - radius_of
    lowest = int(bottoms.argmin())
    height = float((centres[:, 2] + radius_of).max() - bottoms[lowest])
    sole = bottoms <= bottoms[lowest] + FLAT * height
    middle, along, across = _rectangle(centres[sole, :2])
    width = 2.0 * float(np.linalg.norm(across) or np.linalg.norm(along))
    radius = float(radius_of[sole].max()) or min(ROUNDING * width, height / 2.0)
    turn = data.xmat[body.id].reshape(3, 3)
    ground = np.array([*middle, bottoms[lowest]])
    return Sole(
        middle=turn.T @ (ground - data.xpos[body.id]),
        along=turn.T @ (*along, 0.0),
        across=turn.T @ (*across, 0.0),
        down=turn.T @ (0.0, 0.0, -1.0),
        radius=radius,
        lowest=geoms[owners[lowest]],
    )


def _rectangle(flat: Array) -> tuple[Array, Array, Array]:
    """Smallest rectangle round points (n, 2).

    Its middle (2,), and from there to the middles of a short and of a long side, (2,) each.
    """
    try:
        corners = flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):
        # All on one line, or fewer than three.
        offsets = flat - flat[0]
        farthest = flat[np.linalg.norm(offsets, axis=1).argmax()]
        corners = flat[[np.linalg.norm(flat - farthest, axis=1).argmax()]]
        corners = np.concatenate([corners, farthest[None]])
    best: tuple[float, Array, Array, Array] | None = None
    for edge in np.roll(corners, -1, axis=0) - corners:
        length = np.linalg.norm(edge)
        u = edge / length if length > 0.0 else np.array([1.0, 0.0])
        axes = np.stack([u, [-u[1], u[0]]])
        seen = corners @ axes.T
        low, high = seen.min(axis=0), seen.max(axis=0)
        half, middle = (high - low) / 2.0, (low + high) / 2.0 @ axes
        long = int(half[1] > half[0])
        area = float(half[0] * half[1])
        if best is None or area < best[0] - 1e-12:
            best = area, middle, half[long] * axes[long], half[1 - long] * axes[1 - long]
    assert best is not None
    return best[1:]


def _replace(
    spec: mujoco.MjSpec,
    body: mujoco.MjsBody,
    old: Sequence[mujoco.MjsGeom],
    sole: Sole,
    count: int,
) -> None:
    """Put balls or a capsule in the place of a foot's geoms."""
    like = sole.lowest
    contact = {
        name: np.array(value) if isinstance(value := getattr(like, name), np.ndarray) else value
        for name in (
            *("contype", "conaffinity", "condim", "friction", "solref", "solimp", "solmix"),
            *("margin", "gap", "priority", "group", "rgba", "material"),
        )
    }
    new = []
    centres = sole.centres(count)
    shapes = [{"fromto": centres.reshape(-1)}] if count == 2 else [{"pos": c} for c in centres]
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE if count == 2 else mujoco.mjtGeom.mjGEOM_SPHERE
    free = (name for i in itertools.count() if spec.geom(name := f"{body.name}_sole_{i}") is None)
    for shape in shapes:
        size = [sole.radius, 0.0, 0.0]
        new.append(body.add_geom(name=next(free), type=kind, size=size, **shape, **contact))
    names = {geom.name for geom in old if geom.name}
    partners = set()
    for pair in list(spec.pairs):
        ends = (pair.geomname1, pair.geomname2)
        if mine := names.intersection(ends):
            other = next((end for end in ends if end not in names), None)
            if other is not None and other not in partners and len(mine) == 1:
                partners.add(other)
                for geom in new:
                    _copy_pair(spec, pair, geom.name, other)
            spec.delete(pair)
    for sensor in spec.sensors:
        for objtype, objname in (("objtype", "objname"), ("reftype", "refname")):
            named = getattr(sensor, objtype) == mujoco.mjtObj.mjOBJ_GEOM
            contacts = sensor.type == mujoco.mjtSensor.mjSENS_CONTACT
            if contacts and named and getattr(sensor, objname) in names:
                setattr(sensor, objtype, mujoco.mjtObj.mjOBJ_BODY)
                setattr(sensor, objname, body.name)
    for geom in old:
        # It may have looks, and a tendon may go round it; `discard_visuals` knows.
        geom.contype = geom.conaffinity = 0


def _copy_pair(spec: mujoco.MjSpec, pair: mujoco.MjsPair, mine: str, other: str) -> None:
    kept = ("condim", "friction", "solref", "solreffriction", "solimp", "margin", "gap")
    values = {name: getattr(pair, name) for name in kept}
    spec.add_pair(
        geomname1=mine,
        geomname2=other,
        **{n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in values.items()},
    )


def _bodies(spec: mujoco.MjSpec, patterns: Sequence[str]) -> list[mujoco.MjsBody]:
    if isinstance(patterns, str):
        patterns = [patterns]
    movable = [body for body in spec.bodies if body.name and body.name != "world"]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(body.name, pattern) for body in movable):
            raise TaskError(
                f"no body is called '{pattern}'; {hint(pattern, [body.name for body in movable])}"
            )
    return [b for b in movable if any(fnmatch.fnmatchcase(b.name, p) for p in patterns)]


def _compiled(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """The model, with the bodies and geoms of the specification under its numbers."""
    with as_task_error("the model cannot be reduced"):
        return spec.compile()
