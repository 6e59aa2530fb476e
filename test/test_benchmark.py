"""Benchmarks: intervals by hand, equal budgets, results that are kept, files left behind."""

import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from diffusion_mpc.benchmark import black_box, quality, renoising, stages, tune
from diffusion_mpc.benchmark.black_box import BlackBox
from diffusion_mpc.benchmark.integrators import planning_models
from diffusion_mpc.benchmark.quality import Quality
from diffusion_mpc.benchmark.renoising import Renoising
from diffusion_mpc.benchmark.runs import Outcome, run_all
from diffusion_mpc.benchmark.tune import Tune
from diffusion_mpc.benchmark.warm_start import WarmStart
from diffusion_mpc.cli import main
from diffusion_mpc.config import ConfigError, PlannerNodeConfig, load_parameters
from diffusion_mpc.intervals import compare, compare_columns, estimate
from diffusion_mpc.planner.algorithms import ALGORITHMS
from diffusion_mpc.planner.packing import pack_tensors, send
from diffusion_mpc.planner.sampler import draw_noise
from diffusion_mpc.planner.search import SearchInput
from diffusion_mpc.policy.checkpoint import Description, save_checkpoint
from diffusion_mpc.policy.value import Value, ValueConfig
from diffusion_mpc.rollout.backend import is_multiple
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.run_file import RunFile
from diffusion_mpc.simulation.closed_loop import ClosedLoop, DivergedError, run_episode
from diffusion_mpc.tasks import available_tasks

# Intervals


def test_a_mean_and_its_interval_by_hand():
    # Standard deviation 1, so half the interval is t(0.975; 2) / sqrt 3 = 4.30265 / 1.73205.
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.count) == (2.0, 3)
    assert found.high - 2.0 == pytest.approx(2.48414, abs=1e-4)
    assert 2.0 - found.low == pytest.approx(2.48414, abs=1e-4)


def test_one_value_has_no_interval_and_none_no_mean():
    assert math.isnan(estimate([5.0]).low)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_pairs_are_compared_pair_by_pair():
    # The trials differ by far more than the algorithms; only pairs show that the first is always 1
    # less.
    found = compare([10.0, 20.0, 30.0], [11.0, 21.0, 31.0])
    assert (found.difference.mean, found.difference.low, found.difference.high) == (
        -1.0,
        -1.0,
        -1.0,
    )
    assert found.wins == 3


def test_columns_are_compared_over_the_rows_that_both_have():
    costs = pd.DataFrame(
        {"a": [1.0, 2.0, math.nan], "b": [3.0, 3.0, 0.0], "c": [math.nan, math.nan, 1.0]}
    )
    found = compare_columns(costs, "a", "b")
    assert (found["difference"]["mean"], found["difference"]["count"], found["wins"]) == (
        -1.5,
        2,
        2,
    )
    assert (
        compare_columns(costs, "a", "c")
        is compare_columns(costs, "a", "a")
        is compare_columns(costs, "d", "a")
        is None
    )


# Runs


def test_figures_are_found_again_by_all_settings_only(tmp_path):
    file = RunFile(tmp_path / "x.jsonl", ("task", "seed"))
    run = {"task": "ant", "seed": 1, "parameters": {"planner.temperature": 0.05}}
    file.add(run, {"cost": 2.0})
    again = RunFile(tmp_path / "x.jsonl", ("task", "seed"))
    assert again.find(run) == {"cost": 2.0}
    assert again.changed([run]) == ""
    warmer = run | {"parameters": {"planner.temperature": 0.1}}
    assert again.find(warmer) is None
    assert "(planner.temperature: 0.05 -> 0.1); they are left out" in again.changed([warmer])
    assert again.changed([run | {"seed": 2}]) == ""


def test_a_last_line_cut_short_is_run_again_and_spoils_nothing(tmp_path):
    path = tmp_path / "x.jsonl"
    RunFile(path, ("seed",)).add({"seed": 1}, {"cost": 1.0})
    path.write_text(path.read_text() + '{"run": {"seed": 2}, "fig')
    file = RunFile(path, ("seed",))
    assert file.find({"seed": 2}) is None
    file.add({"seed": 2}, {"cost": 2.0})
    path.write_text(
        "".join(
            line
            for line in path.read_text().splitlines(keepends=True)
            if not line.endswith('"fig\n')
        )
    )
    again = RunFile(path, ("seed",))
    assert [again.find({"seed": s}) for s in (1, 2)] == [{"cost": 1.0}, {"cost": 2.0}]


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text("something else\n")
    with pytest.raises(
        ValueError,
        match=r"line 1 of '.*x\.jsonl' is not a run with its figures; name another folder",
    ):
        RunFile(tmp_path / "x.jsonl", ())


