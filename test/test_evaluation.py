"""From bag to figures and report, on bags made by hand whose figures are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from diffusion_mpc.bags.bag_reader import BagError
from diffusion_mpc.bags.bag_writer import BagWriter
from diffusion_mpc.command.command import actuators
from diffusion_mpc.estimation.frames import qpos_qvel_to_odometry
from diffusion_mpc.evaluation.metrics import measure, summarise
from diffusion_mpc.evaluation.panels import panels
from diffusion_mpc.evaluation.plot import draw_costs
from diffusion_mpc.evaluation.recorded_run import read_run
from diffusion_mpc.evaluation.report import headline, write_report
from diffusion_mpc.evaluation.video import RendererUnavailableError
from diffusion_mpc.tasks import find_task

MESSAGES = Path(__file__).parents[1] / "msg"
START = 1.7e9
PERIOD = 0.02


def typestore(edit=lambda definition: definition):
    store = get_typestore(Stores.LATEST)
    for name in ("JointCommand", "PlannerStats"):
        store.register(
            get_types_from_msg(
                edit((MESSAGES / f"{name}.msg").read_text()), f"diffusion_mpc/msg/{name}"
            )
        )
    return store


class BagMaker:
    """Writes the messages of a run; joints come in reverse order, as only names count."""

    TYPES: ClassVar = {
        "/joint_states": "sensor_msgs/msg/JointState",
        "/odom": "nav_msgs/msg/Odometry",
        "/joint_command": "diffusion_mpc/msg/JointCommand",
        "/planner/stats": "diffusion_mpc/msg/PlannerStats",
    }

    def __init__(self, folder, task, namespace="", types=None):
        self.types = {**self.TYPES, **(types or {})}
        self.store, self.task, self.model = typestore(), task, task.model
        self.writer = BagWriter(folder)
        self.namespace, self.actuators = namespace, actuators(task.model)
        hinges = [i for i in range(self.model.njnt) if self.model.jnt_type[i] >= 2]
        self.joints = [
            (self.model.joint(i).name, self.model.jnt_qposadr[i], self.model.jnt_dofadr[i])
            for i in hinges
        ]

    def __enter__(self):
        for topic, kind in self.types.items():
            self.writer.add(self.namespace + topic, kind, self.store)
        return self

    def __exit__(self, *exception):
        self.writer.close()

    def make(self, kind, **fields):
        return self.store.types[kind](**fields)

    def stamp(self, time):
        ns = round(time * 1e9)
        return self.make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)

    def header(self, time):
        return self.make("std_msgs/msg/Header", stamp=self.stamp(time), frame_id="")

    def vector(self, xyz, kind="Vector3"):
        x, y, z = map(float, xyz)
        return self.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def twist(self, linear, angular):
        return self.make(
            "geometry_msgs/msg/Twist", linear=self.vector(linear), angular=self.vector(angular)
        )

    def write(self, topic, time, message):
        data = self.store.serialize_cdr(message, self.types[topic])
        self.writer.write(self.namespace + topic, round(time * 1e9), data)

    def state(self, time, qpos, qvel, odometry=True, publishers=1):
        for number in range(publishers):
            mine = list(reversed(self.joints))[number::publishers]
            names, positions, velocities = zip(*mine, strict=True)
            fields = {
                "position": qpos[list(positions)],
                "velocity": qvel[list(velocities)],
                "effort": np.zeros(0),
            }
            joints = self.make(
                "sensor_msgs/msg/JointState", header=self.header(time), name=list(names), **fields
            )
            self.write("/joint_states", time, joints)
        if self.task.base and odometry:
            p, q, v, omega = qpos_qvel_to_odometry(qpos[:7], qvel[:6])
            pose = self.pose(p, q)
            covariance = np.zeros(36)
            message = self.make(
                "nav_msgs/msg/Odometry",
                header=self.header(time),
                child_frame_id="",
                pose=self.make(
                    "geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=covariance
                ),
                twist=self.make(
                    "geometry_msgs/msg/TwistWithCovariance",
                    twist=self.twist(v, omega),
                    covariance=covariance,
                ),
            )
            self.write("/odom", time, message)

    def command(self, time, state_time, control, safe=False):
        empty = np.zeros(0)
        fields = dict.fromkeys(("position", "velocity", "effort", "control"), empty)
        # In another order than the model's.
        for field in {a.field for a in self.actuators}:
            values = [
                u * a.scale if a.field == field else np.nan
                for u, a in zip(control, self.actuators, strict=True)
            ]
            fields[field] = np.array(values[::-1])
        message = self.make(
            "diffusion_mpc/msg/JointCommand",
            header=self.header(time),
            state_stamp=self.stamp(0.0 if safe else state_time),
            safe=safe,
            name=[a.label for a in reversed(self.actuators)],
            kp=empty,
            kd=empty,
            **fields,
        )
        self.write("/joint_command", time, message)

    def pose(self, position, quaternion_xyzw):
        x, y, z, w = map(float, quaternion_xyzw)
        orientation = self.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
        return self.make(
            "geometry_msgs/msg/Pose",
            position=self.vector(position, "Point"),
            orientation=orientation,
        )

    def stats(
        self,
        time,
        plan_time=0.01,
        deadline=PERIOD,
        missed=False,
        command=(0, 0, 0),
        goal=((0, 0, 0), (0, 0, 0, 1)),
        term_costs=None,
        policy_cost=1.0,
        guidance=1.5,
    ):
        names = list(self.task.cost_terms())
        costs = np.ones(len(names)) if term_costs is None else np.asarray(term_costs, float)
        message = self.make(
            "diffusion_mpc/msg/PlannerStats",
            header=self.header(time),
            plan_id=1,
            algorithm="mbd",
            backend="cpu",
            num_samples=64,
            horizon_steps=20,
            iterations=2,
            warm_start="plan",
            state_age=0.001,
            plan_time=plan_time,
            deadline=deadline,
            deadline_missed=missed,
            deadline_misses=0,
            cost=float(costs.sum()),
            cost_mean=2.0 * float(costs.sum()),
            term_names=names,
            term_costs=costs,
            effective_sample_size=10.0,
            noise=0.3,
            infeasible_fraction=0.0,
            violation=0.0,
            policy_rows=5,
            policy_weight=0.4,
            policy_cost=policy_cost,
            planner_cost=policy_cost + 0.1,
            policy_time=0.002,
            policy_age=0.0,
            policy_guidance=guidance,
            policy_failure="",
            command=self.twist((command[0], command[1], 0), (0, 0, command[2])),
            goal=self.pose(*goal),
            clamped_commands=0,
            rejected_messages=0,
        )
        self.write("/planner/stats", time + plan_time, message)


@pytest.fixture(scope="module")
def ant():
    return find_task("ant")()


def standing(task):
    data = task.initial_data(task.model)
    return data.qpos.copy(), data.qvel.copy()


def walk(folder, task, steps=300, yaw=0.6, speed=0.8, command=(1.0, 0.0, 0.0), **options):
    """The ant glides along its heading; it lies on its back for steps 200 to 219.

    Every 10th plan is late.
    """
    qpos, qvel = standing(task)
    with BagMaker(folder, task, **options) as bag:
        for i in range(steps):
            time = START + i * PERIOD
            fallen = 200 <= i < 220
            qpos[3:7] = (0, 1, 0, 0) if fallen else (math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))
            qpos[0] += PERIOD * speed
            qvel[:3] = 0.0 if fallen else (speed * math.cos(yaw), speed * math.sin(yaw), 0)
            late = i % 10 == 9
            bag.state(time, qpos, qvel)
            bag.stats(time, plan_time=0.025 if late else 0.010, missed=late, command=command)
            safe = i % 50 == 49
            bag.command(
                time + (0.5 if safe else 0.010 + 0.001 * (i % 2)),
                time,
                np.full(8, 1.5 * (i + 1)),
                safe=safe,
            )
    return folder


@pytest.fixture(scope="module")
def walked(tmp_path_factory, ant):
    return walk(tmp_path_factory.mktemp("walked") / "bag", ant)


@pytest.fixture(scope="module")
def run(walked, ant):
    return read_run(walked, ant)


def test_states_come_back_in_mujoco_order_whatever_the_order_of_the_names(tmp_path, ant):
    rng = np.random.default_rng(0)
    qpos, qvel = standing(ant)
    qpos[7:], qvel[:] = rng.normal(size=8), rng.normal(size=14)
    quaternion = rng.normal(size=4)
    qpos[3:7] = quaternion / np.linalg.norm(quaternion)
    with BagMaker(tmp_path / "bag", ant) as bag:
        bag.state(START, qpos, qvel)
        bag.command(START, START, np.arange(8))
    run = read_run(tmp_path / "bag", ant)
    np.testing.assert_allclose(run.states.qpos, [qpos], atol=1e-12)
    np.testing.assert_allclose(run.states.qvel, [qvel], atol=1e-12)
    np.testing.assert_allclose(run.commands.values, [np.arange(8)], atol=1e-12)
    assert run.problems == ()


def test_commands_of_any_type_come_back_in_actuator_order(tmp_path, ant):
    qpos, qvel = standing(ant)
    joints = [a.joint for a in actuators(ant.model)]
    contents = {
        "std_msgs/msg/Float64MultiArray": lambda make: {
            "layout": make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0),
            "data": np.arange(8.0),
        },
        "trajectory_msgs/msg/JointTrajectory": lambda make: {
            "header": make(
                "std_msgs/msg/Header",
                stamp=make("builtin_interfaces/msg/Time", sec=0, nanosec=0),
                frame_id="",
            ),
            "joint_names": joints[::-1],
            "points": [
                make(
                    "trajectory_msgs/msg/JointTrajectoryPoint",
                    positions=np.zeros(0),
                    velocities=np.zeros(0),
                    accelerations=np.zeros(0),
                    effort=np.arange(8.0)[::-1].copy(),
                    time_from_start=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
                )
            ],
        },
    }
    for number, (kind, content) in enumerate(contents.items()):
        with BagMaker(tmp_path / str(number), ant, types={"/joint_command": kind}) as bag:
            bag.state(START, qpos, qvel)
            bag.write("/joint_command", START + 0.01, bag.make(kind, **content(bag.make)))
        run = read_run(tmp_path / str(number), ant)
        np.testing.assert_array_equal(run.commands.values, [np.arange(8)])
        assert run.commands.stamps == pytest.approx([START + 0.01], abs=1e-6)
        assert np.isnan(run.commands.state_stamps).all()
        assert summarise(run, ant)["state_to_command_ms"] == {"p50": None, "p99": None}


def test_headline_figures_are_those_of_the_run(run, ant):
    figures = summarise(run, ant)
    assert figures["task"] == "ant"
    assert (figures["algorithm"], figures["backend"]) == ("mbd", "cpu")
    assert (figures["num_samples"], figures["horizon_steps"], figures["iterations"]) == (64, 20, 2)
    assert figures["duration_s"] == pytest.approx(299 * PERIOD, abs=1e-6)
    assert figures["plans"] == 300
    assert figures["plan_rate_hz"] == pytest.approx(50.0, abs=1e-3)
    assert figures["plan_ms"] == pytest.approx({"p50": 10.0, "p95": 25.0, "p99": 25.0, "max": 25.0})
    assert figures["deadline_miss_ratio"] == pytest.approx(0.1)
    assert figures["falls"] == 1
    assert figures["topics"] == dict.fromkeys(BagMaker.TYPES, 300)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_latency_leaves_safe_commands_out(run, ant):
    figures = summarise(run, ant)
    assert figures["state_to_command_ms"] == pytest.approx({"p50": 10.0, "p99": 11.0}, abs=1e-3)


def test_speed_is_measured_along_the_command_in_the_heading_frame_after_settling(run, ant):
    figures = summarise(run, ant, settle=3.0)
    # 150 states are left, and for 20 of them the ant lies still
    assert figures["command_speed"] == pytest.approx(1.0)
    assert figures["mean_speed"] == pytest.approx(0.8 * 130 / 150)
    assert summarise(run, ant, settle=100.0)["mean_speed"] is None


@pytest.mark.parametrize(
    ("command", "along"),
    [((0, 0, 1), 0.8), ((0, 2, 0), 0.0), ((-2, 0, 0), -0.8), ((1, 1, 0), 0.8 / 2**0.5)],
)
def test_speed_counts_only_what_was_asked_for(tmp_path, ant, command, along):
    figures = summarise(
        read_run(walk(tmp_path / "bag", ant, steps=20, command=command), ant), ant, settle=0.0
    )
    assert figures["command_speed"] == pytest.approx(math.hypot(*command[:2]))
    assert figures["mean_speed"] == pytest.approx(along, abs=1e-9)


def test_cost_is_that_of_the_measured_states_under_the_commands_in_force(run, ant):
    measured = measure(run, ant)
    # The command of step i - 1, sent 10 ms after its state, is the one in force at state i; the
    # first state has none.
    previous = np.concatenate([[0.0], 1.5 * np.arange(1, 49)]) / ant.ctrl_limits[1][0]
    np.testing.assert_allclose(measured.costs["effort"][:49], 0.02 * 8 * previous**2, rtol=1e-9)
    np.testing.assert_allclose(measured.costs["velocity"][:200], 0.2**2, rtol=1e-9)
    np.testing.assert_allclose(
        measured.costs["upright"][200:220], 20 * (math.sqrt(4.01) - 0.1), rtol=1e-9
    )
    figures = summarise(run, ant)
    assert figures["mean_cost"] == pytest.approx(
        sum(cost.mean() for cost in measured.costs.values())
    )
    assert figures["mean_cost"] == pytest.approx(sum(figures["term_costs"].values()))


def test_weights_scale_their_term(run, ant):
    plain, doubled = (
        summarise(run, ant)["term_costs"],
        summarise(run, ant, weights={"velocity": 2.0})["term_costs"],
    )
    assert doubled["velocity"] == pytest.approx(2.0 * plain["velocity"])
    assert doubled["effort"] == plain["effort"]
    with pytest.raises(ValueError, match="unknown cost term 'speed'; there are: "):
        measure(run, ant, {"speed": 1.0})


def test_equal_bags_give_equal_figures(tmp_path, ant):
    figures = [
        summarise(read_run(walk(tmp_path / name, ant, steps=50), ant), ant, settle=0.1)
        for name in ("a", "b")
    ]
    assert figures[0] == figures[1]


def test_a_live_change_of_guidance_is_in_figures_and_panels(tmp_path):
    cartpole = find_task("cartpole")()
    qpos, qvel = standing(cartpole)
    terms = len(cartpole.cost_terms())
    with BagMaker(tmp_path / "bag", cartpole) as bag:
        for i in range(10):
            bag.state(START + i * PERIOD, qpos, qvel)
            changed = {"guidance": 0.0} if i < 4 else {"guidance": 3.0}
            costs = np.full(terms, (2.0 if i < 4 else 1.0) / terms)
            # Costs of a task whose reward is velocity are negative.
            bag.stats(START + i * PERIOD, term_costs=costs, policy_cost=-1.0, **changed)
    run = read_run(tmp_path / "bag", cartpole)
    figures = summarise(run, cartpole)

    assert figures["policy"]["guidance"] == {
        "0": {"plans": 4, "cost": pytest.approx(2.0)},
        "3": {"plans": 6, "cost": pytest.approx(1.0)},
    }
    assert ("Guidance 0 / 3", "4 / 6 plans, expected cost 2.00 / 1.00") in headline(figures)
    measured = measure(run, cartpole)
    shown = {panel.title: panel for panel in panels(run, cartpole, measured, None)}
    weight = shown["Guidance, the weight of the policy's label"].series[0].values
    np.testing.assert_array_equal(weight, [0.0] * 4 + [3.0] * 6)
    best = shown["Cost of samples, first denoising step"].series[0].values
    np.testing.assert_array_equal(best, np.full(10, -1.0))


def test_a_run_without_floating_base_has_no_speed(tmp_path):
    cartpole = find_task("cartpole")()
    qpos, qvel = standing(cartpole)
    with BagMaker(tmp_path / "bag", cartpole) as bag:
        for i in range(10):
            bag.state(START + i * PERIOD, qpos, qvel)
            bag.stats(START + i * PERIOD)
            bag.command(START + i * PERIOD, START + i * PERIOD, [0.0])
    run = read_run(tmp_path / "bag", cartpole)
    figures = summarise(run, cartpole, settle=0.0)
    assert run.problems == ()
    assert figures["mean_speed"] is None
    assert figures["command_speed"] is None
    assert figures["mean_cost"] == pytest.approx(1.0, abs=0.01)


def test_distances_from_the_goal_are_those_of_the_goal_that_the_newest_plan_pursued(tmp_path):
    task = find_task("pusht")()
    quarter = (0.0, 0.0, math.sin(math.pi / 4), math.cos(math.pi / 4))
    with BagMaker(tmp_path / "bag", task) as bag:
        for i in range(4):
            bag.state(START + i * PERIOD, np.array([0.3, 0.4, 0.0, 0.0, 0.5]), np.zeros(5))
            bag.stats(
                START + i * PERIOD,
                goal=((0, 0, 0), (0, 0, 0, 1)) if i < 2 else ((0.3, 0.4, 0.2), quarter),
            )
            bag.command(START + i * PERIOD, START + i * PERIOD, np.zeros(task.model.nu))
    run = read_run(tmp_path / "bag", task)
    measured = measure(run, task)
    np.testing.assert_allclose(measured.goal_errors["position_m"], [0.5, 0.5, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(
        measured.goal_errors["angle_rad"], [0.0, 0.0, math.pi / 2, math.pi / 2], atol=1e-12
    )
    np.testing.assert_allclose(measured.costs["position"], [2.5, 2.5, 0.0, 0.0], atol=1e-12)
    assert summarise(run, task)["goal_errors"] == pytest.approx(
        {"position_m": 0.0, "angle_rad": math.pi / 2}
    )


class FormerBagMaker(BagMaker):
    """Writes messages as they were defined before their fields had the names of today."""

    def __init__(self, folder, task):
        super().__init__(folder, task)
        self.store = typestore(
            lambda definition: definition.replace("infeasible_fraction", "infeasible_share")
        )

    def make(self, kind, **fields):
        return super().make(
            kind,
            **{
                name.replace("infeasible_fraction", "infeasible_share"): fields[name]
                for name in fields
            },
        )


def test_a_bag_from_before_a_field_had_its_name_of_today_is_read(tmp_path, ant):
    with FormerBagMaker(tmp_path / "bag", ant) as bag:
        bag.state(START, *standing(ant))
        bag.stats(START)
    run = read_run(tmp_path / "bag", ant)
    assert run.plans.infeasible_fraction.tolist() == [0.0]
    assert not run.problems


def test_a_robot_in_a_namespace_is_found(tmp_path, ant):
    run = read_run(walk(tmp_path / "bag", ant, steps=5, namespace="/robot"), ant)
    assert len(run.states.stamps) == len(run.plans.stamps) == len(run.commands.stamps) == 5


def test_joint_states_without_odometry_are_left_out_and_named(tmp_path, ant):
    qpos, qvel = standing(ant)
    with BagMaker(tmp_path / "bag", ant) as bag:
        for i in range(20):
            bag.state(START + i * PERIOD, qpos, qvel, odometry=i < 10)
    run = read_run(tmp_path / "bag", ant)
    assert len(run.states.stamps) == 10
    assert any("without odom" in problem and "10 messages" in problem for problem in run.problems)


def test_states_that_the_planner_would_reject_are_left_out_and_named(tmp_path, ant):
    qpos, qvel = standing(ant)
    with BagMaker(tmp_path / "bag", ant) as bag:
        bag.state(START, qpos, qvel)
        bag.state(START + PERIOD, qpos, np.full(14, np.nan))
    run = read_run(tmp_path / "bag", ant)
    assert len(run.states.stamps) == 1
    assert any("NaN" in problem for problem in run.problems)


def test_commands_that_a_robot_would_reject_are_left_out_and_named(tmp_path, ant):
    with BagMaker(tmp_path / "bag", ant) as bag:
        bag.state(START, *standing(ant))
        bag.command(START, START, np.ones(8))
        bag.command(START + PERIOD, START, np.full(8, np.nan))
    run = read_run(tmp_path / "bag", ant)
    np.testing.assert_array_equal(run.commands.values, [np.ones(8)])
    assert any(
        "joint_command" in problem and "NaN" in problem and "1 messages" in problem
        for problem in run.problems
    )


def flushed(folder, task, chunk=10, steps=100):
    """A bag with a chunk for every few steps, as the recorder writes one a second."""
    qpos, qvel = standing(task)
    with BagMaker(folder, task) as bag:
        for i in range(steps):
            bag.state(START + i * PERIOD, qpos, qvel)
            bag.command(START + i * PERIOD, START + i * PERIOD, np.zeros(8))
            if i % chunk == chunk - 1:
                bag.writer.flush()
    return folder


@pytest.mark.faults("bag breaks off", "read up to there, the rest is named, left as it is")
@pytest.mark.parametrize("metadata", [True, False])
def test_a_bag_that_breaks_off_is_read_up_to_there_and_left_as_it_is(tmp_path, ant, metadata):
    folder = flushed(tmp_path / "bag", ant)
    file = folder / "bag.mcap"
    content = file.read_bytes()[: file.stat().st_size * 6 // 10]
    file.write_bytes(content)
    if not metadata:
        (folder / "metadata.yaml").unlink()
    before = sorted(tmp_path.rglob("*"))
    for bag in (folder, file):
        run = read_run(bag, ant)
        assert 40 <= len(run.states.stamps) < 70
        assert any("breaks off" in problem for problem in run.problems)
    assert file.read_bytes() == content
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_chunk_costs_what_comes_after_it(tmp_path, ant):
    file = flushed(tmp_path / "bag", ant) / "bag.mcap"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xff" * 2000
    file.write_bytes(content)
    run = read_run(file.parent, ant)
    assert 30 <= len(run.states.stamps) < 100
    assert run.problems


@pytest.mark.parametrize("size", [0, 4, 8, 20, 300])
def test_a_bag_with_nothing_left_in_it_is_an_error_that_names_it(tmp_path, ant, size):
    file = flushed(tmp_path / "bag", ant) / "bag.mcap"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BagError, match=r"bag.*cannot be read") as error:
        read_run(file, ant)
    assert "\n" not in str(error.value)


@pytest.mark.faults("foreign bag", "an error that names its topics")
def test_a_foreign_bag_is_an_error_that_names_its_topics(tmp_path, ant):
    store = typestore()
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        message = store.types["std_msgs/msg/String"](data="hello")
        writer.write(connection, 0, store.serialize_cdr(message, "std_msgs/msg/String"))
    with pytest.raises(BagError, match="/chatter"):
        read_run(tmp_path / "bag", ant)


def test_what_is_no_bag_at_all_is_an_error(tmp_path, ant):
    (tmp_path / "notes.mcap").write_text("not a bag")
    (tmp_path / "empty").mkdir()
    for name in ("notes.mcap", "empty", "missing"):
        with pytest.raises(BagError, match=name):
            read_run(tmp_path / name, ant)


def test_figures_of_a_bag_without_the_planner_are_unknown_rather_than_wrong(tmp_path, ant):
    run = read_run(flushed(tmp_path / "bag", ant), ant)
    figures = summarise(run, ant)
    assert figures["plans"] == 0
    assert figures["plan_rate_hz"] is None
    assert figures["plan_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}
    assert figures["deadline_miss_ratio"] is None


def brightness(png):
    from matplotlib.image import imread

    return imread(png)[..., :3]


@pytest.mark.parametrize("task", ["ant", "cartpole"])
def test_report_holds_figures_plot_and_page(tmp_path, task):
    made = find_task(task)()
    qpos, qvel = standing(made)
    with BagMaker(tmp_path / "bag", made) as bag:
        for i in range(50):
            bag.state(START + i * PERIOD, qpos, qvel)
            bag.stats(START + i * PERIOD, missed=i % 7 == 0, plan_time=0.01 + 0.02 * (i % 7 == 0))
            bag.command(START + i * PERIOD, START + i * PERIOD, np.zeros(made.model.nu))
    report = write_report(tmp_path / "bag", task, tmp_path / "report", video=False)
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["plans"] == 50
    assert set(report.paths) == {"summary", "plot", "page"}
    page = report.paths["page"].read_text()
    assert "Plan time against its budget" in page
    assert "<video" not in page
    assert "http" not in page.replace("http://www.w3.org", ""), "a page is self-contained"
    image = brightness(report.paths["plot"])
    assert image.std() > 0.05
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_rewards_are_drawn_below_zero_and_hide_no_cost():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    time, reward = np.arange(4.0), np.array([-4.0, -2.0, -3.0, 0.5])
    draw_costs(axes, time, ["effort", "velocity"], np.stack([np.ones(4), reward], 1))
    areas = [area.get_paths()[0].get_extents() for area in axes.collections]
    # The larger term first: velocity above zero, effort on it, then what each has below zero.
    assert [(area.ymin, area.ymax) for area in areas[:3]] == [(0.0, 0.5), (0.0, 1.5), (-4.0, 0.0)]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), reward + 1.0)
    assert axes.get_ylim()[0] < -4.0
    assert [text.get_text() for text in axes.legend().get_texts()] == ["velocity", "effort", "sum"]


@pytest.mark.slow
def test_video_shows_the_run_in_real_time(tmp_path, walked):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    report = write_report(walked, "ant", tmp_path, video=True)
    if "video" not in report.paths:
        pytest.skip(f"no video on this machine: {report.problems[-1]}")
    frames = imageio_ffmpeg.read_frames(str(report.paths["video"]))
    details = next(frames)
    assert details["size"] == (640, 360)
    assert details["fps"] == pytest.approx(30.0)
    assert details["duration"] == pytest.approx(299 * PERIOD, abs=0.2)
    assert np.frombuffer(next(frames), np.uint8).std() > 10.0
    frames.close()
    assert "<video" in report.paths["page"].read_text()


def test_without_a_renderer_the_rest_is_done_and_the_reason_given(tmp_path, walked, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    report = write_report(walked, "ant", tmp_path, video=True)
    assert set(report.paths) == {"summary", "plot", "page"}
    assert any(problem.startswith("no video: ") for problem in report.problems)
    from diffusion_mpc.evaluation.video import write_video

    with pytest.raises(RendererUnavailableError, match=r"^\S.*$"):
        write_video(walked, "ant", tmp_path / "video.mp4")
