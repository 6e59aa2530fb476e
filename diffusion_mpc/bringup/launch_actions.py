"""From the description of what runs (`bringup`) to actions of `ros2 launch`.

Imported by launch files only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from diffusion_mpc.bringup.description import ARGUMENTS, Argument, Options, isolation, processes
from diffusion_mpc.node_processes import Process

RESPAWN_DELAY = 1.0
"""Time from the end of a node to its next start, s."""


def simulation(task: str) -> LaunchDescription:
    """A simulation: planner, simulated robot and, when asked, a recorder.

    Args:
        task: default of the argument `task`
    """
    environment = isolation()
    told = "to reach the nodes from another terminal: export " + " ".join(
        f"{name}={value}" for name, value in environment.items()
    )
    arguments = [replace(a, default=task) if a.name == "task" else a for a in ARGUMENTS]
    return LaunchDescription(
        [
            *[SetEnvironmentVariable(name, value) for name, value in environment.items()],
            LogInfo(msg=told),
            *actions(arguments, processes),
        ]
    )


def actions(
    arguments: Sequence[Argument], describe: Callable[[Options], list[Process]]
) -> list[Action]:
    """Actions of a launch file: its arguments, and the nodes that `describe` makes of them."""

    def nodes(context: LaunchContext) -> list[Action]:
        texts = {
            argument.name: LaunchConfiguration(argument.name).perform(context)
            for argument in arguments
        }
        started = {_node(process): process for process in describe(Options.from_texts(texts))}
        return [
            *started,
            *[
                RegisterEventHandler(
                    OnProcessExit(target_action=action, on_exit=partial(_ended, process))
                )
                for action, process in started.items()
            ],
        ]

    declared = [
        DeclareLaunchArgument(
            a.name,
            default_value=a.default,
            description=a.description,
            choices=list(a.choices) or None,
        )
        for a in arguments
    ]
    return [*declared, OpaqueFunction(function=nodes)]


def _node(process: Process) -> Node:
    return Node(
        package="diffusion_mpc",
        executable=f"{process.name}_node",
        name=process.node or process.name,
        namespace=process.namespace,
        # With its type: launch would read the text of a name such as 2026 or "on" as YAML.
        parameters=[
            {
                name: ParameterValue(value, value_type=type(value))
                for name, value in process.parameters.items()
            }
        ],
        respawn=process.respawn,
        respawn_delay=RESPAWN_DELAY,
        output="screen",
        emulate_tty=sys.stdout.isatty(),
    )


def _ended(process: Process, event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the others, except after a node that is started again or that they can do without.

    A recorder ends a moment before the simulation.

    Raises:
        RuntimeError: the node failed; with this, launch ends the others too, and its own exit code
            is 1
    """
    if context.is_shutdown:
        return []
    told = f"{event.process_name} has ended with exit code {event.returncode}"
    if process.respawn:
        return [LogInfo(msg=f"{told}; it is started again")]
    if process.helper:
        return [LogInfo(msg=f"{told}; the others go on without it")]
    if event.returncode != 0:
        raise RuntimeError(f"{event.process_name} failed with exit code {event.returncode}")
    return [] if process.name == "recorder" else [EmitEvent(event=Shutdown(reason=told))]
