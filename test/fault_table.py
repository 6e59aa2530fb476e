"""The fault table.

What `./dmpc test faults` prints at its end, from tests marked `faults(fault, behaviour)`.
"""

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

PERIOD = 0.02
"""Command period of the planner in these tests, s."""
# What a loaded machine adds: the wake-up of a thread, and one message through DDS.
SLACK = 0.05
ROWS = pytest.StashKey[list]()
COLUMNS = ("fault", "behaviour", "ms", "counted from", "limit ms", "verdict")


def pytest_addoption(parser):
    parser.addoption(
        "--faults-json", type=Path, metavar="FILE", help="write the fault table to a file"
    )


@pytest.fixture
def time_to_safe(record_property):
    """Notes the time (s) from the moment at which control was lost to the safe command.

    Fails where it is out of all proportion.
    """

    def note(seconds, since, limit=PERIOD, early=0.5 * PERIOD):
        record_property("fault_time", (seconds, since, limit))
        assert -early < seconds < limit + SLACK

    return note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marker = item.get_closest_marker("faults")
    if marker is not None and (report.when == "call" or report.outcome != "passed"):
        measured = dict(report.user_properties).get("fault_time")
        item.config.stash.setdefault(ROWS, []).append(row(*marker.args, report.outcome, measured))
    return report


def row(fault, behaviour, outcome, measured):
    cells = {
        "fault": fault,
        "behaviour": behaviour,
        "ms": None,
        "counted from": "",
        "limit ms": None,
        "verdict": outcome,
    }
    if measured is not None:
        seconds, since, limit = measured
        late = outcome == "passed" and seconds > limit
        cells |= {"ms": round(seconds * 1e3, 1), "counted from": since, "limit ms": limit * 1e3}
        cells |= {"verdict": "late" if late else outcome}
    return cells


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(ROWS, [])
    if file := config.getoption("--faults-json"):
        file.write_text(json.dumps(rows, indent=2) + "\n")
    if rows and config.getoption("-m"):
        table = Table(*COLUMNS, title="Faults, injected over DDS: time to the safe command")
        for cells in rows:
            table.add_row(*("" if cells[name] is None else f"{cells[name]}" for name in COLUMNS))
        console = Console(file=terminalreporter._tw._file, width=180)
        console.print(table)
