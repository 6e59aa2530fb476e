"""Video of the measured states, with paths of plans where there are some.

Rendering has a process of its own: MuJoCo chooses its renderer when it is imported, long before a
video is asked for. And a graphics driver that crashes must not take the rest of the evaluation with
it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mujoco
import numpy as np

from diffusion_mpc.evaluation.drawn_paths import DrawnPaths
from diffusion_mpc.evaluation.metrics import Measured, measure
from diffusion_mpc.evaluation.recorded_run import RecordedRun, read_run
from diffusion_mpc.names import ActuatorKind
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.model_file import OWN, ModelFile
from diffusion_mpc.types import Array

WIDTH, HEIGHT, RATE = 640, 360, 30


class RendererUnavailableError(RuntimeError):
    """This machine cannot render or encode; the message is one line with the reason."""


@dataclass(frozen=True)
class _Order:
    """Arguments of `write_video`, for the process that renders."""

    bag: str
    task_name: str
    file: str
    model_path: str
    model_actuators: str
    namespace: str | None
    paths: str | None


def write_video(
    bag: Path,
    task_name: str,
    file: Path,
    model: ModelFile = OWN,
    namespace: str | None = None,
    paths: Path | None = None,
) -> None:
    """Render a run in real time: 640 x 360, 30 frames per second, H.264. Shows its progress.

    Args:
        bag: rosbag2 folder or .mcap file
        task_name: name of the task, or a Python file that defines one
        file: where to write; replaced where it exists
        model: what is given in place of the task's own model
        namespace: namespace of the robot; None: the bag holds only one
        paths: file of `DrawnPaths` to draw; None: none

    Raises:
        RendererUnavailableError: there is no renderer or no encoder, or it failed
    """
    # EGL needs no display, and Mesa's renders in software where there is no GPU; macOS has a way of
    # its own.
    environment = {**({"MUJOCO_GL": "egl"} if sys.platform == "linux" else {}), **os.environ}
    drawn = None if paths is None else str(paths)
    order = _Order(str(bag), task_name, str(file), model.path, model.actuators, namespace, drawn)
    command = [sys.executable, "-m", __name__, json.dumps(asdict(order))]
    done = subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    if done.returncode != 0:
        file.unlink(missing_ok=True)
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        ending = f"the renderer ended with code {done.returncode} and no word"
        raise RendererUnavailableError(lines[-1] if lines else ending)


def _frames(
    run: RecordedRun,
    task: Task,
    renderer: Any,  # noqa: ANN401  (mujoco.Renderer)
    measured: Measured,
    paths: DrawnPaths | None,
) -> Iterator[Array]:
    """Images (HEIGHT, WIDTH, 3) of 8-bit colours at even times, interpolated where need be."""
    from PIL import Image, ImageDraw, ImageFont

    model, data = task.model, mujoco.MjData(task.model)
    camera = 0 if model.ncam else _following(task)
    texts = captions(run, task, measured)
    font = ImageFont.load_default(size=15)
    goal = _goal_body(model)
    stamps, step = run.states.stamps - run.states.stamps[0], np.empty(model.nv)
    for time in frame_times(run):
        row = (
            min(int(np.searchsorted(stamps, time, side="right")) - 1, len(stamps) - 2)
            if len(stamps) > 1
            else 0
        )
        data.qpos[:] = run.states.qpos[row]
        if len(stamps) > 1 and stamps[row + 1] > stamps[row]:
            fraction = (time - stamps[row]) / (stamps[row + 1] - stamps[row])
            mujoco.mj_differentiatePos(
                model, step, 1.0, run.states.qpos[row], run.states.qpos[row + 1]
            )
            mujoco.mj_integratePos(model, data.qpos, step, float(fraction))
        if goal is not None:
            data.mocap_pos[goal], data.mocap_quat[goal] = (
                measured.goal[row, :3],
                measured.goal[row, 3:],
            )
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera=camera)
        if paths is not None:
            paths.draw(renderer.scene, run.states.stamps[0] + time, model.stat.extent)
        image = Image.fromarray(renderer.render())
        ImageDraw.Draw(image).text(
            (12, 8), texts[row], "white", font, stroke_width=1, stroke_fill="#333333"
        )
        yield np.asarray(image)


def _following(task: Task) -> mujoco.MjvCamera:
    """Camera for a model that has none: it follows the base, where there is one."""
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(task.model, camera)
    if task.base is not None:
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        camera.trackbodyid = task.model.body(task.base).id
    return camera


def frame_times(run: RecordedRun) -> Array:
    """Times of the frames, s from the first state on."""
    return np.arange(int(np.ptp(run.states.stamps) * RATE + 1e-6) + 1) / RATE


def _goal_body(model: mujoco.MjModel) -> int | None:
    """Number of the mocap body that shows the goal; None: no body does."""
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "goal")
    return int(model.body_mocapid[body]) if body >= 0 and model.body_mocapid[body] >= 0 else None


def captions(run: RecordedRun, task: Task, measured: Measured) -> list[str]:
    """A line for every state.

    Its time, and the commanded and measured velocity or the distance from the goal.
    """
    texts = [f"{time:5.1f} s" for time in run.states.stamps - run.states.stamps[0]]
    for name, error in measured.goal_errors.items():
        what, unit = name.rsplit("_", 1)
        texts = [
            f"{text}   {what} off {value:.2f} {unit}"
            for text, value in zip(texts, error, strict=True)
        ]
    if task.reference != "cmd_vel" or measured.velocity is None:
        return texts
    # Averaged over half a second: the numbers must stand long enough to be read.
    width = min(
        len(texts), max(1, round(0.5 * len(texts) / max(float(np.ptp(run.states.stamps)), 1e-9)))
    )
    smooth = [
        np.convolve(column, np.full(width, 1.0 / width), mode="same")
        for column in measured.velocity.T
    ]
    lines = zip(texts, measured.reference, np.stack(smooth, axis=1), strict=True)
    return [
        f"{text}   commanded {_velocity(asked)}   measured {_velocity(got)}"
        for text, asked, got in lines
    ]


def _velocity(v: Array) -> str:
    if np.isnan(v).any():
        return "–"
    return f"{v[0]:+.1f}, {v[1]:+.1f} m/s, {v[2]:+.1f} rad/s"


def _render(order: _Order) -> None:
    import imageio_ffmpeg
    from rich.progress import track

    model = ModelFile(order.model_path, cast(ActuatorKind, order.model_actuators))
    task = find_task(order.task_name)(model)
    run = read_run(Path(order.bag), task, order.namespace)
    paths = None if order.paths is None else DrawnPaths.load(Path(order.paths))
    if not len(run.states.stamps):
        raise RendererUnavailableError("the bag holds no states")
    visual = task.model.vis
    # Software rendering takes most of its time for smooth edges, mirrors and the resolution of
    # shadows.
    visual.quality.offsamples, visual.quality.shadowsize = 0, 1024
    visual.global_.offwidth, visual.global_.offheight = WIDTH, HEIGHT
    with _renderer(task.model) as renderer:
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        writer = imageio_ffmpeg.write_frames(
            order.file,
            (WIDTH, HEIGHT),
            fps=RATE,
            codec="libx264",
            pix_fmt_out="yuv420p",
            macro_block_size=8,
            output_params=["-preset", "veryfast", "-crf", "23", "-movflags", "+faststart"],
            quality=None,
        )
        writer.send(None)
        frames = _frames(run, task, renderer, measure(run, task), paths)
        silent = not sys.stdout.isatty()
        for frame in track(
            frames, "rendering", total=len(frame_times(run)), transient=True, disable=silent
        ):
            writer.send(np.ascontiguousarray(frame))
        writer.close()


def _renderer(model: mujoco.MjModel) -> Any:  # noqa: ANN401  (mujoco.Renderer)
    try:
        return mujoco.Renderer(model, HEIGHT, WIDTH)
    except Exception as error:
        # Each kind of renderer has errors of its own, and without any the class is not even there.
        platform = os.environ.get("MUJOCO_GL", "unset")
        raise RendererUnavailableError(
            f"MuJoCo has no renderer here (MUJOCO_GL is {platform}; {error})"
        ) from error


def main(arguments: list[str]) -> int:
    """Render; the last line on standard error is the reason where that fails."""
    try:
        _render(_Order(**json.loads(arguments[0])))
    except Exception as error:
        # Whatever a graphics driver or an encoder raises, the caller goes on without the video.
        kind = "" if isinstance(error, RendererUnavailableError) else f"{type(error).__name__}: "
        sys.stderr.write(f"{kind}{' '.join(str(error).split())}\n")
        sys.stderr.flush()
        # Half-made contexts may crash on the way out and push the reason off the last line.
        os._exit(1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
