"""Tables of a check, for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffusion_mpc.check.rest import size
from diffusion_mpc.check.throughput import BUSY


def show(figures: dict[str, Any]) -> None:
    """Print tables and suggestions."""
    console = Console()
    if not console.is_terminal:
        console.width = 140
    for part in _parts(figures):
        # A title of the table's own would be broken to its width.
        if isinstance(part, Table):
            console.print(part.title, style="italic")
            part.title = None
        if isinstance(part, Text) or part.rows:
            console.print(part)


def _parts(figures: dict[str, Any]) -> Iterable[Table | Text]:
    yield Text(_headline(figures))
    yield _joints(figures)
    yield _actuators(figures)
    yield _contacts(figures)
    if figures["costs"]:
        yield _costs(figures["costs"])
    if figures["rest"] is not None:
        yield _rest(figures["rest"])
    if figures["reduction"]["rows"]:
        yield _reductions(figures["reduction"])
    yield _speed(figures["speed"])
    yield Text("\n".join(_reduction_words(figures["reduction"])))
    lines = [f"- {line}" for line in figures["suggestions"]]
    yield Text("\n".join(["Suggestions:", *lines]) if lines else "Nothing to suggest.")


def _headline(figures: dict[str, Any]) -> str:
    nominal = figures["nominal"]
    who = f"task '{figures['task']}', " if figures["task"] else ""
    base = (
        f"base '{nominal['base']}' at {_number(nominal['height_m'])} m, tilt "
        f"{_number(nominal['tilt_deg'])} degrees"
        if nominal["base"] is not None
        else "fixed base"
    )
    key = f"keyframe '{nominal['keyframe']}'" if nominal["keyframe"] else "no keyframe"
    return f"{who}model {figures['file']}: {_number(nominal['mass_kg'])} kg, {key}, {base}"


def _joints(figures: dict[str, Any]) -> Table:
    table = _table("Joints", "joint", "kind", "range", "at the keyframe", "actuators", "armature")
    qpos = figures["nominal"]["qpos"]
    widths = {"free": 7, "ball": 4}
    address = 0
    for row in figures["joints"]:
        width = widths.get(row["kind"], 1)
        value = _number(qpos[address]) if width == 1 else ""
        address += width
        table.add_row(
            row["name"] or f"({row['body']})",
            row["kind"],
            _range(row["range"]),
            value,
            ", ".join(row["actuators"]),
            _number(row["armature"]),
        )
    return table


def _actuators(figures: dict[str, Any]) -> Table:
    table = _table(
        "Actuators: control = centre + scale * action",
        *("actuator", "joint", "kind", "unit", "range", "centre", "scale", "effort limit"),
    )
    for row in figures["actuators"]:
        unit = row["unit"] if row["per_control"] == 1.0 else f"{row['per_control']:g} {row['unit']}"
        table.add_row(
            row["name"],
            row["joint"],
            row["kind"],
            unit,
            _range(row["range"]),
            _number(row["centre"]),
            _number(row["scale"]),
            _number(row["effort_limit"]),
        )
    return table


def _contacts(figures: dict[str, Any]) -> Table:
    title = (
        f"Contacts after 1 s of rest: {sum(r['contacts'] for r in figures['contacts_at_rest'])}, "
        f"{figures['constraint_rows_at_rest']} rows of constraints"
    )
    table = _table(title, "geom", "geom ", "contacts", "depth, mm")
    for row in figures["contacts_at_rest"]:
        table.add_row(*row["geoms"], str(row["contacts"]), _number(1000.0 * row["depth_m"]))
    return table


def _costs(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table(
        "Weighted costs, with their fractions of the total",
        *("term", "weight", "at the keyframe", "after 1 s of rest", "random plans"),
    )
    for row in rows:
        cells = [
            f"{_number(row[where])} ({100.0 * row[f'{where}_fraction']:.0f} %)"
            for where in ("keyframe", "rest", "random")
        ]
        table.add_row(row["term"], _number(row["weight"]), *cells)
    return table


def _rest(rest: dict[str, Any]) -> Table:
    table = _table(
        f"{rest['duration_s']:g} s at rest",
        *("integrator", "step, ms", "stands", "height, m", "tilt, deg"),
        *("height off, mm", "tilt off, deg", "all off, rms"),
    )
    best = min(rest["integrators"], key=lambda row: size(row["deviation"]))
    fine = {"integrator": "implicitfast", **rest["fine"]}
    for row in (fine, *rest["integrators"]):
        apart = row.get("deviation")
        step = rest["fine_timestep_s"] if apart is None else rest["timestep_s"]
        words = [w for w, said in (("own", row.get("own")), ("best", row is best)) if said]
        height = apart and apart["height_m"]
        stands = "" if row["stands"] is None else "yes" if row["stands"] else "no"
        table.add_row(
            row["integrator"] + (f" ({', '.join(words)})" if words else ""),
            _number(1000.0 * step),
            "diverged" if row["diverged"] else stands,
            _number(row["end_height_m"]),
            _number(row["end_tilt_deg"]),
            _number(None if height is None else 1000.0 * height),
            _number(apart and apart["tilt_deg"]),
            _number(apart and apart["rms"]),
        )
    return table


def _reductions(reduction: dict[str, Any]) -> Table:
    table = _table(
        f"Reductions of the contacts of {', '.join(reduction['feet'])}",
        *("points a foot", "contacts", "rows", "steps/s", "gain"),
        *("rest off, rms", "plans off, rms"),
    )
    for row in reduction["rows"]:
        table.add_row(
            str(row["points"] or "as it is"),
            str(row["contacts"]),
            str(row["constraint_rows"]),
            f"{row['steps_per_s']:,.0f}",
            f"{row['gain']:.2f}",
            _number(row["rest_deviation"]["rms"]),
            _number(row["plan_deviation_rms"]),
        )
    return table


def _reduction_words(reduction: dict[str, Any]) -> Iterable[str]:
    if reduction["refused"]:
        yield f"No reduction: {reduction['refused']}"
    if not reduction["rows"]:
        return
    choice = reduction["proposed"]
    if choice is None:
        yield "No reduction of the feet is both faster and as accurate: plan with all of the model."
        return
    off, full = (row["plan_deviation_rms"] for row in (choice, reduction["rows"][0]))
    accuracy = (
        "random plans diverge at this step, so nothing is known of its accuracy"
        if off is None or full is None
        else f"plans are off by {off:.2g} (rms) from steps of a millisecond, with the full model "
        f"by {full:.2g}"
    )
    points = "1 point" if choice["points"] == 1 else f"{choice['points']} points"
    yield (
        f"Planning with {points} a foot, and no other contacts, makes {choice['gain']:.1f} times "
        f"as many steps a second; {accuracy}. Where nothing but the feet has to touch the ground, "
        "put into the task:"
    )
    yield ""
    yield reduction["code"]


def _speed(speed: dict[str, Any]) -> Table:
    configured = speed["configured"]
    table = _table(
        f"{speed['steps_per_s']:,.0f} steps/s on all cores; {speed['physics_steps_in_period']:,} "
        f"fit {100.0 * BUSY:.0f} % of a period of {1000.0 * speed['period_s']:g} ms",
        *("samples", "horizon steps", "iterations", ""),
    )
    words = "as configured, fits" if configured["fits"] else "as configured, does not fit"
    fitting = [(row, "would fit") for row in speed["fitting"] if row["num_samples"]]
    for row, note in ((configured, words), *fitting):
        numbers = (row[name] for name in ("num_samples", "horizon_steps", "iterations"))
        table.add_row(*map(str, numbers), note)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    return table


def _range(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else " to ".join(_number(bound) for bound in bounds)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
