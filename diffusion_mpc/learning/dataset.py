"""Data to learn from: shards of rows as safetensors, and an index as JSON.

A folder is written shard by shard, each at once or not at all, and read through memory maps, so
that it may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from diffusion_mpc.policy.checkpoint import write_atomically

INDEX = "index.json"

VERSION = 1
"""Version of the index; a reader refuses another."""

DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}

Rows = dict[str, NDArray[Any]]
"""Rows by field, all of the same length."""


class DatasetError(ValueError):
    """A data set cannot be used; the message is one line."""


@dataclass(frozen=True)
class Shard:
    """A file of rows, mapped into memory.

    Attributes:
        path: the file
        fields: arrays (rows, ...) by field, read when they are looked at
    """

    path: Path
    fields: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.fields.values())))


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def write_shard(folder: Path, number: int, rows: Rows) -> None:
    """Write a shard; a kill leaves it whole or not there."""
    ordered = {name: np.ascontiguousarray(rows[name]) for name in sorted(rows)}
    write_atomically(folder / shard_name(number), save(ordered))


def open_shard(path: Path) -> Shard:
    """Map a shard into memory.

    Raises:
        DatasetError: it is cut short, or no shard
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        fields = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if 8 + length + end > size:
                raise ValueError(f"field '{name}' is cut short")
            fields[name] = np.memmap(
                path, DTYPES[entry["dtype"]], "r", 8 + length + begin, tuple(entry["shape"])
            )
        if len({len(values) for values in fields.values()}) != 1:
            raise ValueError("fields differ in length")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"'{path}' is no shard, or was cut short ({error})") from None
    return Shard(path, fields)


def write_index(folder: Path, about: Mapping[str, Any], numbers: Sequence[int]) -> None:
    """Write the index over shards that are there.

    Args:
        folder: the data
        about: `task`, `model_sha256`, `parameters` and others that readers want
        numbers: of the shards
    """
    shards, sums = [], dict[str, dict[str, NDArray[Any]]]()
    for number in numbers:
        path = folder / shard_name(number)
        shard = open_shard(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shards.append({"file": path.name, "rows": len(shard), "sha256": digest})
        for name, values in shard.fields.items():
            _add(sums.setdefault(name, {}), np.asarray(values, np.float64))
    statistics = {
        name: {
            "mean": (s["sum"] / s["count"]).tolist(),
            "std": np.sqrt(
                np.maximum(s["squares"] / s["count"] - (s["sum"] / s["count"]) ** 2, 0.0)
            ).tolist(),
            "min": s["min"].tolist(),
            "max": s["max"].tolist(),
        }
        for name, s in sums.items()
    }
    index = {"version": VERSION, **about, "shards": shards, "statistics": statistics}
    write_atomically(folder / INDEX, json.dumps(index, indent=1).encode())


def _add(total: dict[str, NDArray[Any]], values: NDArray[Any]) -> None:
    """Add values (rows, ...) to sums over rows."""
    new = {"sum": values.sum(0), "squares": (values**2).sum(0), "count": np.array(len(values))}
    for name, value in new.items():
        total[name] = total.get(name, 0.0) + value
    total["min"] = np.minimum(total.get("min", np.inf), values.min(0))
    total["max"] = np.maximum(total.get("max", -np.inf), values.max(0))


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder.

    Raises:
        DatasetError: there is none, or it is not one of ours
    """
    path = folder / INDEX
    if not path.is_file():
        raise DatasetError(
            f"there are no data in '{folder}'; make some with `diffusion-mpc collect`"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["version"]
        missing = {"task", "model_sha256", "parameters", "shards", "statistics"} - index.keys()
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"'{path}' is no index of data; name another folder") from None
    if version != VERSION or missing:
        raise DatasetError(
            f"'{path}' is of version {version}, this is version {VERSION}; collect anew"
        )
    return dict(index)


def _shapes(shard: Shard) -> dict[str, tuple[int, ...]]:
    """Shape of one row, by field."""
    return {name: values.shape[1:] for name, values in shard.fields.items()}


class Dataset:
    """Rows of one folder or several, in the order of folders and shards.

    Several are rounds of one task: of the same model and rows. Of fields that only some of them
    have, as synthetic ones, there is none.

    Attributes:
        folders: the folders
        indices: as `read_index`, of each
        index: of the first
        dropped: one line for each shard of an index that cannot be read, and is left out
    """

    def __init__(self, *folders: Path) -> None:
        """Map all shards into memory.

        Raises:
            DatasetError: there are no data in a folder, or those of two do not fit each other
        """
        indices = [read_index(folder) for folder in folders]
        self.folders, self.indices, self.index = folders, indices, indices[0]
        self.dropped: list[str] = []
        self._shards = list[Shard]()
        for folder, index in zip(folders, indices, strict=True):
            for name in ("task", "model_sha256"):
                if index[name] != self.index[name]:
                    raise DatasetError(
                        f"'{folder}' has another {name} than '{folders[0]}'; train on one of them"
                    )
            mine = self._open(folder, index)
            if not mine:
                raise DatasetError(f"no shard in '{folder}' can be read; collect anew")
            self._shards += mine
            here, there = _shapes(mine[0]), _shapes(self._shards[0])
            if any(here[name] != there[name] for name in here.keys() & there.keys()):
                raise DatasetError(
                    f"the rows of '{folder}' have other shapes than those of '{folders[0]}'; "
                    "collect them with the same parameters"
                )
        self._ends = np.cumsum([len(shard) for shard in self._shards])

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._ends[-1])

    def _open(self, folder: Path, index: Mapping[str, Any]) -> list[Shard]:
        shards = list[Shard]()
        for entry in index["shards"]:
            try:
                shard = open_shard(folder / entry["file"])
                if len(shard) != entry["rows"]:
                    raise DatasetError(f"'{shard.path}' has other rows than the index says")
            except (DatasetError, OSError) as error:
                self.dropped.append(f"{error}; it is left out")
                continue
            shards.append(shard)
        return shards

    @cached_property
    def fields(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape of one row and type, by field that all shards have."""
        names = set.intersection(*(set(shard.fields) for shard in self._shards))
        return {
            name: (values.shape[1:], values.dtype)
            for name, values in self._shards[0].fields.items()
            if name in names
        }

    def columns(self, *names: str) -> Rows:
        """Whole fields, in memory."""
        return {
            name: np.concatenate([np.asarray(shard.fields[name]) for shard in self._shards])
            for name in names
        }

    def rows(self, indices: NDArray[Any], names: Sequence[str] | None = None) -> Rows:
        """Rows of some indices (n,), in their order.

        Args:
            indices: numbers of the rows
            names: fields; None: all
        """
        shards = np.searchsorted(self._ends, indices, side="right")
        found: Rows = {}
        for name in names or self.fields:
            shape, dtype = self.fields[name]
            found[name] = np.empty((len(indices), *shape), dtype)
        for number in np.unique(shards):
            places = np.flatnonzero(shards == number)
            begin = self._ends[number] - len(self._shards[number])
            for name, values in found.items():
                values[places] = self._shards[number].fields[name][indices[places] - begin]
        return found
