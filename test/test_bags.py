"""Bags that we write, and bags that are damaged, read by us and by the libraries of others."""

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import Reader
from test_evaluation import PERIOD, START, BagMaker, flushed, standing

from diffusion_mpc.bags.bag_reader import read_messages
from diffusion_mpc.bags.recorded_states import name_prefix, read_states, states_of
from diffusion_mpc.tasks import find_task


@pytest.fixture(scope="module")
def ant():
    return find_task("ant")()


@pytest.fixture(scope="module")
def bag(tmp_path_factory, ant):
    return flushed(tmp_path_factory.mktemp("whole") / "bag", ant)


def everything(path):
    return read_messages(path, lambda topic, kind: True)


def keys(messages):
    return [(message.topic, message.received) for message in messages.messages]


def rewritten(source, target, compression=CompressionType.NONE, profile="ros2", reverse=False):
    """The messages of an MCAP file in another one, with a chunk for every few of them."""
    with source.open("rb") as stream, target.open("wb") as output:
        writer = Writer(output, chunk_size=10_000, compression=compression)
        writer.start(profile)
        channels = {}
        for schema, channel, message in make_reader(stream).iter_messages(reverse=reverse):
            if channel.id not in channels:
                known = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, known
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time
            )
        writer.finish()
    return target


def cut(file, fraction):
    file.write_bytes(file.read_bytes()[: int(fraction * file.stat().st_size)])
    return file


# Written by us


def test_a_bag_that_we_write_is_described_to_rosbags_by_its_metadata(bag):
    with Reader(bag) as reader:
        counts = {c.topic: (c.msgtype, c.msgcount, c.digest[:7]) for c in reader.connections}
        stamps = [stamp for _, stamp, _ in reader.messages()]
        assert (reader.start_time, reader.end_time - 1) == (stamps[0], stamps[-1])
        assert reader.message_count == len(stamps) == 300
    assert counts["/joint_states"] == ("sensor_msgs/msg/JointState", 100, "RIHS01_")
    assert counts["/planner/stats"] == ("diffusion_mpc/msg/PlannerStats", 0, "RIHS01_")
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (metadata["version"], metadata["storage_identifier"]) == (8, "mcap")
    assert (
        metadata["relative_file_paths"]
        == [entry["path"] for entry in metadata["files"]]
        == ["bag.mcap"]
    )
    assert "&" not in (bag / "metadata.yaml").read_text(), "no reader need know YAML's anchors"


def test_the_file_of_a_bag_that_we_write_is_described_to_mcap_by_itself(bag):
    with (bag / "bag.mcap").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        channels = {c.topic: (summary.schemas[c.schema_id], c) for c in summary.channels.values()}
        assert set(channels) == set(BagMaker.TYPES)
        for topic, (schema, channel) in channels.items():
            assert (schema.name, schema.encoding, channel.message_encoding) == (
                BagMaker.TYPES[topic],
                "ros2msg",
                "cdr",
            )
            assert channel.metadata["topic_type_hash"].startswith("RIHS01_")
        assert b"builtin_interfaces/Time" in channels["/joint_command"][0].data, (
            "with the types inside"
        )
        assert summary.statistics.message_count == sum(1 for _ in reader.iter_messages()) == 300
        (record,) = reader.iter_metadata()
    written = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert yaml.safe_load(record.metadata["serialized_metadata"]) == written


def test_a_bag_without_messages_is_a_bag(tmp_path, ant):
    with BagMaker(tmp_path / "bag", ant):
        pass
    messages = everything(tmp_path / "bag")
    assert messages.counts == dict.fromkeys(BagMaker.TYPES, 0)
    assert messages.problems == ()


# Damaged


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.6])
def test_of_a_file_that_breaks_off_all_whole_chunks_are_read_and_their_messages_counted(
    tmp_path, bag, compression, fraction
):
    file = rewritten(bag / "bag.mcap", tmp_path / "bag.mcap", compression)
    whole = everything(file)
    assert whole.problems == ()
    messages = everything(cut(file, fraction))
    assert 0.5 * fraction * 300 < len(messages.messages) < 300
    assert keys(messages) == keys(whole)[: len(messages.messages)]
    (problem,) = messages.problems
    assert (
        problem
        == f"bag.mcap breaks off after {len(messages.messages)} messages; what comes before is read"
    )


def test_a_file_whose_index_is_missing_loses_no_message(tmp_path, bag):
    file = tmp_path / "bag.mcap"
    file.write_bytes((bag / "bag.mcap").read_bytes()[:-100])
    messages = everything(file)
    assert len(messages.messages) == 300
    assert "breaks off after 300 messages" in messages.problems[0]


def test_messages_of_a_file_that_breaks_off_come_in_the_order_of_their_recording(tmp_path, bag):
    messages = everything(
        cut(rewritten(bag / "bag.mcap", tmp_path / "bag.mcap", reverse=True), 0.6)
    )
    received = [message.received for message in messages.messages]
    assert received == sorted(received)
    assert received[-1] == pytest.approx(START + 99 * PERIOD)


def test_a_file_that_does_not_say_that_it_is_of_ros_is_read_all_the_same(tmp_path, bag):
    messages = everything(rewritten(bag / "bag.mcap", tmp_path / "bag.mcap", profile=""))
    assert len(messages.messages) == 300
    assert len(messages.problems) == 1


# States


def test_states_alone_are_those_of_the_whole_run(tmp_path, ant):
    qpos, qvel = standing(ant)
    with BagMaker(tmp_path / "bag", ant, namespace="/robot") as written:
        for i in range(5):
            qpos[0] = 0.1 * i
            written.state(START + i * PERIOD, qpos, qvel)
    states = read_states(tmp_path / "bag", ant)
    np.testing.assert_allclose(states.stamps, START + PERIOD * np.arange(5), atol=1e-6)
    np.testing.assert_allclose(states.qpos[:, 0], 0.1 * np.arange(5), atol=1e-12)


def test_joints_of_several_publishers_make_the_states_of_a_bag(tmp_path, ant):
    qpos, qvel = standing(ant)
    with BagMaker(tmp_path / "bag", ant) as written:
        for i in range(5):
            qpos[7:], qvel[6:] = 0.1 * i + 0.01 * np.arange(8), 0.2 * i
            written.state(START + i * PERIOD, qpos, qvel, publishers=2)
    problems = []
    states = states_of(everything(tmp_path / "bag"), ant, problems)
    np.testing.assert_allclose(states.stamps, START + PERIOD * np.arange(5), atol=1e-6)
    np.testing.assert_allclose(states.qpos[-1], qpos, atol=1e-12)
    np.testing.assert_allclose(states.qvel[-1], qvel, atol=1e-12)
    assert problems == []


def test_a_prefix_of_names_is_told_from_the_names():
    wanted = ["slider", "pole"]
    assert name_prefix({"left_slider", "left_pole", "gripper"}, wanted) == "left_"
    assert name_prefix({"slider", "pole", "left_slider", "left_pole"}, wanted) == ""
    assert name_prefix(set(), wanted) == name_prefix({"left_slider"}, wanted) == ""
