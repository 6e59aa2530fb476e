"""Groups of runs side by side: figures with confidence intervals, and how they differ in words.

Costs are compared at the weights of the first group: what is cheaper must not depend on who is
asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from diffusion_mpc.config import Value
from diffusion_mpc.evaluation.evaluated_run import UNTOLD, EvaluatedRun
from diffusion_mpc.intervals import Estimate, GroupDifference, estimate, group_difference

MINUS = "\N{MINUS SIGN}"

COST = "mean cost"
"""Name of the quantity that decides which group is better."""

Kind = Literal["cost", "term", "behaviour", "search", "timing"]


@dataclass(frozen=True)
class RunGroup:
    """Evaluated runs that count as repetitions of each other."""

    name: str
    runs: tuple[EvaluatedRun, ...]


@dataclass(frozen=True)
class Row:
    """One quantity over all groups.

    Attributes:
        name: for people
        unit: empty: none
        kind: what it says something about
        estimates: mean and interval of each group; None where no run of it has the quantity
        differences: of each group after the first from the first; None where one lacks it. But for
            that of the cost, intervals are so wide that all of a kind hold at once
    """

    name: str
    unit: str
    kind: Kind
    estimates: tuple[Estimate | None, ...]
    differences: tuple[GroupDifference | None, ...]


@dataclass(frozen=True)
class GroupComparison:
    """Differences of groups of runs.

    Attributes:
        groups: names and numbers of runs
        parameters: values by group, of those that are constant in each group and differ between
        varied: values in all runs, of those that differ within a group
        rows: the quantities
        sentences: for each group after the first, its difference from the first in words: the
            verdict on the cost, then details
    """

    groups: tuple[tuple[str, int], ...]
    parameters: Mapping[str, tuple[Value | None, ...]]
    varied: Mapping[str, tuple[Value | None, ...]]
    rows: tuple[Row, ...]
    sentences: tuple[tuple[str, ...], ...]

    def content(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "groups": [{"name": name, "runs": runs} for name, runs in self.groups],
            "parameters": {name: list(values) for name, values in self.parameters.items()},
            "varied": {name: list(values) for name, values in self.varied.items()},
            "rows": [_finite(asdict(row)) for row in self.rows],
            "sentences": [list(each) for each in self.sentences],
        }


def compare_groups(groups: Sequence[RunGroup]) -> GroupComparison:
    """Compare groups with the first one.

    Raises:
        ValueError: the runs are of different tasks
    """
    tasks = {run.task.name: group.name for group in groups for run in group.runs}
    if len(tasks) > 1:
        (one, a), (other, b), *_ = tasks.items()
        raise ValueError(
            f"'{a}' has runs of task {one} and '{b}' of task {other}; compare runs of one task"
        )
    same, varied = _parameters(groups)
    rows = tuple(_rows(groups))
    sentences = tuple(
        tuple(_sentences(groups, rows, same, number)) for number in range(1, len(groups))
    )
    names = tuple((group.name, len(group.runs)) for group in groups)
    return GroupComparison(names, same, varied, rows, sentences)


def common_weights(groups: Sequence[RunGroup]) -> Mapping[str, float]:
    """Weights that costs are compared at."""
    return groups[0].runs[0].measured.weights


def costs_at(run: EvaluatedRun, weights: Mapping[str, float]) -> dict[str, float]:
    """Mean cost of each term of a run, at given weights."""
    return {name: weights[name] * float(norm.mean()) for name, norm in run.measured.norms.items()}


def _parameters(
    groups: Sequence[RunGroup],
) -> tuple[dict[str, tuple[Value | None, ...]], dict[str, tuple[Value | None, ...]]]:
    every = [run.parameters for group in groups for run in group.runs]
    names = dict.fromkeys(name for values in every for name in values)
    same: dict[str, tuple[Value | None, ...]] = {}
    varied: dict[str, tuple[Value | None, ...]] = {}
    for name in names:
        if name.removeprefix("sim.") in UNTOLD:
            continue
        values = [[run.parameters.get(name) for run in group.runs] for group in groups]
        if any(len(set(each)) > 1 for each in values):
            varied[name] = tuple(value for each in values for value in each)
        elif len({each[0] for each in values}) > 1:
            same[name] = tuple(each[0] for each in values)
    return same, varied


def _rows(groups: Sequence[RunGroup]) -> list[Row]:
    weights = common_weights(groups)
    wanted: list[tuple[str, str, Kind, Callable[[EvaluatedRun], float | None]]] = [
        (COST, "", "cost", lambda run: sum(costs_at(run, weights).values()) or None)
    ]
    wanted += [(name.replace("_", " "), "", "term", _term_cost(weights, name)) for name in weights]
    wanted += [
        ("speed along the command", "m/s", "behaviour", _summary("mean_speed")),
        ("falls", "per run", "behaviour", _summary("falls")),
    ]
    goals = dict.fromkeys(
        name for group in groups for run in group.runs for name in run.summary["goal_errors"]
    )
    for name in goals:
        what, unit = name.rsplit("_", 1)
        label = f"goal, {what.replace('_', ' ')} off at the end"
        wanted.append((label, unit, "behaviour", _summary("goal_errors", name)))
    wanted += [
        ("effective samples", "", "search", _summary("effective_sample_size")),
        ("noise of the last step", "", "search", _summary("noise")),
        ("weight of the policy", "", "search", _summary("policy", "weight")),
        ("plan time, p50", "ms", "timing", _summary("plan_ms", "p50")),
        ("plan time, p99", "ms", "timing", _summary("plan_ms", "p99")),
        ("state to command, p99", "ms", "timing", _summary("state_to_command_ms", "p99")),
        ("deadlines missed", "of plans", "timing", _summary("deadline_miss_ratio")),
    ]
    found = []
    for name, unit, kind, value in wanted:
        columns = [[v for run in group.runs if (v := value(run)) is not None] for group in groups]
        if any(columns) and any(v != 0.0 for column in columns for v in column):
            found.append((name, unit, kind, columns))
    return [
        Row(
            name,
            unit,
            kind,
            tuple(estimate(column) if column else None for column in columns),
            tuple(
                group_difference(columns[0], other, _comparisons(kind, found, len(groups)))
                if columns[0] and other
                else None
                for other in columns[1:]
            ),
        )
        for name, unit, kind, columns in found
    ]


def _comparisons(kind: Kind, found: Sequence[tuple[Any, ...]], groups: int) -> int:
    """Number of differences that hold at once: the cost on its own, the others by kind."""
    # Of a dozen intervals of 95 %, one leaves 0 out by chance in every other comparison.
    timing = kind == "timing"
    others = [each for each in found if each[2] != "cost" and (each[2] == "timing") == timing]
    return (groups - 1) * (1 if kind == "cost" else len(others)) or 1


def _term_cost(weights: Mapping[str, float], name: str) -> Callable[[EvaluatedRun], float | None]:
    return lambda run: costs_at(run, weights).get(name)


def _summary(*keys: str) -> Callable[[EvaluatedRun], float | None]:
    def value(run: EvaluatedRun) -> float | None:
        found: Any = run.summary
        for key in keys:
            found = None if found is None else found.get(key)
        return None if found is None else float(found)

    return value


def _sentences(
    groups: Sequence[RunGroup],
    rows: Sequence[Row],
    parameters: Mapping[str, tuple[Value | None, ...]],
    number: int,
) -> list[str]:
    """Difference of a group from the first, in words."""
    first, other = groups[0].name, groups[number].name
    changes = [(row, row.differences[number - 1]) for row in rows]
    shown = [
        f"{row.name} {change_text(row, difference)}"
        for row, difference in changes
        if row.kind != "cost" and row.kind != "timing" and difference and difference.shown
    ]
    verdicts = [
        verdict(first, other, difference)
        for row, difference in changes
        if row.kind == "cost" and difference
    ]
    cost = next((d for row, d in changes if row.kind == "cost"), None)
    repeated = min(len(groups[0].runs), len(groups[number].runs)) > 1
    if repeated and not shown and not (cost and cost.shown):
        verdicts.insert(0, f"No difference between {first} and {other} that these runs show.")
    found = verdicts or [f"{other} and {first} cannot be compared by cost: a bag lacks it."]
    differing = [
        f"{name} ({told(values[0])} → {told(values[number])})"
        for name, values in parameters.items()
        if values[0] != values[number]
    ]
    listed = ", ".join(differing[:6]) + (f" and {len(differing) - 6} more" * (len(differing) > 6))
    found.append(f"They differ in {listed}." if differing else "Their parameters are the same.")
    if any(name.startswith("cost.") and v[0] != v[number] for name, v in parameters.items()):
        found.append(f"Costs are at the weights of {first}.")
    if shown:
        found.append(f"Beside the cost: {'; '.join(shown)}; all at once at 95 %.")
    return found


def verdict(first: str, other: str, difference: GroupDifference) -> str:
    """Sentence on the costs of two groups."""
    n, m = difference.counts
    runs = f"{n} runs each" if n == m else f"{n} and {m} runs"
    (low, middle, high), percent = difference.change
    if percent:
        size, signed, unit = _percent, _signed, " %"
        said = f"is {_percent(abs(middle))} % {'cheaper' if middle <= 0.0 else 'dearer'} than"
    else:
        size, signed, unit = "{:.3g}".format, _in_units, ""
        said = f"costs {abs(middle):.3g} {'less' if middle <= 0.0 else 'more'} than"
    if not math.isfinite(difference.low):
        lonely = first if n == 1 else other
        return (
            f"{other} {said} {first}; of {lonely} there is one run, so nobody knows whether by "
            "chance."
        )
    if not difference.shown:
        found = f"{other} against {first} {signed(middle)}{unit}"
        interval = f"95 % interval {signed(low)} to {signed(high)}"
        return f"These runs show no difference in cost: {found}, {interval}, {runs}."
    bounds = sorted((abs(low), abs(high)))
    interval = f"95 % interval {size(bounds[0])} to {size(bounds[1])}"
    return f"{other} {said} {first}, {interval}, {runs}."


def change_text(row: Row, difference: GroupDifference) -> str:
    """Difference with its interval: in per cent of a positive quantity, else in its unit."""
    (low, middle, high), percent = difference.change
    known = math.isfinite(difference.low)
    if percent and row.kind != "behaviour":
        return f"{_signed(middle)} %" + f" ({_signed(low)} to {_signed(high)})" * known
    bounds = f" ({difference.low:+.2g} to {difference.high:+.2g})" * known
    return f"{difference.mean:+.2g}{bounds} {row.unit}".strip().replace("-", MINUS)


def told(value: Value | None) -> str:
    """The value of a parameter, for people."""
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _percent(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10.0 else f"{value:.1f}"


def _signed(value: float) -> str:
    return ("+" if value >= 0.0 else MINUS) + _percent(abs(value))


def _in_units(value: float) -> str:
    return f"{value:+.3g}".replace("-", MINUS)


def _finite(value: Any) -> Any:  # noqa: ANN401  (what JSON may hold)
    """The same with None in place of NaN and infinite numbers, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
