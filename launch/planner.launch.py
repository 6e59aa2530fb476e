"""The planner beside a robot: it listens to `joint_states` and `odom`, and sends `joint_command`.

Nothing is simulated.

ros2 launch diffusion_mpc planner.launch.py task:=my_robot.py params_file:=my_robot.yaml
namespace:=robot1
"""

from launch.launch_description import LaunchDescription

from diffusion_mpc.bringup.description import ROBOT_ARGUMENTS, robot_processes
from diffusion_mpc.bringup.launch_actions import actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(actions(ROBOT_ARGUMENTS, robot_processes))
