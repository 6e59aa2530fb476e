"""The arm and its cube in simulation: planner, simulated robot and, when asked, a recorder.

ros2 launch diffusion_mpc arm_cube_sim.launch.py duration:=10.0 record:=arm_cube_bag
"""

from launch.launch_description import LaunchDescription

from diffusion_mpc.bringup.launch_actions import simulation


def generate_launch_description() -> LaunchDescription:
    return simulation("arm_cube")
