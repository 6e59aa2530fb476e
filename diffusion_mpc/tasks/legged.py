"""Base classes of robots that walk as `cmd_vel` says.

A user names model, base and feet:

    class Go(Quadruped):
        name = "go"
        model_path = Path("go.xml")
        base = "trunk"
        feet = ("FL", "FR", "RL", "RR")

Cost terms, falls and parameters come with the class; see docs/add-your-robot.md.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import mujoco
import numpy as np
import torch

from diffusion_mpc.tasks.actions import ActionScale, ServoReach
from diffusion_mpc.tasks.base import Task, TaskError, cost, linear
from diffusion_mpc.tasks.cost import columns, constant
from diffusion_mpc.tasks.gait_motion import GaitMotion
from diffusion_mpc.tasks.gaits import Gait, find_gait
from diffusion_mpc.tasks.model_file import CONTACT, SINGLE, ModelFile, Sensors, compile_spec
from diffusion_mpc.tasks.observation import everywhere
from diffusion_mpc.tasks.servos import Gains, as_servos
from diffusion_mpc.tasks.stance import FAR, clearance, geoms_of, on_the_ground, posed, sole
from diffusion_mpc.tasks.terms import follows, heading_velocity, off_balance
from diffusion_mpc.types import Array, Reference, ReferenceTensors, RolloutBatch

if TYPE_CHECKING:
    from torch import Tensor

STANDING = 0.05
"""Commanded velocity, m/s or rad/s, below which the robot stands."""

BORNE = 0.2
"""Fraction of the robot's weight on anything but its feet that counts as a fall."""


