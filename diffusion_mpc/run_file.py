"""Results of independent runs in a file: each kept as it comes, none run twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RunSpec = Mapping[str, Any]
"""Everything that the figures of a run depend on, ready for JSON."""

Figures = dict[str, Any]


class RunFile:
    """Figures by run, one JSON object a line: finished runs outlive an interruption or a crash.

    Figures are found again by the whole specification of a run only.
    """

    def __init__(self, path: Path, identity: Sequence[str]) -> None:
        """Read the runs that are there.

        Args:
            path: file, which need not exist yet
            identity: keys of a specification that name the run; the others are its settings

        Raises:
            ValueError: a line, other than a last one cut short, is not one of ours
        """
        self.path = path
        self._identity = tuple(identity)
        self._done: dict[str, Figures] = {}
        self._specs: list[RunSpec] = []
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            try:
                entry = json.loads(line)
                self._take(entry["run"], entry["figures"])
            except (ValueError, KeyError, TypeError):
                if line.endswith("\n"):
                    raise ValueError(
                        f"line {number} of '{path}' is not a run with its figures; name "
                        "another folder with --output"
                    ) from None
        # A line cut short by a kill would spoil the next one.
        self._cut = bool(text) and not text.endswith("\n")

    def find(self, spec: RunSpec) -> Figures | None:
        """Figures of a run, None where it has not been run."""
        return self._done.get(run_key(spec))

    def add(self, spec: RunSpec, figures: Figures) -> None:
        """Keep the figures of a run, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(
                ("\n" if self._cut else "") + json.dumps({"run": spec, "figures": figures}) + "\n"
            )
        self._cut = False
        self._take(spec, figures)

    def changed(self, specs: Iterable[RunSpec]) -> str:
        """One line about the first of these runs that is in the file with other settings only.

        Empty where there is none.
        """
        for spec in specs:
            others = [
                s for s in self._specs if all(s.get(name) == spec[name] for name in self._identity)
            ]
            if others and self.find(spec) is None:
                before, now = _flat(others[-1]), _flat(spec)
                names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
                changes = ", ".join(
                    f"{name}: {before.get(name)} -> {now.get(name)}" for name in names[:3]
                )
                return (
                    f"{self.path} has results of other settings ({changes}); they are left out, "
                    "and changed runs are run anew"
                )
        return ""

    def _take(self, spec: RunSpec, figures: Figures) -> None:
        self._done[run_key(spec)] = figures
        self._specs.append(spec)


def run_key(spec: RunSpec) -> str:
    """Text that is the same for the same run only."""
    return json.dumps(spec, sort_keys=True)


def _flat(spec: RunSpec) -> dict[str, Any]:
    parts = {name: value for name, value in spec.items() if not isinstance(value, Mapping)}
    for value in spec.values():
        parts |= value if isinstance(value, Mapping) else {}
    return parts