def one_run(**changes):
    return (
        Quality(tasks=("cartpole",), algorithms=("mbd",), seeds=1, duration=0.1).runs()[0] | changes
    )


def test_a_run_that_fails_is_named_and_the_others_are_run(tmp_path):
    broken = one_run(parameters=one_run()["parameters"] | {"planner.control_dt": 0.03}, trial=3)
    outcome = run_all(
        Quality.measure,
        [broken, one_run()],
        RunFile(tmp_path / "x.jsonl", Quality.identity),
        1,
        "test",
    )
    assert outcome.figures[0] is None
    assert outcome.figures[1]["plans"] == 5
    assert not outcome.complete
    assert outcome.errors == (
        "cartpole mbd 64 3: planner.control_dt of 0.03 s is not a multiple of model.timestep of "
        "0.02 s",
    )


def test_a_run_that_is_asked_for_twice_is_run_once(tmp_path):
    outcome = run_all(
        Quality.measure,
        [one_run(), one_run()],
        RunFile(tmp_path / "x.jsonl", Quality.identity),
        1,
        "test",
    )
    assert len(outcome.specs) == len(outcome.figures) == len(outcome.frame()) == 1


# Closed loop


def settings(task="cartpole", **more):
    return {"task": task, "backend.threads": 1, **more}


def test_the_cost_of_an_episode_by_hand():
    episode = run_episode(settings(), trial=0, duration=0.5)
    assert episode.stamps == pytest.approx(0.02 * np.arange(25))
    upright = np.mean((1.0 - np.cos(episode.qpos[:, 1])) / 2.0)
    centred, still = np.mean(0.1 * episode.qpos[:, 0] ** 2), np.mean(0.01 * episode.qvel[:, 1] ** 2)
    low, high = ClosedLoop(settings(), 0).task.ctrl_limits
    effort = np.mean(0.01 * (2.0 * (episode.controls[:, 0] - low) / (high - low) - 1.0) ** 2)
    assert episode.mean_cost == pytest.approx(upright + centred + still + effort)
    assert np.abs(episode.controls).max() > 0.0


def test_a_broken_constraint_is_measured_without_its_tightening(tmp_path):
    path = tmp_path / "held.py"
    path.write_text(
        "from diffusion_mpc.tasks.base import constraint\n"
        "from diffusion_mpc.tasks import cartpole\n"
        "class Held(cartpole.Cartpole):\n"
        "    name = 'held'\n"
        "    @constraint(tightening=7.0, unit='m')\n"
        "    def held(self, x, reference):\n"
        "        'Always 0.25 too far.'\n"
        "        return x.qpos[..., 0] * 0.0 + 0.25\n"
    )
    assert run_episode(settings(), trial=0, duration=0.1).violation == 0.0
    assert run_episode(settings(str(path)), trial=0, duration=0.1).violation == pytest.approx(0.25)


def test_a_trial_begins_the_same_for_every_algorithm_and_another_one_differently():
    def start(trial, algorithm):
        return ClosedLoop(settings(**{"planner.algorithm": algorithm}), trial).state().qpos

    np.testing.assert_array_equal(start(1, "mbd"), start(1, "cem"))
    assert np.abs(start(1, "mbd") - start(2, "mbd")).min() > 0.0


