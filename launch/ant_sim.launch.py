"""The ant in simulation: planner, simulated robot and, when asked, a recorder.

ros2 launch diffusion_mpc ant_sim.launch.py duration:=20.0 record:=ant_bag
"""

from launch.actions import LogInfo, SetEnvironmentVariable
from launch.launch_description import LaunchDescription

from diffusion_mpc.bringup.description import ARGUMENTS, isolation, processes
from diffusion_mpc.bringup.launch_actions import actions


def generate_launch_description() -> LaunchDescription:
    environment = isolation()
    told = "to reach the nodes from another terminal: export " + " ".join(
        f"{name}={value}" for name, value in environment.items()
    )
    return LaunchDescription(
        [
            *[SetEnvironmentVariable(name, value) for name, value in environment.items()],
            LogInfo(msg=told),
            *actions(ARGUMENTS, processes),
        ]
    )
