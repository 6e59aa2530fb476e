"""Tables of the benchmarks' figures, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Row = Mapping[str, Any]


def quality_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Costs by task and algorithm, and the summary over tasks."""
    table = Table(title="mean closed-loop cost; lower is better", title_justify="left")
    for name in (
        "task",
        "rollouts",
        "algorithm",
        "trials",
        "cost",
        "95 % interval",
        "succeeded",
        "falls",
        "violation",
        "MBD less this",
        "wins",
    ):
        table.add_column(name, justify="left" if name in ("task", "algorithm") else "right", no_wrap=True)
    rows = figures["rows"]
    for row in rows:
        peers = [r["mean_cost"] for r in rows if (r["task"], r["rollouts"]) == (row["task"], row["rollouts"])]
        style = "bold" if row["mean_cost"] == min(peers) else None
        table.add_row(
            row["task"],
            str(row["rollouts"]),
            row["algorithm"],
            str(row["trials"]),
            number(row["mean_cost"]),
            interval(row),
            f"{row['succeeded']}/{row['trials']}",
            str(row["falls"]),
            number(row["violation"]),
            *_versus(row),
            style=style,
            end_section=row is [r for r in rows if (r["task"], r["rollouts"]) == (row["task"], row["rollouts"])][-1],
        )
    tables = [table]
    if figures["best_baselines"]:
        best = Table(title="MBD against the best of the others, trial by trial", title_justify="left")
        for name in ("task", "rollouts", "best of the others", "MBD less this", "wins", "better"):
            best.add_column(name, justify="right" if name in ("rollouts", "MBD less this", "wins") else "left")
        for row in figures["best_baselines"]:
            difference = row["mbd_less_this"]["difference"]
            better = "MBD" if difference["high"] < 0.0 else row["algorithm"] if difference["low"] > 0.0 else "undecided"
            best.add_row(row["task"], str(row["rollouts"]), row["algorithm"], *_versus(row), better)
        tables.append(best)
    if figures["summary"]:
        overall = Table(title="over all tasks: 0 is the best algorithm of a task, 1 the worst", title_justify="left")
        for name in ("algorithm", "normalised cost", "mean rank", "best in"):
            overall.add_column(name, justify="left" if name == "algorithm" else "right")
        for row in sorted(figures["summary"], key=lambda row: float(row["normalised_cost"])):
            won = f"{row['won']} of {row['comparisons']}"
            overall.add_row(row["algorithm"], f"{row['normalised_cost']:.3f}", f"{row['mean_rank']:.2f}", won)
        tables.append(overall)
    return tables


def tune_table(figures: Mapping[str, Any]) -> Table:
    """Costs of the default and of the best candidate."""
    costs = "default (first trial)", "best (first trial)", "best (all trials)"
    table = Table("task", "algorithm", "candidates", *costs, "parameters")
    for row in figures["rows"]:
        chosen = ", ".join(f"{name.removeprefix('planner.')} {value:g}" for name, value in row["parameters"].items())
        default = "–" if row["default_cost"] is None else number(row["default_cost"])
        found = number(row["first_cost"]), number(row["tuned_cost"])
        table.add_row(row["task"], row["algorithm"], str(row["candidates"]), default, *found, chosen or "defaults")
    return table


def renoising_table(rows: Sequence[Row]) -> Table:
    """Costs after each event, with noise that follows the samples and with the schedule alone."""
    table = Table(title="mean cost in the two seconds after the event; lower is better", title_justify="left")
    for name in ("event", "task", "noise", "trials", "cost", "95 % interval", "less the schedule alone"):
        table.add_column(name, justify="left" if name in ("event", "task", "noise") else "right")
    for row in rows:
        less = row["less_schedule"]
        difference = "–" if less is None else f"{number(less['difference']['mean'])} {interval(less['difference'])}"
        table.add_row(
            row["event"], row["task"], row["noise"], str(row["trials"]), number(row["mean_cost"]), interval(row), difference
        )
    return table


def speed_table(rows: Sequence[Row]) -> Table:
    """Speeds, and their ratio."""
    table = Table(title="a whole plan against mujoco.rollout alone", title_justify="left")
    for name in ("model", "samples × steps × iterations", "backend", "plan, ms", "physics steps/s", "raw steps/s", "efficiency"):
        table.add_column(name, justify="left" if name in ("model", "backend") else "right")
    for row in rows:
        table.add_row(
            row["model"],
            _sizes(row),
            backend_label(row),
            f"{row['plan_ms_p50']:.2f}",
            f"{row['physics_steps_per_s']:,.0f}",
            f"{row['raw_steps_per_s']:,.0f}",
            f"{row['efficiency']:.2f}",
        )
    return table


