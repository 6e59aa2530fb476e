"""Files of a sweep: the recommended parameters, all settings as JSON and as a table, the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from diffusion_mpc.arguments import write_json
from diffusion_mpc.config import Value, split_sim
from diffusion_mpc.intervals import Estimate
from diffusion_mpc.sweep.space import Axis
from diffusion_mpc.sweep.study import Configuration, Study
from diffusion_mpc.sweep.study_page import study_page
from diffusion_mpc.sweep.verdict import Verdict, verdict

BEST, PAGE = "best.yaml", "study.html"


def write_study(
    folder: Path,
    study: Study,
    axes: Sequence[Axis],
    about: Mapping[str, Any],
    kept: Mapping[str, Value],
) -> dict[str, Any]:
    """Write all files.

    Args:
        folder: where to
        study: the sweep, or what there is of it
        axes: what is varied
        about: what the sweep is, ready for JSON
        kept: parameters that every setting has beside the task's defaults

    Returns:
        figures, as study.json has them
    """
    found = verdict(study)
    figures = study_figures(study, found, about)
    (folder / BEST).write_text(best_yaml(about["task"], found, kept), encoding="utf-8")
    write_json(figures, folder / "study.json")
    _table(figures["settings"]).to_csv(folder / "study.csv", index=False)
    page = study_page(study, axes, about, found)
    (folder / PAGE).write_text(page, encoding="utf-8")
    return figures


def best_yaml(task: str, found: Verdict, kept: Mapping[str, Value]) -> str:
    """Parameter file with the recommended setting, as the launch files take it."""
    planned, simulated = split_sim({**kept, **found.settings})
    sections = {"planner": {"task": task, **planned}}
    if simulated:
        sections["sim"] = {"task": task, **simulated}
    nodes = {f"/**/{node}": {"ros__parameters": dict(values)} for node, values in sections.items()}
    return f"# {found.sentence}\n" + yaml.safe_dump(nodes, sort_keys=False)


def study_figures(study: Study, found: Verdict, about: Mapping[str, Any]) -> dict[str, Any]:
    """All of a study, ready for JSON."""
    ratio, difference = found.ratio, found.difference
    return {
        **about,
        "verdict": found.sentence,
        "better_than_defaults": found.better,
        "recommended": dict(found.settings),
        "best": study.best.number,
        "confirmation": None
        if ratio is None or difference is None
        else {
            "ratio": finite(ratio.mean),
            "low": finite(ratio.low),
            "high": finite(ratio.high),
            "difference": finite(difference.mean),
            "difference_low": finite(difference.low),
            "difference_high": finite(difference.high),
            "trials": ratio.count,
            "costs": [score.cost for score in study.confirmation[0]],
            "costs_of_defaults": [score.cost for score in study.confirmation[1]],
        },
        "episodes": study.episodes,
        "episodes_saved": study.saved,
        "settings": [_row(each, study) for each in study.configurations],
    }


def _row(each: Configuration, study: Study) -> dict[str, Any]:
    best = study.best
    nothing = Estimate(math.nan, math.nan, math.nan, len(each.scores))
    cost = each.estimate(best) if each.possible and best.possible else nothing
    return {
        "number": each.number,
        "settings": dict(each.settings),
        "cost": finite(cost.mean),
        "low": finite(cost.low),
        "high": finite(cost.high),
        "episodes": len(each.scores),
        "falls": each.falls,
        "stopped": each.stopped,
        "costs": [finite(score.cost) for score in each.scores],
    }


def finite(value: float) -> float | None:
    """The same, None in place of what JSON does not know."""
    return value if math.isfinite(value) else None


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    left_out = ("settings", "costs")
    return pd.DataFrame(
        [
            {
                "number": row["number"],
                **row["settings"],
                **{name: value for name, value in row.items() if name not in left_out},
            }
            for row in rows
        ]
    )
