"""Settings of a sweep with the episodes that each has run, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diffusion_mpc.config import Value
from diffusion_mpc.intervals import Comparison, Estimate, compare, estimate


@dataclass(frozen=True)
class EpisodeScore:
    """One episode of one setting.

    Attributes:
        cost: mean over the run of the sum of all weighted terms, at the weights of the defaults
        falls: number of falls
        problem: what made an episode impossible, one line; empty: nothing, else `cost` is infinite
    """

    cost: float
    falls: int = 0
    problem: str = ""


@dataclass
class Configuration:
    """A setting and its episodes; those of all settings are of the same trials, from 0 on.

    Attributes:
        number: place in the sweep; 0: the defaults
        settings: values of the parameters that are varied
        scores: its episodes
        stopped: why it was left before its last episode; empty: it was not
    """

    number: int
    settings: Mapping[str, Value]
    scores: list[EpisodeScore] = field(default_factory=list)
    stopped: str = ""

    @property
    def possible(self) -> bool:
        """Whether every episode went to its end."""
        return bool(self.scores) and not any(score.problem for score in self.scores)

    @property
    def falls(self) -> int:
        """Episodes with a fall."""
        return sum(score.falls > 0 for score in self.scores)

    def costs(self, count: int | None = None) -> list[float]:
        """Costs of the first episodes, or of all."""
        return [score.cost for score in self.scores[:count]]

    def rank(self, count: int | None = None) -> tuple[int, float]:
        """Order by the first episodes, or all: those that fall less, then those that cost less."""
        scores = self.scores[:count]
        return sum(score.falls > 0 for score in scores), float(np.mean(self.costs(count)))

    def against(self, other: Configuration) -> Comparison:
        """Costs less another's, trial by trial, over the trials that both have run."""
        count = min(len(self.scores), len(other.scores))
        return compare(self.costs(count), other.costs(count))

    def estimate(self, best: Configuration) -> Estimate:
        """Cost over all trials, of a stopped setting too.

        Trials differ in difficulty: to the best's mean over all of them is added the difference to
        it over those that both have run, whose interval it is.
        """
        if not self.stopped:
            return estimate(self.costs())
        mean, found = float(np.mean(best.costs())), self.against(best).difference
        return Estimate(mean + found.mean, mean + found.low, mean + found.high, found.count)


@dataclass
class Study:
    """All settings of a sweep.

    Attributes:
        repeats: episodes of a setting that is not stopped
        configurations: in the order in which they were tried, the defaults first
        confirmation: episodes of the best and of the defaults, on trials that chose nothing; empty:
            none were run
        finished: whether there is nothing more to run
    """

    repeats: int
    configurations: list[Configuration] = field(default_factory=list)
    confirmation: tuple[Sequence[EpisodeScore], Sequence[EpisodeScore]] = ((), ())
    finished: bool = False

    @property
    def defaults(self) -> Configuration:
        """The task's defaults, with what --set says."""
        return self.configurations[0]

    @property
    def complete(self) -> list[Configuration]:
        """Settings that have run all their episodes, the best first."""
        done = [c for c in self.configurations if len(c.scores) == self.repeats and not c.stopped]
        return sorted(done, key=Configuration.rank)

    @property
    def best(self) -> Configuration:
        """The best of those that have run all episodes; the earlier of equals."""
        return next(iter(self.complete), self.defaults)

    @property
    def episodes(self) -> int:
        """Number of all episodes, those of the confirmation left out."""
        return sum(len(c.scores) for c in self.configurations)

    @property
    def saved(self) -> int:
        """Episodes that early stops made needless."""
        return sum(self.repeats - len(c.scores) for c in self.configurations if c.stopped)

    def cost(self, configuration: Configuration) -> float | None:
        """Cost that a search is told of; None: it cannot be run, or falls more than the best.

        A low cost is no consolation for a fall.
        """
        best = self.best
        if not configuration.possible:
            return None
        if configuration.falls > best.rank(len(configuration.scores))[0]:
            return None
        return configuration.estimate(best).mean
