"""Bags as files: their messages read and written, and the states in them. Needs no ROS."""
