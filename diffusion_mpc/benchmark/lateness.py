"""Causes of late plans, from the trace of a run.

Each measure of late plans beside that of plans on time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from diffusion_mpc.types import Array

Event = Mapping[str, Any]

MEASURES = {
    "state_late_ms": "state arrives after its plan was to begin, ms",
    "begin_late_ms": "plan begins after that and after its state, ms",
    "iterations": "denoising steps",
    "cpu_ms": "planning thread computes, ms",
    "wait_ms": "planning thread waits for a core, ms",
    "other_cpu_ms": "rollout thread computes, ms",
    "other_wait_ms": "rollout thread waits for a core, ms",
    "faults": "page faults",
    "collect_ms": "garbage collection, ms",
    "command_ms": "commands are made and sent meanwhile, ms",
    "physics_ms": "simulation node computes meanwhile, ms",
}
"""Measures of a plan.

The first eight are in its event, the others are how far spans of that kind overlap with it.
"""

OVERLAPS = {"collect_ms": "collect", "command_ms": "command", "physics_ms": "physics"}


def gather(folder: Path, file: Path) -> list[Event]:
    """Join the traces of all processes in a folder to one file, which Perfetto and Chrome open.

    Returns:
        its events
    """
    lines = [
        line for part in sorted(folder.glob("*.json")) for line in part.read_text().splitlines()
    ]
    # A process that was killed leaves half a line.
    lines = [line.removesuffix(",") for line in lines if line.endswith("},")]
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return [json.loads(line) for line in lines]


def compare(events: Sequence[Event]) -> dict[str, Any]:
    """Late plans against plans on time.

    Returns:
        numbers of `plans` and of `late` ones; `rows`, one for each measure: median and 99th
        percentile of plans on time, median of late ones, and the fraction of late plans beyond this
        99th percentile (a hundredth would be, were there no connection); the fraction of late plans
        that do so in no measure is `unexplained`. Figures that nothing is known of are None.
    """
    plans = [event for event in events if event["name"] == "plan"]
    late = np.array([plan["args"].get("late", False) for plan in plans], bool)
    rows, explained = [], np.zeros(late.sum(), bool)
    for name, text in MEASURES.items():
        if name in OVERLAPS:
            values = _overlaps(
                plans, [event for event in events if event["name"] == OVERLAPS[name]]
            )
        else:
            values = np.array([plan["args"].get(name, 0.0) for plan in plans])
        usual = float(np.percentile(values[~late], 99)) if not late.all() else None
        beyond = values[late] > usual if usual is not None else explained & False
        explained |= beyond
        rows.append(
            {
                "measure": text,
                "on_time_p50": _median(values[~late]),
                "on_time_p99": usual,
                "late_p50": _median(values[late]),
                "late_beyond": float(beyond.mean()) if late.any() else None,
            }
        )
    return {
        "plans": len(plans),
        "late": int(late.sum()),
        "unexplained": float((~explained).mean()) if late.any() else None,
        "rows": rows,
    }


def lateness_table(figures: Mapping[str, Any]) -> Table:
    """Table of the figures of `compare`."""
    table = Table(
        title=f"{figures['late']} late plans of {figures['plans']} in the trace",
        title_justify="left",
    )
    table.add_column("")
    for name in ("on time p50", "on time p99", "late p50", "late beyond that p99"):
        table.add_column(name, justify="right")
    for row in figures["rows"]:
        numbers = (
            "–" if row[name] is None else f"{row[name]:.2f}"
            for name in ("on_time_p50", "on_time_p99", "late_p50")
        )
        table.add_row(row["measure"], *numbers, _percent(row["late_beyond"]))
    table.add_section()
    table.add_row("none of these is unusual", "", "", "", _percent(figures["unexplained"]))
    return table


def _overlaps(plans: Iterable[Event], spans: Sequence[Event]) -> Array:
    """(plans,) time (ms) in which a span runs while a plan is made."""
    begins = np.array(sorted(span["ts"] for span in spans))
    ends = np.array(sorted(span["ts"] + span["dur"] for span in spans))
    # Spans of a kind follow one another: what has run until some time is the sum of those that
    # ended, and a part of the last.
    total = np.concatenate(([0.0], np.cumsum(ends - begins)))

    def run_until(times: Array) -> Array:
        begun = np.searchsorted(begins, times)
        last = np.maximum(begun - 1, 0)
        unfinished = np.maximum(ends[last] - times, 0.0) if len(ends) else 0.0
        return total[begun] - np.where(begun > 0, unfinished, 0.0)

    edges = np.array([(plan["ts"], plan["ts"] + plan["dur"]) for plan in plans]).reshape(-1, 2)
    return (run_until(edges[:, 1]) - run_until(edges[:, 0])) * 1e-3


def _median(values: Array) -> float | None:
    return float(np.median(values)) if len(values) else None


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction:.0%}"
