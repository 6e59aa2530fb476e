"""Suggestions in words: what is missing in a model or a task, and what to write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from diffusion_mpc.check.parts import KINDS
from diffusion_mpc.check.rest import size
from diffusion_mpc.check.subject import Subject
from diffusion_mpc.tasks.actions import is_position_servo
from diffusion_mpc.tasks.geometry import collides, lowest_point
from diffusion_mpc.tasks.urdf import is_urdf

DEEP, HIGH = 0.005, 0.02
"""Penetration of a geom, and height above the ground, at the keyframe that are worth a word, m."""

FEWEST = 8
"""Number of samples below which a search is not worth calling one."""

NAMES = 3
"""Number of names in a sentence."""

BETTER = 0.7
"""Fraction of the own integrator's deviation that another one has to stay below to be named."""

STIFF = 2.0
"""Product of time step and natural frequency of a servo above which it is too fast for the step."""


def suggestions(subject: Subject, figures: dict[str, Any]) -> list[str]:
    """Advice on what to change or to know, one sentence each, from the figures of a check."""
    return [
        *_names(subject),
        *_nominal(subject, figures),
        *_contacts(subject, figures),
        *_actuators(subject),
        *_rest(subject, figures),
        *_costs(figures),
        *([] if figures["speed"]["configured"]["fits"] else _friction(subject)),
        *_speed(subject, figures),
    ]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(f"'{name}'" for name in names[:NAMES]) + more


def _names(subject: Subject) -> Iterator[str]:
    model = subject.task.model
    for what, count, named in (
        ("joint", model.njnt, model.joint),
        ("actuator", model.nu, model.actuator),
    ):
        free = mujoco.mjtJoint.mjJNT_FREE
        nameless = [
            str(i)
            for i in range(count)
            if not named(i).name and not (what == "joint" and model.jnt_type[i] == free)
        ]
        if nameless:
            yield (f"{what} {_listed(nameless)} has no name; give it one: messages match by names")
    if subject.task.base is not None and not subject.task.base:
        yield "the body with the free joint has no name; give it one: a task names it as its base"


def _nominal(subject: Subject, figures: dict[str, Any]) -> Iterator[str]:
    task, model = subject.task, subject.task.model
    named = [name for i in range(model.nkey) if (name := model.key(i).name)]
    if task.keyframe is None and named:
        yield f"the task names no keyframe, though the model has some: keyframe = '{named[0]}'"
    elif task.keyframe is None:
        yield (
            "there is no keyframe, so the robot starts with all joints at zero, and actions are "
            "round the middle of their ranges; add a nominal pose to the model: "
            "<keyframe><key name='home' qpos='...'/></keyframe>"
        )
    static = (g for g in range(model.ngeom) if model.body_weldid[model.geom_bodyid[g]] == 0)
    floor = any(collides(model, g) for g in static)
    if task.base is not None and not floor:
        yield (
            "there is no floor: nothing of the worldbody can be stood on; add a plane, or load the "
            "scene that has one"
        )
    deep = [row for row in figures["contacts_at_keyframe"] if row["depth_m"] > DEEP]
    if deep:
        pairs = [" and ".join(row["geoms"]) for row in deep]
        depth = 1000 * max(row["depth_m"] for row in deep)
        yield (
            f"at the keyframe geoms are up to {depth:.0f} mm inside each other ({_listed(pairs)}), "
            "so it starts with a jump; correct its positions"
        )
    if (
        task.base is not None
        and floor
        and not any(r["world"] for r in figures["contacts_at_keyframe"])
    ):
        data = task.initial_data(model)
        lowest = lowest_point(model, data)
        if lowest is not None and abs(lowest) > HIGH:
            yield (
                f"at the keyframe nothing touches the ground: the lowest point is at "
                f"{lowest:.3f} m; move the base by {-lowest:+.3f} m, or add a floor"
            )


