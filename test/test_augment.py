"""Synthetic trajectories near a policy: they begin in the data, MuJoCo says how wrong they are."""

import dataclasses
import json

import mujoco
import numpy as np
import pytest
import torch

from diffusion_mpc.cli import learning_commands
from diffusion_mpc.config import PlannerNodeConfig, build, cost_weights, load_parameters
from diffusion_mpc.learning.augment import (
    AugmentOptions,
    augment,
    augment_settings,
    synthetic_rows,
)
from diffusion_mpc.learning.collect import CollectOptions, collect
from diffusion_mpc.learning.dataset import Dataset, DatasetError
from diffusion_mpc.learning.learners import NetworkOptions
from diffusion_mpc.learning.teacher_episode import EpisodeOptions
from diffusion_mpc.learning.train import Training, TrainOptions
from diffusion_mpc.policy.checkpoint import CheckpointError
from diffusion_mpc.policy.trajectory_policy import TrajectoryPolicy
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import initial_state
from diffusion_mpc.types import Reference

TEACHER = {"planner.num_samples": "16", "planner.iterations": "2"}
COURSE = EpisodeOptions(duration=0.8, samples=1, tails=1, delays=0)
SMALL = NetworkOptions(width=64, depth=2)
DDPM = dataclasses.replace(SMALL, process="ddpm")
SYNTHETIC = 3


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Data of the cartpole, a model of their trajectories, and a policy."""
    folder = tmp_path_factory.mktemp("learnt")
    data = folder / "data"
    collect("cartpole", data, TEACHER, CollectOptions(12, 1, COURSE))
    for kind, network, epochs in (("diffuser", DDPM, 60), ("policy", SMALL, 10)):
        options = TrainOptions(kind, network, epochs, 64, residual=False, horizon=8)
        Training((data,), folder / kind, options).run()
    return folder


def options(learnt, **others):
    given = {"strength": 1.0, "trajectories": 64, "processes": 1, **others}
    return AugmentOptions(learnt / "data", str(learnt / "diffuser" / "best.safetensors"), **given)


def policy(learnt):
    return {"policy.checkpoint": str(learnt / "policy" / "best.safetensors")}


@pytest.fixture(scope="module")
def synthetic(learnt):
    figures = augment("cartpole", learnt / "synthetic", policy(learnt), options(learnt))
    return Dataset(learnt / "synthetic"), figures


def test_trajectories_begin_in_states_of_the_data(learnt, synthetic):
    data, _ = synthetic
    rows = data.columns("step", "state", "kind", "observation", "reference")
    recorded = Dataset(learnt / "data").columns("state", "observation")

    assert (rows["kind"] == SYNTHETIC).all()
    for row in np.flatnonzero(rows["step"] == 0):
        (same,) = np.nonzero((recorded["state"] == rows["state"][row]).all(1))
        assert len(same)
        np.testing.assert_allclose(
            recorded["observation"][same[0]], rows["observation"][row], atol=1e-5
        )


def test_the_stored_error_is_the_distance_to_where_mujoco_comes(learnt, synthetic):
    data, figures = synthetic
    rows = data.columns("episode", "step", "state", "action", "dynamics_error")
    task = find_task("cartpole")()
    model = task.model
    # The model that plans are made with, stepped for a period of 20 ms.
    steps = round(0.02 / model.opt.timestep)
    recorded = Dataset(learnt / "data").columns("kind", "state", "episode")
    plans = recorded["kind"] == 0
    change = np.diff(recorded["state"][plans], axis=0)
    scale = change[np.diff(recorded["episode"][plans]) == 0].std(0)
    found, expected = [], []
    for row in range(len(data) - 1):
        if rows["episode"][row + 1] != rows["episode"][row]:
            continue
        moved = mujoco.MjData(model)
        moved.qpos[:], moved.qvel[:] = np.split(rows["state"][row], 2)
        moved.ctrl[:] = task.action_centre + task.action_reach * rows["action"][row]
        mujoco.mj_step(model, moved, steps)
        apart = rows["state"][row + 1] - np.concatenate([moved.qpos, moved.qvel])
        expected.append(np.sqrt(np.square(apart / scale).mean()))
        found.append(rows["dynamics_error"][row])

    # The scale is of all recorded steps here, and of those of whole trajectories there.
    assert np.corrcoef(found, expected)[0, 1] > 0.999
    assert np.median(np.array(found) / expected) == pytest.approx(1.0, abs=0.1)
    # The robots that were recorded differ in mass; the model of their trajectories is no exact one.
    assert figures["dynamics_error_recorded"] < 0.2 < figures["dynamics_error"]


def test_the_same_seed_makes_the_same_trajectories_and_goes_on_after_a_kill(learnt, synthetic):
    data, _ = synthetic
    folder = learnt / "twice"
    figures = augment("cartpole", folder, policy(learnt), options(learnt, trajectories=128))
    first = (folder / "shard-00000.safetensors").read_bytes()
    second = (folder / "shard-00001.safetensors").read_bytes()
    assert figures["new_rows"] == 2 * len(data)
    assert first == (learnt / "synthetic" / "shard-00000.safetensors").read_bytes()
    assert first != second

    (folder / "shard-00001.safetensors").write_bytes(second[:-100])
    figures = augment("cartpole", folder, policy(learnt), options(learnt, trajectories=128))

    assert figures["new_rows"] == len(data)
    assert (folder / "shard-00001.safetensors").read_bytes() == second
    with pytest.raises(DatasetError, match="another options; name another folder"):
        augment("cartpole", folder, policy(learnt), options(learnt, strength=2.0))


def rows_of(learnt, **others):
    """Rows of one shard, made in this process."""
    settings = augment_settings(learnt / "data", policy(learnt))
    return synthetic_rows(settings, options(learnt, **others), 0)


def test_guidance_brings_actions_nearer_to_the_policy(learnt):
    apart = [rows_of(learnt, strength=s)["policy_distance"].mean() for s in (0.0, 3.0, 30.0)]

    assert apart[0] > apart[1] > apart[2]


def test_trajectories_end_where_they_leave_the_dynamics(learnt, synthetic):
    limit = float(np.quantile(synthetic[0].columns("dynamics_error")["dynamics_error"], 0.9))

    cut = rows_of(learnt, largest_error=limit)

    assert cut["dynamics_error"].max() <= limit
    assert len(cut["step"]) < len(synthetic[0])
    for episode in np.unique(cut["episode"]):
        steps = cut["step"][cut["episode"] == episode]
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
    with pytest.raises(DatasetError, match="no step of 64 trajectories has an error below 1e-12"):
        rows_of(learnt, largest_error=1e-12)


def test_a_value_learns_from_synthetic_states_and_a_policy_does_not(learnt, synthetic, tmp_path):
    both = learnt / "data", learnt / "synthetic"
    value = TrainOptions("value", SMALL, 1, 64)

    alone = Training(both[:1], tmp_path / "one", value).run()
    figures = Training(both, tmp_path / "both", value).run()

    trained = np.unique(synthetic[0].columns("episode")["episode"]) % 10 != 9
    assert figures["rows"] == alone["rows"] + 7 * trained.sum()
    with pytest.raises(DatasetError, match="no field 'knots'; leave synthetic data out"):
        Training(both, tmp_path / "policy", TrainOptions("policy", SMALL, 1, 64))


def test_synthetic_states_are_planned_from_again(learnt, synthetic, tmp_path):
    again = CollectOptions(0, 1, COURSE, replan=learnt / "synthetic", replan_fraction=0.02)

    figures = collect("cartpole", tmp_path / "again", TEACHER, again)

    states = synthetic[0].columns("state")["state"]
    assert figures["old_states"] == round(0.02 * len(states))
    for state in Dataset(tmp_path / "again").columns("state")["state"]:
        assert (states == state).all(1).any()


def test_a_policy_that_controlled_in_the_data_is_not_taken_for_the_target(learnt, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    index = json.loads((learnt / "data" / "index.json").read_text())
    index["parameters"] |= policy(learnt)
    (again / "index.json").write_text(json.dumps(index))

    assert augment_settings(again, {})["policy.checkpoint"] == ""
    assert augment_settings(again, policy(learnt))["policy.checkpoint"].endswith("best.safetensors")


def test_what_does_not_fit_is_refused_in_one_line(learnt, tmp_path):
    def refused(match, error=ValueError, **others):
        with pytest.raises(error, match=match) as caught:
            learning_commands.collect(
                "cartpole", **{"augment": learnt / "data", "output": tmp_path / "out", **others}
            )
        assert "\n" not in str(caught.value)

    own, model = (learnt / kind / "best.safetensors" for kind in ("policy", "diffuser"))
    refused("needs the policy that it is tilted to; name it by --policy", diffuser=model)
    refused("--episodes is 0; .* 1 at least", policy=str(own), diffuser=model, episodes=0)
    refused("there is no checkpoint '.*data_diffuser", CheckpointError, policy=str(own))
    refused("is a policy, no diffuser", CheckpointError, policy=str(own), diffuser=own)
    refused("is a diffuser, whose actions are no function", policy=str(model), diffuser=model)
    refused(
        "steps of 0.02 s, and the data are of plans at 25 Hz",
        policy=str(own),
        diffuser=model,
        settings=("planner.rate=25",),
    )
    refused(
        "is a mlp of 0.16 s; only a unet makes trajectories of another length",
        policy=str(own),
        diffuser=model,
        duration=1.0,
    )
    refused("--diffuser is a model of the data of --augment", augment=None, diffuser=model)
    Training((learnt / "data",), tmp_path / "residual", TrainOptions("policy", SMALL, 1, 64)).run()
    refused(
        "adds to a previous plan, and there is none; train one with --no-residual",
        policy=str(tmp_path / "residual" / "best.safetensors"),
        diffuser=model,
    )


def plans_of(learnt, count=3, **named):
    values = {"task": "cartpole", "planner.num_samples": 16, "policy.steps": 20, **named}
    values["policy.checkpoint"] = str(learnt / "diffuser" / "best.safetensors")
    _, found = load_parameters(PlannerNodeConfig, values)
    task = find_task("cartpole")()
    loop = Controller(task, build(PlannerNodeConfig, found), cost_weights(found))
    state = initial_state(task, loop.backend.model)
    made = [
        loop.plan(dataclasses.replace(state, stamp=0.02 * n), Reference(), 0.02 * n)
        for n in range(count)
    ]
    return loop, made


def test_a_diffusers_actions_are_plans_alone_and_among_the_samples(learnt):
    for named, rows in (({"planner.algorithm": "policy"}, 0), ({}, 4)):
        loop, made = plans_of(learnt, **named)
        _, again = plans_of(learnt, **named)

        assert isinstance(loop.policy, TrajectoryPolicy)
        for plan, same in zip(made, again, strict=True):
            np.testing.assert_array_equal(plan.knots, same.knots)
            assert plan.stats.policy.failure == ""
        assert made[0].stats.policy.rows == rows
        assert (made[0].knots != made[1].knots).any()


def test_a_diffusers_plan_gives_its_actions_and_then_holds_the_last(learnt):
    loop, _ = plans_of(learnt)
    policy, spline = loop.policy, loop.objective.spline
    horizon = policy._model.config.horizon
    actions = torch.linspace(-0.5, 0.4, horizon)[:, None]

    class Known:
        config = policy._model.config

        def split(self, trajectories):
            return trajectories[..., :4], trajectories[..., 4:]

        def sample(self, count, generator, **others):
            assert others["conditions"].shape == (count, self.config.condition)
            return torch.cat((torch.zeros(horizon, 4), actions), dim=1).expand(count, -1, -1)

    policy._model = Known()
    knots = policy.propose(np.zeros((len(spline.knot_times), 1)), 2, 20, 1.0)

    wanted = np.concatenate([actions.numpy(), np.full((50 - horizon, 1), 0.4)])
    nearest, *_ = np.linalg.lstsq(spline.to_controls.numpy(), wanted, rcond=None)
    np.testing.assert_allclose(knots, np.stack([nearest, nearest]).clip(-1.0, 1.0), atol=1e-6)


def test_a_diffuser_is_evaluated_in_closed_loop_while_it_is_trained(learnt, tmp_path):
    evaluated = TrainOptions("diffuser", DDPM, 1, 64, horizon=8, trials=1, duration=0.2)

    figures = Training((learnt / "data",), tmp_path / "run", evaluated).run()

    assert figures["last"]["cost"] > 0.0
