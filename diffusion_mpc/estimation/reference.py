"""The reference of plans: from messages, or from parameters while none has come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffusion_mpc.config import CommandConfig, GoalConfig, PlannerNodeConfig, fields
from diffusion_mpc.estimation.checks import (
    MessageRejectedError,
    normalised,
    require_finite,
    require_near,
)
from diffusion_mpc.estimation.frames import pose_to_goal
from diffusion_mpc.estimation.transforms import Transforms
from diffusion_mpc.rotations import yaw_to_quaternion
from diffusion_mpc.types import Array, Reference

VELOCITY, GOAL = "cmd_vel", "goal_pose"


def parameter_reference(config: PlannerNodeConfig) -> Reference:
    """The reference that parameters name: `command.*` as velocity, `goal.*` as pose."""
    command, goal = config.command, config.goal
    return Reference(
        velocity=np.array([command.vx, command.vy, command.yaw_rate]),
        pose=np.array([goal.x, goal.y, goal.z, *yaw_to_quaternion(goal.yaw)]),
    )


class Bounds:
    """Bounds of a quantity that messages bring, those of the parameters that stand in for them.

    Attributes:
        clamped: number of messages that lay beyond
        text: what was clamped in the newest one; empty: nothing
    """

    def __init__(self, topic: str, config: type, names: Sequence[str]) -> None:
        """Take the bounds of the parameters `names`, one for each component."""
        known = {p.name: p for p in fields(config)}
        self._topic, self._parameters = topic, [known[name] for name in names]
        self._low, self._high = (
            np.array([getattr(p, end) for p in self._parameters]) for end in ("low", "high")
        )
        self.clamped, self.text = 0, ""

    def clamp(self, values: Array) -> Array:
        """The values (n,) within the bounds."""
        within = np.clip(values, self._low, self._high)
        beyond = np.flatnonzero(within != values).tolist()
        self.clamped += bool(beyond)
        self.text = ", ".join(
            f"{self._topic}: {p.name} of {values[i]:.3g} clamped to {within[i]:g} {p.unit}"
            for i, p in enumerate(self._parameters)
            if i in beyond
        )
        return within


class ReferenceKeeper:
    """The newest good message of the kind that the task asks for.

    A velocity ages, from its stamp on; a goal stands until the next one comes, in its own frame.
    One that comes after a newer one is left out.
    """

    def __init__(self, kind: str, transforms: Transforms) -> None:
        """Nothing has come; `kind` as `Task.reference`."""
        self.kind, self._transforms = kind, transforms
        self._velocity: tuple[float, Array] | None = None
        self._goal: tuple[float, str, Array] | None = None
        self.bounds = (
            Bounds(GOAL, GoalConfig, ("x", "y", "z"))
            if kind == GOAL
            else Bounds(VELOCITY, CommandConfig, ("vx", "vy", "yaw_rate"))
        )

    def update_velocity(self, born: float, velocity: Array, frame: str = "") -> None:
        """Take a velocity.

        Args:
            born: steady time of its stamp, s
            velocity: (3,) forward and lateral velocity, m/s, and yaw rate, rad/s
            frame: frame that it is in; that of the robot, by whatever name

        Raises:
            MessageRejectedError: NaN or infinite value, or the frame is the world's
        """
        require_finite(VELOCITY, velocity)
        if frame and frame.removeprefix("/") == self._transforms.world:
            raise MessageRejectedError(
                f"{VELOCITY}: in frame '{frame}', the world's; it must be in the robot's own"
            )
        if self._velocity is None or born >= self._velocity[0]:
            self._velocity = (born, self.bounds.clamp(velocity))

    def update_goal(
        self, born: float, position: Array, quaternion_xyzw: Array, frame: str = ""
    ) -> None:
        """Take a goal.

        Args:
            born: steady time of its stamp, s
            position: (3,) m
            quaternion_xyzw: (4,) unit quaternion
            frame: frame that both are in; empty: the odometry's

        Raises:
            MessageRejectedError: NaN or infinite value, a quaternion that is not of unit length to
                within 1 %, or a frame that nothing leads from
        """
        require_finite(GOAL, (*position, *quaternion_xyzw))
        pose = pose_to_goal(position, normalised(GOAL, quaternion_xyzw))
        # Before the first odometry, nobody can tell.
        if self._transforms.world is not None:
            self._transforms.require(GOAL, frame, pose)
        if self._goal is None or born >= self._goal[0]:
            pose[:3] = self.bounds.clamp(pose[:3])
            self._goal = (born, frame, pose)

    def require_near(self, age: float, config: PlannerNodeConfig) -> None:
        """Check the age (s) of a message by its stamp.

        Raises:
            MessageRejectedError: the stamp is too far behind this node's clock, or ahead
        """
        limit, parameter = (
            (config.goal.max_age, "goal.max_age")
            if self.kind == GOAL
            else (config.command.timeout, "command.timeout")
        )
        require_near(self.kind, age, limit, limit, parameter)

    def waiting_for(self, config: PlannerNodeConfig) -> list[str]:
        """Messages without which there is nothing to pursue; empty where there is something."""
        if self.kind != GOAL:
            return []
        if self._goal is None:
            return [GOAL] if config.goal.wait else []
        _, frame, pose = self._goal
        world = self._transforms.world
        if world is None or self._transforms.to_world(frame, pose) is not None:
            return []
        return [f"a transform from '{frame}' of {GOAL} to '{world}'"]

    def reference(self, steady: float, config: PlannerNodeConfig) -> Reference:
        """Reference at a steady time, s."""
        given = parameter_reference(config)
        if self.kind == VELOCITY:
            newest = self._velocity
            if newest is not None and steady - newest[0] < config.command.timeout:
                return Reference(velocity=newest[1])
            return Reference(velocity=given.velocity)
        if self.kind == GOAL:
            goal = self._goal and self._transforms.to_world(*self._goal[1:])
            return Reference(pose=given.pose if goal is None else goal)
        return Reference()

    def clamping(self, steady: float, config: PlannerNodeConfig) -> str:
        """Parts clamped of the message in force at a steady time, s; empty: none."""
        newest = self._velocity
        over = newest is not None and steady - newest[0] >= config.command.timeout
        return "" if self.kind == VELOCITY and over else self.bounds.text
