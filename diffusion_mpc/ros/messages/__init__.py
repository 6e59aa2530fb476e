"""Between ROS messages and our types, one file a kind of message."""
