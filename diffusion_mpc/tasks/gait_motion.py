"""Motion of a gait's feet as targets of the servos, for plans to be searched round.

A sampling planner that starts from a robot at rest has to find every step by chance. The gait's own
steps, without balance, are a better start, and it then has to find what they lack.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
import torch

from diffusion_mpc.tasks.actions import is_position_servo
from diffusion_mpc.tasks.gaits import Gait
from diffusion_mpc.types import Array

DAMPING = 0.02
"""Damping of the inverse kinematics, m: a leg that is nearly straight is not asked for much."""


class GaitMotion:
    """Servo targets that put the feet where a gait has them, to first order round the nominal pose.

    In stance a foot is swept backwards at the commanded velocity; in swing it comes forward
    (Raibert, Legged Robots That Balance, 1986, without the feedback: that is the planner's).
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        base: str,
        feet: Sequence[tuple[int, Array]],
    ) -> None:
        """Invert the kinematics of the legs.

        Args:
            model: the robot's model
            data: at its nominal pose
            base: body with the free joint
            feet: body and place (3,) of each foot, m, world
        """
        servos = [i for i in range(model.nu) if is_position_servo(model, i)]
        joints = model.actuator_trnid[servos, 0]
        dofs, gears = model.jnt_dofadr[joints], model.actuator_gear[servos, 0]
        to_base = data.body(base).xmat.reshape(3, 3).T
        self._places = np.zeros((len(feet), 3))
        self._targets = np.zeros((len(feet), model.nu, 3))
        jacobian = np.zeros((3, model.nv))
        for foot, (body, place) in enumerate(feet):
            mujoco.mj_jac(model, data, jacobian, None, place, body)
            self._places[foot] = to_base @ (place - data.body(base).xpos)
            self._targets[foot, servos] = gears[:, None] * _inverse(to_base @ jacobian[:, dofs])

    def targets(self, gait: Gait, times: Array, velocity: Array) -> Array:
        """Targets (n, nu) less those of the nominal pose, in actuator units, at times (n,), s.

        Args:
            gait: heights and strides of the feet
            times: (n,) s
            velocity: (3,) forward and lateral, m/s, and yaw rate, rad/s, in the heading frame
        """
        instants = torch.from_numpy(times)
        heights, strides = gait.heights(instants).numpy(), gait.strides(instants).numpy()
        forward, left, turn = velocity
        x, y, _ = self._places.T
        ahead = np.stack([strides * (forward - turn * y), strides * (left + turn * x), heights], -1)
        return np.einsum("fud,nfd->nu", self._targets, ahead)


def _inverse(jacobian: Array) -> Array:
    """Damped least-squares inverse (n, 3) of a Jacobian (3, n)."""
    square = jacobian @ jacobian.T + DAMPING**2 * np.eye(len(jacobian))
    return np.asarray(np.linalg.solve(square, jacobian).T)
