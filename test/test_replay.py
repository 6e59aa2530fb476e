"""Plans made again from the states of a bag."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg
from test_evaluation import MESSAGES
from test_run_record import RunMaker

from diffusion_mpc.bags.run_record import read_record
from diffusion_mpc.cli import main
from diffusion_mpc.config import PlannerNodeConfig, load_parameters
from diffusion_mpc.evaluation.replay import replay
from diffusion_mpc.simulation.closed_loop import ClosedLoop

SETTINGS = {
    "task": "cartpole",
    "backend.name": "cpu",
    "planner.num_samples": 16,
    "planner.iterations": 2,
    "planner.seed": 3,
    "lockstep": True,
}


class PlanMaker(RunMaker):
    """A bag with plans."""

    TYPES = {**RunMaker.TYPES, "/planner/plan": "diffusion_mpc/msg/Plan"}

    def __init__(self, folder, task):
        super().__init__(folder, task)
        text = (MESSAGES / "Plan.msg").read_text()
        self.store.register(get_types_from_msg(text, "diffusion_mpc/msg/Plan"))

    def plan(self, number, plan):
        message = self.make(
            "diffusion_mpc/msg/Plan",
            header=self.header(plan.stamp),
            plan_id=number,
            start_time=self.stamp(plan.start_time),
            control_dt=plan.control_dt,
            horizon_steps=len(plan.controls),
            actuator_names=[self.model.actuator(i).name for i in range(self.model.nu)],
            controls=plan.controls.ravel(),
            path=[],
            cost=plan.stats.cost,
        )
        self.write("/planner/plan", plan.stamp, message)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run in lockstep, recorded as its nodes would."""
    folder = tmp_path_factory.mktemp("recorded") / "bag"
    loop = ClosedLoop(SETTINGS, trial=0)
    loop.controller.warm_up()
    _, values = load_parameters(PlannerNodeConfig, SETTINGS)
    with PlanMaker(folder, loop.task) as bag:
        given = {name: value for name, value in values.items() if name != "task"}
        bag.say("cartpole", **given)
        for number in range(1, 26):
            plan = loop.plan()
            state = loop.newest
            bag.state(state.stamp, state.qpos, state.qvel)
            bag.plan(number, plan)
            bag.stats(state.stamp)
            bag.command(state.stamp, state.stamp, loop.advance())
    return folder


def test_the_recorded_parameters_give_the_recorded_plans_back(recorded):
    found = replay(recorded, read_record(recorded), {})
    assert len(found.stamps) == 25
    assert found.identical == 25
    assert found.problems == ()
    np.testing.assert_array_equal(found.terms, found.recorded_terms)


def test_twice_the_same_replay_gives_the_same_plans(recorded):
    both = [replay(recorded, read_record(recorded), {"planner.seed": "8"}) for _ in range(2)]
    np.testing.assert_array_equal(both[0].terms, both[1].terms)
    assert both[0].identical == 0
    assert both[0].settings == {"planner.seed": 8}


def test_other_parameters_are_reported_by_term_and_in_time(recorded, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    options = ["--set", "planner.num_samples=64", "--set", "planner.horizon_steps=12"]
    options += ["--output", str(tmp_path), "--json", str(figures)]
    assert main(["replay", str(recorded), *options]) == 0
    found = json.loads(figures.read_text())
    assert found["settings"] == {"planner.num_samples": 64, "planner.horizon_steps": 12}
    assert found["largest_difference"] is None, "the plans have other rows"
    assert sum(term["replayed"] for term in found["terms"].values()) == pytest.approx(
        found["cost"]["replayed"]
    )
    assert "planner.num_samples = 64" in capsys.readouterr().out
    assert "Difference by term" in (tmp_path / "replay.html").read_text()


def test_an_unknown_parameter_is_refused_with_the_nearest(recorded, capsys):
    assert main(["replay", str(recorded), "--set", "planner.num_sample=64"]) == 1
    assert "did you mean 'planner.num_samples'?" in capsys.readouterr().err