class LeggedRobot(Task):
    """Base class of walking robots.

    Attributes:
        base: body with the free joint
        feet: their sites, geoms or bodies, in the order of the gait's phases. A site stands for all
            geoms of its body, and a body for its lowest point; they are what may carry weight
        keyframe: the nominal pose, in which the robot stands on the ground with all feet, and
            which its servos' targets are centred on
        pose: the nominal pose of a robot that has no such keyframe: angles by joint, or by a
            pattern such as `*_calf`, the others 0; the base is put where the feet touch the ground
        servos: gains of the joint controllers of a robot whose model has motors; it is planned for,
            commanded and simulated as one with position servos
        action_scale: as `Task.action_scale`; by default targets of servos move by 0.5 rad round the
            nominal pose, and motors have their whole range
        gait: name of a gait, see `GAITS`, or a gait of one's own
        free_joints: joints, by name or pattern, that the posture does not hold
        nominal_height: of the base in the nominal pose above its feet's lowest, m
        weight: of the robot, N
    """

    reference = "cmd_vel"
    keyframe = "home"
    pose: ClassVar[Mapping[str, float]] = {}
    servos: ClassVar[Gains] = {}
    action_scale: ClassVar[ActionScale] = ServoReach(0.5)
    feet: ClassVar[tuple[str, ...]]
    gait: ClassVar[str | Gait]
    free_joints: ClassVar[tuple[str, ...]] = ()
    demo = {"command.vx": 0.5}
    trial_duration = 8.0

    def __init__(self, model_path: str | Path | ModelFile = "") -> None:
        """Read the model; see `Task`.

        Raises:
            TaskError: it has no such base, foot or keyframe
        """
        if self.base is None:
            raise TaskError(f"task '{self.name}' names no base, the body with the free joint")
        self._posed: list[float] | None = None
        self._soles: dict[str, list[float]] | None = None
        self.chosen_gait = find_gait(self.gait, len(self.feet))
        self.mirror_time = self.chosen_gait.mirror_time()
        super().__init__(model_path)
        data = self.initial_data(self.model)
        body = self.model.body(self.base)
        self._qpos = int(self.model.jnt_qposadr[body.jntadr[0]])
        self._qvel = int(self.model.jnt_dofadr[body.jntadr[0]])
        gravity = float(np.linalg.norm(self.model.opt.gravity))
        self.weight = float(self.model.body_subtreemass[body.id]) * gravity
        self._fall_time = math.sqrt(data.subtree_com[body.id][2] / gravity)
        clearances = [self._clearance(data, foot) for foot in self.feet]
        self._standing = tuple(
            float(data.sensor(f"{foot}_position").data[2]) - clearance
            for foot, clearance in zip(self.feet, clearances, strict=True)
        )
        self.nominal_height = float(data.qpos[self._qpos + 2]) - float(np.mean(clearances))
        holding = [
            i
            for i in range(self.model.njnt)
            if int(self.model.jnt_type[i]) in SINGLE
            and self.model.body_rootid[self.model.jnt_bodyid[i]] == body.rootid
            and not any(fnmatch.fnmatchcase(self.model.joint(i).name, p) for p in self.free_joints)
        ]
        self._joints = tuple(int(self.model.jnt_qposadr[i]) for i in holding)
        self._nominal = tuple(data.qpos[list(self._joints)].tolist())

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Make servos of motors; add the keyframe of the pose, and sites to feet that are bodies.

        Raises:
            TaskError: the model has no such base, joint or foot
        """
        base = str(self.base)
        if spec.body(base) is None:
            raise TaskError(f"model '{self.path}' has no body '{base}', the base")
        if not any(j.type == mujoco.mjtJoint.mjJNT_FREE for j in spec.body(base).joints):
            raise TaskError(f"body '{base}', the base of task '{self.name}', has no free joint")
        as_servos(spec, self.servos)
        key = spec.key(str(self.keyframe))
        if key is not None and self.servos:
            # Its controls were the motors'.
            key.ctrl = []
        if self.pose:
            if key is not None:
                spec.delete(key)
            if self._posed is None:
                model = compile_spec(spec, f"model '{self.path}' cannot be used")
                self._posed = on_the_ground(model, posed(model, self.pose), base).tolist()
            key = spec.add_key(name=self.keyframe, qpos=self._posed)
        elif key is None:
            raise TaskError(
                f"model '{self.path}' has no keyframe '{self.keyframe}'; name the nominal pose's "
                "keyframe, or give its angles as 'pose'"
            )
        self._add_soles(spec, key)

    def _add_soles(self, spec: mujoco.MjSpec, key: mujoco.MjsKey) -> None:
        """Put a site under each foot that is named by its body."""
        bodies = [f for f in self.feet if spec.site(f) is None and spec.geom(f) is None]
        if bodies and self._soles is None:
            for foot in bodies:
                if spec.body(foot) is None:
                    raise TaskError(
                        f"model '{self.path}' has no site, geom or body '{foot}', a foot"
                    )
            model = compile_spec(spec, f"model '{self.path}' cannot be used")
            qpos = model.key_qpos[model.key(key.name).id]
            self._soles = {
                foot: sole(model, on_the_ground(model, qpos, str(self.base), 0.1), foot).tolist()
                for foot in bodies
            }
        for foot, position in (self._soles or {}).items():
            spec.body(foot).add_site(name=foot, pos=position)

    def _clearance(self, data: mujoco.MjData, foot: str) -> float:
        """Distance (m) of a foot from the ground in the nominal pose; negative: it is in it.

        Keyframes are often a little above the ground or in it.
        """
        found = clearance(self.model, data, self._geoms(foot))
        if found >= FAR:
            raise TaskError(
                f"there is no ground below foot '{foot}' in model '{self.path}'; add a plane to "
                "its worldbody, or load the scene that has one"
            )
        return found

    def _geoms(self, foot: str) -> list[int]:
        """Geoms of a foot: those of its site's body, or the one of that name."""
        site = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, foot)
        if site < 0:
            return [int(self.model.geom(foot).id)]
        return geoms_of(self.model, int(self.model.site_bodyid[site]))

    def required_sensors(self, spec: mujoco.MjSpec) -> Sensors:
        """Sensors of the base and of each foot, beside the task's own."""
        base = str(self.base)
        found = {
            **self.sensors,
            "base_velocity": ("framelinvel", "xbody", base),
            "base_forward": ("framexaxis", "xbody", base),
            "base_up": ("framezaxis", "xbody", base),
            "base_contact": (CONTACT, "xbody", base),
            "mass_position": ("subtreecom", "body", base),
            "mass_velocity": ("subtreelinvel", "body", base),
        }
        for foot in self.feet:
            kind, contact = self._foot(spec, foot)
            found[f"{foot}_position"] = ("framepos", kind, foot)
            found[f"{foot}_velocity"] = ("framelinvel", kind, foot)
            found[f"{foot}_contact"] = (CONTACT, *contact)
        return found

    def _foot(self, spec: mujoco.MjSpec, foot: str) -> tuple[str, tuple[str, str]]:
        """Type of object that a foot is, and what of it touches the ground."""
        if (site := spec.site(foot)) is not None:
            return "site", ("body", site.parent.name)
        return "geom", ("geom", foot)

    @cost(weight=2.0, unit="m/s")
    def velocity(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Horizontal velocity of the base, in its heading frame, against the commanded one."""
        return heading_velocity(x) - reference.velocity[:2]

    @cost(weight=0.5, unit="rad/s")
    def yaw_rate(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Yaw rate of the base against the commanded one."""
        return x.qvel[..., self._qvel + 5] - reference.velocity[2]

    @cost(weight=10.0, norm=linear)
    def upright(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Tilt of the base's own vertical from the world's: 1 - cos(tilt)."""
        return 1.0 - x.sensor("base_up")[..., 2]

    @cost(weight=1.0, unit="nominal height / 6")
    def height(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Height of the base against that of the nominal pose."""
        return (x.qpos[..., self._qpos + 2] - self.nominal_height) * (6.0 / self.nominal_height)

    @cost(weight=0.25, unit="swing height")
    def foot_heights(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Heights of the feet against those of the gait; all on the ground to stand."""
        wanted = self.chosen_gait.heights(reference.times).to(x.qpos) * moves(reference)
        unit = max(self.chosen_gait.swing_height, 0.02)
        return (self.lifts(x) - wanted) / unit

    @cost(weight=20.0, unit="m")
    def balance(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Distance of the feet's middle from where it keeps the robot at the commanded velocity.

        An inverted pendulum comes to rest over a foot put at `position + velocity * sqrt(height /
        gravity)` of its mass, the capture point (Pratt et al., Humanoids 2006). Here the velocity
        counts from the commanded one.
        """
        feet = [self._columns(x, "position", axis).mean(-1) for axis in (0, 1)]
        return off_balance(x, torch.stack(feet, -1), self._fall_time, reference.velocity[:2])

    @cost(weight=0.1, unit="m/s")
    def foot_slip(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Horizontal speed of the feet that carry weight."""
        over = [self._columns(x, "velocity", axis) for axis in (0, 1)]
        return torch.cat([component * self.loaded(x) for component in over], dim=-1)

    @cost(weight=1.0, norm=linear)
    def other_contacts(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Fraction of the robot's weight that anything but its feet carries."""
        return self.borne(x)

    @cost(weight=0.2, unit="rad")
    def posture(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the joints from the nominal pose, without those that are free."""
        nominal = constant(self._nominal, x.qpos.dtype, x.qpos.device)
        return columns(x.qpos, self._joints) - nominal

    @cost(weight=0.02)
    def effort(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Deviation of the controls from the nominal ones, as a fraction of their reach."""
        return self.normalise(x.ctrl)

    @cost(weight=0.02)
    def action_rate(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Change of the controls from one row to the next, as a fraction of their reach."""
        actions = self.normalise(x.ctrl)
        return torch.nn.functional.pad(actions.diff(dim=-2), (0, 0, 1, 0))

    def failed(self, x: RolloutBatch) -> Tensor:
        """Fallen.

        The base leans by more than 60 degrees, is lower than half its nominal height, or
        something other than the feet carries a fifth of the robot's weight.
        """
        low = x.qpos[..., self._qpos + 2] < 0.5 * self.nominal_height
        return (x.sensor("base_up")[..., 2] < 0.5) | low | (self.borne(x) > BORNE)

    def succeeded(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """Whether the robot never fell, and went at half or more of the commanded velocity."""
        return super().succeeded(x, reference) & follows(x, reference.velocity[:2])

    def observation(self, x: RolloutBatch, reference: ReferenceTensors) -> Tensor:
        """As of any floating base, and sine and cosine of the gait's phase."""
        phase = everywhere(self.chosen_gait.direction(reference.times), x)
        return torch.cat([super().observation(x, reference), phase], dim=-1)

    def lifts(self, x: RolloutBatch) -> Tensor:
        """Heights (samples, horizon, feet) of the feet above where they stand, m."""
        return self._columns(x, "position", 2) - constant(
            self._standing, x.qpos.dtype, x.qpos.device
        )

    def loaded(self, x: RolloutBatch) -> Tensor:
        """Whether each foot is on the ground, (samples, horizon, feet), 0 or 1."""
        return (self._columns(x, "contact", 2) != 0.0).to(x.qpos.dtype)

    def borne(self, x: RolloutBatch) -> Tensor:
        """Fraction (samples, horizon) of the robot's weight that anything but its feet carries."""
        feet = self._columns(x, "contact", 2).sum(-1)
        return (x.sensor("base_contact")[..., 2] - feet).abs() / self.weight

    def _columns(self, x: RolloutBatch, quantity: str, axis: int) -> Tensor:
        """One component of a quantity of all feet, (samples, horizon, feet)."""
        slices = x.sensor_slices
        chosen = tuple(slices[f"{foot}_{quantity}"].start + axis for foot in self.feet)
        return columns(x.sensordata, chosen)


class Quadruped(LeggedRobot):
    """Base class of robots with four legs.

    Feet are front left, front right, rear left, rear right.
    """

    gait = "trot"
    weights = {"velocity": 6.0, "foot_heights": 1.0, "upright": 30.0, "balance": 40.0}
    # Rollouts that two slow cores have time for. See docs/experiments/quadruped.md.
    defaults = {
        "model.integrator": "discrete",
        "planner.rate": 25.0,
        "planner.num_samples": 22,
        "planner.iterations": 2,
        "planner.noise_start": 0.45,
        "planner.noise_end": 0.2,
        "planner.temperature": 0.4,
        "planner.horizon_steps": 16,
        "planner.num_knots": 4,
    }

    def __init__(self, model_path: str | Path | ModelFile = "") -> None:
        """Read the model; see `LeggedRobot`."""
        super().__init__(model_path)
        data = self.initial_data(self.model)
        feet = [
            (
                int(self.model.geom_bodyid[self._geoms(foot)[0]]),
                data.sensor(f"{foot}_position").data,
            )
            for foot in self.feet
        ]
        self._motion = GaitMotion(self.model, data, str(self.base), feet)

    def nominal_actions(self, times: Array, reference: Reference) -> Array:
        """Servo targets of the gait; zeros to stand, and of actuators that are no servos."""
        if np.abs(reference.velocity).max() <= STANDING:
            return super().nominal_actions(times, reference)
        targets = self._motion.targets(self.chosen_gait, times, reference.velocity)
        return np.asarray((targets / self.action_reach).clip(-1.0, 1.0))


class Biped(LeggedRobot):
    """Base class of robots with two legs; feet are left, right."""

    gait = "walk"
    weights = {
        "velocity": 8.0,
        "height": 2.3,
        "foot_heights": 0.32,
        "effort": 0.01,
    }
    defaults = {
        "model.integrator": "discrete",
        "planner.rate": 25.0,
        "planner.horizon_steps": 25,
        "planner.num_knots": 4,
        "planner.temperature": 0.4,
        "planner.noise_start": 0.18,
        "planner.noise_end": 0.04,
    }


def moves(reference: ReferenceTensors) -> Tensor:
    """Whether a motion is commanded, 0 or 1, ()."""
    return (reference.velocity.abs().amax() > STANDING).to(reference.velocity.dtype)
