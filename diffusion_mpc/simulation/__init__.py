"""The simulated robot: physics, disturbances, and a planner in closed loop with it, without ROS."""
