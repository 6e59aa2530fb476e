"""A sweep: settings in generations, raced on the same trials; the winner meets the defaults again.

Nothing depends on which episode ends first: a generation has the same size however many processes
there are, and who is stopped is decided when all have run as many episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from diffusion_mpc.config import ConfigError, Value
from diffusion_mpc.sweep.sampling import Sampling
from diffusion_mpc.sweep.study import Configuration, EpisodeScore, Study

FEWEST = 3
"""Episodes from which a setting can be stopped for its cost."""

GROWTH = 1.5
"""Ratio of episodes after which settings are compared."""

Job = tuple[tuple[tuple[str, Value], ...], int]
"""One episode: the values of the parameters that are varied, and the number of the trial."""

Evaluate = Callable[[Sequence[Job]], Iterable[tuple[Job, EpisodeScore]]]
"""Runs episodes, all different; results come in any order."""


@dataclass(frozen=True)
class RaceOptions:
    """Size of a sweep.

    Attributes:
        trials: settings, the defaults among them
        repeats: episodes of each, unless it is stopped
        fresh: episodes of the best and of the defaults in the end, on other trials
        generation: settings that are asked for, and raced, at a time
    """

    trials: int
    repeats: int = 8
    fresh: int = 8
    generation: int = 8


def run_race(
    defaults: Mapping[str, Value],
    source: Sampling,
    evaluate: Evaluate,
    options: RaceOptions,
    watch: Callable[[Study], None] = lambda study: None,
) -> Study:
    """Run a sweep.

    Args:
        defaults: values of the parameters that are varied where nobody varies them
        source: where settings come from
        evaluate: runs episodes
        options: size of the sweep
        watch: called with the study whenever episodes are done

    Raises:
        ConfigError: the defaults themselves cannot be run
    """
    study = Study(options.repeats)
    while (room := options.trials - len(study.configurations)) > 0:
        first = not study.configurations
        asked = source.ask(min(options.generation, room) - first)
        if not asked and not first:
            break
        if first:
            asked = [dict(defaults), *asked]
        best = None if first else study.best
        begin = len(study.configurations)
        for settings in asked:
            study.configurations.append(Configuration(len(study.configurations), settings))
        entrants = study.configurations[begin:]
        for count in rungs(options.repeats):
            _run(entrants, count, evaluate)
            _stop(entrants, best, count, options.repeats)
            watch(study)
        for each in entrants:
            source.tell(dict(each.settings), study.cost(each))
    _confirm(study, evaluate, options)
    study.finished = True
    watch(study)
    return study


def rungs(repeats: int) -> list[int]:
    """Numbers of episodes after which settings are compared."""
    found = [min(FEWEST, repeats)]
    while found[-1] < repeats:
        found.append(min(math.ceil(GROWTH * found[-1]), repeats))
    return found


def _run(entrants: Sequence[Configuration], count: int, evaluate: Evaluate) -> None:
    """Run the episodes that the entrants lack to have so many."""
    running = [each for each in entrants if not each.stopped]
    wanted = {
        each.number: [_job(each, k) for k in range(len(each.scores), count)] for each in running
    }
    found = dict(evaluate(list(dict.fromkeys(job for jobs in wanted.values() for job in jobs))))
    for each in running:
        each.scores += [found[job] for job in wanted[each.number]]


def _job(configuration: Configuration, trial: int) -> Job:
    return tuple(configuration.settings.items()), trial


def _stop(
    entrants: Sequence[Configuration], best: Configuration | None, count: int, repeats: int
) -> None:
    """Stop those that are worse than the best of all that have run as many episodes."""
    running = [each for each in entrants if not each.stopped]
    for each in running:
        each.stopped = next((score.problem for score in each.scores if score.problem), "")
        if each.stopped and not each.number:
            raise ConfigError(f"the defaults cannot be run: {each.stopped}")
    good = [each for each in running if not each.stopped]
    rivals = [best, *good] if best is not None else good
    if count == repeats or not rivals:
        return
    leader = min(rivals, key=lambda each: each.rank(count))
    for each in good:
        # The defaults are what everything is judged against.
        if each.number and each is not leader:
            each.stopped = _reason(each, leader)


def _reason(each: Configuration, leader: Configuration) -> str:
    """Reason to leave a setting; empty: it goes on."""
    pairs = list(zip(each.scores, leader.scores, strict=False))
    falls = sum(a.falls > 0 for a, _ in pairs), sum(b.falls > 0 for _, b in pairs)
    if falls[0] > falls[1]:
        return f"falls where setting {leader.number} does not"
    found = each.against(leader).difference
    if found.count >= FEWEST and found.low > 0.0:
        return f"costs more than setting {leader.number}"
    return ""


def _confirm(study: Study, evaluate: Evaluate, options: RaceOptions) -> None:
    """Run the best and the defaults on trials that had no part in the choice."""
    best = study.best
    if best.number == 0:
        return
    trials = range(options.repeats, options.repeats + options.fresh)
    wanted = [[_job(each, trial) for trial in trials] for each in (best, study.defaults)]
    found = dict(evaluate([job for jobs in wanted for job in jobs]))
    ours, theirs = ([found[job] for job in jobs] for jobs in wanted)
    study.confirmation = (ours, theirs)
