"""Episodes of a sweep: in worker processes or on Ray, each kept in a file as it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from diffusion_mpc.config import Value
from diffusion_mpc.run_file import RunFile, RunSpec
from diffusion_mpc.simulation.closed_loop import DivergedError, run_episode
from diffusion_mpc.sweep.race import Job
from diffusion_mpc.sweep.study import EpisodeScore
from diffusion_mpc.workers import completed


@dataclass(frozen=True)
class EpisodeTerms:
    """All that the episodes of a sweep have in common.

    Attributes:
        settings: parameters that every episode has, `task` among them
        weights: weights by which all are scored, whatever weights they are planned with
        duration: simulated time, s
    """

    settings: Mapping[str, Value]
    weights: Mapping[str, float]
    duration: float


def run_job(terms: EpisodeTerms, job: Job) -> EpisodeScore:
    """One episode; its trial decides initial state, reference and all seeds."""
    settings, trial = job
    given = {
        **terms.settings,
        **dict(settings),
        "planner.seed": trial,
        "backend.threads": 1,
    }
    try:
        episode = run_episode(given, trial, terms.duration, weights=terms.weights)
    except (ValueError, DivergedError) as error:
        return EpisodeScore(math.inf, problem=" ".join(str(error).split()))
    return EpisodeScore(episode.mean_cost, episode.falls)


class Episodes:
    """Runs episodes that the file does not have yet."""

    def __init__(
        self,
        terms: EpisodeTerms,
        file: RunFile,
        processes: int = 0,
        ray_address: str = "",
        inform: Callable[[str], None] = lambda text: None,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up.

        Args:
            terms: what they have in common
            file: where they are kept
            processes: as `workers.completed`
            ray_address: as `workers.completed`
            inform: as `workers.completed`
            advance: called after each episode
        """
        self._work = partial(run_job, terms)
        self._file, self._processes, self._ray_address = file, processes, ray_address
        self._inform, self._advance = inform, advance

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, EpisodeScore]]:
        """Results, those of the file first.

        Raises:
            WorkersError: as `workers.completed`
        """
        missing = []
        for job in jobs:
            if (figures := self._file.find(_spec(job))) is None:
                missing.append(job)
            else:
                self._advance()
                yield job, EpisodeScore(**figures)
        if not missing:
            return
        for job, score in completed(
            self._work, missing, self._processes, self._ray_address, self._inform
        ):
            self._file.add(_spec(job), asdict(score))
            self._advance()
            yield job, score


def _spec(job: Job) -> RunSpec:
    return {"settings": dict(job[0]), "trial": job[1]}
