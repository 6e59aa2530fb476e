"""Commands that run a robot in simulation."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from diffusion_mpc.arguments import CommandError, OutputFile, SetOption, parse_settings, write_json


def demo(
    task: str = "ant",
    /,
    *,
    page: bool = False,
    no_video: bool = False,
    json: OutputFile = None,
) -> int:
    """Show a robot walking in simulation over ROS 2 for 20 s; write bag, report, plot and video.

    example: diffusion-mpc demo quadruped

    Args:
        task: name of the task, or a Python file that defines one
        page: serve the live page, until Ctrl-C
        no_video: do not render the video
        json: file to write the figures to
    """
    simulation = _simulation()
    folder = simulation.new_run_folder()
    summary = simulation.simulate(
        task, duration=0.0 if page else 20.0, folder=folder, video=not no_video, page=page
    )
    write_json(summary, json)
    return 0


def sim(
    task: str,
    /,
    *,
    duration: float | None = None,
    lockstep: bool = False,
    record: Path | None = None,
    video: bool = False,
    viewer: bool = False,
    page: bool = False,
    params_file: Path | None = None,
    settings: SetOption = (),
    json: OutputFile = None,
) -> int:
    """Run a task in simulation: planner, simulated robot and recorder as nodes of their own.

    example: diffusion-mpc sim ant --duration 30 --set command.vx=2.0 --json out.json

    Args:
        task: name of the task, or a Python file that defines one
        duration: simulated time in s; 0: until Ctrl-C (default: 20, with --page 0)
        lockstep: the simulation waits for every command: the same result every time
        record: new folder for bag, report and plot
        video: with --record: render a video as well
        viewer: open MuJoCo's viewer window
        page: serve the live page: the robot, sliders and plots in the browser
        params_file: ROS parameter file for the nodes
        settings: planner parameter, or sim.NAME=VALUE; can be repeated
        json: file to write the figures to
    """
    if video and record is None:
        raise CommandError("--video needs --record DIR, the folder to write the video to")
    texts = parse_settings(settings)
    summary = _simulation().simulate(
        task,
        duration=duration if duration is not None else 0.0 if page else 20.0,
        folder=record,
        video=video,
        lockstep=lockstep,
        headless=not viewer,
        page=page,
        params_file=str(params_file or ""),
        settings=texts,
    )
    write_json(summary, json)
    return 0


def _simulation() -> ModuleType:
    if importlib.util.find_spec("rclpy") is None:
        raise CommandError("this needs ROS 2 (rclpy): use ./dmpc, or source a ROS 2 distribution")
    from diffusion_mpc.bringup import simulate

    return simulate
