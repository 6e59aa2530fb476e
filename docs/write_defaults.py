"""Write the tables of defaults in README.md, from what parameters and tasks say of themselves.

    ./dmpc exec python docs/write_defaults.py

`test/test_pages.py` fails where README.md is not what this writes.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path

from diffusion_mpc.config import NODES, parameters
from diffusion_mpc.tasks import available_tasks

README = Path(__file__).resolve().parents[1] / "README.md"
PLANNER = NODES["planner"]

MAIN = (
    "task",
    "backend.name",
    "planner.algorithm",
    "planner.rate",
    "planner.num_samples",
    "planner.iterations",
    "planner.horizon_steps",
    "planner.control_dt",
    "planner.num_knots",
    "planner.lead",
    "planner.temperature",
    "planner.noise_start",
    "planner.noise_end",
    "planner.noise_growth",
    "planner.success_fraction",
    "planner.scale_rate",
    "planner.shape_rate",
    "prediction.command_delay",
    "command.vx",
    "command.vy",
    "command.yaw_rate",
    "goal.*",
    "objects.*",
    "input.*",
    "joint_prefix",
    "output.*",
    "state_timeout",
    "recovery_time",
    "max_plan_age",
    "safe_command",
)
"""Names, or patterns of names, of the parameters that most users want."""


def main_parameters() -> list[str]:
    """Table of the parameters in `MAIN`."""
    known = parameters(PLANNER)
    lines = ["| parameter | default | unit | changes | |", "|---|---|---|---|---|"]
    for pattern in MAIN:
        found = [p for name, p in known.items() if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(
                f"no parameter is called '{pattern}'; correct MAIN in {Path(__file__).name}"
            )
        for p in found:
            changes = "live" if p.live else "rebuilt" if p.rebuilt else ""
            choices = f" ({', '.join(p.choices)})" if p.choices else ""
            lines.append(
                f"| `{p.name}` | {shown(p.default)} | {p.unit} | {changes} | "
                f"{p.description}{choices} |"
            )
    return lines


def tasks() -> list[str]:
    """Table of the tasks, with what of a plan they have defaults for."""
    plain = parameters(PLANNER)
    lines = [
        "| task | reference | plans/s | samples x steps | horizon | knots | noise | temperature "
        "| other defaults |"
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|---|")
    for name, task in available_tasks().items():
        values = {p.name: p.default for p in parameters(PLANNER, task).values()}
        used = set()

        def value(name, values=values, used=used):
            used.add(name)
            return values[name]

        seconds = value("planner.horizon_steps") * value("planner.control_dt")
        cells = [
            f"`{name}`",
            "" if task.reference == "none" else f"`{task.reference}`",
            shown(value("planner.rate")),
            f"{value('planner.num_samples')} x {value('planner.iterations')}",
            f"{value('planner.horizon_steps')} ({seconds:.3g} s)",
            shown(value("planner.num_knots")),
            f"{shown(value('planner.noise_start'))} to {shown(value('planner.noise_end'))}",
            shown(value("planner.temperature")),
            ", ".join(
                f"`{n}` {shown(values[n])}"
                for n, p in plain.items()
                if n not in used and values[n] != p.default
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shown(value) -> str:
    """A default as a user would type it."""
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else f"{value}"
    )


TABLES = {"parameters": main_parameters, "tasks": tasks}


def written(text: str) -> str:
    """The README's text with all tables anew.

    Raises:
        ValueError: a table has no place in it
    """
    for name, lines in TABLES.items():
        begin, end = (
            f"<!-- {name}: written by docs/write_defaults.py -->\n",
            f"<!-- end of {name} -->\n",
        )
        table = begin + "\n" + "\n".join(lines()) + "\n\n" + end
        text, count = re.subn(
            re.escape(begin) + ".*?" + re.escape(end),
            lambda _, table=table: table,
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(
                f"README.md needs one place for the table of {name}: '{begin.strip()}' and "
                f"'{end.strip()}'"
            )
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
