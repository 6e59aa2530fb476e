"""The robot in the page's scene, with its plan, the best samples, and a goal to drag."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from mjviser import ViserMujocoScene
from numpy.typing import NDArray

from diffusion_mpc.live.page_actions import Post
from diffusion_mpc.types import Array

if TYPE_CHECKING:
    import viser

WORLD = "/fixed_bodies"
"""Node of mjviser that all of the world that does not move hangs on."""

PLAN, TRACES = (22, 163, 74), (96, 165, 250)
"""Colours of the plan's path and of the samples'."""


class RobotView:
    """A model as it stands, with the camera at its side."""

    def __init__(
        self, server: viser.ViserServer, post: Post, model: mujoco.MjModel, base: str
    ) -> None:
        """Draw the model in place of what is drawn.

        Args:
            server: server of the page
            post: hands work to the thread that owns the page
            model: the robot with its surroundings
            base: body that the view follows; empty: the robot stays where it is
        """
        self._server, self._post, self.model = server, post, model
        server.scene.reset()
        self._scene = ViserMujocoScene(server, model, num_envs=1)
        # Not mjviser's own tracking, which keeps the height of the robot, too: the floor would bob.
        self._scene.camera_tracking_enabled = False
        server.scene.set_background_image(_sky())
        self._base = model.body(base).id if base else None
        self._data = mujoco.MjData(model)
        if model.nkey:
            mujoco.mj_resetDataKeyframe(model, self._data, 0)
        self.qpos = self._data.qpos.copy()
        self.follow = True
        self._lines: dict[str, Any] = {}
        self._goal: Any = None
        self._dragged = False
        size = float(model.stat.extent)
        position = size * np.array([-1.1, -1.6, 0.95])
        if not np.allclose(position, server.initial_camera.position):
            # A robot of another size; of the same one, people keep their view.
            cameras = [client.camera for client in server.get_clients().values()]
            for camera in (server.initial_camera, *cameras):
                camera.position, camera.look_at = tuple(position), (0.0, 0.0, 0.2 * size)
        self._width = 0.004 * size
        self.draw()

    @property
    def base(self) -> bool:
        """Whether the robot can go anywhere."""
        return self._base is not None

    @property
    def weight(self) -> float:
        """Weight of the robot, N; 0 where it cannot go anywhere."""
        if self._base is None:
            return 0.0
        return float(self.model.body_subtreemass[self._base]) * 9.81

    def draw(self) -> None:
        """Draw the robot at its newest positions."""
        data, offset = self._data, np.zeros(3)
        data.qpos[:] = self.qpos
        mujoco.mj_kinematics(self.model, data)
        if self.follow and self._base is not None:
            offset[:2] = -data.xpos[self._base][:2]
        with self._server.atomic():
            self._scene.update_from_arrays(
                data.xpos[None] + offset,
                data.xmat.reshape(1, -1, 3, 3),
                data.mocap_pos[None] + offset,
                data.mocap_quat[None],
            )
            self._scene.fixed_bodies_frame.position = offset

    def show_paths(self, plan: Array, traces: Array) -> None:
        """Draw paths: the plan's (points, 3), and lines (n, 2, 3) of the best samples."""
        segments = np.stack([plan[:-1], plan[1:]], 1) if len(plan) > 1 else np.zeros((0, 2, 3))
        self._show_lines("samples", traces, TRACES, 1.5 * self._width)
        self._show_lines("plan", segments, PLAN, 5.0 * self._width)

    def _show_lines(
        self, name: str, lines: Array, color: tuple[int, int, int], width: float
    ) -> None:
        lines = np.asarray(lines, np.float32)
        if name in self._lines:
            self._lines[name].visible = bool(len(lines))
            if len(lines):
                self._lines[name].points = lines
        elif len(lines):
            self._lines[name] = self._server.scene.add_line_segments(
                f"{WORLD}/{name}", lines, color, thickness=width
            )

    def offer_goal(self, pursue: Callable[[Array, Array], None]) -> None:
        """Add a goal to drag; `pursue` is called with its position (3,) and quaternion wxyz (4,).

        Both are in the world frame.
        """
        size = 0.25 * float(self.model.stat.extent)
        self._goal = self._server.scene.add_transform_controls(
            f"{WORLD}/goal", scale=size, depth_test=False, opacity=0.8
        )

        def on_update(event: viser.TransformControlsEvent) -> None:
            place = np.array(event.target.position), np.array(event.target.wxyz)
            self._dragged = event.phase != "end"
            if event.phase == "end":
                self._post(partial(pursue, *place))

        self._goal.on_update(on_update)

    def show_goal(self, position: Array, quaternion: Array) -> None:
        """Show the goal that plans pursue: position (3,) in m, quaternion wxyz (4,)."""
        if self._goal is not None and not self._dragged:
            self._goal.position, self._goal.wxyz = position, quaternion


def _sky() -> NDArray[np.uint8]:
    """Background, (height, width, 3): light above, lighter towards the horizon."""
    height = np.linspace(0.0, 1.0, 64)[:, None, None]
    top, horizon = np.array([203.0, 219.0, 236.0]), np.array([250.0, 251.0, 253.0])
    return (top + (horizon - top) * height.clip(0.0, 0.5) * 2.0).astype(np.uint8).repeat(8, axis=1)
