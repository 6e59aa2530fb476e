"""A folder whose shards are made by workers, one by one, and gone on with after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffusion_mpc.learning.dataset import (
    INDEX,
    DatasetError,
    Rows,
    open_shard,
    read_index,
    shard_name,
    write_index,
    write_shard,
)
from diffusion_mpc.workers import WorkersError, completed


def begin_folder(
    folder: Path,
    about: Mapping[str, Any],
    same: Sequence[str],
    before: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make a folder for data, or find it as it was left.

    Args:
        folder: the folder
        about: as `write_index`
        same: entries that data which are there already must agree in
        before: what such an entry has where the data that are there do not say it: it was not there
            to be chosen when they were collected

    Raises:
        DatasetError: the folder has other data
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / INDEX).is_file():
        there = read_index(folder)
        for name, values in (before or {}).items():
            there[name] = {**values, **there.get(name, {})}
        for name in same:
            if there.get(name) != about[name]:
                raise DatasetError(
                    f"'{folder}' has data of another {name.replace('_', ' ')}; name another folder "
                    "with --output"
                )
    else:
        write_index(folder, about, ())
    for line in drop_unfinished(folder):
        Console(stderr=True).print(f"note: {line}", highlight=False, soft_wrap=True)


def drop_unfinished(folder: Path) -> list[str]:
    """Put shards that were cut short aside; one line for each that was."""
    lines = []
    for part in sorted(folder.glob(".shard-*.part")):
        part.unlink()
        lines.append(f"'{part}' was not finished; its episodes are made again")
    for path in sorted(folder.glob("shard-*.safetensors")):
        try:
            open_shard(path)
        except DatasetError as error:
            aside = path.with_suffix(".unreadable")
            path.replace(aside)
            lines.append(f"{error}; it is kept as '{aside.name}', its episodes are made again")
    return lines


def make_missing(
    folder: Path,
    work: Callable[[int], Rows],
    shards: int,
    processes: int = 0,
    ray_address: str = "",
) -> int:
    """Number of rows of the shards that were missing, made by several processes.

    Args:
        folder: the folder
        work: rows of a shard; a function of a module, so that workers find it
        shards: number of shards
        processes: worker processes; 0: one per core
        ray_address: as `completed`

    Raises:
        DatasetError: workers die again and again
    """
    missing = [n for n in range(shards) if not (folder / shard_name(n)).is_file()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    made, began, console = 0, time.perf_counter(), Console(stderr=True)

    def inform(text: str) -> None:
        console.print(f"note: {text}", highlight=False, soft_wrap=True)

    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("collect", total=shards, completed=shards - len(missing))
        try:
            for number, rows in completed(work, missing, processes, ray_address, inform):
                write_shard(folder, number, rows)
                made += len(rows["kind"])
                rate = made / (time.perf_counter() - began)
                progress.update(bar, advance=1, description=f"{rate:.0f} pairs/s")
        except WorkersError as error:
            raise DatasetError(f"{error}; the shards that are done stay") from None
    return made
