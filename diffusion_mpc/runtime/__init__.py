"""Planning while the robot moves: controller, threads and sessions. Knows nothing of ROS."""
