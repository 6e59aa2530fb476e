"""Demonstrations from files and bags.

A file is CSV with a header: a column `time` (s) and one column for each demonstrated position, by
joint name (rad or m; the place of a floating base is `<joint>.x`, `<joint>.y` and `<joint>.z`,
world frame, m). Between its rows the path is straight, and after the last one it stays. A bag is a
recorded run.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from diffusion_mpc.bags.recorded_states import read_states
from diffusion_mpc.names import hint
from diffusion_mpc.planner.demonstration import DemonstratedPath, DemonstrationError, positions_of
from diffusion_mpc.tasks.base import Task


def read_demonstration(source: str | Path, task: Task) -> DemonstratedPath:
    """Read a demonstration of a task.

    Args:
        source: CSV file, or bag (rosbag2 folder or .mcap file); a relative path is looked for in
            the current folder, then beside the task's model
        task: task that is demonstrated

    Raises:
        DemonstrationError: it cannot be read, or names, times or values are not as they should be
        BagError: the bag cannot be read
    """
    folders = (Path(), task.path.parent, Path(task.own_model().path).parent)
    here = [folder / source for folder in folders if (folder / source).exists()]
    if not here:
        raise DemonstrationError(
            f"demonstration '{source}' does not exist; give a CSV file or a bag"
        )
    path = _from_csv(here[0], task) if here[0].suffix == ".csv" else _from_bag(here[0], task)
    if len(path.times) < 2:
        raise DemonstrationError(f"demonstration '{source}' has fewer than two rows")
    if not (np.isfinite(path.times).all() and np.isfinite(path.positions).all()):
        row = int(np.argmin(np.isfinite(np.column_stack([path.times, path.positions])).all(axis=1)))
        raise DemonstrationError(
            f"demonstration '{source}' has a NaN or infinite value in row {row + 1}"
        )
    if (np.diff(path.times) <= 0.0).any():
        row = int(np.argmax(np.diff(path.times) <= 0.0)) + 2
        raise DemonstrationError(
            f"demonstration '{source}': the time of row {row} is not after that of the row before"
        )
    return path


def _from_csv(file: Path, task: Task) -> DemonstratedPath:
    with file.open(newline="") as stream:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row] or [
            []
        ]
    names, known = [name for name in header if name != "time"], positions_of(task.model)
    if len(names) == len(header) or not names or len(set(header)) < len(header):
        begins = ",".join(header)
        raise DemonstrationError(
            f"demonstration '{file}' needs a header 'time,NAME,...', each name once; it begins "
            f"'{begins}'"
        )
    for name in names:
        if name not in known:
            raise DemonstrationError(
                f"demonstration '{file}' has a column '{name}'; {hint(name, known)}"
            )
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DemonstrationError(
                f"demonstration '{file}': row {number} has {len(row)} values, the header "
                f"{len(header)}"
            )
    try:
        values = np.array(rows, dtype=float).reshape(-1, len(header))
    except ValueError as error:
        raise DemonstrationError(f"demonstration '{file}': {error}") from None
    times = values[:, header.index("time")]
    return DemonstratedPath(
        tuple(names), times - times[:1], values[:, [header.index(name) for name in names]]
    )


def _from_bag(bag: Path, task: Task) -> DemonstratedPath:
    states = read_states(bag, task)
    known = positions_of(task.model)
    names = task.demonstrated or tuple(known)
    # Of states with the same stamp the first one counts.
    times, rows = np.unique(states.stamps, return_index=True)
    return DemonstratedPath(
        names, times - times[:1], states.qpos[rows][:, [known[name][0] for name in names]]
    )
