"""`sweep`: parameters of a task searched in lockstep."""

import json
import random

import numpy as np
import pytest

from diffusion_mpc import cli
from diffusion_mpc.bringup.description import Options, processes
from diffusion_mpc.config import (
    ConfigError,
)
from diffusion_mpc.intervals import compare, paired_ratio
from diffusion_mpc.run_file import RunFile
from diffusion_mpc.sweep.episodes import Episodes, EpisodeTerms
from diffusion_mpc.sweep.race import RaceOptions, run_race, rungs
from diffusion_mpc.sweep.sampling import Grid, OptunaSampling, importances, sampling
from diffusion_mpc.sweep.space import known_parameters, parse_space
from diffusion_mpc.sweep.study import EpisodeScore
from diffusion_mpc.sweep.study_files import best_yaml, study_figures
from diffusion_mpc.sweep.study_page import study_page
from diffusion_mpc.sweep.verdict import verdict


@pytest.fixture(scope="module")
def known():
    return known_parameters("cartpole", {})


@pytest.fixture(scope="module")
def axes(known):
    over = ("planner.temperature=0.01..1.0:log", "planner.num_knots=3,4,6,8")
    return parse_space(over, known, {})


DEFAULTS = {"planner.temperature": 0.05, "planner.num_knots": 5}
ABOUT = {"task": "cartpole", "sampler": "tpe", "seed": 0, "duration": 1.0, "set": {}}


def noisy(settings, trial):
    """Cost that is least at temperature 0.2 and 6 knots; trials differ more than settings."""
    difficulty = np.random.default_rng(trial).normal()
    noise = np.random.default_rng((trial, *map(int, repr(settings).encode()))).normal()
    far = np.log(settings["planner.temperature"] / 0.2) ** 2
    return 10.0 + far + abs(settings["planner.num_knots"] - 6) + difficulty + 0.05 * noise


def evaluate(jobs, cost=noisy, order=None):
    jobs = list(jobs)
    if order is not None:
        order.shuffle(jobs)
    return [(job, EpisodeScore(cost(dict(job[0]), job[1]))) for job in jobs]


def sweep(axes, trials=48, cost=noisy, order=None, **options):
    source = OptunaSampling(axes, "tpe", 0)
    options = RaceOptions(trials, **options)
    return run_race(DEFAULTS, source, lambda jobs: evaluate(jobs, cost, order), options)


def settings_and_costs(study):
    return [(c.settings, c.costs(), c.stopped) for c in study.configurations]


