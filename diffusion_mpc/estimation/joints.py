"""The joints that `joint_states` measures, each with its own stamp.

One message need not hold all of them, and may hold others: a gripper has a driver of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from diffusion_mpc.estimation.checks import MessageRejectedError, require_finite
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.types import Array

JOINTS = "joint_states"

REMEMBERED = 32
"""Number of lists of names that are remembered, and of unknown names that are told."""

NAMED = 5
"""Number of joints that a text names."""

Inform = Callable[[str], None]


@dataclass(frozen=True)
class Layout:
    """Joints of the model in a list of names.

    Attributes:
        rows: (k,) places in the message
        joints: (k,) numbers of the joints there
        twice: name that is in the list twice; empty: none is
    """

    rows: NDArray[np.intp]
    joints: NDArray[np.intp]
    twice: str


@dataclass(frozen=True)
class JointValues:
    """Contents of a message, as far as they belong to the model.

    Attributes:
        joints: (k,) numbers of the joints
        position: (k,) rad or m
        velocity: (k,) rad/s or m/s
    """

    joints: NDArray[np.intp]
    position: Array
    velocity: Array


class MeasuredJoints:
    """Newest position and velocity of each joint.

    Attributes:
        names: names of the joints in messages
        stamps: (n,) times of measurement, s; -inf before the first
        oldest: the least of them
        newest: the greatest of them
        complete: whether each joint has been measured since `take_out`
    """

    def __init__(
        self, addresses: Mapping[str, tuple[int, int]], prefix: str, inform: Inform
    ) -> None:
        """Nothing has been measured.

        Args:
            addresses: addresses of the joints in qpos and qvel, by name
            prefix: prefix of names in messages, before the model's own
            inform: called with what is worth knowing
        """
        self.names = [prefix + name for name in addresses]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        # To one column each, also where there are no joints.
        self._qpos, self._qvel = (
            np.array([pair[i] for pair in addresses.values()], dtype=int) for i in (0, 1)
        )
        self._inform = inform
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._told: set[str] = set()
        self._position, self._velocity = np.zeros(len(self.names)), np.zeros(len(self.names))
        self.reset()

    def reset(self) -> None:
        """Forget all measurements."""
        self.stamps = np.full(len(self.names), -np.inf)
        self._fresh = np.zeros(len(self.names), dtype=bool)
        self.oldest = self.newest = -np.inf
        self.complete = not self.names

    def layout(self, names: Sequence[str]) -> Layout:
        """Joints of the model in a list of names; the same list comes with every message."""
        key = tuple(names)
        if (known := self._layouts.get(key)) is not None:
            return known
        if len(self._layouts) >= REMEMBERED:
            self._layouts.clear()
        rows = [row for row, name in enumerate(names) if name in self._numbers]
        found = [names[row] for row in rows]
        twice = next((name for name in found if found.count(name) > 1), "")
        self._tell([name for name in names if name not in self._numbers])
        joints = [self._numbers[name] for name in found]
        layout = Layout(np.array(rows, dtype=int), np.array(joints, dtype=int), twice)
        self._layouts[key] = layout
        return layout

    def read(
        self, names: Sequence[str], position: Sequence[float], velocity: Sequence[float]
    ) -> JointValues:
        """Contents of a message as far as they belong to the model, checked.

        Raises:
            MessageRejectedError: it holds joints of the model, and it is of wrong length, has one
                of them twice, or a NaN or infinite value of one
        """
        layout = self.layout(names)
        if not len(layout.joints):
            return JointValues(layout.joints, np.zeros(0), np.zeros(0))
        if not len(names) == len(position) == len(velocity):
            raise MessageRejectedError(
                f"{JOINTS}: {len(names)} names, {len(position)} positions, {len(velocity)} "
                "velocities; all three must be equal"
            )
        if layout.twice:
            raise MessageRejectedError(f"{JOINTS}: joint '{layout.twice}' twice")
        q, v = (np.asarray(values, dtype=float)[layout.rows] for values in (position, velocity))
        require_finite(JOINTS, (*q.tolist(), *v.tolist()))
        return JointValues(layout.joints, q, v)

    def take_in(self, stamp: float, values: JointValues) -> None:
        """Take what was measured at a time, s."""
        self._position[values.joints], self._velocity[values.joints] = (
            values.position,
            values.velocity,
        )
        self.stamps[values.joints] = stamp
        self._fresh[values.joints] = True
        if len(values.joints) == len(self.names):
            # Nearly always; and NumPy is slow with a few numbers.
            self.oldest = self.newest = stamp
            self.complete = True
        else:
            self.oldest, self.newest = float(self.stamps.min()), float(self.stamps.max())
            self.complete = bool(self._fresh.all())

    def last(self, values: JointValues) -> float:
        """Time (s) of the newest measurement of the joints of a message; -inf: there is none."""
        if len(values.joints) == len(self.names):
            return self.newest
        return float(self.stamps[values.joints].max())

    def take_out(self) -> None:
        """All joints count as seen until they are measured again."""
        self._fresh[:] = False
        self.complete = not self.names

    def write(self, qpos: Array, qvel: Array) -> None:
        """Put the joints into a state, (nq,) and (nv,)."""
        qpos[self._qpos], qvel[self._qvel] = self._position, self._velocity

    def extremes(self) -> list[tuple[str, float]]:
        """Name and stamp (s) of the joint measured longest ago, and of that measured last."""
        ends = (self.oldest, self.newest)
        if not self.names:
            return []
        if self.oldest == self.newest:
            return [(JOINTS, self.oldest)]
        stamps = self.stamps.tolist()
        return [(f"{JOINTS} ({self.names[stamps.index(stamp)]})", stamp) for stamp in ends]

    def late(self) -> str:
        """Joints that have not been measured since `take_out` where others have; else empty."""
        return "" if not self._fresh.any() else self._some(~self._fresh)

    def missing(self) -> str:
        """Joints that have never been measured though a message has come; empty: none."""
        return self._some(np.isinf(self.stamps)) if self._layouts else ""

    def _some(self, which: NDArray[np.bool_]) -> str:
        names = [name for name, one in zip(self.names, which.tolist(), strict=True) if one]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more

    def _tell(self, unknown: Sequence[str]) -> None:
        new = [name for name in dict.fromkeys(unknown) if name not in self._told]
        if new and len(self._told) < REMEMBERED:
            self._told.update(new)
            self._inform(f"{JOINTS}: joints that the model does not have are ignored: {new}")


def measured_name(model: mujoco.MjModel, joint: int) -> str:
    """Name by which `joint_states` measures a joint that is not free.

    Raises:
        TaskError: no message can measure it
    """
    name, body = model.joint(joint).name, model.body(model.jnt_bodyid[joint]).name
    where = f"body '{body}'" if body else f"body {int(model.jnt_bodyid[joint])}, which has no name,"
    if int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_BALL):
        called = f"'{name}' " if name else ""
        raise TaskError(
            f"the joint {called}of {where} is a ball joint, which {JOINTS} cannot carry; put three "
            "hinges in its place"
        )
    if flex := "" if name else flex_at(model, int(model.jnt_bodyid[joint])):
        raise TaskError(
            f"flex '{flex}' is soft, and no message measures where its vertices are; make it rigid "
            "or take it out of the model"
        )
    if not name:
        raise TaskError(
            f"a joint of {where} has no name, so {JOINTS} cannot carry it; give it one: "
            '<joint name="..."/>'
        )
    return name


def flex_at(model: mujoco.MjModel, body: int) -> str:
    """Name of the flex that has a body for a vertex or node; empty where there is none."""
    for i in range(model.nflex):
        vertices = model.flex_vertbodyid[model.flex_vertadr[i] :][: model.flex_vertnum[i]]
        nodes = model.flex_nodebodyid[model.flex_nodeadr[i] :][: model.flex_nodenum[i]]
        if body in vertices or body in nodes:
            return mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_FLEX, i) or str(i)
    return ""
