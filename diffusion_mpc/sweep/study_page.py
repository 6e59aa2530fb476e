"""Page that shows a sweep: its course, every parameter against the cost, the best settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from diffusion_mpc.config import Value
from diffusion_mpc.evaluation.report_page import PAGES, Tile, said, three
from diffusion_mpc.sweep.sampling import importances
from diffusion_mpc.sweep.space import Axis
from diffusion_mpc.sweep.study import Configuration, Study
from diffusion_mpc.sweep.verdict import Verdict, change_of

SHOWN = 10
"""Settings in the table."""

WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM = 560.0, 230.0, 52.0, 14.0, 10.0, 24.0
"""Size of a plot and of its margins, pixels."""

Scale = Callable[[float], float]


def study_page(study: Study, axes: Sequence[Axis], about: Mapping[str, Any], found: Verdict) -> str:
    """HTML of a study, or of what there is of it."""
    best = study.best
    shown = [c for c in study.configurations if c.possible] if best.possible else []
    costs = {c.number: c.estimate(best) for c in shown}
    complete = [costs[c.number].low for c in shown if not c.stopped]
    bounds = _bounds([costs[c.number].mean for c in shown], complete)
    weights = importances(axes, [(c.settings, costs[c.number].mean) for c in shown])
    problems = dict.fromkeys(
        f"{_settings(c)}: {c.stopped}" for c in study.configurations if not c.possible and c.stopped
    )
    ranked = _different(study.complete)[:SHOWN]
    return PAGES.get_template("sweep.html.jinja").render(
        title=f"{about['task']}: sweep",
        task=about["task"],
        subtitle=f"sweep over {len(axes)} parameters, sampler {about['sampler']}",
        facts=[
            f"episodes of {about['duration']:g} s, up to {study.repeats} a setting, the same "
            "trials for all",
            f"seed {about['seed']}",
            *(f"{name}={said(value)}" for name, value in about["set"].items()),
        ],
        sentence=found.sentence,
        better=found.better,
        tiles=_tiles(study, found),
        course=_course(study, shown, costs, bounds) if shown else None,
        scatters=[_scatter(axis, shown, costs, bounds, study) for axis in axes] if shown else [],
        size=(WIDE, HIGH),
        importances=[
            (name, f"{100.0 * weight:.0f} %", f"{100.0 * weight:.0f}%")
            for name, weight in weights.items()
        ],
        names=[axis.name for axis in axes],
        ranked=[_cells(c, axes, study) for c in ranked],
        recommended=[
            (axis.name, axis.text(), said(axis.parameter.default), said(found.settings[axis.name]))
            for axis in axes
        ],
        problems=list(problems),
    )


def _tiles(study: Study, found: Verdict) -> list[Tile]:
    best, defaults = study.best, study.defaults
    made = [
        Tile("Best setting", three(best.rank()[1]), "", f"cost, setting {best.number}"),
        Tile("Defaults", three(defaults.rank()[1]), "", "cost, setting 0"),
    ]
    if found.ratio is not None and found.difference is not None:
        (_, change, _), percent = change_of(found.ratio, found.difference)
        detail = f"best to defaults, {found.ratio.count} fresh trials"
        sign, unit = "+" if change > 0.0 else "\N{MINUS SIGN}", "%" if percent else ""
        made.append(
            Tile("Change", f"{sign}{three(abs(change))}", unit, detail, found.better * "good")
        )
    stopped = sum(bool(c.stopped) for c in study.configurations)
    made += [
        Tile("Settings", str(len(study.configurations)), "", f"{stopped} stopped early"),
        Tile("Episodes", str(study.episodes), "", f"{study.saved} saved by early stops"),
        Tile("Falls", str(best.falls), "", f"of {len(best.scores)}, defaults {defaults.falls}"),
    ]
    return made


def _bounds(costs: Sequence[float], lows: Sequence[float]) -> tuple[float, float]:
    """Range of costs that is drawn: what is far above the others stands at the upper edge.

    Args:
        costs: means of all settings
        lows: lower ends of intervals that have room in it, where they are finite
    """
    if not costs:
        return 0.0, 1.0
    low, high = min(costs), max(costs)
    quarter, middle = (float(np.percentile(costs, q)) for q in (75, 50))
    high = min(high, quarter + 3.0 * max(quarter - low, middle - low))
    room = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    return min(low, *filter(math.isfinite, lows), high) - room, high + room


def _linear(low: float, high: float, begin: float, end: float) -> Scale:
    return lambda value: begin + (end - begin) * (min(max(value, low), high) - low) / (high - low)


def _upwards(bounds: tuple[float, float]) -> Scale:
    return _linear(*bounds, HIGH - BOTTOM, TOP)


def _ticks(low: float, high: float) -> list[float]:
    """Four or so round numbers between two others."""
    step = 10.0 ** math.floor(math.log10((high - low) / 3.0))
    step *= next(k for k in (1.0, 2.0, 5.0, 10.0) if (high - low) / (k * step) <= 5.0)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _frame(bounds: tuple[float, float], across: Sequence[tuple[float, str]]) -> dict[str, Any]:
    y = _upwards(bounds)
    return {
        "rows": [(round(y(tick), 1), f"{tick:.4g}") for tick in _ticks(*bounds)],
        "columns": [(round(x, 1), label) for x, label in across],
        "left": LEFT,
        "right": WIDE - RIGHT,
        "top": TOP,
        "bottom": HIGH - BOTTOM,
        "path": "",
    }


def _mark(
    configuration: Configuration, costs: Mapping[int, Any], x: float, y: Scale, study: Study
) -> dict[str, Any]:
    """Point and interval of a setting."""
    cost = costs[configuration.number]
    finite = math.isfinite(cost.low)
    kind = "stopped" if configuration.stopped else "done"
    if configuration.number == 0:
        kind = "defaults"
    elif configuration is study.best:
        kind = "best"
    half = f" ± {three(cost.high - cost.mean)}" if finite else ""
    text = f"setting {configuration.number}: {three(cost.mean)}{half}, {_settings(configuration)}"
    return {
        "kind": kind,
        "x": round(x, 1),
        "y": round(y(cost.mean), 1),
        "low": round(y(cost.low), 1) if finite else None,
        "high": round(y(cost.high), 1) if finite else None,
        "text": text + (f"; stopped: {configuration.stopped}" if configuration.stopped else ""),
    }


def _course(
    study: Study,
    shown: Sequence[Configuration],
    costs: Mapping[int, Any],
    bounds: tuple[float, float],
) -> dict[str, Any]:
    """Costs in the order of the trials, and the best so far as a line."""
    last = max(len(study.configurations) - 1, 1)
    x, y = _linear(0.0, last, LEFT + 8.0, WIDE - RIGHT - 8.0), _upwards(bounds)
    ticks = [tick for tick in _ticks(0.0, float(last)) if tick == round(tick)]
    leader, path = None, ""
    for each in shown:
        if each.stopped or (leader is not None and each.rank() >= leader.rank()):
            continue
        height = round(y(costs[each.number].mean), 1)
        path += f"{'H' if path else 'M'}{x(each.number):.1f}{'V' if path else ' '}{height}"
        leader = each
    return {
        **_frame(bounds, [(x(tick), f"{tick:.0f}") for tick in ticks]),
        "path": f"{path}H{x(last):.1f}" if path else "",
        "marks": [_mark(each, costs, x(each.number), y, study) for each in shown],
    }


def _scatter(
    axis: Axis,
    shown: Sequence[Configuration],
    costs: Mapping[int, Any],
    bounds: tuple[float, float],
    study: Study,
) -> dict[str, Any]:
    """Costs against one parameter."""
    place, across = _places(axis, [each.settings[axis.name] for each in shown])
    y = _upwards(bounds)
    # The best and the defaults lie on top.
    order = sorted(shown, key=lambda each: (each.number == 0, each is study.best, not each.stopped))
    marks = []
    for each in order:
        # Settings with the same listed value stand beside each other.
        aside = 26.0 * (each.number * 0.618 % 1.0 - 0.5) if axis.values else 0.0
        marks.append(_mark(each, costs, place(each.settings[axis.name]) + aside, y, study))
    unit = axis.parameter.unit
    return {
        **_frame(bounds, across),
        "name": axis.name,
        "unit": ", ".join(filter(None, [unit, "in equal ratios" * axis.log])),
        "marks": marks,
    }


def _places(
    axis: Axis, values: Sequence[Value]
) -> tuple[Callable[[Value], float], list[tuple[float, str]]]:
    """Places of values across a plot, and its ticks."""
    begin, end = LEFT + 26.0, WIDE - RIGHT - 26.0
    if axis.values:
        listed = list(dict.fromkeys([*axis.values, *values]))
        if axis.numeric:
            listed.sort(key=float)
        at = dict(zip(listed, np.linspace(begin, end, len(listed)).tolist(), strict=True))
        return at.__getitem__, [(x, said(value)) for value, x in at.items()]
    numbers = [float(value) for value in values]
    low, high = min([axis.low, *numbers]), max([axis.high, *numbers])
    if axis.log and low > 0.0:
        scale = _linear(math.log(low), math.log(high), begin, end)
        ticks = [low, math.sqrt(low * high), high]
        return (
            lambda value: scale(math.log(float(value))),
            [(scale(math.log(tick)), f"{tick:.3g}") for tick in ticks],
        )
    linear = _linear(low, high, begin, end)
    across = [(linear(tick), f"{tick:.3g}") for tick in _ticks(low, high)]
    return lambda value: linear(float(value)), across


def _different(ranked: Sequence[Configuration]) -> list[Configuration]:
    """Settings without those that came again."""
    return list({tuple(c.settings.values()): c for c in reversed(ranked)}.values())[::-1]


def _cells(each: Configuration, axes: Sequence[Axis], study: Study) -> dict[str, Any]:
    cost = each.estimate(study.best)
    half = "" if math.isnan(cost.low) else f" ± {three(cost.high - cost.mean)}"
    change = each.against(study.defaults).difference
    versus = ""
    if each.number:
        bounds = "" if math.isnan(change.low) else f" ({change.low:+.2g} to {change.high:+.2g})"
        versus = f"{change.mean:+.2g}{bounds}".replace("-", "\N{MINUS SIGN}")
    return {
        "number": each.number,
        "values": [_value(each.settings[axis.name]) for axis in axes],
        "cost": f"{three(cost.mean)}{half}",
        "versus": versus,
        "falls": f"{each.falls} of {len(each.scores)}",
        "strong": each is study.best,
    }


def _settings(each: Configuration) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in each.settings.items())


def _value(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else said(value)
