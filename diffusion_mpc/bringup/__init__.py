"""What runs together: description of the processes, and what starts and watches them."""
