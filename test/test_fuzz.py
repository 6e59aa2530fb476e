"""Random messages on every topic and random parameters.

`./dmpc test fuzz`: 10,000 and 2,000; otherwise a small share of that.

Nodes, middleware and messages are real; only the processes are one, so that every message is known
to have been handled.
"""

import functools
import gc
import math
import time
from array import array

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ANT_JOINTS = tuple(
    f"{side}_{joint}"
    for side in ("front_left", "front_right", "rear_left", "rear_right")
    for joint in ("hip", "ankle")
)

pytestmark = [pytest.mark.ros, pytest.mark.fuzz, pytest.mark.timeout(3600)]

CARTPOLE_JOINTS = ("slider", "pole")
ARM_JOINTS = ("yaw", "shoulder", "elbow", "forearm_roll", "wrist", "tool_roll")

# What messages are made of: mostly what could be true, so that the checks behind the first one are
# reached as well.
number = st.one_of(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0), st.floats())
stamp = st.one_of(
    st.none(), st.none(), st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
)
name = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
quaternion = st.one_of(st.just((0.0, 0.0, 0.0, 1.0)), st.tuples(number, number, number, number))
vector = st.tuples(number, number, number)


def names(joints):
    return st.one_of(
        st.just(joints),
        st.permutations(joints),
        st.lists(st.sampled_from(joints) | name, max_size=len(joints) + 1),
    )


@st.composite
def columns(draw, joints, count):
    """Names, and so many lists of numbers, mostly as long as the names."""
    found = list(draw(names(joints)))
    length = st.sampled_from([len(found)] * 8 + [0, len(found) + 1])
    return found, [
        array("d", draw(st.lists(number, min_size=n, max_size=n)))
        for n in draw(st.tuples(*[length] * count))
    ]


def to_time(given):
    from builtin_interfaces.msg import Time

    from diffusion_mpc.ros.messages.stamps import to_stamp

    return to_stamp(time.time()) if given is None else Time(sec=given[0], nanosec=given[1])


