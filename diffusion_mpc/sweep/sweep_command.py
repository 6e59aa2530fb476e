"""`diffusion-mpc sweep`: from options to a study and its files, with a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffusion_mpc.arguments import write_json
from diffusion_mpc.config import ConfigError, cost_weights, split_sim
from diffusion_mpc.names import SettingsSource
from diffusion_mpc.run_file import RunFile
from diffusion_mpc.sweep.episodes import Episodes, EpisodeTerms
from diffusion_mpc.sweep.race import RaceOptions, run_race
from diffusion_mpc.sweep.sampling import Grid, sampling
from diffusion_mpc.sweep.space import known_parameters, parse_space
from diffusion_mpc.sweep.study import Study
from diffusion_mpc.sweep.study_files import BEST, PAGE, write_study
from diffusion_mpc.tasks import find_task
from diffusion_mpc.versions import versions

ABOUT, EPISODES = "sweep.json", "episodes.jsonl"


@dataclass(frozen=True)
class SweepOptions:
    """Options of a sweep.

    Attributes:
        over: parameters with what they may be, as `space.parse_space`
        settings: parameters that all settings have, as texts by name
        sampler: where settings come from
        trials: number of settings, the defaults among them; None: 64, or all of a grid
        repeats, fresh, generation: as `RaceOptions`
        duration: simulated time of an episode, s; None: the task's
        seed: of the sampler
        processes, ray_address: as `workers.completed`
    """

    over: tuple[str, ...]
    settings: Mapping[str, str]
    sampler: SettingsSource
    trials: int | None
    repeats: int
    fresh: int
    generation: int
    duration: float | None
    seed: int
    processes: int
    ray_address: str


def run_sweep(task: str, folder: Path, options: SweepOptions) -> dict[str, Any]:
    """Run a sweep, or go on with one that was interrupted.

    Args:
        task: name of the task, or a Python file that defines one
        folder: for episodes and results
        options: all else

    Returns:
        figures, as study.json has them

    Raises:
        ConfigError, TaskError: an option is wrong, or the folder has another sweep
        WorkersError: as `workers.completed`
    """
    known = known_parameters(task, options.settings)
    axes = parse_space(options.over, known, options.settings)
    source = sampling(options.sampler, axes, options.seed)
    kind = find_task(task)
    set_values = {name: known[name].default for name in options.settings}
    kept = {"task": task, **split_sim(kind.demo)[0], **set_values}
    duration = kind.trial_duration if options.duration is None else options.duration
    # What decides episodes, so that a folder never mixes those of two sweeps.
    about = {
        "task": task,
        "over": {axis.name: axis.text() for axis in axes},
        "set": set_values,
        "sampler": options.sampler,
        "seed": options.seed,
        "repeats": options.repeats,
        "fresh": options.fresh,
        "generation": options.generation,
        "duration": duration,
        "defaults": {name: p.default for name, p in known.items() if name != "task"},
        "versions": versions("mujoco", "numpy", "optuna", "torch"),
    }
    _require_same(folder, about)
    values = {name: p.default for name, p in known.items()}
    terms = EpisodeTerms(kept, cost_weights(values), duration)
    defaults = {axis.name: axis.parameter.default for axis in axes}
    trials = options.trials or 64
    if isinstance(source, Grid):
        trials = min(options.trials or source.size, source.size)
    race = RaceOptions(trials, options.repeats, options.fresh, options.generation)
    shown = {name: value for name, value in about.items() if name != "defaults"}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)

    def inform(text: str) -> None:
        console.print(f"note: {text}", highlight=False, soft_wrap=True)

    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("sweep", total=trials * race.repeats + 2 * race.fresh)
        done = Episodes(
            terms,
            RunFile(folder / EPISODES, ("settings", "trial")),
            options.processes,
            options.ray_address,
            inform,
            lambda: progress.advance(bar),
        )

        def watch(study: Study) -> None:
            best = study.best
            progress.update(
                bar,
                total=trials * race.repeats + 2 * race.fresh - study.saved,
                description=f"setting {len(study.configurations)} of {trials}, "
                f"best {best.rank()[1]:.4g}",
            )
            write_study(folder, study, axes, shown, set_values)

        study = run_race(defaults, source, done, race, watch)
    return write_study(folder, study, axes, shown, set_values)


def report(task: str, folder: Path, options: SweepOptions, figures_file: Path | None) -> int:
    """Run a sweep and print what came of it; the exit code."""
    try:
        figures = run_sweep(task, folder, options)
    except KeyboardInterrupt:
        sys.stderr.write(
            f"interrupted; the same command goes on, {folder / PAGE} has what is done\n"
        )
        return 130
    sys.stdout.write(f"{figures['verdict']}\n")
    for name, value in figures["recommended"].items():
        sys.stdout.write(f"  {name} {value}\n")
    sys.stdout.write(
        f"{len(figures['settings'])} settings in {figures['episodes']} episodes; "
        f"early stops saved {figures['episodes_saved']}\n"
        f"parameters {folder / BEST}\npage       {folder / PAGE}\n"
    )
    write_json(figures, figures_file)
    return 0


def _require_same(folder: Path, about: Mapping[str, Any]) -> None:
    """Note what the sweep is, in its folder.

    Raises:
        ConfigError: the folder has another sweep
    """
    file = folder / ABOUT
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(about, file)
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"'{file}' cannot be read; name another folder with --output") from None
    now = json.loads(json.dumps(about))
    if before == now:
        return
    old, new = _flat(before), _flat(now)
    name = next(name for name in {**old, **new} if old.get(name) != new.get(name))
    raise ConfigError(
        f"'{folder}' has another sweep ({name}: {old.get(name)} -> {new.get(name)}); name another "
        "folder with --output"
    )


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    found = dict[str, Any]()
    for key, value in about.items():
        if isinstance(value, Mapping):
            found |= {f"{key} {name}": each for name, each in value.items()}
        else:
            found[key] = value
    return found
