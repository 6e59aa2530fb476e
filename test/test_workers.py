"""Work that outlives its workers."""

import pytest
from killed_work import always_killed, once_killed

from diffusion_mpc.workers import WorkersError, completed


def test_work_whose_worker_was_killed_is_begun_again_and_nothing_is_done_twice(tmp_path):
    paths, said = [str(tmp_path / name) for name in "ab"], []
    results = dict(completed(once_killed, paths, 1, inform=said.append))
    assert results == dict(zip(paths, "ab", strict=True))
    assert said


def test_workers_that_die_again_and_again_are_one_line(monkeypatch):
    monkeypatch.setattr("diffusion_mpc.workers.RETRIES", 1)
    with pytest.raises(WorkersError, match="worker processes die again and again, at"):
        list(completed(always_killed, ["a"], 1))


def test_a_cluster_that_is_not_there_is_one_line():
    pytest.importorskip("ray")
    with pytest.raises(WorkersError, match="no Ray cluster at 'auto': "):
        list(completed(once_killed, ["a"], ray_address="auto"))