class Bench:
    """A node, and another one that sends it messages; one thread runs both."""

    def __init__(self, kind, task, command=None, **overrides):
        import rclpy
        from diffusion_mpc.msg import JointCommand
        from nav_msgs.msg import Odometry
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter
        from robot import DEEP
        from sensor_msgs.msg import JointState

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        parameters = {
            "task": task,
            **{name.replace("__", "."): value for name, value in overrides.items()},
        }
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = kind(context=self.context, parameter_overrides=given)
        self.sender = rclpy.create_node("sender", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        for node in (self.node, self.sender):
            self.executor.add_node(node)
        self.commands, self.states = [], []
        self.sender.create_subscription(
            command or JointCommand, "joint_command", self.commands.append, DEEP
        )
        self.sender.create_subscription(JointState, "joint_states", self.states.append, DEEP)
        self.sender.create_subscription(Odometry, "odom", lambda message: None, DEEP)
        self.publishers, self.handled = {}, {}
        self.turn = lambda: self.executor.spin_once(timeout_sec=0.1)
        self.node.begin()

    def close(self):
        self.node.end()
        self.executor.shutdown()
        for node in (self.node, self.sender):
            node.destroy_node()
        import rclpy

        rclpy.shutdown(context=self.context)

    def open(self, topic, kind):
        from robot import DEEP

        self.publishers[topic] = self.sender.create_publisher(kind, topic, DEEP)
        self.spin_until(self.publishers[topic].get_subscription_count, f"a subscriber of {topic}")
        full = self.sender.resolve_topic_name(topic)
        self.handled[topic] = 0
        (subscription,) = [s for s in self.node.subscriptions if s.topic_name == full]
        callback = subscription.callback

        @functools.wraps(callback)
        def counted(*arguments):
            self.handled[topic] += 1
            return callback(*arguments)

        subscription.callback = counted

    def send(self, topic, message):
        """Send a message, and wait until the node has handled it."""
        before = self.handled[topic]
        self.publishers[topic].publish(message)
        self.spin_until(lambda: self.handled[topic] > before, f"a message on {topic} to be handled")

    def spin_until(self, condition, what, timeout=20.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout:g} s for: {what}"
            self.turn()


@pytest.fixture
def bench(monkeypatch):
    from diffusion_mpc.bringup.description import free_domain_id

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    made = []

    def make(*arguments, **overrides):
        made.append(Bench(*arguments, **overrides))
        return made[-1]

    yield make
    for one in made:
        one.close()
    # The planner node turns the collector off, which is right in a process of its own.
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def planner(bench):
    """Makes a planner on a bench."""
    from diffusion_mpc.ros.planner_node import PlannerNode

    small = {
        "planner__num_samples": 8,
        "planner__horizon_steps": 10,
        "planner__num_knots": 3,
        "backend__threads": 1,
    }
    return lambda task, **overrides: bench(PlannerNode, task, **small, **overrides)


@pytest.fixture
def feed(request):
    """Runs a function on so many random values."""

    def run(strategy, function, share=1):
        count = request.config.getoption("--fuzz-messages") // share

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def one(value):
            function(value)
            # What Hypothesis keeps of every example is not the node's to collect after each plan,
            # as it would in this one process.
            gc.freeze()

        one()

    return run


def joint_state(stamp, joints, position, velocity):
    from sensor_msgs.msg import JointState

    message = JointState(
        name=list(joints), position=array("d", position), velocity=array("d", velocity)
    )
    message.header.stamp = to_time(stamp)
    return message


def odometry(
    stamp,
    position=(0.0, 0.0, 0.52),
    quaternion=(0.0, 0.0, 0.0, 1.0),
    linear=(0.0,) * 3,
    angular=(0.0,) * 3,
):
    from nav_msgs.msg import Odometry

    message = Odometry()
    message.header.stamp = to_time(stamp)
    p, q = message.pose.pose.position, message.pose.pose.orientation
    v, w = message.twist.twist.linear, message.twist.twist.angular
    (p.x, p.y, p.z), (q.x, q.y, q.z, q.w) = position, quaternion
    (v.x, v.y, v.z), (w.x, w.y, w.z) = linear, angular
    return message


def wrong(bench):
    """The commands that no robot may be sent."""
    low, high = bench.node.session.task.ctrl_limits
    found = []
    for command in bench.commands:
        for i, actuator in enumerate(bench.node.session.follower.actuators):
            value = getattr(command, actuator.field)[i] / actuator.scale
            if not low[i] - 1e-9 <= value <= high[i] + 1e-9:
                found.append(command)
        if not np.isfinite([*command.kp, *command.kd]).all():
            found.append(command)
    bench.commands.clear()
    return found


def check(bench):
    assert bench.node.session._planning.is_alive()
    assert bench.node.session._commands.is_alive()
    assert not wrong(bench)


def controls(bench, joints, base=False, before=lambda: None):
    """Good states bring commands that follow plans."""
    for topic, kind in topics(base).items():
        if topic not in bench.publishers:
            bench.open(topic, kind)
    good, deadline = 0, time.monotonic() + 30.0
    while good < 20:
        assert time.monotonic() < deadline, "it does not control any more"
        bench.commands.clear()
        before()
        bench.send(
            "joint_states", joint_state(None, joints, np.zeros(len(joints)), np.zeros(len(joints)))
        )
        if base:
            bench.send("odom", odometry(None))
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            bench.executor.spin_once(timeout_sec=0.005)
        good = (
            good + 1
            if bench.commands and not any(command.safe for command in bench.commands)
            else 0
        )
        assert not wrong(bench)


def topics(base):
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import JointState

    return {"joint_states": JointState, **({"odom": Odometry} if base else {})}


@pytest.mark.parametrize(("task", "joints"), [("cartpole", CARTPOLE_JOINTS), ("arm", ARM_JOINTS)])
@pytest.mark.parametrize("safe", ["zero", "hold"])
def test_joint_states(planner, feed, task, joints, safe):
    node = planner(task, goal__wait=False, safe_command=safe)
    controls(node, joints)

    def send(message):
        stamp, (names, (position, velocity)) = message
        node.send("joint_states", joint_state(stamp, names, position, velocity))
        check(node)

    feed(st.tuples(stamp, columns(joints, 2)), send)
    controls(node, joints)


def test_odometry(planner, feed):
    node = planner("ant")
    controls(node, ANT_JOINTS, base=True)

    def send(message):
        stamp, position, quaternion, linear, angular = message
        node.send("joint_states", joint_state(stamp, ANT_JOINTS, np.zeros(8), np.zeros(8)))
        node.send("odom", odometry(stamp, position, quaternion, linear, angular))
        check(node)

    feed(st.tuples(stamp, vector, quaternion, vector, vector), send)
    controls(node, ANT_JOINTS, base=True)


@pytest.mark.parametrize("stamped", [False, True])
def test_cmd_vel(planner, feed, stamped):
    from geometry_msgs.msg import Twist, TwistStamped

    node = planner("ant", command__stamped=stamped)
    controls(node, ANT_JOINTS, base=True)
    node.open("cmd_vel", TwistStamped if stamped else Twist)

    def send(message):
        when, linear, angular = message
        twist = Twist()
        (
            (twist.linear.x, twist.linear.y, twist.linear.z),
            (twist.angular.x, twist.angular.y, twist.angular.z),
        ) = linear, angular
        if stamped:
            message = TwistStamped(twist=twist)
            message.header.stamp = to_time(when)
        node.send("cmd_vel", message if stamped else twist)
        node.send("joint_states", joint_state(None, ANT_JOINTS, np.zeros(8), np.zeros(8)))
        node.send("odom", odometry(None))
        check(node)

    feed(st.tuples(stamp, vector, vector), send)
    time.sleep(0.6)  # command.timeout: the last one must not count any more
    controls(node, ANT_JOINTS, base=True)


def test_goal_pose(planner, feed):
    from geometry_msgs.msg import PoseStamped

    node = planner("arm")
    node.open("goal_pose", PoseStamped)

    def goal(when, position, quaternion):
        message = PoseStamped()
        message.header.stamp = to_time(when)
        p, q = message.pose.position, message.pose.orientation
        (p.x, p.y, p.z), (q.x, q.y, q.z, q.w) = position, quaternion
        node.send("goal_pose", message)

    goal(None, (0.4, 0.0, 0.6), (0.0, 0.0, 0.0, 1.0))
    controls(node, ARM_JOINTS)

    def send(message):
        goal(*message)
        node.send("joint_states", joint_state(None, ARM_JOINTS, np.zeros(6), np.zeros(6)))
        check(node)

    feed(st.tuples(stamp, vector, quaternion), send)
    goal(None, (0.4, 0.0, 0.6), (0.0, 0.0, 0.0, 1.0))
    controls(node, ARM_JOINTS)


def test_clock(planner, feed):
    from rosgraph_msgs.msg import Clock

    from diffusion_mpc.ros.spin import turn

    node = planner("cartpole", use_sim_time=True)
    node.turn = lambda: turn(node.executor, node.node)
    node.open("/clock", Clock)

    def tick(stamp=None):
        node.send("/clock", Clock(clock=to_time(stamp)))

    controls(node, CARTPOLE_JOINTS, before=tick)

    def send(stamp):
        tick(stamp)
        node.send("joint_states", joint_state(stamp, CARTPOLE_JOINTS, np.zeros(2), np.zeros(2)))
        check(node)

    feed(stamp, send)
    controls(node, CARTPOLE_JOINTS, before=tick)


# Parameters

anything = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    name,
    st.lists(st.integers(0, 9), max_size=3),
)
gains = st.lists(st.tuples(st.sampled_from(["slider=", "pole=", "", "="]), number), max_size=3).map(
    lambda parts: " ".join(f"{joint}{gain}" for joint, gain in parts)
)


