"""The ant in simulation: planner, simulated robot and, when asked, a recorder.

ros2 launch diffusion_mpc ant_sim.launch.py duration:=20.0 record:=/tmp/ant_bag
"""

from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from diffusion_mpc.ros.bringup import ARGUMENTS, Options, isolation, processes
from launch import LaunchContext, LaunchDescription


def nodes(context: LaunchContext) -> list[Action]:
    texts = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    started = [
        Node(
            package="diffusion_mpc",
            executable=f"{process.name}_node",
            name=process.name,
            parameters=[str(layer) if not isinstance(layer, dict) else layer for layer in process.layers],
            output="screen",
            emulate_tty=True,
        )
        for process in processes(Options.from_texts(texts))
    ]
    # The simulation ends when its duration is over, and a planner without a robot is of no use.
    ends = [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown())])) for node in started[-2:]]
    return [*started, *ends]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description, choices=list(a.choices) or None)
        for a in ARGUMENTS
    ]
    environment = [SetEnvironmentVariable(name, value) for name, value in isolation().items()]
    return LaunchDescription([*arguments, *environment, OpaqueFunction(function=nodes)])
