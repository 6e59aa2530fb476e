"""The quadruped in simulation: planner, simulated robot and, when asked, a recorder.

ros2 launch diffusion_mpc quadruped_sim.launch.py duration:=20.0 record:=quadruped_bag
"""

from launch.launch_description import LaunchDescription

from diffusion_mpc.bringup.launch_actions import simulation


def generate_launch_description() -> LaunchDescription:
    return simulation("quadruped")
