"""From plans to commands, the mirror of estimation: actuators, limits, gains, the safe command."""
