"""`python -m diffusion_mpc.cli`."""

from diffusion_mpc.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
