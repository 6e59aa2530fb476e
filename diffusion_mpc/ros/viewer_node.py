"""The live page as a node: what the planner and its robot publish, shown in the browser.

It speaks ROS only, so a robot is served as a simulation is. One thread does it all, at low
priority: looking on must not take time from a planner that shares the machine.
"""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import mujoco
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, WrenchStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import Marker, MarkerArray

from diffusion_mpc.bags.bag_reader import BagError
from diffusion_mpc.bags.model_text import write_model
from diffusion_mpc.config import (
    ConfigError,
    PlannerNodeConfig,
    SimConfig,
    Value,
    ViewerConfig,
    build,
)
from diffusion_mpc.estimation.reference import GOAL, VELOCITY
from diffusion_mpc.message_fields import xyz, xyzw
from diffusion_mpc.msg import PlannerStats
from diffusion_mpc.names import PAGE
from diffusion_mpc.policy.checkpoint import shipped_for
from diffusion_mpc.ros.messages.run import LATCHED, TASK
from diffusion_mpc.ros.messages.seen_state import SeenState
from diffusion_mpc.ros.parameters import declare
from diffusion_mpc.ros.recording import NODE as RECORDER
from diffusion_mpc.ros.recording import Recording
from diffusion_mpc.ros.remote_node import RemoteNode
from diffusion_mpc.ros.spin import leave, run
from diffusion_mpc.tasks import available_tasks, find_task
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.types import Array

if TYPE_CHECKING:
    from diffusion_mpc.live.page import Page

PERIOD = 0.05
"""Time between two turns of the page, s."""

LEVELS = {DiagnosticStatus.OK: "ok", DiagnosticStatus.WARN: "warn"}

SERVICES: dict[str, tuple[str, Any]] = {
    "sim/run": ("sim/pause", SetBool.Request(data=False)),
    "sim/pause": ("sim/pause", SetBool.Request(data=True)),
}
"""Services and requests of buttons that are not the service's own name with an empty request."""

BEST_EFFORT = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)


