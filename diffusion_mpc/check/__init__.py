"""`diffusion-mpc check`: what is in a model and a task, whether it stands, what fits its period."""
