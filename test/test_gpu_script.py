"""The script for a GPU.

Its items end one by one within a budget, whatever becomes of each, and a run that was cut off goes
on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

GPU = Path(__file__).with_name("gpu")

# A run of items that are chosen by name, in a folder of its own.
SCRIPT = """
import sys, time
from pathlib import Path
from budget import Item, Record, all_well, run_items, say, summary

ITEMS = {
    "right": Item("right", 1, 30, "work.right"),
    "wrong": Item("wrong", 1, 30, "work.wrong"),
    "raises": Item("raises", 1, 30, "work.raises"),
    "hangs": Item("hangs", 1, 3, "work.hangs"),
    "dies": Item("dies", 1, 30, "work.dies"),
    "leaves": Item("leaves", 1, 30, "work.leaves"),
    "long": Item("long", 100, 200, "work.right"),
    "short": Item("short", 1, 30, "work.right"),
    "late": Item("late", 1, 60, "work.waits", {"file": "go"}),
    "at first": Item("at first", 1, 30, "work.raises_at_first"),
    "many": Item("many", 1, 60, "work.many"),
}

if __name__ == "__main__":
    items = [ITEMS[name] for name in sys.argv[2:]]
    record = Record(Path("record.json"), "this machine", items)
    run_items(items, record, time.monotonic() + float(sys.argv[1]), "argument")
    say(summary(record))
    raise SystemExit(0 if all_well(record) else 1)
"""
WORK = """
import os, signal, subprocess, time
from pathlib import Path
from budget import Result

def note(word):
    with open("notes", "a") as file:
        file.write(f"{word} ")

def right(argument):
    note("right")
    yield Result("argument", argument, "argument", argument == "argument")

def wrong(argument):
    yield Result("two and two", "5", "4", False)

def raises(argument):
    yield Result("before", "learnt")
    raise ValueError("no\\nsuch kernel")

def hangs(argument):
    yield Result("before", "learnt")
    child = subprocess.Popen(["sleep", "600"])
    Path("pid").write_text(str(child.pid))
    time.sleep(600)

def dies(argument):
    yield Result("before", "learnt")
    os.kill(os.getpid(), signal.SIGKILL)

def leaves(argument):
    yield Result("before", "learnt")
    os._exit(0)

def waits(argument, file):
    note("waits")
    Path("pid").write_text(str(os.getpid()))
    while not Path(file).exists():
        time.sleep(0.01)
    yield Result("waited", "long enough")

def raises_at_first(argument):
    note("at-first")
    if not Path("tried").exists():
        Path("tried").touch()
        raise RuntimeError("the first time")
    yield Result("again", "right")

def many(argument):
    for number in range(300):
        yield Result("number", str(number), row={"figures": "x" * 1000})
"""


@pytest.fixture
def start(tmp_path):
    """Starts a run of the items of these names, in a folder of its own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "work.py").write_text(WORK)
    environment = {**os.environ, "PYTHONPATH": f"{GPU}:{tmp_path}"}
    runs = []

    def begin(*names, budget=60.0):
        command = [sys.executable, "script.py", str(budget), *names]
        runs.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
            )
        )
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()
        run.wait()
        run.stdout.close()


@pytest.fixture
def budget(monkeypatch):
    monkeypatch.syspath_prepend(GPU)
    import budget

    return budget


def known(folder, file="record.json"):
    return json.loads((folder / file).read_text())


