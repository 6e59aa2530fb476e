"""The simulated robot as a node: publishes its state, obeys commands, and stops when they stop.

In real time it follows the node's clock. In lockstep it advances one control period per command
received, so that results do not depend on the machine's speed; its time then starts at 1 s, since
ROS takes a time of zero for "not set".
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Empty, Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from diffusion_mpc.command.command import actuators, without_gains
from diffusion_mpc.command.decode import CommandRejectedError, decode
from diffusion_mpc.config import SimConfig, Value, build
from diffusion_mpc.estimation.checks import bad_number
from diffusion_mpc.message_fields import to_seconds
from diffusion_mpc.msg import JointCommand
from diffusion_mpc.rollout.backend import substeps
from diffusion_mpc.ros.messages.joint_command import MESSAGES
from diffusion_mpc.ros.messages.run import RunPublisher
from diffusion_mpc.ros.messages.stamps import to_stamp
from diffusion_mpc.ros.messages.state import StatePublisher
from diffusion_mpc.ros.parameters import declare
from diffusion_mpc.ros.spin import run
from diffusion_mpc.runtime.loops import quiet_garbage_collector
from diffusion_mpc.runtime.trace_events import span
from diffusion_mpc.simulation.disturbances import Actuation, Commands, Measurements, whole_periods
from diffusion_mpc.simulation.plant import Plant
from diffusion_mpc.tasks import find_task
from diffusion_mpc.types import Array, State

LOCKSTEP_EPOCH = 1.0
PUSH_DURATION = 0.2
SETTLE = 0.5
REPEAT = 0.5
PATIENCE = 10.0
"""Time between two lines about what is waited for, s."""


class SimNode(Node):
    """See the module's docstring; parameters are described in `config.SimConfig`."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401  (forwarded to rclpy's Node)
        """Load the model and open the topics.

        Raises:
            ValueError: a parameter is unknown or does not fit, or the task or its model cannot be
                used
        """
        super().__init__("sim", automatically_declare_parameters_from_overrides=True, **arguments)
        values = declare(self, SimConfig, self._on_change)
        self.config = build(SimConfig, values)
        self.task = find_task(self.config.task)(self.config.model.file)
        self.plant = Plant(
            self.task,
            self.config.model,
            self.config.mass_scale,
            self.config.friction_scale,
            self.config.push,
        )
        self.actuators = actuators(self.plant.model)
        self._states = StatePublisher(
            self,
            self.plant.model,
            self.task.base,
            self.config.object_type,
            self.config.joint_prefix,
        )
        rest, seed = self.task.action_centre, self.config.seed
        self._period = 1.0 / self.config.rate
        delay = self.config.state_delay
        if self.config.lockstep:
            substeps(self._period, self.plant.model.opt.timestep, "1 / rate, a period in lockstep,")
            delay = whole_periods(delay, self._period)
        self._measurements = Measurements(self.plant.model, delay, seed)
        self._commands = Commands(without_gains(rest), seed)
        self._actuation = Actuation(self.plant.model.opt.timestep, rest)
        self._commanded = False
        self._newest: State | None = None
        self._published = 0
        self._paused = self.finished = False
        self.failure = ""
        self._push_ends = 0.0
        self._ready_since: float | None = None
        self._tell_at = time.monotonic() + PATIENCE
        self._viewer: Any = None
        self._offset = 0.0

        self._clock_publisher = (
            self.create_publisher(Clock, "/clock", 10) if self.config.publish_clock else None
        )
        self._finished = self.create_publisher(Empty, "~/finished", 1)
        # Commands of any supported type are obeyed; a topic has one type, so the first publisher
        # decides.
        self._subscription: Any = None
        # As remapped, which rclpy does not look up by itself.
        self._topic = self.resolve_topic_name("joint_command")
        self._run = RunPublisher(self, values, self.task)
        self.create_subscription(WrenchStamped, "~/push", self._on_push, 10)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/pause", self._on_pause)
        self.create_service(Trigger, "~/step", self._on_step)

    def begin(self) -> None:
        """Open the viewer, where there is one, and wait for listeners.

        Raises:
            ValueError: there is no display for the viewer
        """
        if self.config.viewer:
            self._viewer = open_viewer(self.plant)
        self._timer = self.create_timer(0.1, self._wait)
        quiet_garbage_collector()

    def end(self) -> None:
        """Tell others that no state follows, and close the viewer."""
        if not self.finished:
            self._end()
        # The node is gone in a moment, and with it a message that is still on its way.
        self._finished.wait_for_all_acked(Duration(seconds=0.2))
        if self._viewer is not None:
            self._viewer.close()

    def _on_change(self, values: Mapping[str, Value]) -> None:
        self.config = build(SimConfig, values)
        self._run.changed(values)

    # Start: wait until there is somebody to simulate for

    def _wait(self) -> None:
        self._subscribe_to_commands()
        wanted = self.config.wait_for_subscribers
        # Whoever listens to the states besides the planner listens to the commands besides this
        # node.
        there = self._states.listeners() >= wanted
        there = there and self.count_subscribers(self._topic) >= wanted
        if wanted and not (there and self._subscription is not None):
            self._ready_since = None
            self._tell_waiting(wanted)
            return
        # Discovery of a node's topics is not one event; a moment later all of them are there.
        self._ready_since = self._ready_since or time.monotonic()
        if wanted and time.monotonic() - self._ready_since < SETTLE:
            return
        self.destroy_timer(self._timer)
        if self._subscription is None:
            # Nobody was waited for; who commands may still come.
            self._search = self.create_timer(0.1, self._subscribe_to_commands)
        if self.config.lockstep:
            self._timer = self.create_timer(REPEAT, self._publish)
        else:
            self._offset = self._now()
            # Time passes when somebody looks: when a state is due and when a command comes. /clock
            # needs finer steps.
            fine = self.plant.model.opt.timestep
            self._timer = self.create_timer(
                fine if self.config.publish_clock else self._period, self._follow_clock
            )
        self._stand()

    def _tell_waiting(self, wanted: int) -> None:
        """Log now and then what is waited for."""
        if time.monotonic() < self._tell_at:
            return
        self._tell_at = time.monotonic() + PATIENCE
        counts = {**self._states.counts(), self._topic: self.count_subscribers(self._topic)}
        missing = [
            f"subscribers of {topic} ({count} of {wanted})"
            for topic, count in counts.items()
            if count < wanted
        ]
        missing += [f"a publisher of {self._topic}"] if self._subscription is None else []
        self.get_logger().warning(f"waiting for {', '.join(missing) or 'nothing any more'}")

    def _subscribe_to_commands(self) -> None:
        if self._subscription is not None:
            return
        types = dict(self.get_topic_names_and_types()).get(self._topic, [])
        for message in MESSAGES.values():
            package, _, kind = message.__module__.split(".")[0], "msg", message.__name__
            if f"{package}/msg/{kind}" in types:
                self._subscription = self.create_subscription(
                    message, self._topic, self._on_command, QoSProfile(depth=1)
                )

    # Time

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def _stamp(self) -> float:
        return (LOCKSTEP_EPOCH if self.config.lockstep else self._offset) + self.plant.time

    def _follow_clock(self) -> None:
        now = self._now()
        waiting = self.config.hold_until_command and not self._commanded
        if self._paused or waiting or now - self._stamp() > 0.5:
            # Time that passes while the robot stands still, or while this process does, is not made
            # up for.
            self._offset = now - self.plant.time
            self._publish_clock()
            if now - self._published * self._period >= self._period:
                self._published = int(now / self._period)
                self._stand()
            return
        timestep = self.plant.model.opt.timestep
        # A timer that fires a little early must not cost a whole step of delay.
        while self._stamp() + 0.9 * timestep <= now and not self._paused:
            self._advance(timestep)
        self._publish_clock()

    def _advance(self, duration: float) -> None:
        """Step the plant, measuring the state whenever a period is full."""
        if self._push_ends and self.plant.time >= self._push_ends:
            self._apply_push(np.zeros(3), np.zeros(3), ends=0.0)
        before = self.plant.time
        with span("physics"):
            self.plant.step(self._control, duration)
        if self.plant.diverged:
            self.get_logger().error(
                "the simulation diverged; the robot is back at its initial state",
                throttle_duration_sec=1.0,
            )
            self._reset()
            return
        if self.config.duration and self.plant.time >= self.config.duration - 1e-9:
            self._finish()
            return
        if int(before / self._period + 1e-6) != int(self.plant.time / self._period + 1e-6):
            self._measurements.take(self.plant.state(self._stamp()), self.config.state_noise)
        self._deliver()

    def _control(self, qpos: Array, qvel: Array) -> Array:
        # In lockstep, time passes only when commands come.
        timeout = math.inf if self.config.lockstep else self.config.command_timeout
        command = self._commands.at(self.plant.time, timeout)
        # An actuator saturates: what it cannot do does not wind up its lag either.
        control = np.clip(command.applied(self.actuators, qpos, qvel), *self.task.ctrl_limits)
        return self._actuation.follow(control, self.config.actuator_lag)

    def _finish(self) -> None:
        self.get_logger().info(f"finished after {self.plant.time:.3f} s of simulated time")
        self._paused = True
        self.destroy_timer(self._timer)
        # In lockstep nobody does anything any more; the last plan gets the time to reach a recorder
        # before it is told to stop.
        self._timer = self.create_timer(SETTLE if self.config.lockstep else 1e-4, self._end)

    def _end(self) -> None:
        self._finished.publish(Empty())
        self.finished = True

    # Out: state

    def _stand(self) -> None:
        """Measure a robot that stands still, and has done so for a while."""
        self._measurements.standing(
            self.plant.state(self._stamp()), self._period, self.config.state_noise
        )
        self._deliver()

    def _deliver(self) -> None:
        arrived = self._measurements.arrived(self._stamp())
        if arrived is not None:
            self._newest = arrived
            self._publish()
            # Now, when nobody waits; what little a period leaves behind takes a tenth of a
            # millisecond.
            gc.collect()

    def _publish(self) -> None:
        state = self._newest
        if state is None:
            return
        self._publish_clock()
        if self._viewer is not None:
            self._viewer.sync()
        self._states.publish(state)

    def _publish_clock(self) -> None:
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=to_stamp(self._stamp())))

    # In: commands

    def _on_command(self, message: JointCommand | Float64MultiArray | JointTrajectory) -> None:
        try:
            points = decode(message, self.actuators, self.config.joint_prefix)
        except CommandRejectedError as error:
            self.get_logger().warning(f"message rejected: {error}", throttle_duration_sec=1.0)
            return
        answers = self._answers(message)
        if self.config.lockstep and not answers:
            return
        if not self.config.lockstep:
            self._follow_clock()
        # In lockstep time goes on after a command that is lost, too.
        arrival = self._arrival()
        shift = self._shift(message, arrival)
        points = [(shift + seconds, command) for seconds, command in points]
        if self._commands.send(
            points, arrival, self.config.command_delay, self.config.command_dropout
        ):
            if not self.config.lockstep and not self._commanded:
                # Time begins now, and with it the beat of the states.
                self._timer.reset()
            self._commanded = True
        if self.config.lockstep and not self._paused:
            self._timer.reset()
            self._advance(self._period)

    def _arrival(self) -> float:
        """Simulated time (s) of a command that arrives now.

        Half a time step less, so that it acts from the nearest step on.
        """
        if self.config.lockstep:
            return self.plant.time
        return max(
            self.plant.time, self._now() - self._offset - 0.5 * self.plant.model.opt.timestep
        )

    def _shift(
        self, message: JointCommand | Float64MultiArray | JointTrajectory, arrival: float
    ) -> float:
        """Time (s) from when a message takes effect to the beginning of its trajectory.

        Without a stamp it begins at once.
        """
        stamp = to_seconds(message.header.stamp) if isinstance(message, JointTrajectory) else 0.0
        return (
            stamp - (self._stamp() - self.plant.time) - arrival - self.config.command_delay
            if stamp
            else 0.0
        )

    def _answers(self, message: JointCommand | Float64MultiArray | JointTrajectory) -> bool:
        # A command that was sent twice must not advance time twice; types without a stamp cannot
        # tell.
        asked = self._newest
        return asked is not None and (
            not isinstance(message, JointCommand)
            or abs(to_seconds(message.state_stamp) - asked.stamp) < 1e-6
        )

    def _on_push(self, message: WrenchStamped) -> None:
        f, t = message.wrench.force, message.wrench.torque
        force, torque = np.array([f.x, f.y, f.z]), np.array([t.x, t.y, t.z])
        if reason := bad_number([*force, *torque]):
            self.get_logger().warning(
                f"message rejected: push: {reason}", throttle_duration_sec=1.0
            )
            return
        self._apply_push(force, torque, self.plant.time + PUSH_DURATION)

    def _apply_push(self, force: Array, torque: Array, ends: float) -> None:
        if self.task.base is not None and self.task.dynamics is None:
            self.plant.push(self.task.base, force, torque)
            self._push_ends = ends

    # Services

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset()
        response.success, response.message = True, "robot is at its initial state"
        return response

    def _reset(self) -> None:
        self.plant.reset()
        self._offset, self._commanded, self._push_ends = self._now(), False, 0.0
        self._commands.reset(self.plant.time)
        self._actuation.reset()
        self._stand()

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = bool(request.data)
        self._timer.reset()
        response.success, response.message = True, "paused" if self._paused else "running"
        if self.config.lockstep and not self._paused:
            self._publish()
        return response

    def _on_step(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._paused
        response.message = (
            "advanced one control period"
            if self._paused
            else "only a paused simulation can be stepped"
        )
        if self._paused:
            self._advance(self._period)
        return response


def open_viewer(plant: Plant) -> Any:  # noqa: ANN401  (MuJoCo's handle has no public type)
    """MuJoCo's viewer window on the plant.

    Raises:
        ValueError: this machine has no display
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ValueError("viewer: there is no display; run headless, or set DISPLAY")
    import mujoco.viewer

    return mujoco.viewer.launch_passive(plant.model, plant.data)


def main() -> int:
    """Run the node until its duration is over; the exit code is 1 where it could not start."""
    return run(SimNode, lambda node: node.finished)


if __name__ == "__main__":
    raise SystemExit(main())
