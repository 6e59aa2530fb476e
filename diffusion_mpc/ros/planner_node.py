"""The planner as a managed node: state topics in, joint commands out.

    joint_states, odom -> Estimator -> Mailbox -> [PlanLoop: predict, plan] -> [CommandLoop: limit, encode] -> joint_command

Messages are handled by a single-threaded executor. Planning and commanding have a thread each (see `loops`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from diffusion_mpc.commands import Command, actuators
from diffusion_mpc.config import NodeConfig, Value, build
from diffusion_mpc.controller import Controller
from diffusion_mpc.estimation.estimator import Estimator, MessageRejectedError
from diffusion_mpc.estimation.reference import ReferenceKeeper
from diffusion_mpc.following import Follower, Point
from diffusion_mpc.ros.commands import encode
from diffusion_mpc.ros.diagnostics import ERROR, Health, PlanFigures, diagnostic
from diffusion_mpc.ros.loops import CommandLoop, Mailbox, PlanLoop, quiet_garbage_collector, steady
from diffusion_mpc.ros.markers import marker_array
from diffusion_mpc.ros.parameters import declare
from diffusion_mpc.ros.publishing import outputs, plan_message, stats_message
from diffusion_mpc.ros.realtime import resident_memory, scheduled
from diffusion_mpc.ros.reference import subscribe as subscribe_reference
from diffusion_mpc.ros.run import run
from diffusion_mpc.ros.states import subscribe as subscribe_states
from diffusion_mpc.ros.succession import AT_START, Succession, refuse_fixed
from diffusion_mpc.ros.watchdog import Timeouts, Watchdog
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Plan, State


class PlannerNode(LifecycleNode):
    """See the module's docstring; parameters are described in `config.NodeConfig`."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401  (forwarded to rclpy's Node)
        """Declare the parameters.

        Raises:
            ConfigError: a parameter is unknown or does not fit
            TaskError: the task does not exist
        """
        super().__init__("planner", automatically_declare_parameters_from_overrides=True, **arguments)
        self.failure = ""
        self._live = self._configured = False
        self._apply(declare(self, NodeConfig, self._on_change, read_only=lambda p: p.name in AT_START))

    # Parameters

    def _apply(self, values: Mapping[str, Value]) -> None:
        self._values, self.config = values, build(NodeConfig, values)

    def _on_change(self, values: Mapping[str, Value]) -> None:
        if not self._configured:
            self._apply(values)
            return
        # First all that may refuse.
        refuse_fixed(self.get_fully_qualified_name(), self._values, values)
        change = self.succession.prepare(values)
        self.follower.configure(build(NodeConfig, values).output)
        self._apply(values)
        change()

    @property
    def controller(self) -> Controller:
        """What plans at present."""
        return self.succession.controller

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, make a plan to warm up, subscribe."""
        try:
            self._configure()
        except ValueError as error:
            self.failure = str(error)
            self.get_logger().error(f"cannot be configured: {error}")
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"configured: task {self.task.name}, {self.succession.describe()}")
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        config = self.config
        # Rollouts have threads of their own; torch's would only take their cores away.
        torch.set_num_threads(1)
        self.task = find_task(config.task)(config.model.path)
        self.succession = Succession(self.task, self._values, self._on_successor, self.get_logger().warning)
        model = self.controller.backend.model
        self.estimator = Estimator(model, self.task.base)
        self.follower = Follower(actuators(model), *self.task.ctrl_limits, config.output)
        self.watchdog = Watchdog()
        self.mailbox = Mailbox()
        self.reference = ReferenceKeeper(self.task.reference)
        self.figures, self.health = PlanFigures(), Health()
        self._last_state: State | None = None

        self._outputs = outputs(self, config.output.type)
        self._inputs = subscribe_states(self, self.estimator, self._take)
        self._inputs += subscribe_reference(self, self.reference, config.command.stamped, self._accepted)
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)
        # Steady: news of a clock that stopped must not wait for it.
        self._timers = [self.create_timer(1.0, self._diagnose, clock=Clock(clock_type=ClockType.STEADY_TIME))]
        if self.task.base is not None:
            self._outputs["markers"] = self.create_publisher(MarkerArray, "~/markers", 1)
            self._timers.append(self.create_timer(1.0 / config.markers.rate, self._publish_markers))
        quiet_garbage_collector()
        self._configured = True

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start planning and commanding."""
        self._forget()
        period = 1.0 / self.config.planner.rate
        self._plan_loop = PlanLoop(
            self.mailbox,
            plan=self._make_plan,
            done=self._on_plan,
            infeasible=self._on_infeasible,
            failed=self._on_failure,
            repeat=self._repeat,
            now=self.now,
            period=period,
            lead=lambda: self.config.planner.lead,
            lockstep=self.config.lockstep_lead if self.config.lockstep else None,
        )
        self._command_period = 1.0 / self.config.output.rate if self.config.output.rate else period
        self._command_loop = CommandLoop(self._send, self._first_due, self._remaining, self.now, self._command_period)
        self._live = True
        with scheduled(self.config.realtime, self.get_logger().warning):
            self._plan_loop.start()
        if not self.config.lockstep:
            # Rollouts must not keep a command waiting.
            with scheduled(self.config.realtime, self.get_logger().warning, above=1):
                self._command_loop.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and send the safe command once."""
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what configuring made."""
        self._configured = False
        self.succession.close()
        for publisher in self._outputs.values():
            self.destroy_publisher(publisher)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_service(self._reset_service)
        for timer in self._timers:
            self.destroy_timer(timer)
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, whatever the state was."""
        self._halt()
        return TransitionCallbackReturn.SUCCESS

    def _halt(self) -> None:
        if not self._live:
            return
        self._live = False
        self._plan_loop.stop()
        self._command_loop.stop()
        if self._last_state is not None:
            self._publish_safe_command()
            # The node may be gone in a moment, and with it a message that is still on its way.
            self._outputs["command"].wait_for_all_acked(Duration(seconds=0.2))

    # In: messages to states

    def now(self) -> float:
        """ROS time, s."""
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def _accepted(self, update: Callable[[], None]) -> bool:
        try:
            update()
        except MessageRejectedError as error:
            self.health.reject(str(error))
            self.get_logger().warning(f"message rejected: {error}", throttle_duration_sec=1.0)
            return False
        return True

    def _take(self, update: Callable[[], None]) -> None:
        if not self._accepted(update) or self.reference.waiting_for(self.config):
            return
        state = self.estimator.take()
        if state is None or (self.config.lockstep and not (self.estimator.consistent() and self._heard())):
            return
        now = self.now()
        age = 0.0 if self.config.lockstep else now - state.stamp
        if not self._accepted(lambda: self._check_clock(age)):
            return
        jumped = self._last_state is not None and state.stamp < self._last_state.stamp
        if jumped:
            self._forget()
        self._last_state = state
        self.health.rejected_since = ""
        self.watchdog.state_arrived(steady(), age)
        if jumped:
            self._on_failure("the state's stamp jumped back; the plan is forgotten")
        # What is too old to be controlled is too old to be planned from: predicting from the year 1970 to now takes for ever.
        if age <= self.config.state_timeout:
            self.mailbox.put(state, now)

    def _check_clock(self, age: float) -> None:
        if age < -self.config.state_timeout:
            raise MessageRejectedError(f"stamp is {-age:.3g} s ahead of this node's clock; synchronise them, or set use_sim_time")

    def _heard(self) -> bool:
        """Whether all who are waited for listen. The simulation asks again for a state that was not answered."""
        wanted = self.config.wait_for_subscribers
        others = (self._outputs["plan"], self._outputs["stats"])
        return self._outputs["command"].get_subscription_count() >= wanted and all(
            publisher.get_subscription_count() >= wanted - 1 for publisher in others
        )

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        response.success, response.message = True, "plan forgotten"
        return response

    def _forget(self) -> None:
        with self.succession.planning, self.succession.sending:
            self.controller.reset()
            self.follower.reset()
            self.watchdog.reset()
            self._last_state = None

    # Plan

    def _make_plan(self, state: State, due: float, end: float) -> Plan:
        # In lockstep there is no hurry, and a plan must not depend on how fast the machine is.
        budget = math.inf if self.config.lockstep else (end - self.now()) * self.config.planner.time_budget
        with self.succession.planning:
            reference = self.reference.reference(steady(), self.config)
            return self.controller.plan(state, reference, due + self.config.prediction.command_delay, budget)

    def _due(self, plan: Plan) -> float:
        """Time (s) at which a plan's first command is to be sent."""
        return plan.start_time - self.config.prediction.command_delay

    def _first_due(self) -> float | None:
        plan = self.controller.current
        return None if plan is None else self._due(plan)

    def _on_plan(self, plan: Plan, began: float, allowed: float) -> None:
        now, due = self.now(), self._due(plan)
        # The clock of ROS may stop while a plan is made; in lockstep it is meant to.
        until_start = due - now if self.config.lockstep else allowed - plan.stats.plan_time
        self.watchdog.plan_arrived(steady(), until_start)
        self.health.infeasible = ""
        missed = not self.config.lockstep and now > due
        self.health.plans += 1
        self.health.misses += missed
        self.figures.add(plan.stats)
        self._outputs["plan"].publish(plan_message(plan, self.health.plans, self.controller))
        age = due - plan.stamp if self.config.lockstep else began - plan.stamp
        stats = stats_message(
            plan, self.controller.config, self.controller, self.reference.reference(steady(), self.config), age, allowed, missed
        )
        stats.plan_id, stats.deadline_misses = self.health.plans, self.health.misses
        stats.clamped_commands, stats.rejected_messages = self.follower.clamped, self.health.rejected
        self._outputs["stats"].publish(stats)
        if self.config.lockstep:
            self._send(due)
        with self.succession.planning:
            self.controller.prepare()

    def _publish_markers(self) -> None:
        # From a timer, not with every plan: drawing must not delay commands.
        plan = self.controller.current
        if plan is not None and self._live and self._outputs["markers"].get_subscription_count():
            self._outputs["markers"].publish(marker_array(plan, "odom"))

    def _on_successor(self) -> None:
        self.get_logger().info(f"planner rebuilt: {self.succession.describe()}")

    def _on_infeasible(self, reason: str) -> None:
        # The plan before stands, until it is older than max_plan_age.
        self.health.infeasible = reason
        self.get_logger().warning(f"previous plan stands: {reason}", throttle_duration_sec=1.0)

    def _on_failure(self, reason: str) -> None:
        self.watchdog.plan_failed(reason)
        if self._live:
            self._command_loop.alarm()
        self.get_logger().error(reason, throttle_duration_sec=1.0)
        self._diagnose()

    def _repeat(self, state: State) -> bool:
        plan = self.controller.current
        if plan is None or plan.stamp != state.stamp:
            return False
        # The simulation asks again for the answer to a state: it has not seen our command.
        self._send(self._due(plan))
        return True

    # Out: commands

    def _send(self, due: float) -> None:
        lost = self._lost()
        plan, state = self.controller.current, self._last_state
        if lost and state is not None:
            self._publish_safe_command()
        elif plan is not None and state is not None and not lost:
            obeyed = due + self.config.prediction.command_delay
            with self.succession.sending:
                points = self.follower.points(plan, obeyed, self._command_period, state.qpos)
                self._note(points[0][1], obeyed)
            # A horizon counts from the time that its first command is meant for.
            stamp = obeyed if len(points) > 1 else due if self.config.lockstep else self.now()
            self._publish_command(points, stamp, plan.stamp)
        if bool(lost) != (self.health.level == ERROR):
            self._diagnose()

    def _note(self, command: Command, obeyed: float) -> None:
        """Predictions count with a command from the time (s) at which the actuators obey it."""
        self.controller.sent(obeyed, partial(command.applied, self.follower.driven))

    def _lost(self) -> str:
        """Why control is lost; empty while it is not. In lockstep nothing moves while nobody plans, so nothing can be too old."""
        if self.config.lockstep:
            return ""
        return self.watchdog.lost(steady(), self._timeouts())

    def _remaining(self) -> float:
        return self.watchdog.remaining(steady(), self._timeouts())

    def _timeouts(self) -> Timeouts:
        return Timeouts(self.config.state_timeout, self.config.max_plan_age)

    def _publish_safe_command(self) -> None:
        c = self.config
        assert self._last_state is not None
        now = self.now()
        with self.succession.sending:
            safe = self.follower.safe(c.safe_command, self._last_state.qpos, c.safe_kp, c.safe_kd)
            self._note(safe, now + c.prediction.command_delay)
        self._publish_command([(0.0, safe)], now, None)

    def _publish_command(self, points: Sequence[Point], time: float, state_stamp: float | None) -> None:
        self._outputs["command"].publish(encode(self.config.output.type, points, self.follower.driven, time, state_stamp))

    # Life and health

    def begin(self) -> None:
        """Configure and activate, where `autostart` says so.

        Raises:
            ValueError: the node could not be configured; the message is its reason
        """
        if self.config.autostart:
            if self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                raise ValueError(self.failure)
            self.trigger_activate()

    def end(self) -> None:
        """Stop, and send the safe command."""
        self._halt()

    def _diagnose(self) -> None:
        waiting = None if self._last_state else self.estimator.waiting_for() + self.reference.waiting_for(self.config)
        heard = self._outputs["command"].get_subscription_count() > 0
        level, text = self.health.judge(self._live, waiting, self._lost(), heard, self.succession.failure)
        self.health.reported(level, text, self.get_logger())
        age, backend = self.watchdog.state_age(steady()), self.controller.backend
        values: dict[str, object] = {
            **self.health.values(),
            "clamped": self.follower.clamped,
            "overflowed_samples": backend.overflows,
            "backend": self.succession.describe(),
            "capture": backend.capture,
            "state_age_ms": -1.0 if age is None else age * 1e3,
            "resident_memory_mb": resident_memory(),
            **self.figures.values(),
        }
        stamp = self.get_clock().now().to_msg()
        self._outputs["diagnostics"].publish(diagnostic(stamp, self.get_fully_qualified_name()[1:], level, text, values))


def main() -> int:
    """Run the node; the exit code is 1 where it could not start."""
    # A thread that has to send a command must not wait 5 ms for another one's Python code.
    sys.setswitchinterval(5e-4)
    return run(PlannerNode, survives=True)


if __name__ == "__main__":
    raise SystemExit(main())
