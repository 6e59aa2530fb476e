"""From the description of what runs (`bringup`) to actions of `ros2 launch`.

Imported by launch files only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

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

from diffusion_mpc.bringup.description import (
    ARGUMENTS,
    Argument,
    Options,
    Process,
    isolation,
    processes,
)


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
        started = [_node(process) for process in describe(Options.from_texts(texts))]
        return [
            *started,
            *[
                RegisterEventHandler(OnProcessExit(target_action=action, on_exit=_ended))
                for action in started
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
        name=process.name,
        namespace=process.namespace,
        # With its type: launch would read the text of a name such as 2026 or "on" as YAML.
        parameters=[
            {
                name: ParameterValue(value, value_type=type(value))
                for name, value in process.parameters.items()
            }
        ],
        output="screen",
        emulate_tty=sys.stdout.isatty(),
    )


def _ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the others, except after the recorder, which ends a moment before the simulation.

    Raises:
        RuntimeError: the node failed; with this, launch ends the others too, and its own exit code
            is 1
    """
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} failed with exit code {event.returncode}")
    recorder = event.process_name.startswith("recorder")
    return [] if recorder else [EmitEvent(event=Shutdown(reason=f"{event.process_name} has ended"))]