def value(parameter):
    """Values for a parameter, mostly of its type and in its range."""
    if parameter.type is bool:
        return st.booleans()
    if parameter.type is str:
        return st.one_of(st.sampled_from(parameter.choices) if parameter.choices else gains, name)
    if parameter.type is int:
        # What is allowed and takes seconds to compute is no news.
        low = int(max(parameter.low, -10))
        return st.integers(low - 1, int(min(parameter.high, low + 64)) + 1)
    return (
        st.floats(parameter.low, parameter.high)
        if math.isfinite(parameter.low + parameter.high)
        else st.floats()
    )


@st.composite
def changes(draw, known):
    chosen = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=4, unique=True))
    found = {
        key: draw(st.one_of(value(known[key]), value(known[key]), value(known[key]), anything))
        for key in chosen
    }
    if draw(st.integers(0, 19)) == 0:
        found[draw(name)] = draw(anything)
    return found


@pytest.mark.parametrize("kind", ["planner", "sim"])
def test_parameters(planner, bench, feed, kind):
    from rcl_interfaces.srv import SetParametersAtomically
    from rclpy.parameter import Parameter

    from diffusion_mpc.config import NODES, build, parameters
    from diffusion_mpc.ros.sim_node import SimNode
    from diffusion_mpc.runtime.controller_swap import rebuilt_values
    from diffusion_mpc.tasks import find_task

    node = planner("cartpole") if kind == "planner" else bench(SimNode, "cartpole")
    if kind == "planner":
        controls(node, CARTPOLE_JOINTS)
    known = parameters(NODES[kind], find_task("cartpole"))
    client = node.sender.create_client(SetParametersAtomically, f"{kind}/set_parameters_atomically")
    node.spin_until(client.service_is_ready, "the parameter service")

    def current():
        return {key: node.node.get_parameter(key).value for key in known}

    def change(values):
        request = SetParametersAtomically.Request(
            parameters=[
                Parameter(key, value=value).to_parameter_msg() for key, value in values.items()
            ]
        )
        future = client.call_async(request)
        node.spin_until(future.done, "an answer")
        return future.result().result

    def send(values):
        before = current()
        result = change(values)
        after = current()
        assert result.successful or result.reason
        # A whole number for a real one is the real one: YAML and `ros2 param set` drop the point.
        asked = {
            key: float(x) if type(x) is int and key in known and known[key].type is float else x
            for key, x in values.items()
        }
        assert repr(after) == repr({**before, **asked} if result.successful else before)
        assert repr(node.node.session.config if kind == "planner" else node.node.config) == repr(
            build(NODES[kind], after)
        )
        if kind == "planner":
            node.send("joint_states", joint_state(None, CARTPOLE_JOINTS, np.zeros(2), np.zeros(2)))
            check(node)

    first = current()
    feed(changes(known), send, share=5)
    # With ten thousand physics steps in a plan, say, nothing controls.
    restored = change(
        {key: value for key, value in first.items() if known[key].live or known[key].rebuilt}
    )
    assert restored.successful, restored.reason
    if kind == "planner":
        built = rebuilt_values(first)
        node.spin_until(
            lambda: node.node.session.swap._built == built,
            "the planner of the beginning",
            timeout=120.0,
        )
        controls(node, CARTPOLE_JOINTS)


