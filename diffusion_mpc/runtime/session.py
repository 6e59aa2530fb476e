"""Controls a robot from its states, without ROS.

Estimate -> predict -> plan -> command, by threads that share whole snapshots.

    on_state -> Estimator -> Mailbox -> [planner: plan_once]
             -> Controller.current -> [commands: command_at] -> Output

Each method says which thread runs it: *messages* (the one that receives), *planner*, *commands*. A
lock of `ControllerSwap` is held while a plan or a command is made; messages never wait for a plan,
but for `reset`.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from diffusion_mpc.command.command import Command, actuators
from diffusion_mpc.command.follower import Follower, require_carried
from diffusion_mpc.command.watchdog import Timeouts, Watchdog
from diffusion_mpc.config import PlannerNodeConfig, Value, build
from diffusion_mpc.estimation.checks import MessageRejectedError, require_near
from diffusion_mpc.estimation.estimator import Estimator
from diffusion_mpc.estimation.reference import ReferenceKeeper
from diffusion_mpc.estimation.transforms import ODOM
from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.runtime.controller_swap import ControllerSwap
from diffusion_mpc.runtime.health import Health, Level, PlanFigures
from diffusion_mpc.runtime.loops import Loop, Mailbox
from diffusion_mpc.runtime.output import Output, PlanTiming
from diffusion_mpc.runtime.pace import Pace
from diffusion_mpc.runtime.scheduling import resident_memory, scheduled
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.measured import has_failed
from diffusion_mpc.tasks.user_code import failure
from diffusion_mpc.types import Plan, Reference, State

MAX_BACK_OFF = 2.0
"""Longest time between two tries to plan where planning raises, s."""


class PlannerSession(ABC):
    """Common part of the sessions in real time and in lockstep.

    Attributes:
        task: the task
        config: parameters
        estimator: what the state's messages fill
        reference: what the reference's messages fill
        follower: makes commands of plans
        health: counts
        task_failure: what the task's code raised while a plan was made, with file and line; empty:
            nothing
        given_up: why no plan will come any more; empty while one may
    """

    def __init__(
        self, values: Mapping[str, Value], output: Output, now: Callable[[], float]
    ) -> None:
        """Load the model, and make a plan to warm up (thread: messages).

        Args:
            values: all parameters
            output: where plans and commands go
            now: ROS time, s

        Raises:
            ValueError: parameters do not fit each other
        """
        # Rollouts have threads of their own; torch's would only take their cores away.
        torch.set_num_threads(1)
        self.config = build(PlannerNodeConfig, values)
        self._timeouts = Timeouts.of(self.config)
        self.task = find_task(self.config.task)(self.config.model.file)
        self._output, self._now = output, now
        self.swap = ControllerSwap(self.task, values, self._on_swap, output.warn)
        model = self.controller.backend.model
        base, c = self.task.base, self.config
        self.estimator = Estimator(model, base, c.lockstep, c.joint_prefix, c.input, output.inform)
        self.estimator.motion = self.config.objects
        self.reference = ReferenceKeeper(self.task.reference, self.estimator.transforms)
        commanded = actuators(model, self.task.action_centre)
        require_carried(commanded, self.config.output.type)
        self.follower = Follower(
            commanded, *self.task.ctrl_limits, self.config.output, self.config.gains
        )
        if estimated := self.controller.actuator_states.describe():
            output.inform(estimated)
        self._warn_of_missing()
        self.health = Health()
        self.level = Level.OK
        self.live = False
        self._figures, self._watchdog, self._mailbox = PlanFigures(), Watchdog(), Mailbox()
        self._pace = Pace()
        self._last_state: State | None = None
        self.task_failure = self.given_up = ""
        self._seen, self._back_off = 0, 0.0
        self._period = 1.0 / self.config.planner.rate
        self._command_period = (
            1.0 / self.config.output.rate if self.config.output.rate else self._period
        )

    @property
    def controller(self) -> Controller:
        """The controller in service (any thread)."""
        return self.swap.controller

    @property
    def current_reference(self) -> Reference:
        """The reference at present (any thread)."""
        return self.reference.reference(time.monotonic(), self.config)

    @property
    def world_frame(self) -> str:
        """Name of the frame that states and plans are in (any thread)."""
        return self.estimator.transforms.world or ODOM

    # Messages

    def configure(self, values: Mapping[str, Value]) -> None:
        """Change live parameters, or replace the controller where others change (thread: messages).

        Raises:
            ValueError: parameters do not fit each other; nothing is changed
        """
        # First what may refuse.
        change, config = self.swap.prepare(values), build(PlannerNodeConfig, values)
        self.follower.configure(config.output, config.gains)
        self.config, self.estimator.motion = config, config.objects
        self._timeouts = Timeouts.of(config)
        self.estimator.configure(config.input)
        change()

    def accept(self, update: Callable[[], None]) -> bool:
        """Run an update by a message.

        One that it rejects is counted and reported (thread: messages).
        """
        try:
            update()
        except MessageRejectedError as error:
            self._reject(str(error))
            return False
        return True

    def _reject(self, reason: str) -> None:
        self.health.reject(reason)
        self._output.warn(f"message rejected: {reason}")

    def on_reference(self, stamp: float, update: Callable[[float], None]) -> None:
        """Run an update of the reference by a message (thread: messages).

        Args:
            stamp: its stamp, s; 0: it has none, and counts from its arrival on
            update: called with the steady time of its stamp, s
        """
        steady, age = time.monotonic(), self._age(stamp, self._now()) if stamp else 0.0

        def checked() -> None:
            self.reference.require_near(age, self.config)
            update(steady - max(age, 0.0))

        if self.accept(checked) and (clamping := self.reference.clamping(steady, self.config)):
            self._output.warn(clamping)

    def on_object(self, topic: str, stamp: float, update: Callable[[], None]) -> None:
        """Run an update of the estimator by a pose measured at `stamp`, s (thread: messages)."""

        def noted() -> None:
            update()
            if self.estimator.stamp(topic) == stamp:
                # Also one that is too old: what comes next tells how old it is.
                age = self._age(stamp, self._now())
                self._watchdog.object_arrived(topic, time.monotonic(), age, self._timeouts)

        self.on_state(topic, stamp, noted)

    def on_state(self, topic: str, stamp: float, update: Callable[[], None]) -> None:
        """Run an update of the estimator by what was measured at `stamp`, s (thread: messages).

        The state that it completes is handed to the planner. A state older than `state_timeout` is
        not planned from: it only tells the watchdog how old it is.
        """
        now, timeout = self._now(), self.config.state_timeout

        def checked() -> None:
            require_near(topic, self._age(stamp, now), math.inf, timeout, "state_timeout")
            update()

        if not self.accept(checked) or self.reference.waiting_for(self.config):
            return
        state = self.estimator.take()
        if state is None or not self._complete():
            return
        age = self._age(state.stamp, now)
        if reason := self.estimator.incoherence(timeout):
            self._reject(reason)
            return
        jumped = self._last_state is not None and state.stamp < self._last_state.stamp
        if jumped:
            self.reset()
        self._last_state = state
        self.health.rejected_since = ""
        oldest = self.estimator.oldest() if age > timeout else ""
        self._watchdog.state_arrived(time.monotonic(), age, self._timeouts, oldest)
        self._pace.state(time.monotonic())
        if jumped:
            self._fail("the state's stamp jumped back; the plan is forgotten")
        # What is too old to be controlled is too old to be planned from: predicting from the year
        # 1970 to now takes for ever.
        if age <= timeout:
            self._mailbox.put(state, now)

    def reset(self) -> None:
        """Forget plan and state (thread: messages)."""
        with self.swap.planning, self.swap.sending:
            self.controller.reset()
            self.follower.reset()
            self._watchdog.reset()
            self._last_state = None

    def start(self) -> None:
        """Start planning and commanding (thread: messages)."""
        self.reset()
        self._pace.reset()
        self._seen, self._back_off = 0, 0.0
        self._planning = Loop("planner", self.plan_once)
        self.live = True
        with scheduled(self.config.realtime, self._output.warn):
            self._planning.start()

    def stop(self) -> bool:
        """Stop both threads, and send the safe command once.

        Whether there was a state to send it for (thread: messages).
        """
        if not self.live:
            return False
        self.live = False
        self._planning.stop()
        if self._last_state is None:
            return False
        self._send_safe_command()
        return True

    def close(self) -> None:
        """Wait for a replacement of the controller that is under way (thread: messages)."""
        self.swap.close()

    def report(self) -> tuple[Level, str, dict[str, object]]:
        """Level, text and values of the health (any thread)."""
        waiting = (
            None
            if self._last_state
            else self.estimator.waiting_for() + self.reference.waiting_for(self.config)
        )
        steady, lost = time.monotonic(), self._lost()
        if lost and (late := self.estimator.late()):
            lost += f"; missing since then: {late}"
        pace, planner = self._pace.figures(steady), self.config.planner
        level, text = self.health.judge(
            self.live,
            waiting,
            lost,
            [
                self._fallen(),
                _rivals(self._output.other_commanders()),
                "" if self._output.is_heard() else "nobody listens to joint_command",
                self.swap.failure,
                *self.controller.missing,
                self.health.policy_failure and f"no policy: {self.health.policy_failure}",
                self.estimator.suspicion,
                self.reference.clamping(steady, self.config),
                pace.too_slow(planner.rate, planner.iterations) if pace else "",
            ],
            pace.slow_states(planner.rate) if pace else "",
        )
        age, backend = self._watchdog.state_age(steady), self.controller.backend
        values = {
            **self.health.values(),
            "dropped": self.estimator.dropped,
            "clamped_references": self.reference.bounds.clamped,
            "clamped": self.follower.clamped,
            "overflowed_samples": backend.overflows,
            "backend": self.swap.describe(),
            "capture": f"{backend.capture} ({failure})"
            if (failure := backend.capture_failure)
            else backend.capture,
            "state_age_ms": -1.0 if age is None else age * 1e3,
            "resident_memory_mb": resident_memory(),
            **(pace.values() if pace else {}),
            **self._figures.values(),
        }
        # Another thread may report meanwhile: what is returned belongs together.
        self.level = level
        return level, text, values

    def _fallen(self) -> str:
        """That the robot has failed, by its task; empty while it has not."""
        state = self._last_state
        try:
            fallen = state is not None and has_failed(
                self.task, self.controller.backend.model, state
            )
        except Exception as error:
            # A task's own code: the one who asks for the health is told, and control goes on.
            return str(failure("failed", self.task.failed, error))
        return "the robot has fallen, or failed otherwise" if fallen else ""

    @abstractmethod
    def _complete(self) -> bool:
        """Whether a state may be planned from (thread: messages)."""

    @abstractmethod
    def _age(self, stamp: float, now: float) -> float:
        """Age of what carries a stamp (s) on its arrival, s (thread: messages)."""

    def _on_swap(self) -> None:
        self._output.inform(f"planner rebuilt: {self.swap.describe()}")
        self._warn_of_missing()

    def _warn_of_missing(self) -> None:
        for line in self.controller.missing:
            self._output.warn(line)

    # Plans

    @abstractmethod
    def plan_once(self, stopping: threading.Event) -> None:
        """Wait for a state, plan from it, report (thread: planner)."""

    def _plan(
        self, state: State, due: float, budget: float, stopping: threading.Event
    ) -> Plan | None:
        """Plan whose first command is due at a time (s).

        None where there is none (thread: planner).

        The only call of `Controller.plan` while the robot is controlled.
        """
        try:
            with self.swap.planning:
                plan = self.controller.plan(
                    state,
                    self.current_reference,
                    due + self.config.prediction.command_delay,
                    budget,
                )
        except NoFeasibleSampleError as error:
            # The previous plan stands, until it is older than max_plan_age.
            self.health.infeasible = str(error)
            self._output.warn(f"previous plan stands: {error}")
            self._no_plan(str(error))
            return None
        except Exception as error:
            self._back_off = min(max(2.0 * self._back_off, 0.1), MAX_BACK_OFF)
            reason = str(error)
            if isinstance(error, TaskError):
                self.task_failure = reason
            else:
                reason = f"planner raised {type(error).__name__}: {error}"
            self._output.warn("".join(traceback.format_exception(error)))
            self._no_plan(reason)
            self._fail(f"{reason}; next try in {self._back_off:g} s")
            stopping.wait(self._back_off)
            return None
        self._back_off = 0.0
        return plan

    def _no_plan(self, reason: str) -> None:  # noqa: B027  (most sessions do nothing)
        """There is no plan from a state (thread: planner); here, the next state may do better."""

    def _take(self, plan: Plan, until_start: float, timing: PlanTiming) -> None:
        """Follow a plan from now on.

        Its first command is due in `until_start` seconds (thread: planner).
        """
        self._watchdog.plan_arrived(time.monotonic(), until_start)
        self.health.infeasible = ""
        self.health.plans += 1
        self.health.misses += timing.missed
        self._figures.add(plan.stats)
        failure = plan.stats.policy.failure if plan.stats.policy is not None else ""
        if warning := self.health.note_policy(failure):
            self._output.warn(warning)
        if not self.config.lockstep:
            self._pace.plan(time.monotonic(), timing.missed, plan.stats.iterations)
        self._output.send_plan(plan, timing)

    def _prepare(self) -> None:
        """Do what the next plan needs, while there is time (thread: planner)."""
        with self.swap.planning:
            self.controller.prepare()

    def _fail(self, reason: str) -> None:
        """Control is lost until a plan arrives (thread: planner, messages)."""
        self._watchdog.plan_failed(reason)
        self._alarm()
        self._output.error(reason)
        self._output.health_changed()

    @abstractmethod
    def _alarm(self) -> None:
        """Control is lost: the safe command is due at once (thread: planner, messages)."""

    def _due(self, plan: Plan) -> float:
        """Time (s) at which a plan's first command is to be sent (any thread)."""
        return plan.start_time - self.config.prediction.command_delay

    # Commands

    def command_at(self, due: float) -> None:
        """Send the plan's command for a time, s, or the safe one (thread: commands, planner)."""
        lost = self._lost()
        plan, state = self.controller.current, self._last_state
        if lost and state is not None:
            self._send_safe_command()
        elif plan is not None and state is not None and not lost:
            obeyed = due + self.config.prediction.command_delay
            with self.swap.sending:
                points = self.follower.points(plan, obeyed, self._command_period, state.qpos)
                self._note(points[0][1], obeyed)
            # A horizon counts from the time that its first command is meant for.
            self._output.send_command(
                points, obeyed if len(points) > 1 else self._stamp(due), plan.stamp
            )
        if bool(lost) != (self.level == Level.ERROR):
            self._output.health_changed()

    def _send_safe_command(self) -> None:
        """See `commands.safe_command` (thread: commands, messages)."""
        c = self.config
        assert self._last_state is not None
        now = self._now()
        with self.swap.sending:
            safe = self.follower.safe(c.safe_command, self._last_state.qpos, c.safe_kp, c.safe_kd)
            self._note(safe, now + c.prediction.command_delay)
        self._output.send_command([(0.0, safe)], now, None)

    def _note(self, command: Command, obeyed: float) -> None:
        """Predictions count with a command from the time (s) at which the actuators obey it."""
        self.controller.sent(obeyed, partial(command.applied, self.follower.actuators))

    def _lost(self) -> str:
        """Reason for which control is lost; empty while it is not (any thread)."""
        return self._watchdog.lost(time.monotonic(), self._timeouts)

    @abstractmethod
    def _stamp(self, due: float) -> float:
        """Stamp of a command that is due at a time (s) (thread: commands)."""


def _rivals(nodes: Sequence[str]) -> str:
    """That other nodes command the robot as well; empty where there are none."""
    if not nodes:
        return ""
    return f"joint_command has another publisher, {' and '.join(nodes)}; stop one of them"