def wait_for(condition, patience=60.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def finish(run):
    output, _ = run.communicate(timeout=120)
    return run.returncode, output.splitlines()


def test_items_go_on_whatever_becomes_of_the_ones_before(start, tmp_path):
    code, lines = finish(
        start("right", "raises", "hangs", "dies", "leaves", "wrong", "long", "short")
    )
    items = known(tmp_path)["items"]
    states = {name: entry["state"] for name, entry in items.items()}
    assert states == {
        "right": "done",
        "raises": "failed",
        "hangs": "timed out",
        "dies": "failed",
        "leaves": "failed",
        "wrong": "done",
        "long": "not reached",
        "short": "done",
    }
    for name in ("raises", "hangs", "dies", "leaves"):
        assert [result["what"] for result in items[name]["results"]] == ["before"]
    assert items["raises"]["error"] == "ValueError: no such kernel"
    assert any("raise ValueError" in line for line in items["raises"]["log"])
    assert items["hangs"]["error"] == "not done within 3 s"
    assert any("in hangs" in line for line in items["hangs"]["log"])
    assert "SIGKILL" in items["dies"]["error"]
    assert "exit code 0" in items["leaves"]["error"]
    # What the one that hung had started has ended as well.
    pid = (tmp_path / "pid").read_text()
    wait_for(lambda: not alive(pid))
    assert code == 1
    assert lines[-1] == known(tmp_path)["summary"]
    for words in (
        "learnt: right, wrong, short;",
        "aims met: 2 of 3;",
        "missed: two and two: 5, aim 4;",
        "raises (ValueError: no such kernel)",
        "not reached: long",
    ):
        assert words in lines[-1]


def test_a_run_of_which_everything_is_right_ends_with_0(start, tmp_path):
    code, lines = finish(start("right", "short"))
    assert (code, lines[-1]) == (0, "learnt: right, short; aims met: 2 of 2")
    # Finished items are kept, so nothing is left to do.
    assert finish(start("right", "short", budget=0.0))[0] == 0
    assert (tmp_path / "notes").read_text().split() == ["right", "right"]


def test_a_budget_that_ends_ends_the_item_that_runs(start, tmp_path):
    code, _ = finish(start("late", "short", budget=4.0))
    items = known(tmp_path)["items"]
    assert (code, items["late"]["state"], items["short"]["state"]) == (
        1,
        "timed out",
        "not reached",
    )


def test_a_run_that_was_killed_goes_on(start, tmp_path):
    run = start("right", "late", "short")
    wait_for(lambda: (tmp_path / "pid").exists())
    wait_for(lambda: (tmp_path / "pid").read_text())
    run.kill()
    run.wait()
    items = known(tmp_path)["items"]
    assert {name: entry["state"] for name, entry in items.items()} == {
        "right": "done",
        "late": "running",
        "short": "not reached",
    }
    # Nobody is left behind on the GPU.
    wait_for(lambda: not alive((tmp_path / "pid").read_text()))
    (tmp_path / "go").touch()
    code, lines = finish(start("right", "late", "short"))
    again = known(tmp_path)["items"]
    assert again["right"] == items["right"]
    assert (code, {entry["state"] for entry in again.values()}) == (0, {"done"})
    # What was never tried comes before what may have been to blame.
    assert (tmp_path / "notes").read_text().split() == ["right", "waits", "right", "waits"]
    assert lines[-1].startswith("learnt: right, late, short")


def test_what_failed_is_tried_again_after_what_was_not_reached(start, tmp_path):
    assert finish(start("at first", "long"))[0] == 1
    assert finish(start("at first", "long", budget=150.0))[0] == 0
    assert (tmp_path / "notes").read_text().split() == ["at-first", "right", "at-first"]
    assert known(tmp_path)["items"]["at first"]["error"] == ""


def test_the_file_can_be_read_at_any_time(start, tmp_path):
    run = start("many", "right")
    wait_for(lambda: (tmp_path / "record.json").exists())
    counts = set()
    while run.poll() is None:
        counts.add(len(known(tmp_path)["items"]["many"]["results"]))
    assert run.returncode == 0
    # It was read while results came.
    assert len(counts) > 2
    assert sorted(path.name for path in tmp_path.glob("record*")) == ["record.json"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '{"device": "another", "items": {}}',
            "holds figures of another, not of this machine; name another file",
        ),
        ('{"rows": []}', "was not written by this script; name another file"),
        ("", "was not written by this script; name another file"),
    ],
)
def test_a_file_of_something_else_is_left_alone(budget, tmp_path, text, error):
    file = tmp_path / "record.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=error):
        budget.Record(file, "this machine", [])
    assert file.read_text() == text


def test_all_items_fit_into_the_default_budget(budget):
    import items

    assert sum(item.share for item in items.ITEMS) <= items.BUDGET
    assert len({item.name for item in items.ITEMS}) == len(items.ITEMS)
    assert all(item.share <= item.limit for item in items.ITEMS)


@pytest.mark.rehearsal
@pytest.mark.timeout(900)
def test_a_rehearsal_that_was_killed_goes_on_to_its_end(tmp_path):
    command = [
        sys.executable,
        str(GPU / "run.py"),
        "--rehearse",
        "--json",
        str(tmp_path / "x.json"),
    ]

    def done():
        file = tmp_path / "x.json"
        return (
            {
                name: entry
                for name, entry in known(tmp_path, "x.json")["items"].items()
                if entry["state"] == "done"
            }
            if file.exists()
            else {}
        )

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        wait_for(lambda: len(done()) >= 4, patience=300.0)
        run.send_signal(signal.SIGKILL)
    kept = done()
    plotted = [*command, "--plot", str(tmp_path / "x.png")]
    ended = subprocess.run(plotted, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    items = known(tmp_path, "x.json")["items"]
    assert {entry["state"] for entry in items.values()} == {"done"}
    assert {name: items[name] for name in kept} == kept
    assert ended.stdout.splitlines()[-1].startswith("learnt: machine, cartpole captures")
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.rehearsal
def test_without_a_gpu_there_is_nothing_to_check(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(GPU / "run.py"), "--json", str(tmp_path / "x.json")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("error: PyTorch sees no CUDA GPU")) == (2, 1)
    assert not (tmp_path / "x.json").exists()