# Simulation


def obeys(bench, message, moved):
    """A good command still moves the robot, from standstill."""
    from std_srvs.srv import Trigger

    client = bench.sender.create_client(Trigger, "sim/reset")
    bench.spin_until(client.service_is_ready, "the reset service")
    future = client.call_async(Trigger.Request())
    bench.spin_until(future.done, "the reset")
    bench.states.clear()
    deadline = time.monotonic() + 20.0
    while not (bench.states and moved(bench.states[-1])):
        assert time.monotonic() < deadline, "it does not obey any more"
        bench.send("joint_command", message)
        bench.turn()


def check_states(bench):
    for state in bench.states:
        assert np.isfinite([*state.position, *state.velocity]).all()
    bench.states.clear()
    low, high = bench.node.task.ctrl_limits
    assert ((low <= bench.node.plant.data.ctrl) & (bench.node.plant.data.ctrl <= high)).all()


def joint_command(message):
    from diffusion_mpc.msg import JointCommand

    stamp, (joints, (position, velocity, effort, kp, kd)) = message
    command = JointCommand(
        name=joints, position=position, velocity=velocity, effort=effort, kp=kp, kd=kd
    )
    command.header.stamp = command.state_stamp = to_time(stamp)
    return command


def multi_array(values):
    from std_msgs.msg import Float64MultiArray

    return Float64MultiArray(data=array("d", values))


