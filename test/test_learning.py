"""Data, training and a policy alone: nothing is lost, and everything comes out the same again."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffusion_mpc.cli import learning_commands
from diffusion_mpc.config import (
    ConfigError,
    PlannerNodeConfig,
    build,
    cost_weights,
    load_parameters,
)
from diffusion_mpc.learning.collect import (
    CollectOptions,
    collect,
    shard_rows,
    teacher_settings,
)
from diffusion_mpc.learning.dataset import (
    Dataset,
    DatasetError,
    shard_name,
    write_index,
    write_shard,
)
from diffusion_mpc.learning.learners import NetworkOptions, OptimalityLearner, PolicyLearner
from diffusion_mpc.learning.policy_evaluation import evaluate_policy
from diffusion_mpc.learning.shard_folder import drop_unfinished
from diffusion_mpc.learning.teacher_episode import EpisodeOptions
from diffusion_mpc.learning.teacher_of_data import teacher_of
from diffusion_mpc.learning.train import Training, TrainOptions
from diffusion_mpc.learning.training_rows import TrainingRows
from diffusion_mpc.names import CheckpointKind
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.policy.checkpoint import (
    CheckpointError,
    Description,
    read_description,
    save_checkpoint,
)
from diffusion_mpc.policy.denoiser import Denoiser, DenoiserConfig
from diffusion_mpc.policy.normaliser import Excess
from diffusion_mpc.policy.value import Value, ValueConfig
from diffusion_mpc.runtime.controller import Controller, plan_structure
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.measured import initial_state, observe
from diffusion_mpc.types import Reference, State
from diffusion_mpc.versions import model_hash, versions

SMALL = {"planner.num_samples": "8", "planner.iterations": "1"}
COURSE = EpisodeOptions(duration=0.2, samples=3, tails=2)


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("shard-*.safetensors"))
    }


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    figures = collect("cartpole", folder, SMALL, CollectOptions(8, 1, COURSE))
    return folder, figures


def test_every_plan_gives_itself_its_samples_and_its_tails(collected):
    folder, figures = collected
    data = Dataset(folder)
    columns = data.columns("kind", "episode", "step", "cost", "cost_to_go", "advantage")

    assert figures["pairs"] == len(data)
    assert sorted(np.unique(columns["episode"]).tolist()) == list(range(8))
    counts = np.bincount(columns["kind"])
    assert counts[1] == 3 * counts[0]
    assert counts[2] == 2 * counts[0]
    assert figures["plans"] == counts[0]
    # From the best of a plan's samples to the worst.
    samples = columns["advantage"][columns["kind"] == 1].reshape(-1, 3)
    assert (np.diff(samples, axis=1) <= 1e-6).all()
    first = (columns["episode"] == 0) & (columns["kind"] == 0)
    cost, ahead = columns["cost"][first], columns["cost_to_go"][first]
    np.testing.assert_allclose(ahead[:-1], cost[:-1] + 0.98 * ahead[1:], rtol=1e-5)
    # After its end, an episode counts as going on as in its last second.
    np.testing.assert_allclose(ahead[-1], cost[-1] + 0.98 * cost.mean() / 0.02, rtol=0.05)


def test_rows_say_where_the_teacher_was(collected):
    folder, _ = collected
    data, task = Dataset(folder), find_task("cartpole")()
    rows = data.rows(np.array([0]))
    state = rows["state"][0]
    nq = task.model.nq
    start = State(float(rows["time"][0]), state[:nq], state[nq:])

    seen = observe(task, task.model, start, Reference())

    np.testing.assert_allclose(rows["observation"][0, -1], seen, atol=1e-6)
    assert data.index["model_sha256"] == model_hash(task.model)
    assert data.index["statistics"]["knots"]["max"] <= np.ones((5, 1)).tolist()


def test_an_interrupted_collection_goes_on_to_the_same_data(collected, tmp_path):
    whole, _ = collected
    command = [sys.executable, "-m", "diffusion_mpc.cli", "collect", "cartpole"]
    command += ["--episodes", "8", "--duration", "0.2", "--samples", "3", "--tails", "2"]
    command += ["--processes", "1", "--output", str(tmp_path / "data")]
    for name, value in SMALL.items():
        command += ["--set", f"{name}={value}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    first = tmp_path / "data" / shard_name(0)
    deadline = time.monotonic() + 120.0
    while not first.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert first.is_file()
    (tmp_path / "data" / ".shard-00001.safetensors.1.part").write_bytes(b"cut short")

    figures = collect("cartpole", tmp_path / "data", SMALL, CollectOptions(8, 1, COURSE))

    assert figures["pairs"] == len(Dataset(whole))
    assert digests(tmp_path / "data") == digests(whole)
    assert not list((tmp_path / "data").glob(".*part"))


def test_a_shard_that_was_cut_short_is_named_and_made_again(tmp_path):
    settings = teacher_settings("cartpole", SMALL)
    write_shard(tmp_path, 0, shard_rows(settings, COURSE, 1, {}, 0))
    path, before = tmp_path / shard_name(0), digests(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])

    lines = drop_unfinished(tmp_path)
    write_shard(tmp_path, 0, shard_rows(settings, COURSE, 1, {}, 0))

    assert len(lines) == 1
    assert shard_name(0) in lines[0]
    assert digests(tmp_path) == before


def test_other_data_are_not_mixed_in(collected):
    folder, _ = collected
    longer = dataclasses.replace(COURSE, duration=0.3)
    with pytest.raises(DatasetError, match="another options; name another folder"):
        collect("cartpole", folder, SMALL, CollectOptions(4, 1, longer))
    with pytest.raises(DatasetError, match="another task"):
        collect("pusht", folder, SMALL, CollectOptions(4, 1, COURSE))


def test_data_of_a_release_that_knew_fewer_options_are_gone_on_with(collected, tmp_path):
    shutil.copytree(collected[0], tmp_path / "older")
    index = json.loads((tmp_path / "older" / "index.json").read_text())
    for name in ("deployed_samples", "deployed_steps", "policy_time"):
        del index["options"][name]
    del index["old_states"]
    (tmp_path / "older" / "index.json").write_text(json.dumps(index))

    figures = collect("cartpole", tmp_path / "older", SMALL, CollectOptions(8, 1, COURSE))

    assert figures["new_pairs"] == 0


def made_data(folder, shards=3, rows=200):
    """Data whose teacher adds to the previous plan what a linear map makes of the state."""
    random = np.random.default_rng(0)
    map_ = np.random.default_rng(1).normal(0.0, 0.2, (5, 5))
    task = find_task("cartpole")()
    for number in range(shards):
        seen = random.uniform(-1.0, 1.0, (rows, 2, 5)).astype(np.float32)
        previous = random.uniform(-0.3, 0.3, (rows, 5, 1)).astype(np.float32)
        shard = {
            "observation": seen,
            "previous": previous,
            "knots": previous + (seen[:, 1] @ map_)[..., None].astype(np.float32),
            "advantage": random.normal(size=rows).astype(np.float32),
            "cost_to_go": (seen[:, 1] ** 2).sum(1).astype(np.float32),
            "kind": np.arange(rows, dtype=np.uint8) % 3,
            "failed": (np.arange(rows) >= rows - 10).astype(np.uint8),
            "episode": np.full(rows, 9, np.int32) * (number == 0) + np.int32(number),
            "step": np.arange(rows, dtype=np.int32) // 3,
            "state": random.uniform(-1.0, 1.0, (rows, 4)),
            "action": random.uniform(-1.0, 1.0, (rows, 1)).astype(np.float32),
            "reference": np.zeros((rows, 10), np.float32),
        }
        write_shard(folder, number, shard)
    parameters = {"task": "cartpole"}
    about = {"task": "cartpole", "model_sha256": model_hash(task.model), "parameters": parameters}
    write_index(folder, about, range(shards))
    return map_


OPTIONS = TrainOptions(network=NetworkOptions(width=32, depth=2), epochs=4, batch=64)


def weights(folder, name="last"):
    tensors = load_file(folder / f"{name}.safetensors")
    return {name: values.numpy().tobytes() for name, values in tensors.items()}


class Killed(BaseException):
    """Stand-in for the end of the process in the middle of a step."""


@pytest.mark.parametrize("steps", [0, 7, 15])
def test_training_that_was_killed_ends_with_the_same_weights(tmp_path, steps):
    made_data(tmp_path / "data")
    Training((tmp_path / "data",), tmp_path / "whole", OPTIONS).run()
    first = Training((tmp_path / "data",), tmp_path / "cut", OPTIONS)
    loss, calls = first.learner.loss, []

    def until(*arguments):
        calls.append(1)
        if len(calls) > steps:
            raise Killed
        return loss(*arguments)

    first.learner.loss = until
    with pytest.raises(Killed):
        first.run()

    figures = Training((tmp_path / "data",), tmp_path / "cut", OPTIONS).run()

    assert figures["epochs"] == 4
    for name in ("last", "best"):
        assert weights(tmp_path / "cut", name) == weights(tmp_path / "whole", name)


def test_training_learns_the_residual_and_says_what_it_is(tmp_path):
    made_data(tmp_path / "data")
    options = dataclasses.replace(OPTIONS, epochs=40, rate=3e-3)
    figures = Training((tmp_path / "data",), tmp_path / "run", options).run()

    losses = [figures["last"]["validation"], *(float(x) for x in [figures["best"]["validation"]])]
    first = Training((tmp_path / "data",), tmp_path / "one", dataclasses.replace(options, epochs=1))
    assert min(losses) < 0.1 * first.run()["last"]["validation"]
    described = read_description(tmp_path / "run" / "best.safetensors")
    assert (described.kind, described.task, described.observation) == ("policy", "cartpole", 5)
    assert described.history == 2
    assert described.plan["num_knots"] == 5
    # Kinds 0 and 2 of the first 190 rows of two shards: in the last ten, the robot had fallen.
    assert described.training["rows"] == 2 * (64 + 63)


def test_rounds_are_trained_on_together_and_must_fit_each_other(tmp_path):
    made_data(tmp_path / "first")
    made_data(tmp_path / "second", shards=2)
    rounds = (tmp_path / "first", tmp_path / "second")
    data = Dataset(*rounds)
    assert len(data) == len(Dataset(rounds[0])) + len(Dataset(rounds[1]))
    (last,) = data.rows(np.array([len(data) - 1]), ["observation"])["observation"]
    np.testing.assert_array_equal(
        last, Dataset(rounds[1]).columns("observation")["observation"][-1]
    )
    figures = Training(rounds, tmp_path / "run", OPTIONS).run()
    assert figures["rows"] > Training(rounds[:1], tmp_path / "one", OPTIONS).run()["rows"]
    assert (
        read_description(tmp_path / "run" / "last.safetensors").training["data"] == "first second"
    )

    index = json.loads((tmp_path / "second" / "index.json").read_text())
    (tmp_path / "second" / "index.json").write_text(json.dumps({**index, "task": "pusht"}))
    with pytest.raises(DatasetError, match="has another task than"):
        Training(rounds, tmp_path / "other", OPTIONS)


def test_rounds_of_different_rates_are_trained_on_by_a_policy_of_one_observation(tmp_path):
    rounds = (tmp_path / "first", tmp_path / "second")
    for folder in rounds:
        made_data(folder, shards=2)
    index = json.loads((rounds[1] / "index.json").read_text())
    index["parameters"] = {"task": "cartpole", "planner.rate": 100.0}
    (rounds[1] / "index.json").write_text(json.dumps(index))
    # Two observations are a period apart, which is another time in each.
    with pytest.raises(ValueError, match=r"plans at 50 and 100 Hz; .* --history 1"):
        Training(rounds, tmp_path / "two", OPTIONS)

    Training(rounds, tmp_path / "one", dataclasses.replace(OPTIONS, history=1)).run()

    assert read_description(tmp_path / "one" / "last.safetensors").history == 1


@pytest.mark.parametrize("kind", typing.get_args(CheckpointKind))
def test_all_kinds_train(tmp_path, kind):
    made_data(tmp_path / "data")
    network = dataclasses.replace(OPTIONS.network, process="ddpm" if kind == "diffuser" else "flow")
    options = dataclasses.replace(OPTIONS, kind=kind, network=network, horizon=8)
    figures = Training((tmp_path / "data",), tmp_path / "run", options).run()

    assert figures["last"]["loss"] < 2.0
    assert read_description(tmp_path / "run" / "last.safetensors").kind == kind


def test_a_policy_learns_plans_that_give_what_was_executed(collected):
    data = Dataset(collected[0])
    made = teacher_of(data.index).planner
    # Plans of a second that was executed in 10 steps only cannot be learnt from.
    with pytest.raises(DatasetError, match=r"no episode in .* has 50 steps under one reference"):
        TrainingRows(data, PolicyLearner, False, 32, "executed")
    data.index["parameters"] = {**data.index["parameters"], "planner.horizon_steps": 8}
    spline = Spline(made.num_knots, 8, made.control_dt, made.spline)

    rows = TrainingRows(data, PolicyLearner, False, 32, "executed")
    chosen = rows.train[:10]
    shown = next(rows.batches(chosen, len(chosen), slice(None)))

    columns = data.columns("kind", "episode", "step", "action", "observation")
    for number, knots, seen in zip(chosen, shown["knots"], shown["observation"], strict=True):
        later = [
            np.flatnonzero(
                (columns["kind"] == 0)
                & (columns["episode"] == columns["episode"][number])
                & (columns["step"] == columns["step"][number] + k)
            )[0]
            for k in range(8)
        ]
        executed = columns["action"][later].astype(float)
        nearest, *_ = np.linalg.lstsq(spline.to_controls.numpy(), executed, rcond=None)
        np.testing.assert_allclose(knots, nearest.clip(-1.0, 1.0), atol=1e-5)
        np.testing.assert_array_equal(seen, columns["observation"][number])


def test_what_was_executed_is_optimal_where_it_cost_less_than_the_value(collected, tmp_path):
    data = Dataset(collected[0])
    data.index["parameters"] = {**data.index["parameters"], "planner.horizon_steps": 8}
    options = dataclasses.replace(OPTIONS, kind="value", batch=32)
    Training((collected[0],), tmp_path, options).run()
    file = tmp_path / "best.safetensors"
    network = Value(ValueConfig(**read_description(file).network))
    network.load_state_dict(load_file(file))

    rows = TrainingRows(data, OptimalityLearner, False, 32, "executed", file)
    chosen = rows.train[:10]
    shown = next(rows.batches(chosen, len(chosen), slice(None)))

    columns = data.columns("kind", "episode", "step", "cost", "observation")
    with torch.no_grad():
        value = network(torch.from_numpy(columns["observation"][:, -1])).numpy()
    plans = columns["kind"] == 0
    for number, advantage in zip(chosen, shown["advantage"], strict=True):
        same = plans & (columns["episode"] == columns["episode"][number])
        later = [
            int(np.flatnonzero(same & (columns["step"] == columns["step"][number] + k))[0])
            for k in range(8)
        ]
        paid = sum(0.98**k * columns["cost"][later[k]] for k in range(7))
        expected = value[number] - paid - 0.98**7 * value[later[7]]
        assert advantage == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kind": "value", "target": "executed"},
            "--target executed is for policies, not a value; leave it out",
        ),
        (
            {"kind": "optimality", "target": "executed"},
            "compares what was executed with a value; train one with --kind value, and name it",
        ),
        (
            {"kind": "policy", "target": "executed", "value": "v.safetensors"},
            "--value is for --kind optimality --target executed; leave it out",
        ),
        (
            {"kind": "optimality", "value": "v.safetensors"},
            "--value is for --kind optimality --target executed; leave it out",
        ),
    ],
)
def test_options_that_say_nothing_of_a_kind_are_refused(tmp_path, changes, message):
    made_data(tmp_path / "data")

    with pytest.raises(ValueError, match=message):
        Training((tmp_path / "data",), tmp_path / "run", dataclasses.replace(OPTIONS, **changes))


TWO_PROCESSES = """
import hashlib, sys
from pathlib import Path
from diffusion_mpc.learning.learners import NetworkOptions
from diffusion_mpc.learning.train import Training, TrainOptions

