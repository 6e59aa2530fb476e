"""From a bag to arrays, figures, a plot, a video and a report. Needs no ROS."""
