"""Settings to try next: every one of a grid, at random, or from those that were good (Optuna)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from diffusion_mpc.config import ConfigError, Value
from diffusion_mpc.names import SettingsSource
from diffusion_mpc.sweep.space import Axis

Settings = dict[str, Value]
"""Values of the parameters that are varied, by name."""

FEWEST = 20
"""Settings from which importances are told."""

GOOD = 0.25
"""Fraction of the settings that count as good: of Optuna's 0.1 of few, chance decides."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Sampling(Protocol):
    """Source of settings."""

    def ask(self, count: int) -> list[Settings]:
        """So many settings, fewer where there are no more."""
        ...

    def tell(self, settings: Settings, cost: float | None) -> None:
        """Say what a setting costs; None: it is no good at any cost."""
        ...


class Grid:
    """Every combination of the listed values, in order, but for the defaults.

    Attributes:
        size: number of settings, the defaults among them
    """

    def __init__(self, axes: Sequence[Axis]) -> None:
        """Set up.

        Raises:
            ConfigError: an axis is a range
        """
        for axis in axes:
            if not axis.values:
                raise ConfigError(
                    f"a grid needs lists: write {axis.name}=VALUE,VALUE in place of {axis.text()}"
                )
        defaults = {axis.name: axis.parameter.default for axis in axes}
        every = [
            dict(zip(defaults, values, strict=True))
            for values in itertools.product(*(axis.values for axis in axes))
        ]
        self._left = [settings for settings in every if settings != defaults]
        self.size = len(self._left) + 1

    def ask(self, count: int) -> list[Settings]:
        """The next combinations."""
        found, self._left = self._left[:count], self._left[count:]
        return found

    def tell(self, settings: Settings, cost: float | None) -> None:
        """Take note of nothing."""


class OptunaSampling:
    """Settings that Optuna draws: the same ones for the same seed and the same costs told."""

    def __init__(self, axes: Sequence[Axis], name: Literal["tpe", "random"], seed: int) -> None:
        self._axes, self._space = axes, _space(axes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Asked for several at a time, those in progress count as bad ones: no two alike.
            sampler: optuna.samplers.BaseSampler = (
                optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
                if name == "tpe"
                else optuna.samplers.RandomSampler(seed=seed)
            )
        self._study = optuna.create_study(sampler=sampler)
        self._asked: list[tuple[Settings, optuna.Trial]] = []

    def ask(self, count: int) -> list[Settings]:
        """Settings from the space; the same may come again where it has few."""
        for _ in range(count):
            trial = self._study.ask(self._space)
            self._asked.append(
                ({axis.name: _decoded(axis, trial.params[axis.name]) for axis in self._axes}, trial)
            )
        return [settings for settings, _ in self._asked[len(self._asked) - count :]]

    def tell(self, settings: Settings, cost: float | None) -> None:
        """Take note of a cost, also of settings that were not asked for."""
        for number, (asked, trial) in enumerate(self._asked):
            if asked == settings:
                state = TrialState.PRUNED if cost is None else TrialState.COMPLETE
                self._study.tell(trial, cost, state=state)
                del self._asked[number]
                return
        if cost is not None and (known := _trial(self._axes, self._space, settings, cost)):
            self._study.add_trial(known)


def sampling(name: SettingsSource, axes: Sequence[Axis], seed: int) -> Sampling:
    """Source of settings by its name.

    Raises:
        ConfigError: a grid has a range
    """
    return Grid(axes) if name == "grid" else OptunaSampling(axes, name, seed)


def importances(
    axes: Sequence[Axis], costs: Sequence[tuple[Mapping[str, Value], float]]
) -> dict[str, float]:
    """Fraction of each parameter in what makes good settings good (PED-ANOVA), the largest first.

    Empty where there are too few settings to tell.
    """
    study, space = optuna.create_study(), _space(axes)
    found = [_trial(axes, space, settings, cost) for settings, cost in costs]
    study.add_trials([trial for trial in found if trial is not None])
    if len(study.trials) < FEWEST or len(axes) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=GOOD)
        )


def _space(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    return {axis.name: _distribution(axis) for axis in axes}


def _distribution(axis: Axis) -> BaseDistribution:
    """Lists of numbers by their places in order, so that neighbours count as alike."""
    if axis.values:
        if axis.numeric:
            return IntDistribution(0, len(axis.values) - 1)
        return CategoricalDistribution(axis.values)
    if axis.parameter.type is int:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _decoded(axis: Axis, drawn: Value) -> Value:
    if axis.values and axis.numeric:
        return sorted(axis.values)[int(drawn)]
    return drawn


def _trial(
    axes: Sequence[Axis],
    space: dict[str, BaseDistribution],
    settings: Mapping[str, Value],
    cost: float,
) -> FrozenTrial | None:
    """Settings as Optuna has them; None where they lie outside of the space."""
    values = dict[str, Value]()
    for axis in axes:
        value = settings[axis.name]
        if axis.values and value not in axis.values:
            return None
        if not axis.values and not axis.low <= float(value) <= axis.high:
            return None
        listed = bool(axis.values) and axis.numeric
        values[axis.name] = sorted(axis.values).index(value) if listed else value
    return create_trial(params=values, distributions=space, value=cost)
