"""The trace of the nodes, and the comparison of late plans with plans on time."""

import gc
import json
import threading

import pytest

from diffusion_mpc.benchmark.lateness import MEASURES, compare, gather, lateness_table
from diffusion_mpc.runtime import trace_events


@pytest.fixture
def recorder(tmp_path):
    recorder = trace_events.Trace(tmp_path)
    yield recorder
    recorder.close()


def written(recorder, tmp_path):
    recorder.flush()
    return gather(tmp_path, tmp_path / "all.trace")


def spans(events, name):
    return [event for event in events if event["ph"] == "X" and event["name"] == name]


def test_each_span_is_an_event_of_the_thread_that_it_ran_in(recorder, tmp_path):
    def work():
        with recorder.span("plan", usage=True) as about:
            about["iterations"] = 2

    recorder.name("planner")
    for _ in range(2):
        thread = threading.Thread(target=work, name="busy")
        thread.start()
        thread.join()
    events = written(recorder, tmp_path)
    plans = spans(events, "plan")
    assert len(plans) == 2
    for plan in plans:
        assert plan["args"]["iterations"] == 2
        assert {"faults", "cpu_ms", "wait_ms", "other_cpu_ms", "other_wait_ms"} < set(plan["args"])
        assert plan["dur"] >= 0.0
    names = {
        event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"
    }
    assert {names[plan["tid"]] for plan in plans} == {"busy"}
    assert [event["args"]["name"] for event in events if event["name"] == "process_name"] == [
        "planner"
    ]


def test_a_span_that_ends_with_an_error_is_recorded_too(recorder, tmp_path):
    with pytest.raises(ZeroDivisionError), recorder.span("plan", usage=False):
        _ = 1 / 0
    assert len(spans(written(recorder, tmp_path), "plan")) == 1


def test_garbage_collections_are_recorded(recorder, tmp_path):
    gc.collect()
    assert spans(written(recorder, tmp_path), "collect")[-1]["args"]["generation"] == 2


def test_a_trace_is_one_file_of_json_even_where_a_process_was_killed(tmp_path):
    (tmp_path / "1.json").write_text('{"ph": "X", "name": "plan", "args": {}},\n{"ph": "X", "na')
    (tmp_path / "2.json").write_text('{"ph": "X", "name": "physics", "args": {}},\n')
    events = gather(tmp_path, tmp_path / "all.trace")
    assert [event["name"] for event in events] == ["plan", "physics"]
    assert json.loads((tmp_path / "all.trace").read_text()) == events


def test_nothing_is_recorded_where_nobody_asked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trace_events.begin("planner")
    with trace_events.span("plan", usage=True) as about:
        about["iterations"] = 2
    trace_events.end()
    assert list(tmp_path.iterdir()) == []


def plan(at, late, **about):
    return {
        "name": "plan",
        "ph": "X",
        "ts": at,
        "dur": 5000.0,
        "args": {"late": late, "wait_ms": 0.1, "iterations": 1, **about},
    }


def row(figures, measure):
    return next(row for row in figures["rows"] if row["measure"] == MEASURES[measure])


def test_late_plans_are_compared_with_plans_on_time():
    events = [plan(1e4 * i, late=False) for i in range(98)]
    events += [plan(98e4, late=True, wait_ms=4.0), plan(99e4, late=True)]
    # The collector runs for 2 ms of the first late plan, and for 1 ms between two plans.
    events += [
        {"name": "collect", "ph": "X", "ts": 98e4 + 3000.0, "dur": 3000.0, "args": {}},
        {"name": "collect", "ph": "X", "ts": 50e4 + 8000.0, "dur": 1000.0, "args": {}},
    ]
    figures = compare(events)
    assert (figures["plans"], figures["late"]) == (100, 2)
    assert row(figures, "wait_ms")["on_time_p50"] == pytest.approx(0.1)
    assert row(figures, "wait_ms")["late_beyond"] == 0.5
    assert row(figures, "collect_ms")["late_beyond"] == 0.5
    assert row(figures, "collect_ms")["late_p50"] == pytest.approx(1.0)  # of 2 ms and none
    assert row(figures, "iterations")["late_beyond"] == 0.0
    assert figures["unexplained"] == 0.5
    assert lateness_table(figures).row_count == len(MEASURES) + 1


@pytest.mark.parametrize("late", [(), (False,), (True,)])
def test_without_late_plans_or_plans_on_time_there_is_nothing_to_compare(late):
    figures = compare([plan(0.0, late=one) for one in late])
    assert figures["plans"] == len(late)
    assert figures["late"] == sum(late)
    lateness_table(figures)