data, folder = map(Path, sys.argv[1:3])
options = TrainOptions(network=NetworkOptions(width=32, depth=2), epochs=int(sys.argv[3]), batch=64)
training = Training((data,), folder, options)
training.run()
weights = b"".join(p.detach().numpy().tobytes() for p in training.module.parameters())
(folder / f"rank{training.rank}").write_text(hashlib.sha256(weights).hexdigest())
"""


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    made_data(tmp_path / "data")
    (tmp_path / "script.py").write_text(TWO_PROCESSES)

    def run(folder, epochs, processes=2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes), str(tmp_path / "script.py")]
        command += [str(tmp_path / "data"), str(tmp_path / folder), str(epochs)]
        subprocess.run(command, check=True, capture_output=True)
        return {path.read_text() for path in (tmp_path / folder).glob("rank*")}

    assert len(run("two", 12)) == 1, "both processes have the same weights"
    run("one", 12, processes=1)
    losses = {
        name: json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])["validation"]
        for name in ("one", "two")
    }
    # Other noise, the same batches.
    assert losses["two"] == pytest.approx(losses["one"], rel=0.3)


def test_a_folder_of_another_training_is_refused(tmp_path):
    made_data(tmp_path / "data")
    Training((tmp_path / "data",), tmp_path / "run", OPTIONS).run()
    with pytest.raises(CheckpointError, match="other batch; name another folder"):
        Training((tmp_path / "data",), tmp_path / "run", dataclasses.replace(OPTIONS, batch=32))
    with pytest.raises(ValueError, match="fewer than a batch"):
        Training((tmp_path / "data",), tmp_path / "big", dataclasses.replace(OPTIONS, batch=10_000))


def test_a_value_takes_the_worse_of_its_members_and_stays_within_the_costs_of_its_data():
    torch.manual_seed(0)
    value = Value(ValueConfig(3, width=8, depth=1))
    costs = torch.tensor([-2.0, -1.0, -1.0, 40.0])
    value.cost.fit(costs)
    seen = torch.rand(16, 3)

    each = torch.stack([member(seen)[:, 0] for member in value.members])

    torch.testing.assert_close(value(seen), -2.0 + each.amax(0).clamp(min=0.0).expm1())
    assert (each[0] != each[1]).all()
    with torch.no_grad():
        for bias, limit in ((-9.0, -2.0), (9.0, 40.0)):
            for member in value.members:
                member[-1].bias.fill_(bias)
            torch.testing.assert_close(value(seen), torch.full((16,), limit))


def test_costs_are_learnt_as_logarithms_of_their_excess_so_that_a_fall_leaves_room_for_the_rest():
    excess = Excess()
    costs = torch.tensor([-2.0, 1.0, 1.0, 301.0])
    excess.fit(costs)

    logarithms = excess.normalise(costs)

    torch.testing.assert_close(logarithms, torch.tensor([0.0, math.log(2), math.log(2), 4.62497]))
    torch.testing.assert_close(excess.restore(logarithms), costs)


def planner_config(**values):
    _, found = load_parameters(PlannerNodeConfig, {"task": "cartpole", **values})
    return build(PlannerNodeConfig, found), cost_weights(found)


def untrained(path, task="cartpole", network=None, **changes):
    made = find_task("cartpole")()
    config, _ = planner_config()
    network = network or DenoiserConfig(5, 1, 2 * 5 + 5, symmetric=True, width=16, depth=2)
    description = Description(
        "policy",
        task,
        model_hash(made.model),
        dataclasses.asdict(network),
        5,
        2,
        {**plan_structure(config.planner), "rate": 50.0},
        versions=versions(),
    )
    torch.manual_seed(0)
    save_checkpoint(path, Denoiser(network), dataclasses.replace(description, **changes))
    return path


def controller(path, **values):
    named = {"planner.algorithm": "policy", "policy.checkpoint": str(path)}
    config, terms = planner_config(**named, **values)
    return Controller(find_task("cartpole")(), config, terms)


def test_an_untrained_policy_leaves_the_plan_as_it_was(tmp_path):
    loop = controller(untrained(tmp_path / "p.safetensors"))
    state = initial_state(loop.task, loop.backend.model)

    plan = loop.plan(state, Reference(), 0.0)

    assert np.abs(plan.knots).max() == 0.0
    assert plan.stats.iterations == 1
    assert plan.path.shape == (50, 2)
    loop.planner.follow(np.full((5, 1), 0.4), 0.0)
    later = loop.plan(dataclasses.replace(state, stamp=0.02), Reference(), 0.02)
    np.testing.assert_allclose(later.knots, 0.4, atol=1e-6)


def test_a_policy_without_residual_plans_from_the_observation_alone(tmp_path):
    made_data(tmp_path / "data")
    options = dataclasses.replace(OPTIONS, residual=False)
    Training((tmp_path / "data",), tmp_path / "run", options).run()
    path = tmp_path / "run" / "best.safetensors"

    def first_plan(previous):
        loop = controller(path)
        loop.planner.follow(np.full((5, 1), previous), 0.0)
        return loop.plan(initial_state(loop.task, loop.backend.model), Reference(), 0.0).knots

    assert not read_description(path).residual
    np.testing.assert_array_equal(first_plan(0.4), first_plan(-0.3))


@pytest.mark.parametrize("rate", [25.0, 50.0, 100.0])
def test_a_policy_sees_observations_as_far_apart_as_those_that_it_learnt_from(tmp_path, rate):
    path = untrained(tmp_path / "p.safetensors")
    plan = {**read_description(path).plan, "rate": 25.0}
    policy = controller(untrained(path, plan=plan)).policy
    for number in range(20):
        policy.observe(np.full(5, number / rate), number / rate)
    before, newest = policy.seen()[:, 0]
    assert newest == pytest.approx(19 / rate)
    assert newest - before == pytest.approx(1 / 25)


def test_a_policy_makes_the_same_plans_from_the_same_seed(tmp_path):
    path = untrained(tmp_path / "p.safetensors")
    config = DenoiserConfig(5, 1, 15, symmetric=True, width=16, depth=2)
    network = Denoiser(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3)
    save_checkpoint(path, network, read_description(path))

    def plans(seed):
        loop = controller(path, **{"planner.seed": seed})
        state = initial_state(loop.task, loop.backend.model)
        return [loop.plan(state, Reference(), 0.0).knots for _ in range(3)]

    assert np.abs(plans(0)[0]).max() > 1e-3
    np.testing.assert_array_equal(plans(0), plans(0))


def test_checkpoints_for_something_else_are_refused_in_one_line(tmp_path):
    path = tmp_path / "p.safetensors"

    def refused(match, **values):
        with pytest.raises(ValueError, match=match) as caught:
            controller(path, **values)
        assert "\n" not in str(caught.value)

    refused("there is no checkpoint")
    untrained(path, task="ant")
    refused("policy for task 'ant', not 'cartpole'")
    untrained(path)
    refused("set planner.num_knots to that", **{"planner.num_knots": 6})
    untrained(path, kind="value")
    refused("is a value, no policy")
    untrained(path, observation=7)
    refused("observations of 7 numbers")
    untrained(path, model_sha256="other")
    refused("another model")
    untrained(path, network=DenoiserConfig(5, 1, 3))
    refused("its description says")
    plan = read_description(untrained(path)).plan
    untrained(path, plan={name: value for name, value in plan.items() if name != "rate"})
    refused("does not say at which rate it plans; train it anew")
    with pytest.raises(ConfigError, match="needs policy\\.checkpoint"):
        controller("")


def test_a_deployed_planner_controls_and_the_teacher_says_what_it_would_have_done(tmp_path):
    given = {**SMALL, "policy.checkpoint": str(untrained(tmp_path / "p.safetensors"))}
    course = dataclasses.replace(COURSE, delays=0, policy_fraction=1.0)

    def first_actions(samples, steps):
        options = dataclasses.replace(course, deployed_samples=samples, deployed_steps=steps)
        rows = shard_rows(teacher_settings("cartpole", given), options, 1, {}, 0)
        plans = rows["kind"] == 0
        return [rows[name][plans] for name in ("action", "previous", "knots")]

    # An untrained policy by itself leaves the previous plan as it is.
    action, previous, _ = first_actions(0, 0)
    np.testing.assert_allclose(action, previous[:, 0], atol=1e-6)
    # A planner does not, and what it does is not what the teacher would have done.
    action, previous, knots = first_actions(6, 2)
    assert (abs(action - previous[:, 0]) > 1e-4).mean() > 0.5
    assert (abs(action - knots[:, 0]) > 1e-4).mean() > 0.5


@pytest.mark.slow
def test_a_policy_alone_runs_in_closed_loop(tmp_path):
    path = untrained(tmp_path / "p.safetensors")
    index = {"parameters": {"task": "cartpole"}}

    figures = evaluate_policy(index, path, trials=1, duration=0.4)

    assert figures["cost"] > 0.0
    assert figures["falls"] == 0
    assert Path(path).is_file()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"deployed": "32x1"}, "--deployed is a planner with a policy; name one with --policy"),
        ({"deployed": "32", "policy": "shipped:quadruped"}, "is not of the form SAMPLESxSTEPS"),
        ({"deployed": "0x1", "policy": "shipped:quadruped"}, "is not of the form SAMPLESxSTEPS"),
    ],
)
def test_a_deployed_planner_that_cannot_be_is_refused_in_one_line(tmp_path, given, said):
    with pytest.raises(ValueError, match=said) as caught:
        learning_commands.collect("cartpole", output=tmp_path / "data", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
