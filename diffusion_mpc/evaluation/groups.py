"""Groups of bags to compare: each argument of `evaluate` is one, a bag or a folder of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_mpc.bags.bag_reader import BagError


@dataclass(frozen=True)
class BagGroup:
    """Bags that count as runs of the same thing.

    Attributes:
        name: for people
        bags: bag folders or .mcap files
    """

    name: str
    bags: tuple[Path, ...]


def is_bag(path: Path) -> bool:
    """Whether a path is a bag itself: a file, or a folder with its messages right in it."""
    return path.is_file() or any(
        next(path.glob(pattern), None) for pattern in ("metadata.yaml", "*.mcap", "*.db3")
    )


def find_groups(paths: Sequence[Path]) -> list[BagGroup]:
    """The group of each path.

    Args:
        paths: bags, or folders with bags below them

    Raises:
        BagError: there is none
    """
    found = []
    for path, name in zip(paths, _names(paths), strict=True):
        if not path.exists() or is_bag(path):
            # Reading it says what is wrong with it.
            found.append(BagGroup(name, (path,)))
            continue
        below = sorted(each for each in path.rglob("*") if each.is_dir() and is_bag(each))
        if not below:
            raise BagError(f"folder '{path}' holds no bag, nor does a folder in it")
        found.append(BagGroup(name, tuple(below)))
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """Names as short as they can be while they differ; that of RUN/bag is RUN."""
    whole = []
    for path in paths:
        parts = path.resolve().with_suffix("" if path.is_file() else path.suffix).parts
        whole.append(parts[:-1] if parts[-1] == "bag" and len(parts) > 2 else parts)
    depth = next((n for n in range(1, 99) if len({p[-n:] for p in whole}) == len(set(whole))), 99)
    return ["/".join(parts[-depth:]) for parts in whole]
