"""The planner as a managed node: state topics in, joint commands out.

    joint_states, odom, cmd_vel -> PlannerSession -> joint_command, ~/plan, ~/stats, /diagnostics

Messages, timers and services are handled by a single-threaded executor. Planning and commanding
have a thread each, see `session`.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from diffusion_mpc.command.follower import Point
from diffusion_mpc.config import PlannerNodeConfig, Value, build
from diffusion_mpc.config.renamed import RENAMED
from diffusion_mpc.ros.messages.diagnostics import diagnostic, log
from diffusion_mpc.ros.messages.joint_command import encode
from diffusion_mpc.ros.messages.markers import marker_array
from diffusion_mpc.ros.messages.plan import outputs, plan_message, stats_message
from diffusion_mpc.ros.messages.reference_topics import subscribe as subscribe_reference
from diffusion_mpc.ros.messages.run import RunPublisher
from diffusion_mpc.ros.messages.state import DEAF, StateSubscriptions
from diffusion_mpc.ros.messages.tf_topics import subscribe as subscribe_transforms
from diffusion_mpc.ros.parameter_rules import AT_START, refuse_fixed
from diffusion_mpc.ros.parameters import declare
from diffusion_mpc.ros.spin import log_traceback, prepare_logging, run
from diffusion_mpc.runtime.health import Level
from diffusion_mpc.runtime.lockstep import LockstepSession
from diffusion_mpc.runtime.loops import quiet_garbage_collector, release_garbage
from diffusion_mpc.runtime.output import PlanTiming
from diffusion_mpc.runtime.real_time import RealTimeSession
from diffusion_mpc.runtime.session import PlannerSession
from diffusion_mpc.tasks.measured import base_place
from diffusion_mpc.tasks.user_code import told
from diffusion_mpc.types import Plan

FINISHED = "sim/finished"
"""Topic on which a simulation tells that it has ended; one that comes after it is obeyed again."""


class PlannerNode(LifecycleNode):
    """Converts messages for a session, and publishes what it makes.

    Parameters are described in `config.PlannerNodeConfig`.
    """

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401  (forwarded to rclpy's Node)
        """Declare the parameters.

        Raises:
            ConfigError: a parameter is unknown or does not fit
            TaskError: the task does not exist
        """
        super().__init__(
            "planner", automatically_declare_parameters_from_overrides=True, **arguments
        )
        self.failure = ""
        self.session: PlannerSession | None = None
        self._outputs: dict[str, Any] = {}
        self._other_commanders: list[str] = []
        self._configured = ExitStack()
        self._logged: dict[str, float] = {}
        self._told = (Level.OK, "inactive")
        self._values = declare(
            self, PlannerNodeConfig, self._on_change, read_only=lambda p: p.name in AT_START
        )

    # Life

    def begin(self) -> None:
        """Configure and activate, where `autostart` says so.

        Raises:
            ValueError: the node could not be configured; the message is its reason
        """
        if self._values["autostart"]:
            if self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                raise ValueError(self.failure)
            self.trigger_activate()

    @property
    def finished(self) -> bool:
        """Whether nothing can be planned any more, in a run that waits for every plan."""
        return self.session is not None and bool(self.session.given_up)

    def end(self) -> None:
        """Stop, and send the safe command."""
        if self.session is not None:
            self.failure = self.failure or self.session.given_up or self.session.task_failure
        if self.session is not None and self.session.stop():
            # The node may be gone in a moment, and with it a message that is still on its way.
            self._outputs["command"].wait_for_all_acked(Duration(seconds=0.2))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, make a plan to warm up, subscribe."""
        try:
            self._configure()
        except Exception as error:
            # Whatever a task's code raises, its author wants to know.
            log_traceback(error)
            self.failure = told(error)
            self.get_logger().error(f"cannot be configured: {self.failure}")
            return TransitionCallbackReturn.FAILURE
        self.failure = ""
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        config = build(PlannerNodeConfig, self._values)
        make = LockstepSession if config.lockstep else RealTimeSession
        session = make(self._values, self, self.now)
        self._wanted_listeners = config.wait_for_subscribers
        undo = self._configured.callback
        self._outputs = outputs(self, config.output.type)
        if session.task.base is not None:
            self._outputs["markers"] = self.create_publisher(MarkerArray, "~/markers", 1)
        for publisher in self._outputs.values():
            undo(self.destroy_publisher, publisher)
        undo(session.close)
        self._states = StateSubscriptions(self, session)
        undo(self._states.close)
        inputs = subscribe_reference(self, session)
        inputs += subscribe_transforms(self, session)
        # Last, so that the states which came before it are taken before.
        inputs.append(self.create_subscription(Empty, FINISHED, self._on_finished, 1))
        for subscription in inputs:
            undo(self.destroy_subscription, subscription)
        undo(self.destroy_service, self.create_service(Trigger, "~/reset", self._on_reset))
        # Steady: news of a clock that stopped must not wait for it.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        undo(self.destroy_timer, self.create_timer(1.0, self._look_around, clock=steady))
        if session.task.base is not None:
            # With a timer, not with every plan: drawing must not delay commands.
            drawing = self.create_timer(1.0 / config.markers.rate, self._publish_markers)
            undo(self.destroy_timer, drawing)
        self._run = RunPublisher(self, self._values, session.task)
        undo(self._run.close)
        self.session = session
        prepare_logging()
        quiet_garbage_collector()
        self.inform(f"configured: task {session.task.name}, {session.swap.describe()}")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start planning and commanding."""
        assert self.session is not None, "the node is configured"
        self.session.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and send the safe command once."""
        self.end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what configuring made."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, whatever the state was; nothing is published any more."""
        self.end()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what there is, after a transition that raised; the node can be configured."""
        self.end()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        self._configured.close()
        self._outputs, self.session = {}, None
        release_garbage()

    # In, by the executor

    def now(self) -> float:
        """ROS time, s. Any thread."""
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def get_parameter(self, name: str) -> Parameter[Any]:
        """The parameter; by its former name, too, for an answer has no room for a reason."""
        if name in RENAMED:
            self.warn(f"parameter '{name}' is now '{RENAMED[name]}'")
        return super().get_parameter(RENAMED.get(name, name))

    def _on_change(self, values: Mapping[str, Value]) -> None:
        if self.session is not None:
            refuse_fixed(self.get_fully_qualified_name(), self._values, values)
            self.session.configure(values)
            self._run.changed(values)
        self._values = dict(values)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        assert self.session is not None, "the service exists while the node is configured"
        self.session.reset()
        response.success, response.message = True, "plan forgotten"
        return response

    def _on_finished(self, message: Empty) -> None:
        """A simulation that has ended sends no more states: that is no loss of control."""
        assert self.session is not None, "the topic is heard while the node is configured"
        self.inform("the simulation has finished")
        self.session.reset()

    def _publish_markers(self) -> None:
        session = self.session
        plan = session.controller.current if session is not None and session.live else None
        heard = self._outputs["markers"].get_subscription_count()
        if session is not None and plan is not None and heard:
            place = base_place(session.task)
            self._outputs["markers"].publish(marker_array(plan, place, session.world_frame))

    # Out, see `output.Output`; any thread

    def send_plan(self, plan: Plan, timing: PlanTiming) -> None:
        """Publish a plan and its figures."""
        assert self.session is not None, "a session sends"
        self._outputs["plan"].publish(plan_message(plan, self.session))
        self._outputs["stats"].publish(stats_message(plan, timing, self.session))

    def send_command(
        self, points: Sequence[Point], stamp: float, state_stamp: float | None
    ) -> None:
        """Publish commands, the first of which applies at `stamp` (s)."""
        assert self.session is not None, "a session sends"
        config, actuators = self.session.config, self.session.follower.actuators
        self._outputs["command"].publish(
            encode(config.output, points, actuators, stamp, state_stamp, config.joint_prefix)
        )

    def is_heard(self) -> bool:
        """Whether anybody listens to the commands."""
        return bool(self._outputs["command"].get_subscription_count())

    def other_commanders(self) -> list[str]:
        """Full names of the other nodes that publish on `joint_command`, as of a second ago."""
        return self._other_commanders

    def _look_around(self) -> None:
        # Not with every report: it is asked of the graph, and reports also come from the thread
        # that commands.
        names = [
            f"{end.node_namespace.rstrip('/')}/{end.node_name}"
            for end in self.get_publishers_info_by_topic(self._outputs["command"].topic_name)
        ]
        own = self.get_fully_qualified_name()
        if own in names:
            names.remove(own)
        self._other_commanders = sorted(names)
        for topic in self._states.renew():
            self.warn(
                f"{topic}: it has a publisher, of which nothing was heard for {DEAF:g} s; "
                "subscribed anew"
            )
        self.health_changed()

    def all_listen(self) -> bool:
        """Whether as many listen as `wait_for_subscribers` asks for.

        One of those who hear commands hears nothing else.
        """
        others = (self._outputs["plan"], self._outputs["stats"])
        return self._outputs["command"].get_subscription_count() >= self._wanted_listeners and all(
            publisher.get_subscription_count() >= self._wanted_listeners - 1 for publisher in others
        )

    def health_changed(self) -> None:
        """Publish the health; a new level is logged, and another reason for the same."""
        assert self.session is not None, "a session has a health"
        level, text, values = self.session.report()
        # What follows are figures, which are never twice the same.
        reason = (level, re.split("[:;]", text)[0])
        if reason != self._told:
            self._told = reason
            log(level, text, self.get_logger())
        stamp = self.get_clock().now().to_msg()
        self._outputs["diagnostics"].publish(
            diagnostic(stamp, self.get_fully_qualified_name()[1:], level, text, values)
        )

    def inform(self, text: str) -> None:
        """Log what is worth knowing."""
        self.get_logger().info(text)

    def warn(self, text: str) -> None:
        """Log a warning; one a second at most of those that begin alike."""
        if self._is_due(text):
            self.get_logger().warning(text)

    def error(self, text: str) -> None:
        """Log an error; one a second at most of those that begin alike."""
        if self._is_due(text):
            self.get_logger().error(text)

    def _is_due(self, text: str) -> bool:
        # Not rclpy's throttle, which goes by the line of code and so would drop one kind of message
        # for another.
        kind, now = text.split(":")[0], time.monotonic()
        due = now - self._logged.get(kind, -math.inf) >= 1.0
        if due:
            self._logged[kind] = now
        return due


def main() -> int:
    """Run the node; the exit code is 1 where it could not start."""
    # A thread that has to send a command must not wait 5 ms for another one's Python code.
    sys.setswitchinterval(5e-4)
    return run(PlannerNode, lambda node: node.finished, survives=True)


if __name__ == "__main__":
    raise SystemExit(main())