def _contacts(subject: Subject, figures: dict[str, Any]) -> Iterator[str]:
    model, step = subject.task.model, subject.config.model.timestep
    colliding = [g for g in range(model.ngeom) if collides(model, g)]
    stiff = [g for g in colliding if 0.0 < model.geom_solref[g, 0] < 2.0 * step - 1e-9]
    if stiff and not _floor_decides(model, step):
        yield (
            f"contacts of {len(stiff)} geoms have a time constant (solref) below twice "
            f"model.timestep, {2.0 * step:g} s, so they are softer for the planner than for the "
            f"simulation; set solref='{2.0 * step:g} 1'"
        )
    limits = [
        model.joint(j).name
        for j in range(model.njnt)
        if model.jnt_limited[j] and 0.0 < model.jnt_solref[j, 0] < 2.0 * step - 1e-9
    ]
    if limits:
        yield (
            f"limits of the joints {_listed(limits)} have a time constant (solreflimit) below "
            f"twice model.timestep; set solreflimit='{2.0 * step:g} 1'"
        )
    meshes = [g for g in colliding if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH]
    if meshes:
        bodies = list(dict.fromkeys(model.body(int(model.geom_bodyid[g])).name for g in meshes))
        yield (
            f"{len(meshes)} meshes collide (of {_listed(bodies)}); where they are for looks, give "
            "them contype='0' conaffinity='0', and simple shapes for what should touch"
        )
    own = [r for r in figures["contacts_at_rest"] if not r["world"]]
    if own:
        pairs = [" and ".join(row["bodies"]) for row in own]
        yield (
            f"at rest the robot touches itself ({_listed(list(dict.fromkeys(pairs)))}); where "
            "these shapes only overlap, add <exclude body1=... body2=.../> to <contact>"
        )


def _friction(subject: Subject) -> Iterator[str]:
    """Friction of the planning model that costs more constraint rows than plans need."""
    model = subject.planning_model()
    geoms = sum(1 for g in range(model.ngeom) if collides(model, g) and model.geom_condim[g] > 3)
    joints = int((model.dof_frictionloss > 0.0).sum())
    found = [
        *(["elliptic cones"] if model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC else []),
        *([f"impratio {model.opt.impratio:g}"] if model.opt.impratio > 1.0 else []),
        *([f"condim above 3 of {geoms} geoms"] if geoms else []),
        *([f"frictionloss of {joints} joints"] if joints else []),
    ]
    if found:
        yield (
            f"{', '.join(found)}: friction makes more constraint rows than plans need; put "
            "simple_friction(spec) of tasks/reduction.py into simplify and check the speed again"
        )


def _floor_decides(model: mujoco.MjModel, step: float) -> bool:
    """Whether all static geoms that collide have soft contacts and priority over the robot's."""
    static = [
        g
        for g in range(model.ngeom)
        if collides(model, g) and model.body_weldid[model.geom_bodyid[g]] == 0
    ]
    highest = max(
        (model.geom_priority[g] for g in range(model.ngeom) if g not in static), default=0
    )
    return bool(static) and all(
        model.geom_solref[g, 0] >= 2.0 * step - 1e-9 and model.geom_priority[g] > highest
        for g in static
    )