class ViewerNode(Node):
    """Serves the page; parameters are described in `config.ViewerConfig`."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401  (forwarded to rclpy's Node)
        """Serve the page and listen.

        Raises:
            ConfigError: a parameter is unknown or does not fit, or viser is missing
        """
        super().__init__(
            "viewer", automatically_declare_parameters_from_overrides=True, **arguments
        )
        config = build(ViewerConfig, declare(self, ViewerConfig))
        self.failure = ""
        self._recordings = Path(config.recordings)
        self._recording: Recording | None = None
        self.page = make_page(config, self)
        self._nodes = {
            name: RemoteNode(
                self, name, kind, self._on_described, partial(self._on_parameter, name)
            )
            for name, kind in (("planner", PlannerNodeConfig), ("sim", SimConfig))
        }
        self._shown: dict[str, object] = {}
        self._state: SeenState | None = None
        self._markers: Any = None
        self._velocity: Any = None
        self._goals = self.create_publisher(PoseStamped, GOAL, 1)
        self._pushes = self.create_publisher(WrenchStamped, "sim/push", 1)
        self._callers: dict[str, Any] = {}
        self.create_subscription(PlannerStats, "planner/stats", self._on_stats, BEST_EFFORT)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        # For whoever looks for the page, without the token.
        self._address = self.create_publisher(String, "~/address", LATCHED)
        self._tasks = self.create_publisher(String, f"~/{TASK}", 1)

    def begin(self) -> None:
        """Tell where the page is, and turn it from now on."""
        self._address.publish(String(data=self.page.address))
        self.get_logger().info(f"{PAGE}{self.page.secret_address}")
        # Steady: the page lives on where a simulation's clock stands still.
        self.create_timer(PERIOD, self._turn, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def end(self) -> None:
        """Stop serving, and end a recording."""
        if self._recording is not None:
            self._recording.stop()
        self.page.close()

    def _turn(self) -> None:
        now = time.monotonic()
        for node in self._nodes.values():
            node.turn(now)
        watched = self.page.watched
        # Planners draw for those who listen; nobody listens where nobody looks.
        if watched and self._markers is None:
            self._markers = self.create_subscription(
                MarkerArray, "planner/markers", self._on_markers, 1
            )
        elif not watched and self._markers is not None:
            self.destroy_subscription(self._markers)
            self._markers = None
        if watched and self._state is not None and self.page.view is not None:
            self._state.write(self.page.view.qpos)
        if self._recording is not None:
            self._look_at_recording(self._recording)
        # Beside a robot nobody listens: other nodes do not make another robot of it.
        listening = self._tasks.get_subscription_count() > 0
        if listening and "planner" in self._shown and "tasks" not in self._shown:
            current = str(self._nodes["planner"].facts["parameters"]["task"])
            tasks = sorted({current, *simulated_tasks()})
            self._shown["tasks"] = tasks
            self.page.offer_tasks(tasks, current)
        self.page.turn(now)

    def _look_at_recording(self, recording: Recording) -> None:
        ended = recording.ended
        self.page.show_recording(recording.text, not ended)
        if ended:
            self._recording = None
            if recording.failure:
                self.page.notify(recording.failure)

    # Who is there

    def _on_described(self) -> None:
        from diffusion_mpc.live.page import Described

        planner, sim = self._nodes["planner"], self._nodes["sim"]
        if not (planner.facts and planner.model):
            return
        if self._shown.get("planner") != planner.signature:
            self._shown = {"planner": planner.signature}
            self._show_robot(planner)
            known, values = planner.described()
            task = str(values["task"])
            offered = {
                "policy.checkpoint": shipped_for(task, ("policy", "optimality")),
                "value.checkpoint": shipped_for(task, ("value",)),
            }
            self.page.describe(Described(known, values, planner.facts["reference"], offered))
        if sim.facts and self._shown.get("sim") is None:
            self._shown["sim"] = sim.signature
            self.page.describe_simulation(Described(*sim.described()))
        for node in (planner, sim):
            for name, value in node.facts.get("parameters", {}).items():
                self._on_parameter(node.name, name, value)

    def _show_robot(self, planner: RemoteNode) -> None:
        """Show a robot that was not there before."""
        facts, values = planner.facts, planner.facts["parameters"]
        if self._state is not None:
            self._state.close()
            self._state = None
        try:
            model, base = load_model(planner.model), facts["base"]
            self._state = SeenState(self, model, base, values)
            self.page.show_model(model, base)
        except (BagError, TaskError, ValueError) as error:
            self.get_logger().error(f"the robot cannot be shown: {error}")
        if self._velocity is not None:
            self.destroy_publisher(self._velocity)
            self._velocity = None
        if facts["reference"] == VELOCITY:
            kind = TwistStamped if values["command.stamped"] else Twist
            self._velocity = self.create_publisher(kind, VELOCITY, 1)

    def _on_parameter(self, node: str, name: str, value: Value) -> None:
        panels = ("tune", "structure") if node == "planner" else ("simulation",)
        self.page.show_parameter(name, value, panels)

    # What happens

    def _on_stats(self, message: PlannerStats) -> None:
        from diffusion_mpc.live.live_plots import ShownPlan

        label = (
            f"{message.algorithm} on {message.backend}, {message.num_samples} samples of "
            f"{message.horizon_steps} steps, {message.iterations} times"
        )
        figures = ShownPlan(
            dict(zip(message.term_names, message.term_costs, strict=True)),
            message.plan_time,
            message.deadline,
            message.effective_sample_size,
            message.num_samples,
            message.deadline_misses,
            label,
            message.command.linear.x,
            self._state.forward_velocity if self._state is not None else math.nan,
        )
        self.page.show_plan(figures, time.monotonic())
        position, quaternion = xyz(message.goal.position), xyzw(message.goal.orientation)
        self.page.show_goal(position, np.roll(quaternion, 1))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        name = f"{self.get_namespace().strip('/')}/planner".lstrip("/")
        for status in message.status:
            if status.name == name:
                level = LEVELS.get(status.level, "error")
                self.page.show_health(level, status.message, time.monotonic())

    def _on_markers(self, message: MarkerArray) -> None:
        lines = {
            marker.ns: np.array([(p.x, p.y, p.z) for p in marker.points]).reshape(-1, 3)
            for marker in message.markers
            if marker.action == Marker.ADD
        }
        if self.page.view is not None:
            none = np.zeros((0, 3))
            traces = lines.get("traces", none).reshape(-1, 2, 3)
            self.page.view.show_paths(lines.get("plan", none), traces)

    # What people do, see `Actions`

    def set_parameter(
        self, node: str, name: str, value: Value, settled: Callable[[str], None]
    ) -> None:
        """Set a parameter of a node; `settled` is called with why not, empty where it is set."""
        self._nodes[node].set(name, value, settled, time.monotonic())

    def drive(self, velocity: Array) -> None:
        """Publish `cmd_vel`: velocity (3,), forward and left in m/s, turning left in rad/s."""
        if self._velocity is None:
            return
        twist = Twist()
        twist.linear.x, twist.linear.y, twist.angular.z = velocity.tolist()
        if self._velocity.msg_type is TwistStamped:
            stamped = TwistStamped(twist=twist)
            stamped.header.stamp = self.get_clock().now().to_msg()
            self._velocity.publish(stamped)
        else:
            self._velocity.publish(twist)

    def pursue(self, position: Array, quaternion: Array) -> None:
        """Publish `goal_pose`: position (3,) in m and quaternion wxyz (4,), world frame."""
        goal = PoseStamped()
        # Without a frame it is in that of the planner, as the scene is.
        goal.header.stamp = self.get_clock().now().to_msg()
        p, q = goal.pose.position, goal.pose.orientation
        p.x, p.y, p.z = position.tolist()
        q.w, q.x, q.y, q.z = quaternion.tolist()
        self._goals.publish(goal)

    def push(self, force: Array) -> None:
        """Publish `sim/push`: a force (3,), N, world frame."""
        wrench = WrenchStamped()
        wrench.wrench.force.x, wrench.wrench.force.y, wrench.wrench.force.z = force.tolist()
        self._pushes.publish(wrench)

    def choose_task(self, task: str) -> None:
        """Publish `~/task`; what the nodes of the previous task said of themselves is forgotten."""
        if self._recording is not None:
            self._recording.finish()
        for node in self._nodes.values():
            node.forget()
        self._shown = {}
        self._tasks.publish(String(data=task))
        self.page.notify(f"starting {task}")

    def record(self) -> None:
        """Begin a recording, or end the one that goes on."""
        if self._recording is not None:
            self._recording.finish()
            return
        space = self.get_namespace()
        if (RECORDER, space) in self.get_node_names_and_namespaces():
            self.page.notify("another page records already")
            return
        clock: dict[str, Value] = {"use_sim_time": self.get_parameter("use_sim_time").value}
        try:
            self._recording = Recording(self._recordings, space, clock)
        except OSError as error:
            self.page.notify(f"recordings: '{self._recordings}' cannot be used: {error.strerror}")

    def call(self, service: str, told: Callable[[str], None]) -> None:
        """Call a service, see `SERVICES`; `told` is called with what it answers."""
        name, request = SERVICES.get(service, (service, Trigger.Request()))
        if name not in self._callers:
            kind = SetBool if isinstance(request, SetBool.Request) else Trigger
            self._callers[name] = self.create_client(kind, name)
        client = self._callers[name]
        if not client.service_is_ready():
            told(f"there is no service {name} at the moment")
            return
        client.call_async(request).add_done_callback(lambda future: told(future.result().message))


def make_page(config: ViewerConfig, node: ViewerNode) -> Page:
    """The page of a node.

    Raises:
        ConfigError: the page cannot be served as asked for, or a package for it is missing
    """
    missing = [name for name in ("viser", "mjviser") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the page needs {' and '.join(missing)}: pip install viser mjviser")
    from diffusion_mpc.live.page import Page

    return Page(config, node)


def simulated_tasks() -> list[str]:
    """Names of the tasks whose robot MuJoCo simulates."""
    return [name for name in available_tasks() if find_task(name).dynamics is None]


def load_model(text: str) -> mujoco.MjModel:
    """Compile the model of `model_text`.

    Raises:
        BagError: a file that it needs is missing
        ValueError: MuJoCo cannot read it
    """
    with tempfile.TemporaryDirectory(prefix="diffusion_mpc_") as folder:
        return mujoco.MjModel.from_xml_path(write_model(text, Path(folder)).path)


def main() -> NoReturn:
    """Run the node until it is stopped; the exit code is 1 where it could not start."""
    os.nice(10)
    leave(run(ViewerNode, survives=True))


if __name__ == "__main__":
    main()
