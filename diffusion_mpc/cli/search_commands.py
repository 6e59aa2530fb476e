"""Commands that search: parameters of a task, or the minimum of a function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from diffusion_mpc.arguments import OutputFile, SetOption, parse_settings, write_json
from diffusion_mpc.names import SettingsSource, Variant

SweptOption = Annotated[tuple[str, ...], Parameter(consume_multiple=False)]
TwoOrMore = Annotated[int, Parameter(validator=Number(gte=2))]


def sweep(
    task: str,
    /,
    *,
    over: SweptOption = (),
    settings: SetOption = (),
    sampler: SettingsSource = "tpe",
    trials: PositiveInt | None = None,
    repeats: PositiveInt = 8,
    fresh: TwoOrMore = 8,
    generation: TwoOrMore = 8,
    duration: float | None = None,
    output: Path | None = None,
    processes: int = 0,
    ray_address: str = "",
    seed: int = 0,
    json: OutputFile = None,
) -> int:
    """Search parameters of a task in lockstep; the same command goes on after a kill.

    All settings run the same trials; those that are worse for sure are stopped early. In the end
    the best meets the defaults on fresh trials; best.yaml has what came of it, for launch files.
    Costs are at the weights of the defaults, whatever weights are tried.

    example: diffusion-mpc sweep cartpole --over planner.temperature=0.02..1.0:log --over
    planner.num_knots=3,5,8

    Args:
        task: name of the task, or a Python file that defines one
        over: parameter to vary, or sim.NAME: NAME=LOW..HIGH, NAME=LOW..HIGH:log (in equal ratios)
            or NAME=VALUE,VALUE; can be repeated
        settings: parameter that all settings have, or sim.NAME=VALUE; can be repeated
        sampler: tpe (Optuna: near those that were good), random, or grid (all combinations)
        trials: settings, the defaults among them (default: 64; all of a grid)
        repeats: episodes of a setting that is not stopped early
        fresh: further episodes of the best and of the defaults
        generation: settings that are asked for at a time; results depend on it, and not on the
            number of processes
        duration: simulated time of an episode, s (default: the task's own)
        output: folder for episodes and results (default: runs/sweeps/TASK)
        processes: worker processes; 0: one per core
        ray_address: work on a Ray cluster: its address, or auto for that on this machine
        seed: same seed, same study
        json: file to write the figures to
    """
    from diffusion_mpc.sweep.sweep_command import SweepOptions, report

    options = SweepOptions(
        over=over,
        settings=parse_settings(settings),
        sampler=sampler,
        trials=trials,
        repeats=repeats,
        fresh=fresh,
        generation=generation,
        duration=duration,
        seed=seed,
        processes=processes,
        ray_address=ray_address,
    )
    return report(task, output or Path("runs/sweeps") / Path(task).stem, options, json)


def optimize(
    problem: str,
    /,
    *,
    dim: int = 20,
    samples: int = 256,
    levels: int = 100,
    temperature: float | None = None,
    seed: int = 0,
    variant: Variant = "geometric",
    demo: str = "",
    json: OutputFile = None,
) -> int:
    """Minimise a function, or the cost of a task over one horizon, open loop.

    example: diffusion-mpc optimize ackley --dim 20 --samples 256 --json out.json

    Args:
        problem: ackley, rastrigin, levy, or a task: its name, or a Python file that defines one
        dim: dimension of the function
        samples: samples at each level
        levels: noise levels
        temperature: temperature of the weights (default: 1 for a function, 0.1 for a task)
        seed: same seed, same result
        variant: noise in equal ratios and antithetic samples, the authors' code, the paper, or the
            reverse SDE
        demo: demonstration of a task: positions over time, as CSV or as a recorded bag
        json: file to write the figures to
    """
    from diffusion_mpc.optimize.functions import FUNCTIONS
    from diffusion_mpc.optimize.named_problem import run_optimize
    from diffusion_mpc.optimize.reverse_diffusion import Settings

    if temperature is None:
        temperature = 1.0 if problem in FUNCTIONS else 0.1
    write_json(
        run_optimize(problem, dim, Settings(samples, levels, temperature, variant, seed), demo),
        json,
    )
    return 0
