"""States of former data and of recorded runs are planned from again, on workers of two kinds."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest

from diffusion_mpc.learning.collect import CollectOptions, collect
from diffusion_mpc.learning.dataset import Dataset, DatasetError
from diffusion_mpc.learning.minari_export import export_to_minari
from diffusion_mpc.learning.plan_rows import PLAN
from diffusion_mpc.learning.teacher_episode import EpisodeOptions

SMALL = {"planner.num_samples": "8", "planner.iterations": "1"}
RICH = {"planner.num_samples": "64", "planner.iterations": "4"}
COURSE = EpisodeOptions(duration=0.4, samples=2, tails=1)


@pytest.fixture(scope="module")
def poor(tmp_path_factory):
    """Data of a teacher with few samples."""
    folder = tmp_path_factory.mktemp("poor")
    collect("cartpole", folder, SMALL, CollectOptions(4, 1, COURSE))
    return folder


def plans_of(folder, *names):
    data = Dataset(folder)
    return data.rows(np.flatnonzero(data.columns("kind")["kind"] == PLAN), names)


def test_old_states_get_better_plans_from_a_better_teacher(poor, tmp_path):
    options = CollectOptions(0, 1, COURSE, replan=poor, replan_fraction=0.5)
    figures = collect("cartpole", tmp_path, RICH, options)
    names = ("state", "time", "previous", "plan_cost", "cost_to_go", "episode", "step")
    before, after = plans_of(poor, *names), plans_of(tmp_path, *names)
    assert figures["episodes"] == 0
    assert figures["old_states"] == len(after["time"]) == round(0.5 * len(before["time"]))
    keys = list(zip(before["episode"], before["step"], strict=True))
    places = [keys.index(key) for key in zip(after["episode"], after["step"], strict=True)]
    for name in ("state", "time", "previous", "cost_to_go"):
        np.testing.assert_array_equal(after[name], before[name][places])
    assert (after["plan_cost"] < before["plan_cost"][places]).mean() > 0.8


def test_old_states_of_another_task_are_refused(poor, tmp_path):
    with pytest.raises(DatasetError, match="data of another task"):
        collect("pusht", tmp_path, {}, CollectOptions(0, 1, COURSE, replan=poor))


@pytest.mark.ros
def test_a_recorded_run_gives_the_states_references_and_plans_that_it_had(tmp_path):
    pytest.importorskip("rclpy")
    command = [sys.executable, "-m", "diffusion_mpc.cli", "sim", "cartpole", "--duration", "1"]
    command += ["--lockstep", "--record", str(tmp_path / "run")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures = collect(
        "cartpole", tmp_path / "data", SMALL, CollectOptions(0, 1, COURSE, bags=[tmp_path])
    )
    rows = plans_of(tmp_path / "data", "time", "previous", "step", "cost", "cost_to_go", "action")
    assert figures["old_states"] == pytest.approx(50, abs=3)
    np.testing.assert_allclose(np.diff(rows["time"]), 0.02, atol=1e-6)
    # The previous plan is the recorded one, moved on by a period.
    assert np.abs(rows["previous"][1:]).max() > 0.05
    assert np.abs(np.diff(rows["previous"][1:, 0, 0])).max() < 1.0
    assert np.isfinite(rows["cost_to_go"]).all()
    assert (rows["cost_to_go"] > rows["cost"]).all()


def test_a_folder_without_bags_is_named(tmp_path):
    from diffusion_mpc.bags.bag_reader import BagError

    with pytest.raises(BagError, match="there is no bag in"):
        collect("cartpole", tmp_path / "data", {}, CollectOptions(0, 1, COURSE, bags=[tmp_path]))


def test_a_minari_dataset_has_what_was_executed(poor, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari", reason="an extra: pip install minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    figures = export_to_minari(poor, "cartpole/teacher-v0")
    rows = plans_of(poor, "observation", "action", "cost", "episode")
    first = np.flatnonzero(rows["episode"] == 0)
    made = minari.load_dataset("cartpole/teacher-v0")
    assert (figures["episodes"], figures["steps"]) == (4, len(rows["cost"]) - 4)
    episode = next(iter(made.iterate_episodes()))
    np.testing.assert_array_equal(episode.observations, rows["observation"][first, -1])
    np.testing.assert_array_equal(episode.actions, rows["action"][first[:-1]])
    np.testing.assert_allclose(episode.rewards, -rows["cost"][first[:-1]])
    assert episode.infos["plan"].shape == (len(first), 5, 1)
    with pytest.raises(DatasetError, match="choose another name"):
        export_to_minari(poor, "cartpole/teacher-v0")


@pytest.mark.slow
def test_ray_makes_the_same_data_though_a_worker_is_killed(poor, tmp_path):
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "diffusion_mpc.cli", "collect", "cartpole"]
    command += ["--episodes", "8", "--duration", "0.4", "--samples", "2", "--tails", "1"]
    command += ["--ray-address", "local", "--output", str(tmp_path)]
    for name, value in SMALL.items():
        command += ["--set", f"{name}={value}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        killed = kill_one_worker(process.pid)
        assert process.wait(240) == 0
    assert killed, "a worker was found while it worked"
    ours, first = Dataset(tmp_path), Dataset(poor)
    assert sorted(set(ours.columns("episode")["episode"].tolist())) == list(range(8))
    np.testing.assert_array_equal(
        ours.columns("knots")["knots"][: len(first)], first.columns("knots")["knots"]
    )


def kill_one_worker(parent, patience=120.0):
    """Kill a Ray worker that is at work; whether one was."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for child in psutil.Process(parent).children(recursive=True):
            with suppress(psutil.Error):
                # A worker is named after what it does.
                if child.cmdline()[:1] == ["ray::_call"]:
                    os.kill(child.pid, signal.SIGKILL)
                    return True
        time.sleep(0.05)
    return False
