"""The ant in simulation: planner, simulated robot and, when asked, a recorder.

ros2 launch diffusion_mpc ant_sim.launch.py duration:=20.0 record:=/tmp/ant_bag
"""

import sys

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

from diffusion_mpc.ros.bringup import ARGUMENTS, Options, Process, isolation, processes


def node(process: Process) -> Node:
    return Node(
        package="diffusion_mpc",
        executable=f"{process.name}_node",
        name=process.name,
        # With its type: launch would read the text of a name such as 2026 or "on" as YAML.
        parameters=[{name: ParameterValue(value, value_type=type(value)) for name, value in process.parameters.items()}],
        output="screen",
        emulate_tty=sys.stdout.isatty(),
    )


def nodes(context: LaunchContext) -> list[Action]:
    texts = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    started = [node(process) for process in processes(Options.from_texts(texts))]
    return [*started, *[RegisterEventHandler(OnProcessExit(target_action=action, on_exit=ended)) for action in started]]


def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """Ends the others, except after the recorder, which is done a moment before the simulation that it records.

    Raises:
        RuntimeError: the node failed; with this, launch ends the others too, and its own exit code is 1
    """
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} failed with exit code {event.returncode}")
    recorder = event.process_name.startswith("recorder")
    return [] if recorder else [EmitEvent(event=Shutdown(reason=f"{event.process_name} has ended"))]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description, choices=list(a.choices) or None)
        for a in ARGUMENTS
    ]
    environment = isolation()
    told = "to reach the nodes from another terminal: export " + " ".join(f"{name}={value}" for name, value in environment.items())
    return LaunchDescription(
        [
            *arguments,
            *[SetEnvironmentVariable(name, value) for name, value in environment.items()],
            LogInfo(msg=told),
            OpaqueFunction(function=nodes),
        ]
    )