def stages_table(row: Row) -> Table:
    """Time of each stage of a case."""
    table = Table(title=f"stages of a plan: {row['model']} {_sizes(row)}, {backend_label(row)}", title_justify="left")
    for name in ("stage", "calls in a plan", "launches in a call", "ms in a call", "share"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage in row["stages"]:
        calls, launches = str(stage["calls"]), f"{stage['launches']:,}"
        table.add_row(stage["stage"], calls, launches, f"{stage['ms']:.3f}", f"{stage['share']:.1%}")
    return table


def backend_label(row: Row) -> str:
    """Backend, device and what is captured, as of a row of `speed.run_case`."""
    return f"{row['backend']} ({row['device']}{', graph: ' + row['capture'] if row['capture'] != 'none' else ''})"


def _sizes(row: Row) -> str:
    return f"{row['num_samples']} × {row['horizon_steps']} × {row['iterations']}"


def delay_table(rows: Sequence[Row]) -> Table:
    """What delays cost, and what is kept of the undelayed robot."""
    table = Table(title="closed loop with delays; lower cost is better", title_justify="left")
    for name in (
        "late",
        "ms",
        "compensated",
        "trials",
        "cost",
        "95 % interval",
        "gain kept",
        "m/s",
        "kept",
        "falls",
        "state error",
    ):
        table.add_column(name, justify="left" if name in ("late", "compensated") else "right", no_wrap=True)
    for row in rows:
        none, late = row["delay"] == 0.0, row["delayed"] != "idle"
        errors = [row[name] for name in ("position_error", "velocity_error")]
        table.add_row(
            ("–" if none else row["delayed"]) if late else "no commands",
            f"{1e3 * row['delay']:g}",
            "" if none else "yes" if row["compensated"] else "no",
            str(row["trials"]),
            number(row["mean_cost"]),
            interval(row),
            "" if row["kept_cost"] is None else f"{row['kept_cost']:.0%}",
            "" if row["speed"] is None else number(row["speed"]),
            "" if row["kept_speed"] is None else f"{row['kept_speed']:.0%}",
            str(row["falls"]),
            " ".join("" if error is None else f"{error:.1g}" for error in errors),
        )
    return table


def black_box_table(figures: Mapping[str, Any]) -> Table:
    """Least values by function, dimension and method."""
    table = Table(title="least value found; lower is better, 0 is the minimum", title_justify="left")
    for name in ("function", "d", "method", "seeds", "evaluations", "s", "value", "95 % interval", "MBD less this", "wins"):
        table.add_column(name, justify="left" if name in ("function", "method") else "right", no_wrap=True)
    rows = figures["rows"]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        last = after is None or (after["function"], after["dim"]) != (row["function"], row["dim"])
        table.add_row(
            row["function"],
            str(row["dim"]),
            row["method"],
            str(row["seeds"]),
            f"{row['evaluations']:.0f}",
            f"{row['seconds']:.1f}",
            number(row["best"]),
            interval(row),
            *_versus(row),
            end_section=last,
        )
    for name, why in figures["missing"].items():
        table.add_row("–", "–", f"{name} {why}")
    return table


def soak_table(figures: Mapping[str, Any]) -> Table:
    """Lateness, delays and memory, interval by interval."""
    growth = figures["memory_growth"]
    memory = "unknown" if growth is None else f"{growth:+.2%} at most after the first row"
    title = f"{figures['task']} in real time; {figures['safe_commands']} safe commands; resident memory of the planner: {memory}"
    table = Table(title=title, title_justify="left")
    for name in ("time, s", "plans", "late", "state to command p50, ms", "p99", "max", "memory, MB"):
        table.add_column(name, justify="right")
    for row in figures["rows"]:
        table.add_row(f"{row['time_s']:.0f}", *_lateness(row), f"{row['resident_mb']:.1f}")
    table.add_section()
    table.add_row("all", *_lateness(figures))
    return table


def _lateness(row: Row) -> tuple[str, ...]:
    delays = row["state_to_command_ms"] or {}
    share = f" ({row['deadline_misses'] / row['plans']:.2%})" if row["plans"] else ""
    delays_ms = (f"{delays[name]:.1f}" if delays else "–" for name in ("p50", "p99", "max"))
    return str(row["plans"]), f"{row['deadline_misses']}{share}", *delays_ms


def _versus(row: Row) -> tuple[str, str]:
    found = row["mbd_less_this"]
    if found is None:
        return "", ""
    difference = found["difference"]
    return f"{number(difference['mean'])} {interval(difference)}", f"{found['wins']}/{difference['count']}"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 1000 else f"{value:.0f}" if value else "0"


def interval(row: Row) -> str:
    """An interval with its bounds; empty where one value has none."""
    return f"[{number(row['low'])}, {number(row['high'])}]" if row["low"] == row["low"] else ""
