"""What a bag says of its run, and what an evaluation says of a bag: on bags made by hand."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
from test_evaluation import PERIOD, START, BagMaker, standing

from diffusion_mpc.bags.bag_reader import BagError
from diffusion_mpc.bags.model_text import model_text
from diffusion_mpc.bags.run_facts import run_facts, run_text
from diffusion_mpc.bags.run_record import task_of
from diffusion_mpc.cli import main
from diffusion_mpc.evaluation.metrics import summarise
from diffusion_mpc.evaluation.recorded_run import read_run
from diffusion_mpc.evaluation.report import report_folders
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.versions import model_hash


class RunMaker(BagMaker):
    """A bag whose planner has said what is run."""

    TYPES: ClassVar = {
        **BagMaker.TYPES,
        "/planner/run": "std_msgs/msg/String",
        "/planner/model": "std_msgs/msg/String",
    }

    def say(self, task_name, **parameters):
        given = {"task": task_name, **parameters}
        texts = {
            "/planner/run": run_text(given, run_facts(task_name, self.task)),
            "/planner/model": model_text(self.task),
        }
        for topic, text in texts.items():
            self.write(topic, START, self.make("std_msgs/msg/String", data=text))

    def steps(self, count=10):
        qpos, qvel = standing(self.task)
        for i in range(count):
            time = START + i * PERIOD
            self.state(time, qpos, qvel)
            self.stats(time)
            self.command(time, time, np.zeros(self.task.model.nu))


@pytest.fixture
def cartpole():
    return find_task("cartpole")()


@pytest.mark.parametrize("name", sorted(available_tasks()))
def test_a_model_comes_back_from_its_text_as_it_was(tmp_path, name):
    task = find_task(name)()
    with RunMaker(tmp_path / "bag", task) as bag:
        bag.say(name)
    with task_of(tmp_path / "bag") as (found, model, _):
        again = find_task(found)(model)
    assert again.name == name
    assert (again.model.nq, again.model.nsensordata) == (task.model.nq, task.model.nsensordata)
    for field in ("body_mass", "geom_size", "actuator_ctrlrange", "key_qpos", "jnt_range"):
        np.testing.assert_allclose(
            getattr(again.model, field), getattr(task.model, field), rtol=1e-5, atol=1e-7
        )
    np.testing.assert_array_equal(again.action_centre, task.action_centre)
    assert json.loads(model_text(task))["sha256"] == model_hash(task.model)


def test_evaluate_takes_task_model_and_weights_from_the_bag(tmp_path, capsys):
    own = find_task("cartpole")
    file = tmp_path / "mine.xml"
    file.write_text(own().path.read_text().replace("slider", "rail"))
    task = own(str(file))
    weights = {"upright": 0.0, "centred": 0.0, "still": 0.0, "effort": 0.0}
    with RunMaker(tmp_path / "bag", task) as bag:
        given = {f"cost.{name}": weight for name, weight in weights.items()}
        bag.say("cartpole", **{"model.path": str(file), **given})
        bag.steps()
    file.unlink()
    assert main(["evaluate", str(tmp_path / "bag")]) == 0
    figures = json.loads((tmp_path / "bag_report" / "summary.json").read_text())
    assert figures["duration_s"] == pytest.approx(9 * PERIOD, abs=1e-6)
    assert figures["mean_cost"] == 0.0


def test_a_bag_that_does_not_name_its_task_asks_for_one(tmp_path, cartpole, capsys):
    with BagMaker(tmp_path / "bag", cartpole):
        pass
    assert main(["evaluate", str(tmp_path / "bag")]) == 1
    assert "does not say which task was run; name it: --task NAME" in capsys.readouterr().err


def test_code_in_a_bag_is_not_run(tmp_path, cartpole):
    file = tmp_path / "mine.py"
    file.write_text("from diffusion_mpc.tasks.cartpole import Cartpole\n")
    with RunMaker(tmp_path / "bag", cartpole) as bag:
        bag.say(str(file))
    with task_of(tmp_path / "bag") as (name, _, _):
        assert name == str(file)
    file.write_text("raise SystemExit\n")
    with (
        pytest.raises(BagError, match="is not on this machine as it was"),
        task_of(tmp_path / "bag"),
    ):
        pass


def test_what_was_not_measured_is_unknown_and_a_run_without_states_is_a_failure(
    tmp_path, cartpole, capsys
):
    types = {topic: kind for topic, kind in BagMaker.TYPES.items() if topic != "/joint_states"}
    with BagMaker(tmp_path / "bag", cartpole) as bag:
        bag.types = types
        for i in range(5):
            bag.command(START + i * PERIOD, START + i * PERIOD, [0.0])
    figures = summarise(read_run(tmp_path / "bag", cartpole), cartpole)
    for name in ("falls", "duration_s", "mean_cost", "mean_speed", "plan_rate_hz"):
        assert figures[name] is None, name
    assert main(["evaluate", str(tmp_path / "bag"), "--task", "cartpole"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: bag")
    assert "no state that can be evaluated" in line


def test_reports_of_bags_side_by_side_have_folders_of_their_own(tmp_path):
    bags = [tmp_path / "run.1", tmp_path / "run.2", tmp_path / "run.mcap"]
    assert len(set(report_folders(bags, None))) == 3
    alike = [tmp_path / "a" / "bag", tmp_path / "b" / "bag"]
    assert len(set(report_folders(alike, tmp_path / "out"))) == 2


def test_of_two_robots_one_is_chosen_by_its_namespace(tmp_path, cartpole):
    parts = []
    for number, place in (("1", 0.25), ("2", 0.75)):
        with BagMaker(tmp_path / number, cartpole, namespace=f"/robot{number}") as bag:
            qpos, qvel = standing(cartpole)
            qpos[0] = place
            bag.state(START, qpos, qvel)
            bag.command(START, START, [0.0])
        parts.append(tmp_path / number)
    both = merged(parts, tmp_path / "both.mcap")
    with pytest.raises(BagError, match=r"several namespaces: /robot1, /robot2; .*--namespace"):
        read_run(both, cartpole)
    assert read_run(both, cartpole, "robot2").states.qpos[:, 0].tolist() == [0.75]
    assert len(read_run(both, cartpole, "/robot1").commands.stamps) == 1


def merged(bags, target):
    from mcap.reader import make_reader
    from mcap.writer import Writer

    with target.open("wb") as output:
        writer = Writer(output)
        writer.start("ros2")
        for bag in bags:
            with (bag / f"{bag.name}.mcap").open("rb") as stream:
                for schema, channel, message in make_reader(stream).iter_messages():
                    known = writer.register_schema(schema.name, schema.encoding, schema.data)
                    made = writer.register_channel(channel.topic, channel.message_encoding, known)
                    writer.add_message(made, message.log_time, message.data, message.publish_time)
        writer.finish()
    return target


def test_a_state_that_was_repeated_counts_once(tmp_path, cartpole):
    with BagMaker(tmp_path / "bag", cartpole) as bag:
        for time in (START, START, START + PERIOD, START + PERIOD):
            bag.state(time, *standing(cartpole))
    assert len(read_run(tmp_path / "bag", cartpole).states.stamps) == 2


def test_a_topic_of_an_unknown_type_is_named_with_its_type_and_those_known(tmp_path, cartpole):
    types = {"/joint_command": "std_msgs/msg/String"}
    with BagMaker(tmp_path / "bag", cartpole, types=types) as bag:
        bag.state(START, *standing(cartpole))
    (told,) = [p for p in read_run(tmp_path / "bag", cartpole).problems if "joint_command" in p]
    assert "std_msgs/msg/String" in told
    assert "diffusion_mpc/msg/JointCommand" in told