def trajectory(message):
    from builtin_interfaces.msg import Duration
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    stamp, joints, points = message
    found = JointTrajectory(joint_names=list(joints))
    found.header.stamp = to_time(stamp)
    for (sec, nanosec), positions, velocities, effort in points:
        point = JointTrajectoryPoint(
            positions=array("d", positions),
            velocities=array("d", velocities),
            effort=array("d", effort),
        )
        point.time_from_start = Duration(sec=sec, nanosec=nanosec)
        found.points.append(point)
    return found


short = st.lists(number, min_size=1, max_size=1) | st.lists(number, max_size=3)
time_from_start = st.tuples(
    st.integers(0, 1) | st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)
)
COMMANDS = {
    "JointCommand": (
        joint_command,
        st.tuples(stamp, columns(("slider",), 5)),
        (None, (["slider"], [[], [], [5.0], [], []])),
    ),
    "Float64MultiArray": (multi_array, short, [5.0]),
    "JointTrajectory": (
        trajectory,
        st.tuples(
            stamp,
            names(("slider",)),
            st.lists(st.tuples(time_from_start, short, short, short), max_size=4),
        ),
        (None, ["slider"], [((0, 0), [], [], [5.0])]),
    ),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_joint_commands(bench, feed, kind):
    from diffusion_mpc.ros.sim_node import SimNode

    make, messages, good = COMMANDS[kind]
    good = make(good)
    node = bench(SimNode, "cartpole", command=type(good))
    node.publishers["joint_command"] = node.sender.create_publisher(type(good), "joint_command", 10)
    node.spin_until(lambda: node.states, "the first state")
    node.open("joint_command", type(good))

    def send(message):
        node.send("joint_command", make(message))
        check_states(node)

    feed(messages, send)
    obeys(node, good, moved=lambda state: state.velocity[0] > 0.01)


def test_push(bench, feed):
    from diffusion_mpc.msg import JointCommand
    from geometry_msgs.msg import WrenchStamped

    from diffusion_mpc.ros.sim_node import SimNode

    node = bench(SimNode, "ant")
    node.publishers["joint_command"] = node.sender.create_publisher(
        JointCommand, "joint_command", 10
    )
    node.spin_until(lambda: node.states, "the first state")
    node.open("joint_command", JointCommand)
    node.open("sim/push", WrenchStamped)
    rest = JointCommand(name=list(ANT_JOINTS), effort=array("d", [0.0] * 8))

    def send(message):
        stamp, force, torque = message
        push = WrenchStamped()
        push.header.stamp = to_time(stamp)
        f, t = push.wrench.force, push.wrench.torque
        (f.x, f.y, f.z), (t.x, t.y, t.z) = force, torque
        node.send("joint_command", rest)
        node.send("sim/push", push)
        check_states(node)

    feed(st.tuples(stamp, vector, vector), send)
    strong = JointCommand(name=list(ANT_JOINTS), effort=array("d", [10.0] * 8))
    obeys(node, strong, moved=lambda state: np.abs(state.velocity).max() > 1.0)
