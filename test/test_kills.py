"""Collect and train, killed at random moments: nothing is lost, and the result is the same."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

KILLS = 10

COLLECT = ["collect", "cartpole", "--episodes", "24", "--duration", "1", "--processes", "2"]
COLLECT += ["--set", "planner.num_samples=16", "--set", "planner.iterations=1"]
TRAIN = ["--epochs", "60", "--width", "64", "--depth", "2", "--batch", "64"]

pytestmark = pytest.mark.kills


def start(command):
    return subprocess.Popen(
        [sys.executable, "-m", "diffusion_mpc.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(command):
    """Run a command to its end; returns the time that it took, s."""
    began, process = time.monotonic(), start(command)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return time.monotonic() - began


def kill_at_random_moments(command, done, seconds, seed):
    """Kill a command with all of its processes ten times, some time after it began.

    `done` counts what is finished; `seconds` is the time that the whole takes.
    """
    dice, progress = random.Random(seed), []
    for _ in range(KILLS):
        process, before = start(command), done()
        try:
            process.wait(dice.uniform(0.3, 0.7) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert done() >= before, "what was finished is lost"
        progress.append(done())
    return progress


def digests(folder, pattern):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob(pattern)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder / "data", finish([*COLLECT, "--output", str(folder / "data")])


def test_collect_ends_with_the_same_data(whole, tmp_path):
    folder = tmp_path / "data"
    command = [*COLLECT, "--output", str(folder)]

    progress = kill_at_random_moments(
        command, lambda: len(digests(folder, "shard-*.s*")), whole[1], 0
    )
    finish(command)

    print("shards after each kill:", progress)
    assert progress[0] < 6, "the first kill came too late to be one"
    assert digests(folder, "shard-*.safetensors") == digests(whole[0], "shard-*.safetensors")
    assert json.loads((folder / "index.json").read_text())["shards"]
    assert not list(folder.glob(".*part"))


def test_train_ends_with_the_same_weights(whole, tmp_path):
    command = ["train", str(whole[0]), *TRAIN, "--output"]
    seconds = finish([*command, str(tmp_path / "whole")])
    cut = tmp_path / "cut"

    def epochs():
        log = cut / "log.jsonl"
        return len(log.read_text().splitlines()) if log.is_file() else 0

    progress = kill_at_random_moments([*command, str(cut)], epochs, seconds, 1)
    finish([*command, str(cut)])

    print("epochs after each kill:", progress)
    assert progress[0] < 60, "the first kill came too late to be one"
    from safetensors.numpy import load_file

    for name in ("last", "best"):
        ours, theirs = (load_file(f / f"{name}.safetensors") for f in (cut, tmp_path / "whole"))
        assert {k: v.tobytes() for k, v in ours.items()} == {
            k: v.tobytes() for k, v in theirs.items()
        }
    assert not list(cut.glob(".*part"))
