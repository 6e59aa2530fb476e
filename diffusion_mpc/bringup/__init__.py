"""Processes that run together: their description, and starting and watching them."""
