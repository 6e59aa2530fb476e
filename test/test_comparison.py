"""Groups of bags side by side: intervals, parameters that differ, the difference in words."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from test_evaluation import PERIOD, START, standing
from test_run_record import RunMaker

from diffusion_mpc.cli import main
from diffusion_mpc.evaluation.comparison import verdict
from diffusion_mpc.evaluation.groups import find_groups
from diffusion_mpc.intervals import group_difference
from diffusion_mpc.tasks import find_task


def test_intervals_of_difference_and_ratio_agree_on_whether_there_is_one():
    random = np.random.default_rng(0)
    agreed = 0
    for _ in range(200):
        first, second = random.normal(1.0, 0.1, 6), random.normal(1.1, 0.2, 9)
        found = group_difference(first, second)
        assert found.shown == (not found.ratio_low <= 1.0 <= found.ratio_high)
        assert found.low <= found.mean <= found.high
        assert found.ratio_low <= found.ratio <= found.ratio_high
        agreed += found.shown
    assert 10 < agreed < 190


def test_intervals_hold_as_often_as_they_say():
    random = np.random.default_rng(1)
    false = sum(
        group_difference(random.normal(1.0, 0.1, 8), random.normal(1.0, 0.3, 8)).shown
        for _ in range(2000)
    )
    assert 0.035 < false / 2000 < 0.065


def test_one_value_has_no_interval_and_more_comparisons_have_wider_ones():
    assert math.isnan(group_difference([1.0], [2.0, 3.0]).low)
    assert not group_difference([1.0], [2.0]).shown
    first, second = [1.0, 1.1, 1.2], [1.5, 1.7, 1.6]
    one, ten = group_difference(first, second), group_difference(first, second, 10)
    assert ten.low < one.low < one.high < ten.high
    with pytest.raises(ValueError, match="no values"):
        group_difference([], first)


def bags(folder, task, seeds, place=0.0, **parameters):
    """Carts that stand still near a place; each seed is a little beside it."""
    for seed in seeds:
        qpos, qvel = standing(task)
        qpos[0] = place + 0.01 * np.random.default_rng(seed).normal()
        with RunMaker(folder / f"seed{seed}" / "bag", task) as bag:
            bag.say("cartpole", **{"planner.seed": seed, "cost.centred": 1.0, **parameters})
            for i in range(12):
                time = START + i * PERIOD
                bag.state(time, qpos, qvel)
                bag.stats(time)
                bag.command(time, time, np.zeros(task.model.nu))
    return folder


@pytest.fixture(scope="module")
def cartpole():
    return find_task("cartpole")()


@pytest.fixture(scope="module")
def sets(tmp_path_factory, cartpole):
    root = tmp_path_factory.mktemp("sets")
    bags(root / "a", cartpole, range(6), 0.5)
    bags(root / "b", cartpole, range(6, 12), 0.5)
    bags(root / "nearer", cartpole, range(6), 0.2, **{"cost.centred": 5.0})
    return root


def test_a_folder_of_bags_is_a_group_and_a_bag_is_one_of_its_own(sets):
    groups = find_groups([sets / "a", sets / "b" / "seed7" / "bag"])
    assert [(group.name, len(group.bags)) for group in groups] == [("a", 6), ("seed7", 1)]


def test_a_folder_without_bags_is_an_error_that_names_it(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(tmp_path / "empty")]) == 1
    assert "empty' holds no bag" in capsys.readouterr().err


def test_sets_that_differ_in_a_weight_name_it_with_effect_and_interval(sets, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    arguments = [str(sets / "a"), str(sets / "nearer"), "--output", str(tmp_path / "out")]
    assert main(["evaluate", *arguments, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert len(found["runs"]) == 12
    ((verdict, *more),) = found["comparison"]["sentences"]
    assert verdict.startswith("nearer is ")
    assert "cheaper than a, 95 % interval" in verdict
    assert verdict.endswith("6 runs each.")
    assert more[0] == "They differ in cost.centred (1 → 5)."
    # At the weights of the first: what was asked of the second does not make it dearer.
    (cost,) = [row for row in found["comparison"]["rows"] if row["kind"] == "cost"]
    assert cost["differences"][0]["high"] < 0.0
    assert found["comparison"]["varied"]["planner.seed"] == [*range(6), *range(6)]
    assert verdict in capsys.readouterr().out
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert verdict in page
    assert "cost.centred" in page
    assert "http" not in page.replace("http://www.w3.org", ""), "a page is self-contained"


def test_equal_sets_show_no_difference(sets, tmp_path, capsys):
    arguments = [str(sets / "a"), str(sets / "b"), "--output", str(tmp_path / "out")]
    assert main(["evaluate", *arguments]) == 0
    said = capsys.readouterr().out
    assert "No difference between a and b that these runs show." in said
    assert "Their parameters are the same." in said


def test_of_one_run_each_nobody_knows_whether_by_chance(sets, tmp_path, capsys):
    arguments = [str(sets / name / "seed1" / "bag") for name in ("a", "nearer")]
    assert main(["evaluate", *arguments, "--output", str(tmp_path / "out")]) == 0
    assert "there is one run, so nobody knows whether by chance" in capsys.readouterr().out


def test_runs_of_different_tasks_are_not_compared(sets, tmp_path, capsys):
    pusher = find_task("pusht")()
    with RunMaker(tmp_path / "other" / "bag", pusher) as bag:
        bag.say("pusht")
        bag.steps()
    arguments = [str(sets / "a"), str(tmp_path / "other"), "--output", str(tmp_path / "out")]
    assert main(["evaluate", *arguments]) == 1
    assert "compare runs of one task" in capsys.readouterr().err


def test_bars_of_a_comparison_have_rewards_to_the_left_of_zero(tmp_path):
    hopper = find_task("hopper")()
    for name, speed in (("slow", 0.5), ("fast", 1.5)):
        qpos, qvel = standing(hopper)
        qvel[0], qpos[2] = speed, 0.3  # leaning, which costs
        with RunMaker(tmp_path / name / "bag", hopper) as bag:
            bag.say("hopper", **{"cost.velocity": 1.0, "cost.height": 0.0})
            for i in range(12):
                time = START + i * PERIOD
                bag.state(time, qpos, qvel)
                bag.stats(time)
                bag.command(time, time, np.ones(hopper.model.nu))
    runs = [str(tmp_path / name / "bag") for name in ("slow", "fast")]
    assert main(["evaluate", *runs, "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "comparison.html").read_text()
    rows = re.findall(r'class="stackrow".*?</b>', page)
    assert len(rows) == 2
    zero = float(re.search(r"--zero:([\d.]+)%", rows[0]).group(1))
    for row, speed in zip(rows, (0.5, 1.5), strict=True):
        indent, *parts = (float(width) for width in re.findall(r"width:([\d.]+)%", row))
        assert indent == pytest.approx(zero * (1.0 - speed / 1.5), abs=0.01)
        assert parts[0] == pytest.approx(zero - indent, abs=0.01), "the reward ends at zero"
        assert 'title="velocity: -' in row
    assert 10.0 < zero < 90.0
    assert zero + sum(parts[1:]) == pytest.approx(100.0, abs=0.1)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([-2.0, -2.2, -2.1, -1.9], "b costs 1 less than a, 95 % interval 0.777 to 1.22, 4 runs"),
        ([-1.0, -1.2, -1.1, -0.9], "no difference in cost: b against a +0, 95 % interval −0.2"),
        ([-2.0], "b costs 0.95 less than a; of b there is one run"),
    ],
)
def test_negative_costs_are_compared_in_their_unit_not_in_per_cent(other, expected):
    assert expected in verdict("a", "b", group_difference([-1.0, -1.2, -1.1, -0.9], other))


def test_from_a_cost_to_a_reward_no_per_cent_lead():
    found = group_difference([0.4, 0.5, 0.4, 0.5], [-0.6, -0.5, -0.6, -0.5])
    assert verdict("a", "b", found).startswith("b costs 1 less than a, 95 % interval 0.9")


def test_a_cost_that_may_be_zero_is_no_measure_of_a_change():
    found = group_difference([0.1, -0.3, 0.4, 0.1], [5.0, 5.1, 4.9, 5.1])
    assert found.shown
    assert math.isinf(found.ratio_high)
    assert verdict("a", "b", found).startswith("b costs 4.95 more than a, 95 % interval 4.")


def test_time_series_are_tables_by_clock(sets, tmp_path):
    pd = pytest.importorskip("pandas")
    bag = sets / "a" / "seed0" / "bag"
    assert main(["evaluate", str(bag), "--csv", "--output", str(tmp_path)]) == 0
    states = pd.read_csv(tmp_path / "states.csv")
    assert states["time"].tolist() == pytest.approx([PERIOD * i for i in range(12)], abs=1e-6)
    assert {"qpos[0]", "cost.centred", "failed"} <= set(states)
    assert len(pd.read_csv(tmp_path / "plans.csv")) == 12
    assert len(pd.read_csv(tmp_path / "commands.csv")) == 12
