"""Offline: minimise a function, or the cost of a task over one long trajectory."""