# Space


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("planner.temperature", "write NAME=LOW..HIGH"),
        ("planner.temperatur=1,2", "did you mean 'planner.temperature'"),
        ("planner.temperature=0.5..0.1", "the lower bound comes first"),
        ("planner.temperature=-1..0.1", "is not between"),
        ("planner.temperature=0.1..0.5:lin", "write NAME=LOW..HIGH"),
        ("cost.effort=0..1:log", "the lower bound is above 0"),
        ("planner.num_knots=3,x", "'x' is not of type int"),
        ("planner.num_knots=3..5.5", "'5.5' is not of type int"),
        ("planner.num_knots=3,3", "stands there twice"),
        ("planner.num_knots=3", "one value is no choice"),
        ("planner.spline=cubic,round", "'round' is not one of"),
        ("planner.seed=1,2", "decides nothing in lockstep"),
        ("realtime.nice=1,2", "decides nothing in lockstep"),
        ("command.vx=0.0..1.0", "give it by --set"),
        ("sim.mas_scale=0.5..2.0", "did you mean 'sim.mass_scale'"),
    ],
)
def test_a_wrong_axis_is_one_line(known, over, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_space((over,), known, {})
    assert "\n" not in str(error.value)


def test_a_parameter_stands_once_in_over_and_set(known):
    over = ("planner.num_knots=3,4", "planner.num_knots=5,6")
    with pytest.raises(ConfigError, match="stands there twice"):
        parse_space(over, known, {})
    with pytest.raises(ConfigError, match="stands in --over and in --set"):
        parse_space(over[:1], known, {"planner.num_knots": "5"})
    with pytest.raises(ConfigError, match="--over says what to vary"):
        parse_space((), known, {})


def test_what_is_set_is_the_default_of_the_sweep():
    known = known_parameters("cartpole", {"planner.num_samples": "8", "sim.mass_scale": "1.5"})
    assert known["planner.num_samples"].default == 8
    assert known["sim.mass_scale"].default == 1.5


# Settings


def test_a_grid_has_every_combination_once_and_the_defaults(known):
    over = ("planner.num_knots=3,5", "planner.temperature=0.05,0.1,0.2")
    axes = parse_space(over, known, {})
    grid = Grid(axes)
    assert grid.size == 6
    study = run_race(DEFAULTS, grid, evaluate, RaceOptions(grid.size, 1, 2, 4))
    found = [tuple(c.settings.values()) for c in study.configurations]
    assert len(set(found)) == len(found) == 6


def test_a_grid_refuses_a_range(axes):
    with pytest.raises(ConfigError, match=r"a grid needs lists: write planner.temperature=VALUE"):
        sampling("grid", axes, 0)


def test_the_optimum_is_found_in_spite_of_the_noise(axes):
    study = sweep(axes)
    best = study.best.settings
    assert best["planner.num_knots"] == 6
    assert 0.1 < best["planner.temperature"] < 0.4
    found = verdict(study)
    assert found.better
    assert found.settings == best
    assert found.ratio.high < 1.0
    assert "% less than the defaults, 95 % interval" in found.sentence


def test_of_rewards_the_winner_is_told_in_their_unit(axes):
    """Rewards are negative costs, of which no ratio says anything."""
    study = sweep(axes, cost=lambda settings, trial: noisy(settings, trial) - 100.0)
    found = verdict(study)
    assert found.better
    assert found.settings == study.best.settings
    assert found.difference.high < 0.0
    saved = f"costs {-found.difference.mean:.3g} less than the defaults, 95 % interval "
    assert saved + f"{-found.difference.high:.3g} to " in found.sentence
    figures = study_figures(study, found, ABOUT)
    json.dumps(figures, allow_nan=False)
    assert figures["confirmation"]["difference"] == found.difference.mean
    assert "nan" not in study_page(study, axes, ABOUT, found).lower().replace("nanmean", "")


def test_no_winner_is_told_where_there_is_none(axes):
    def noise(settings, trial):
        return 10.0 + random.Random(repr((settings, trial))).gauss(0.0, 1.0)

    study = sweep(axes, cost=noise)
    assert verdict(study).settings == DEFAULTS
    assert verdict(study).sentence.startswith("The defaults stand")


def test_the_important_parameter_is_named(axes):
    study = sweep(axes, cost=lambda settings, trial: abs(settings["planner.num_knots"] - 6.0))
    costs = [(c.settings, c.estimate(study.best).mean) for c in study.configurations]
    assert next(iter(importances(axes, costs))) == "planner.num_knots"


# Race


def test_settings_are_compared_after_three_episodes_and_then_more_and_more():
    assert rungs(8) == [3, 5, 8]
    assert rungs(2) == [2]


def test_bad_settings_are_stopped_early_and_the_defaults_never(axes):
    study = sweep(axes)
    assert study.saved > 0.3 * study.repeats * len(study.configurations)
    assert len(study.defaults.scores) == study.repeats
    stopped = [c for c in study.configurations if c.stopped]
    assert all("costs more than setting" in c.stopped for c in stopped)
    true = {c.number: noisy(c.settings, 0) for c in study.configurations}
    assert min(true[c.number] for c in stopped) > true[study.best.number]


def test_a_stopped_setting_has_the_cost_of_all_trials(axes):
    study = sweep(axes)
    for each in study.configurations:
        full = np.mean([noisy(each.settings, trial) for trial in range(study.repeats)])
        assert each.estimate(study.best).mean == pytest.approx(full, abs=0.2)


def test_a_setting_that_falls_where_the_best_does_not_is_stopped_however_cheap(axes):
    def score(job):
        settings, trial = dict(job[0]), job[1]
        falls = settings["planner.num_knots"] == 8
        return EpisodeScore(0.0 if falls else noisy(settings, trial), falls)

    def run(jobs):
        return [(job, score(job)) for job in jobs]

    study = run_race(DEFAULTS, OptunaSampling(axes, "tpe", 0), run, RaceOptions(24))
    fallen = [c for c in study.configurations if c.settings["planner.num_knots"] == 8]
    assert fallen
    assert all(c.stopped.startswith("falls where") and len(c.scores) == 3 for c in fallen)
    assert all(study.cost(c) is None for c in fallen)


def test_a_setting_that_cannot_be_run_is_left_with_the_reason(axes):
    def run(jobs):
        wrong = EpisodeScore(float("inf"), problem="knots do not fit")
        return [
            (job, wrong if dict(job[0])["planner.num_knots"] == 3 else score)
            for job, score in evaluate(jobs)
        ]

    study = run_race(DEFAULTS, OptunaSampling(axes, "random", 0), run, RaceOptions(24))
    assert "knots do not fit" in {c.stopped for c in study.configurations}
    found = verdict(study)
    json.dumps(study_figures(study, found, ABOUT), allow_nan=False)
    assert "knots do not fit" in study_page(study, axes, ABOUT, found)
    source = OptunaSampling(axes, "random", 0)
    with pytest.raises(ConfigError, match="the defaults cannot be run: knots do not fit"):
        run_race({**DEFAULTS, "planner.num_knots": 3}, source, run, RaceOptions(2))


def test_the_study_does_not_depend_on_the_order_of_results(axes):
    studies = [sweep(axes, order=order) for order in (None, random.Random(1), random.Random(2))]
    first, *others = map(settings_and_costs, studies)
    assert all(other == first for other in others)


def test_the_winner_is_judged_on_other_trials_than_those_that_chose_it(axes):
    asked = []

    def run(jobs):
        asked.append([trial for _, trial in jobs])
        return evaluate(jobs)

    run_race(DEFAULTS, OptunaSampling(axes, "tpe", 0), run, RaceOptions(16, 4, 5))
    assert {trial for trials in asked[:-1] for trial in trials} == set(range(4))
    assert sorted(asked[-1]) == sorted([4, 5, 6, 7, 8] * 2)


def test_the_interval_of_a_ratio_agrees_with_that_of_the_difference():
    random = np.random.default_rng(0)
    for _ in range(200):
        first = random.normal(5.0, 1.0, 6)
        second = 0.9 * first + random.normal(0.2, 0.4, 6)
        ratio, difference = paired_ratio(first, second), compare(second, first).difference
        assert (ratio.low > 1.0) == (difference.low > 0.0)
        assert (ratio.high < 1.0) == (difference.high < 0.0)
        assert ratio.low < ratio.mean < ratio.high


# Results


def test_the_best_setting_is_a_parameter_file_of_the_nodes(axes, tmp_path):
    found = verdict(sweep(axes))
    file = tmp_path / "best.yaml"
    file.write_text(best_yaml("cartpole", found, {"planner.num_samples": 8, "sim.mass_scale": 2.0}))
    nodes = {p.name: p for p in processes(Options(task="cartpole", params_file=str(file)))}
    assert nodes["planner"].parameters["planner.num_knots"] == 6
    assert nodes["planner"].parameters["planner.num_samples"] == 8
    assert nodes["sim"].parameters["mass_scale"] == 2.0


SWEEP = [
    *("sweep", "cartpole", "--set", "planner.num_samples=8", "--set", "planner.horizon_steps=20"),
    *("--over", "planner.temperature=0.02..1.0:log", "--over", "cost.effort=0,0.01,0.1"),
    *("--duration", "0.3", "--trials", "4", "--repeats", "3", "--fresh", "2", "--generation", "2"),
]


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_to_the_same_study(tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert cli.main([*SWEEP, "--output", str(whole), "--processes", "1"]) == 0
    assert "episodes; early stops saved" in capsys.readouterr().out
    assert (whole / "best.yaml").read_text().startswith("# ")
    assert "<svg" in (whole / "study.html").read_text()
    assert len((whole / "study.csv").read_text().splitlines()) == 5

    killed.mkdir()
    (killed / "sweep.json").write_bytes((whole / "sweep.json").read_bytes())
    text = (whole / "episodes.jsonl").read_text()
    (killed / "episodes.jsonl").write_text(text[: 2 * len(text) // 3])
    assert cli.main([*SWEEP, "--output", str(killed), "--processes", "2"]) == 0
    assert (killed / "study.json").read_text() == (whole / "study.json").read_text()

    assert cli.main([*SWEEP, "--output", str(whole), "--seed", "1"]) == 1
    assert "has another sweep (seed: 0 -> 1); name another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_episodes_on_ray_are_those_of_worker_processes(tmp_path):
    pytest.importorskip("ray")
    settings = {"task": "cartpole", "planner.num_samples": 8, "planner.horizon_steps": 20}
    weights = {"upright": 1.0, "centred": 0.1, "still": 0.01, "effort": 0.01}
    terms = EpisodeTerms(settings, weights, 0.2)
    jobs = [((("planner.temperature", temperature),), 0) for temperature in (0.05, 0.5)]
    found = [
        dict(Episodes(terms, RunFile(tmp_path / name, ()), 1, address)(jobs))
        for name, address in (("here.jsonl", ""), ("ray.jsonl", "local"))
    ]
    assert found[0] == found[1]