def _actuators(subject: Subject) -> Iterator[str]:
    task, model = subject.task, subject.task.model
    if subject.bare and is_urdf(task.path) and task.file.actuators:
        yield (
            f"actuators were added, of the kind '{task.file.actuators}'; set model.actuators (here "
            "--actuators) to position or motor, or actuators = '...' in the task"
        )
    slow = []
    step = subject.config.model.timestep
    data = task.initial_data(model)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    for i in range(model.nu):
        if is_position_servo(model, i):
            dof = int(model.jnt_dofadr[model.actuator_trnid[i, 0]])
            stiffness = -model.actuator_biasprm[i, 1] * model.actuator_gear[i, 0] ** 2
            if step * np.sqrt(max(stiffness, 0.0) / inertia[dof, dof]) > STIFF:
                slow.append(model.actuator(i).name)
    if slow:
        yield (
            f"the servos {_listed(slow)} are too fast for model.timestep {step:g} s with so little "
            "inertia; give their joints the armature of the rotor, or take a smaller step"
        )
    moved = {int(model.actuator_trnid[i, 0]) for i in range(model.nu)}
    equality = {
        int(model.eq_obj1id[e])
        for e in range(model.neq)
        if model.eq_type[e] == mujoco.mjtEq.mjEQ_JOINT
    }
    hinge_or_slide = {int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)}
    passive = [
        model.joint(j).name
        for j in range(model.njnt)
        if int(model.jnt_type[j]) in hinge_or_slide and j not in moved | equality
    ]
    if passive:
        yield f"no actuator drives {_listed(passive)}"


def _rest(subject: Subject, figures: dict[str, Any]) -> Iterator[str]:
    if fraction := figures["diverging_fraction"]:
        yield (
            f"{100 * fraction:.0f} % of random plans diverge at steps of "
            f"{subject.config.model.timestep:g} s; take a smaller model.timestep or action_scale, "
            "or give the joints armature and damping"
        )
    rest = figures["rest"]
    if rest is None:
        return
    if rest["fine"]["diverged"]:
        yield (
            "at rest the model diverges even at steps of a millisecond; look at inertias and gains"
        )
        return
    if rest["fine"]["stands"] is False:
        kinds = {row["kind"] for row in figures["actuators"]}
        reason = (
            "its motors hold no pose at rest, so the task has to keep it up; servos would"
            if kinds == {KINDS["effort"]}
            else "so does a plan of zeros; where it should stand, correct the keyframe or stiffen "
            "the servos"
        )
        yield f"at its rest command the robot falls, at steps of a millisecond, too: {reason}"
    rows = rest["integrators"]
    own = next(row for row in rows if row["own"])
    best = min(rows, key=lambda row: size(row["deviation"]))
    if rest["fine"]["stands"] and own["stands"] is False:
        yield (
            f"with integrator {own['integrator']} at {subject.config.model.timestep:g} s the robot "
            "falls, though it stands at a millisecond; take a smaller model.timestep or the "
            "integrator below"
        )
    if best is not own and size(best["deviation"]) < BETTER * size(own["deviation"]):
        yield (
            f"integrator {best['integrator']} agrees better with steps of a millisecond than "
            f"{own['integrator']}: set model.integrator to {best['integrator']}"
        )


def _costs(figures: dict[str, Any]) -> Iterator[str]:
    for row in figures["costs"]:
        values = [row[where] for where in ("keyframe", "rest", "random")]
        if not np.isfinite(values).all():
            yield f"cost term '{row['term']}' is not finite"
        elif row["weight"] > 0.0 and max(map(abs, values)) == 0.0:
            yield f"cost term '{row['term']}' is 0 wherever it was looked at"


def _speed(subject: Subject, figures: dict[str, Any]) -> Iterator[str]:
    speed = figures["speed"]
    configured = speed["configured"]
    if configured["fits"]:
        return
    period = f"a period of {1000 * speed['period_s']:g} ms here"
    samples = next(
        row["num_samples"]
        for row in speed["fitting"]
        if row["iterations"] == configured["iterations"]
    )
    possible = speed["physics_steps_in_period"] / configured["physics_steps"]
    if samples >= FEWEST:
        yield (
            f"the search does not fit {period}: set planner.num_samples to {samples}, or "
            f"planner.rate to {max(1.0, subject.config.planner.rate * possible):.0f}, or shorten "
            "the horizon"
        )
    else:
        yield (
            f"the search is {1.0 / possible:.1f} times what fits {period}: reduce the model, "
            "shorten the horizon, plan less often (planner.rate), or take a GPU (backend.name warp)"
        )