def test_a_quaternion_stays_of_unit_length_where_a_trial_begins():
    qpos = ClosedLoop(settings("ant"), 1).state().qpos
    assert np.linalg.norm(qpos[3:7]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_run_costs_the_same(algorithm):
    run = Quality(tasks=("cartpole",), algorithms=(algorithm,), seeds=5, duration=0.3).runs()[4]
    assert run["trial"] == 4
    assert Quality.measure(run) == Quality.measure(run)


def test_a_simulation_that_diverges_is_an_error():
    loop = ClosedLoop(settings(), 0)
    loop.plant.data.qvel[:] = 1e12
    with pytest.raises(DivergedError, match=r"task 'cartpole': the simulation diverged at 0\.02 s"):
        loop.advance()


def test_where_nothing_is_feasible_the_robot_goes_on_under_the_plan_before():
    loop = ClosedLoop(settings(), 0)
    loop.plan()
    before = loop.controller.current
    loop.controller.backend.rollout = lambda *a: (_ for _ in ()).throw(quality_error())
    assert loop.plan() is None
    assert loop.controller.current is before
    np.testing.assert_array_equal(loop.advance(), before.controls[0])


def quality_error():
    from diffusion_mpc.planner.score import NoFeasibleSampleError

    return NoFeasibleSampleError("all of them")


# Quality


def write_tuned(folder, tuned):
    path = folder / "given.yaml"
    path.write_text(yaml.safe_dump(tuned))
    return path


def test_all_algorithms_roll_out_exactly_as_much(monkeypatch, tmp_path):
    tuned = write_tuned(
        tmp_path, {"all": {"mbd": {"planner.iterations": 1}, "cem": {"planner.iterations": 4}}}
    )
    counts, rolled = {}, []
    real = CpuBackend.rollout
    monkeypatch.setattr(
        CpuBackend,
        "rollout",
        lambda self, s, u, dt: rolled.append(tuple(u.shape)) or real(self, s, u, dt),
    )
    for run in Quality(
        tasks=("cartpole",), seeds=1, duration=0.1, rollouts=(32,), tuned=tuned
    ).runs():
        rolled.clear()
        figures = Quality.measure(run)
        assert figures["total_rollouts"] == sum(shape[0] for shape in rolled) == 5 * 32
        counts[run["algorithm"]] = sum(shape[0] * shape[1] for shape in rolled)
        assert len(rolled) == 5 * {"mbd": 1, "cem": 4}.get(run["algorithm"], 2)
    assert set(counts) == set(ALGORITHMS)
    assert len(set(counts.values())) == 1


def test_settings_come_before_tuned_parameters_and_those_of_a_task_before_those_for_all(tmp_path):
    tuned = {
        "all": {"mbd": {"planner.temperature": 0.2, "planner.noise_end": 0.2}},
        "cartpole": {"mbd": {"planner.noise_end": 0.1}},
    }
    options = {"tuned": write_tuned(tmp_path, tuned), "settings": ("planner.temperature=0.3",)}
    found = Quality(tasks=("cartpole",), algorithms=("mbd",), seeds=1, **options).runs()[0][
        "parameters"
    ]
    assert (found["planner.temperature"], found["planner.noise_end"]) == (0.3, 0.1)


def test_trials_come_one_after_the_other_each_with_all_that_it_compares():
    runs = Quality(
        tasks=("cartpole", "arm"), algorithms=("mbd", "cem"), seeds=2, duration=0.1
    ).runs()
    assert [run["trial"] for run in runs] == [0] * 4 + [1] * 4


def test_the_summary_by_hand():
    names = [
        ("cheap", 0, 1.0),
        ("cheap", 1, 2.0),
        ("mbd", 0, 2.0),
        ("mbd", 1, 4.0),
        ("dear", 0, 5.0),
    ]
    runs = tuple({"task": "t", "rollouts": 64, "algorithm": a, "trial": t} for a, t, _ in names)
    figures = tuple(
        {"mean_cost": c, "succeeded": True, "falls": 1, "violation": 0.0, "total_rollouts": 64}
        for _, _, c in names
    )
    outcome = Outcome((*runs, runs[-1] | {"trial": 1}), (*figures, None))
    assert not outcome.complete
    found = Quality().summarise(outcome.frame())
    rows = {row["algorithm"]: row for row in found["rows"]}
    assert {name: row["mean_cost"] for name, row in rows.items()} == {
        "cheap": 1.5,
        "mbd": 3.0,
        "dear": 5.0,
    }
    assert rows["cheap"]["mbd_less_this"]["difference"]["mean"] == 1.5
    # Only the trial that both have counts in a comparison.
    assert rows["dear"]["mbd_less_this"]["difference"] == pytest.approx(
        {"mean": -3.0, "low": math.nan, "high": math.nan, "count": 1}, nan_ok=True
    )
    assert [row["algorithm"] for row in found["best_baselines"]] == ["cheap"]
    assert {row["algorithm"]: row["mean_rank"] for row in found["summary"]} == {
        "cheap": 1.0,
        "mbd": 2.0,
        "dear": 3.0,
    }


def test_normalised_costs_and_ranks_by_hand():
    costs = {
        "t": {"a": 1.0, "b": 3.0, "c": 2.0},
        "equal": dict.fromkeys("abc", -5.0),
        "not all": {"a": 7.0},
    }
    rows = [
        {"task": task, "rollouts": 64, "algorithm": name, "mean_cost": cost}
        for task, by_name in costs.items()
        for name, cost in by_name.items()
    ]
    found = {row["algorithm"]: tuple(row.values())[1:] for row in quality.overall(rows)}
    assert found == {"a": (0.0, 1.5, 1, 2), "b": (0.5, 2.5, 0, 2), "c": (0.25, 2.0, 0, 2)}
    assert quality.overall(rows[-1:]) == []


def test_every_algorithm_can_be_tuned_with_as_many_candidates_the_defaults_among_them():
    for name in ALGORITHMS:
        found = tune.candidates("cartpole", name, 5, seed=0)
        assert len(found) == 5
        assert found[0] == {}
        assert found == tune.candidates("cartpole", name, 5, seed=0)
        runs = Tune(tasks=("cartpole",), algorithms=(name,), candidates=5).runs()
        assert [run["given"] for run in runs] == found
        assert {run["trial"] for run in runs} == {tune.FIRST_TRIAL}
        assert all(run["parameters"].items() >= run["given"].items() for run in runs)


def test_a_search_goes_on_from_where_an_earlier_one_ended():
    ended = {"planner.noise_start": 0.123}
    found = tune.candidates("cartpole", "mppi", 5, seed=0, incumbent=ended)
    assert len(found) == 5
    assert found[:2] == [{}, ended]
    # Nothing is tried twice.
    defaults = {"planner.noise_start": 0.6}
    assert tune.candidates("cartpole", "mppi", 5, seed=0, incumbent=defaults) == tune.candidates(
        "cartpole", "mppi", 5, seed=0
    )


def test_a_candidate_with_fewer_trials_than_the_others_is_not_the_best():
    costs = [
        (0, 1000, 3.0),
        (1, 1000, 2.0),
        (2, 1000, 1.0),
        (3, 1000, math.nan),
        (0, 1001, 3.0),
        (1, 1001, 2.0),
        (3, 1001, 0.0),
    ]
    runs = pd.DataFrame(
        [
            {
                "task": "cartpole",
                "algorithm": "mppi",
                "candidate": n,
                "trial": t,
                "mean_cost": c,
                "given": {"planner.iterations": n},
            }
            for n, t, c in costs
        ]
    )
    row = Tune().summarise(runs)["rows"][0]
    assert (row["default_cost"], row["first_cost"], row["tuned_cost"]) == (3.0, 2.0, 2.0)
    assert row["parameters"]["planner.iterations"] == 1


def test_the_tuned_parameters_of_the_package_can_be_used():
    assert {run["algorithm"] for run in Quality(seeds=1).runs()} == set(ALGORITHMS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("cartpol",)}, "unknown task 'cartpol'; did you mean 'cartpole'"),
        ({"algorithms": ("mpi",)}, "unknown algorithm 'mpi'; did you mean 'mppi'"),
        ({"rollouts": (33,)}, "33 rollouts are no multiple of the 2 iterations"),
        ({"settings": ("planner.temprature=1",)}, "did you mean 'planner.temperature'"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        Quality(**{"tasks": ("cartpole",), "untuned": True, **options}).runs()


# Black box


METHODS = [name for name in black_box.METHODS if name != "gp_bo"]


def test_methods_make_exactly_as_many_evaluations_within_the_cube():
    options = BlackBox(
        functions=("levy",),
        dims=(3,),
        seeds=1,
        samples=8,
        levels=20,
        methods=("mbd_code", "cma_es", "random"),
    )
    for run in options.runs():
        seen = []
        objective = black_box.Evaluated(lambda x, seen=seen: seen.append(x) or x.square().sum(-1))
        black_box.METHODS[run["method"]](objective, 3, 0, run)
        points = torch.cat(seen)
        assert objective.count == len(points) == black_box.evaluations(run) == 153
        assert points.abs().max() <= 1.0
        torch.testing.assert_close(objective.best, points.square().sum(-1).cummin(0).values)


def test_cma_es_that_has_converged_begins_anew():
    run = BlackBox(
        functions=("levy",), dims=(2,), seeds=1, samples=64, levels=50, methods=("cma_es",)
    ).runs()[0]
    figures = BlackBox.measure(run)
    assert figures["evaluations"] == black_box.evaluations(run)
    assert figures["best"] < 1e-8
    assert figures == BlackBox.measure(run) | {"seconds": figures["seconds"]}


def test_without_its_package_bayesian_optimisation_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(black_box, "BO_PACKAGE", "a_package_that_is_not_there")
    sizes = {"dims": (2,), "seeds": 1, "samples": 8, "levels": 5}
    benchmark = BlackBox(
        functions=("levy",), methods=("gp_bo", "random"), output=tmp_path, processes=1, **sizes
    )
    report = benchmark.report()
    assert report["complete"]
    assert [row["method"] for row in report["rows"]] == ["random"]
    assert report["missing"] == {"gp_bo": "needs botorch: pip install botorch"}
    assert "gp_bo needs botorch" in benchmark.tables(report)[0].title


def test_bayesian_optimisation_beats_random_search_on_a_bowl():
    pytest.importorskip("botorch", reason="needs botorch")
    run = BlackBox(dims=(4,), seeds=1, methods=("gp_bo",), bo_evaluations=60).runs()[0]
    found = []
    for method in ("gp_bo", "random"):
        objective = black_box.Evaluated(lambda x: (x - 0.3).square().sum(-1))
        black_box.METHODS[method](objective, 4, 0, run | {"samples": 59, "levels": 2})
        assert objective.count == 60
        found.append(float(objective.best[-1]))
    assert found[0] < 0.2 * found[1]


# Renoising


def test_noise_grows_with_another_goal_and_shrinks_again_where_the_schedule_stays():
    runs = {
        run["noise"]: run for run in Renoising(seeds=1).runs() if run["event"] == "another goal"
    }
    for noise, run in runs.items():
        figures = Renoising.measure(run)
        level, event = np.array(figures["noise_level"]), round(renoising.MOMENT / figures["period"])
        before, after, end = (
            level[event - 10 : event].mean(),
            level[event : event + 20].max(),
            level[-10:].mean(),
        )
        if noise == "schedule alone":
            assert after < 1.3 * before
        else:
            assert after > 2.0 * before
            assert end < 0.5 * after
        assert figures["costs"][event] > 10.0 * figures["costs"][event - 1]
        assert figures["cost_after"] == pytest.approx(np.mean(figures["costs"][event:]))


def test_renoising_is_tabled_against_the_schedule_and_plotted(tmp_path):
    benchmark = Renoising(seeds=2, output=tmp_path)
    runs = benchmark.runs()
    figures = tuple(
        {"period": 0.02, "noise_level": [0.1], "costs": [c], "cost_after": float(c)}
        for c in range(len(runs))
    )
    report = benchmark.summarise(Outcome(tuple(runs), figures).frame())
    assert len(report["rows"]) == 2 * len(renoising.EVENTS)
    assert [
        row["less_schedule"] and row["less_schedule"]["difference"]["mean"]
        for row in report["rows"][:2]
    ] == [-1.0, None]
    assert benchmark.tables(report)[0].row_count == len(report["rows"])
    assert benchmark.write(report).stat().st_size > 1000


# Commands


def test_every_benchmark_has_help_with_an_example(capsys):
    for name in ("speed", "quality", "tune", "delay", "renoising", "black-box", "soak"):
        assert main(["benchmark", name, "--help"]) == 0
        assert f"example: diffusion-mpc benchmark {name}" in " ".join(
            capsys.readouterr().out.split()
        )


def test_quality_is_tabled_plotted_and_not_run_twice(tmp_path, capsys):
    command = [
        "benchmark",
        "quality",
        "--tasks",
        "cartpole",
        "--algorithms",
        "mbd",
        "cem",
        "--seeds",
        "2",
        "--duration",
        "0.1",
    ]
    command += ["--output", str(tmp_path), "--json", str(tmp_path / "q.json"), "--processes", "1"]
    assert main(command) == 0
    assert "mean closed-loop cost" in capsys.readouterr().out
    first, kept = (
        json.loads((tmp_path / "q.json").read_text()),
        (tmp_path / "quality.jsonl").read_text(),
    )
    assert first["complete"]
    assert [(row["algorithm"], row["trials"], row["total_rollouts"]) for row in first["rows"]] == [
        ("mbd", 2, 640),
        ("cem", 2, 640),
    ]
    assert (tmp_path / "quality.png").stat().st_size > 1000
    assert main(command) == 0
    assert (tmp_path / "quality.jsonl").read_text() == kept
    assert json.loads((tmp_path / "q.json").read_text()) == first


def test_tuning_leaves_a_file_that_quality_takes(tmp_path):
    command = [
        "--tasks",
        "cartpole",
        "--algorithms",
        "mppi",
        "--seeds",
        "2",
        "--duration",
        "0.1",
        "--output",
        str(tmp_path),
    ]
    assert (
        main(
            [
                "benchmark",
                "tune",
                *command,
                "--candidates",
                "3",
                "--processes",
                "1",
                "--json",
                str(tmp_path / "t.json"),
            ]
        )
        == 0
    )
    row = json.loads((tmp_path / "t.json").read_text())["rows"][0]
    assert row["candidates"] == 3
    # Three ran the first trial, the best two of them the other.
    assert len((tmp_path / "tune.jsonl").read_text().splitlines()) == 3 + 2
    # In full, the defaults too, so that other defaults do not change what was found.
    assert row["parameters"].keys() == tune.SPACES["mppi"].keys()
    assert quality.read_tuned(tmp_path / "tuned.yaml") == {"cartpole": {"mppi": row["parameters"]}}


def test_a_search_keeps_what_it_does_not_search_for(tmp_path):
    earlier = {
        "ant": {"mbd": {"planner.noise_start": 0.5}},
        "cartpole": {"cem": {"planner.noise_start": 0.4}},
    }
    given = write_tuned(tmp_path, earlier)
    search = Tune(
        tasks=("cartpole",),
        algorithms=("mppi",),
        seeds=1,
        candidates=1,
        duration=0.05,
        tuned=given,
        output=tmp_path,
    )
    report = search.report()
    found = {"mppi": report["rows"][0]["parameters"]}
    assert quality.read_tuned(search.write(report)) == {
        "ant": earlier["ant"],
        "cartpole": {**earlier["cartpole"], **found},
    }


def test_speed_says_how_much_of_the_raw_speed_is_left(tmp_path, capsys):
    command = [
        "benchmark",
        "speed",
        "--tasks",
        "cartpole",
        "--samples",
        "8",
        "16",
        "--horizon",
        "10",
        "--iterations",
        "2",
    ]
    assert (
        main(
            [
                *command,
                "--plans",
                "5",
                "--warm-up",
                "2",
                "--set",
                "backend.threads=1",
                "--json",
                str(tmp_path / "s.json"),
            ]
        )
        == 0
    )
    assert "efficiency" in capsys.readouterr().out
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert [(row["num_samples"], row["horizon_steps"], row["iterations"]) for row in rows] == [
        (8, 10, 2),
        (16, 10, 2),
    ]
    for row in rows:
        assert row["efficiency"] == pytest.approx(
            row["physics_steps_per_s"] / row["raw_steps_per_s"]
        )
        # One physics step in a control step; medians of odd many plans, so that the median rate is
        # that of the median time.
        steps = row["num_samples"] * row["horizon_steps"] * row["iterations"]
        assert row["physics_steps_per_s"] == pytest.approx(1e3 * steps / row["plan_ms_p50"])
        assert row["raw_steps_per_s"] == pytest.approx(1e3 * steps / row["raw_ms_p50"])
        assert (row["model"], row["backend"], row["device"], row["plans"]) == (
            "cartpole",
            "cpu",
            "cpu",
            5,
        )
        assert row["capture"] == "none"
        assert row["plan_ms_p50"] <= row["plan_ms_p99"]


def test_speed_says_where_the_time_of_a_plan_goes(tmp_path, capsys):
    sizes = [
        "--samples",
        "8",
        "16",
        "--horizon",
        "10",
        "--iterations",
        "2",
        "--plans",
        "2",
        "--warm-up",
        "1",
    ]
    files = ["--json", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.png")]
    assert main(["benchmark", "speed", "--tasks", "cartpole", *sizes, "--stages", *files]) == 0
    assert "stages of a plan: cartpole 8 × 10 × 2, cpu (cpu)" in capsys.readouterr().out
    assert (tmp_path / "s.png").stat().st_size > 1000
    for row in json.loads((tmp_path / "s.json").read_text())["rows"]:
        calls = {stage["stage"]: stage["calls"] for stage in row["stages"]}
        steps = dict.fromkeys(("sample", "roll out", "weigh", "update"), 2)
        assert calls == steps | dict.fromkeys(
            ("noise", "copy in", "begin", "conclude", "copy out"), 1
        )
        assert sum(stage["fraction"] for stage in row["stages"]) == pytest.approx(1.0)
        assert all(stage["ms"] > 0.0 for stage in row["stages"])


@pytest.mark.parametrize("task", ["cartpole", "car"])
def test_the_stages_of_a_plan_come_to_what_the_plan_is(task):
    loop = ClosedLoop(settings(task=task, **{"planner.iterations": 1}), 0)
    found = {stage.name: stage.work() for stage in stages.stages(loop)}
    search, inputs = loop.controller.planner.search(loop.state(), loop.reference)
    # The first that is drawn: the stage of that name has drawn again.
    config, origin = loop.config.planner, loop.controller.objective.origin
    noise = draw_noise(
        1, config.num_samples, origin, torch.Generator(), search.algorithm.antithetic
    )
    tensors = send(SearchInput, inputs, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(found["conclude"], pack_tensors(search(tensors, noise)))


def test_launches_are_operations_that_compute():
    x = torch.zeros(3, 4)
    assert stages.count_launches(lambda: x.view(4, 3)[1:].t()) == 0
    assert stages.count_launches(lambda: (x + 1.0).view(-1).sum()) == 2


def test_stages_of_what_decides_on_the_host_are_refused_at_once(capsys):
    assert (
        main(
            [
                "benchmark",
                "speed",
                "--tasks",
                "cartpole",
                "--stages",
                "--set",
                "planner.algorithm=cma_es",
            ]
        )
        == 1
    )
    assert "error: planner.algorithm 'cma_es' decides on the host" in capsys.readouterr().err


def test_a_task_without_mujocos_physics_has_no_raw_speed(monkeypatch, capsys):
    monkeypatch.setattr(CpuBackend, "name", "function")
    assert main(["benchmark", "speed", "--tasks", "cartpole"]) == 1
    assert (
        "error: task 'cartpole' has dynamics of its own, so there is no mujoco.rollout to "
        "compare with" in capsys.readouterr().err
    )


@pytest.mark.parametrize("models", [1, 3])
def test_raw_rollouts_are_those_of_the_plan(models):
    from diffusion_mpc.benchmark.raw_rollout import RawRollout, log_rollouts
    from diffusion_mpc.rollout.variants import model_variants

    loop = ClosedLoop(settings(**{"robust.models": models}), 0)
    backend = loop.controller.backend
    calls = log_rollouts(backend)
    loop.plan()
    assert len(calls) == loop.config.planner.iterations
    state, controls = calls[-1]
    batch = backend.rollout(state, controls, 0.02)
    raw = RawRollout(model_variants(backend.model, loop.config.robust), 1)
    assert raw.time(state, controls, 1) > 0.0
    ((states, sensors),) = raw._outputs.values()
    np.testing.assert_array_equal(states[..., 1:3], batch.qpos)
    np.testing.assert_array_equal(sensors, batch.sensordata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed", "--tasks", "antt"], "unknown task 'antt'; did you mean 'ant'?"),
        (["speed", "--set", "planner.rate"], "--set planner.rate: write NAME=VALUE"),
        (["quality", "--algorithms", "mbdd"], "unknown algorithm 'mbdd'; did you mean 'mbd'?"),
        (
            ["quality", "--tuned", "nowhere.yaml"],
            "file of tuned parameters 'nowhere.yaml' does not exist",
        ),
        (
            ["black-box", "--functions", "sphere"],
            "unknown function 'sphere'; there are: ackley, rastrigin, levy",
        ),
        (["black-box", "--methods", "cmaes"], "unknown method 'cmaes'; did you mean 'cma_es'?"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(capsys, arguments, message):
    assert main(["benchmark", *arguments]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dela"], 'Unknown command "dela". Did you mean "delay"?'),
        (["delay", "--dela", "10"], "Unknown option: --dela. Did you mean --delays?"),
        (
            ["delay", "--delayed", "stat"],
            'Invalid value "stat" for --delayed. Choose from: "state", "command".',
        ),
        (["quality", "--seeds", "0"], 'Invalid value "0" for --seeds. Must be > 0.'),
    ],
)
def test_a_wrong_option_is_named_in_one_line_with_the_nearest_one(capsys, arguments, message):
    assert main(["benchmark", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_a_broken_file_of_tuned_parameters_is_named(tmp_path):
    (tmp_path / "t.yaml").write_text("cartpole: [1, 2]\n")
    with pytest.raises(ConfigError, match=r"t\.yaml' cannot be read: "):
        quality.read_tuned(tmp_path / "t.yaml")


@pytest.mark.slow
def test_a_user_who_interrupts_gets_what_there_is_and_goes_on_later(tmp_path):
    command = [
        sys.executable,
        "-m",
        "diffusion_mpc.cli",
        "benchmark",
        "black-box",
        "--dims",
        "5",
        "--functions",
        "levy",
    ]
    command += [
        "--methods",
        "mbd_geometric",
        "random",
        "--output",
        str(tmp_path),
        "--processes",
        "1",
    ]
    command += ["--json", str(tmp_path / "b.json"), "--seeds", "500"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kept = tmp_path / "black_box.jsonl"
    deadline = time.monotonic() + 120.0
    while (
        not (kept.is_file() and len(kept.read_text().splitlines()) >= 4)
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, output + errors
    assert "error: incomplete" in errors
    assert "Traceback" not in errors
    figures = json.loads((tmp_path / "b.json").read_text())
    assert not figures["complete"]
    done = len(kept.read_text().splitlines())
    assert done == sum(row["seeds"] for row in figures["rows"]) >= 4
    assert (
        subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
        == ""
    )
    command[-1] = "2"
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert len(kept.read_text().splitlines()) == done


# Integrators


@pytest.mark.parametrize("task", [n for n, t in available_tasks().items() if t.dynamics is None])
def test_the_planning_models_that_are_compared_fit_the_task(task):
    _, values = load_parameters(PlannerNodeConfig, {"task": task})
    models = planning_models(task)

    assert len(models) == 5
    assert any(all(values[n] == v for n, v in changed.items()) for changed in models.values())
    for changed in models.values():
        assert is_multiple(values["planner.control_dt"], changed["model.timestep"])


def test_integrators_are_compared_with_the_tasks_own(tmp_path):
    report = tmp_path / "report.json"
    small = ["--tasks", "cartpole", "--seeds", "1", "--duration", "0.2"]
    files = ["--output", str(tmp_path / "runs"), "--json", str(report)]

    assert main(["benchmark", "integrators", *small, *files]) == 0

    rows = {row["model"]: row for row in json.loads(report.read_text())["rows"]}
    assert [name for name, row in rows.items() if row["own"]] == ["implicitfast 20 ms"]
    assert rows["implicitfast 20 ms"]["less_own"] is None
    # The cart's joints have damping only, which Euler takes implicitly: the same trajectories.
    assert rows["euler 20 ms"]["less_own"]["difference"]["mean"] == pytest.approx(0.0, abs=1e-9)
    assert rows["implicitfast 10 ms"]["less_own"]["difference"]["mean"] != 0.0


# Warm start


def test_settings_hold_for_every_row_and_a_policy_for_its_own_only():
    made = WarmStart(
        settings=("planner.iterations=1", "planner.num_samples=6"), guidance=(0.0, 2.0), seeds=1
    ).runs()

    found = [run["parameters"] for run in made]
    assert [run["kind"] for run in made] == [
        "planner",
        "planner + policy, guidance 0",
        "planner + policy, guidance 2",
        "policy",
    ]
    assert [run["samples"] for run in made] == [6, 6, 6, 1]
    assert [x["planner.iterations"] for x in found] == [1, 1, 1, 1]
    assert [x["policy.checkpoint"] for x in found] == ["", *["shipped:quadruped"] * 3]
    assert [x.get("policy.guidance") for x in found] == [None, 0.0, 2.0, None]


def test_a_value_is_compared_where_there_is_no_policy(tmp_path):
    path = tmp_path / "value.safetensors"
    description = Description(
        kind="value",
        task="walker2d",
        model_sha256="",
        network={"observation": 17},
        observation=17,
        history=1,
        plan={"rate": 50.0},
    )
    save_checkpoint(path, Value(ValueConfig(17)), description)

    made = WarmStart(task="walker2d", value=path, samples=(8,), seeds=1).runs()

    assert [run["kind"] for run in made] == ["planner", "planner + value"]
    named = [run["parameters"].get("value.checkpoint", "") for run in made]
    assert named == ["", str(path)]
    with pytest.raises(ConfigError, match="no policy of its own; name one with --policy, or a"):
        WarmStart(task="walker2d", seeds=1).runs()
