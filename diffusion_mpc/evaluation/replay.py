"""Plans made again from recorded states, with the recorded parameters or with others.

The states, the references and the commands that were in force are the recorded ones; plans follow
each other as they did, each from the previous one of its own. Both the recorded plan and the new
one are rolled out from the same state and weighed alike, so that their costs compare whatever was
changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diffusion_mpc.bags.bag_reader import BagError, read_messages
from diffusion_mpc.bags.planned_controls import PLAN_TYPE, PlannedControls, planned_controls
from diffusion_mpc.bags.run_record import RunRecord
from diffusion_mpc.command.command import Command, actuators
from diffusion_mpc.config import (
    PlannerNodeConfig,
    Value,
    build,
    cost_weights,
    load_parameters,
    require_parameter,
)
from diffusion_mpc.evaluation.evaluated_run import EvaluatedRun, evaluate_run
from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.errors import TaskError
from diffusion_mpc.tasks.model_file import ModelFile
from diffusion_mpc.types import Array, Plan, Reference, State
from diffusion_mpc.versions import model_hash


@dataclass(frozen=True)
class ReplayedRun:
    """Recorded plans and those made again, P of them.

    Attributes:
        evaluated: the run
        settings: parameters that were set, by name
        stamps: (P,) of the states planned from, s
        term_names: the cost terms
        recorded_terms, terms: (P, terms) weighted mean cost per step of the recorded plan and of
            the new one, rolled out from the same state, at the recorded weights
        difference: (P,) largest difference of a control from the recorded one, as a fraction of its
            range; NaN where the plans have other rows
        plan_time, effective_sample_size: (P,) of the new plans, in s and samples
        plans: the new plans, with the positions of the cheapest samples
        namespace: namespace of the robot; None: the bag holds only one
        problems: what could not be done as it was
    """

    evaluated: EvaluatedRun
    settings: Mapping[str, Value]
    stamps: Array
    term_names: tuple[str, ...]
    recorded_terms: Array
    terms: Array
    difference: Array
    plan_time: Array
    effective_sample_size: Array
    plans: tuple[Plan, ...]
    namespace: str | None
    problems: tuple[str, ...]

    @property
    def identical(self) -> int:
        """Number of plans that are the recorded ones to the last digit."""
        return int((self.difference == 0.0).sum())


def replay(
    bag: Path,
    record: RunRecord,
    settings: Mapping[str, str],
    traces: int = 0,
    namespace: str | None = None,
    progress: Callable[[Sequence[PlannedControls]], Iterable[PlannedControls]] = iter,
) -> ReplayedRun:
    """Plan again from the states of a bag.

    Args:
        bag: rosbag2 folder or .mcap file
        record: what it says of its run
        settings: parameters of the planner in place of the recorded ones, as texts
        traces: number of the cheapest samples whose positions the plans hold
        namespace: namespace of the robot; None: the bag holds only one
        progress: passes the plans on, and shows how it goes

    Raises:
        BagError: the bag has no plans, or their states are not in it
        ConfigError: a setting is unknown or does not fit
        TaskError: the task or its model cannot be used
    """
    # As in a session: other sums of floating-point numbers make other plans.
    torch.set_num_threads(1)
    planner = record.nodes.get("planner")
    if planner is None:
        raise BagError(f"bag '{bag}' does not say with which parameters was planned")
    problems: list[str] = []
    with record.opened() as (name, file):
        task = _task(name, planner["parameters"], planner["model_sha256"], file, problems)
        own = {"model.path": task.file.path, "model.actuators": task.file.actuators}
        known = {**planner["parameters"], "task": name, **own}
        described, recorded = load_parameters(PlannerNodeConfig, known)
        for setting in settings:
            require_parameter(setting, described)
        given = {setting: described[setting].parse(text) for setting, text in settings.items()}
        _, values = load_parameters(PlannerNodeConfig, {**recorded, **given})
        run = evaluate_run(bag, task, cost_weights(recorded), record, namespace=namespace)
        backend = run.run.plans.backend
        if backend and values["backend.name"] == recorded["backend.name"] == "auto":
            # Which is fastest depends on the machine.
            recorded["backend.name"] = values["backend.name"] = backend
        messages = read_messages(bag, lambda topic, kind: kind == PLAN_TYPE)
        plans = planned_controls(messages.of_robot(bag, namespace), bag, task)
        if not plans:
            raise BagError(f"bag '{bag}' holds no plans")
        problems += _unlike_a_replay(run, plans, recorded)
        replayer = _Replayer(task, run, recorded, values, traces)
        problems += replayer.missing
        made = replayer.make(progress(plans))
    if not made:
        raise BagError(f"bag '{bag}' holds none of the states that its plans follow from")
    if len(made) < len(plans):
        problems.append(f"{len(plans) - len(made)} plans are left out: no state, or no sample")
    changed = {name: values[name] for name in settings if values[name] != recorded[name]}
    return ReplayedRun(
        run,
        changed,
        np.array([each.plan.stamp for each in made]),
        tuple(task.cost_terms()),
        np.array([each.terms[:, 0] for each in made]),
        np.array([each.terms[:, 1] for each in made]),
        np.array([each.difference for each in made]),
        np.array([each.plan.stats.plan_time for each in made]),
        np.array([each.plan.stats.effective_sample_size for each in made]),
        tuple(each.plan for each in made),
        namespace,
        (*run.run.problems, *problems),
    )


@dataclass(frozen=True)
class _Made:
    plan: Plan
    terms: Array
    difference: float


class _Replayer:
    """Controller of the new parameters, and the measure by which both plans are judged."""

    def __init__(
        self,
        task: Task,
        run: EvaluatedRun,
        recorded: Mapping[str, Value],
        values: Mapping[str, Value],
        traces: int,
    ) -> None:
        self._task, self._run = task, run.run
        self._config = build(PlannerNodeConfig, recorded)
        self._weights = cost_weights(recorded)
        wanted = build(PlannerNodeConfig, values)
        self._controller = Controller(task, wanted, cost_weights(values), traces=traces)
        self._judge = Controller(task, self._config, self._weights, traces=0)
        self._controller.warm_up()
        self.missing = self._controller.missing
        self._actuators = actuators(task.model, task.action_centre)
        low, high = task.ctrl_limits
        self._range = np.maximum(high - low, 1e-12)

    def make(self, plans: Iterable[PlannedControls]) -> list[_Made]:
        """Plan from the state of each plan, as far as it is in the bag."""
        run, controller = self._run, self._controller
        rows = {stamp: row for row, stamp in enumerate(run.states.stamps.tolist())}
        stats = {stamp: row for row, stamp in enumerate(run.plans.stamps.tolist())}
        sent, made = 0, list[_Made]()
        for recorded in plans:
            row, figures = rows.get(recorded.stamp), stats.get(recorded.stamp)
            if row is None or figures is None:
                continue
            sent = self._send(sent, recorded.stamp)
            state = State(recorded.stamp, run.states.qpos[row], run.states.qvel[row])
            reference = Reference(run.plans.velocity[figures], run.plans.goal[figures])
            try:
                plan = controller.plan(state, reference, self._start_time(recorded))
            except NoFeasibleSampleError:
                continue
            controller.prepare()
            terms = self._terms(recorded, plan, reference)
            made.append(_Made(plan, terms, self._difference(recorded, plan)))
        return made

    def _send(self, sent: int, stamp: float) -> int:
        """Note the commands that were sent before a plan, from number `sent` on."""
        commands = self._run.commands
        while sent < len(commands.stamps):
            answered = commands.state_stamps[sent]
            # A safe command answers no state.
            if (answered if math.isfinite(answered) else commands.stamps[sent]) >= stamp:
                break
            command: Command = commands.commands[sent]
            law = partial(command.applied, self._actuators)
            self._controller.sent(self._obeyed(float(commands.stamps[sent]), float(answered)), law)
            sent += 1
        return sent

    def _obeyed(self, stamp: float, answered: float) -> float:
        """Time from which the actuators obey a command, s."""
        delay = self._config.prediction.command_delay
        if self._config.lockstep and math.isfinite(answered):
            # As the session has it: in the message, it is rounded.
            return self._due_start(answered) - delay + delay
        return stamp + delay

    def _start_time(self, recorded: PlannedControls) -> float:
        return self._due_start(recorded.stamp) if self._config.lockstep else recorded.start_time

    def _due_start(self, stamp: float) -> float:
        """Start of the plan that follows from a state in lockstep, s."""
        return stamp + self._config.lockstep_lead + self._config.prediction.command_delay

    def _terms(self, recorded: PlannedControls, plan: Plan, reference: Reference) -> Array:
        """Weighted cost (terms, 2) of the recorded plan and the new one."""
        objective, backend, dt = self._judge.objective, self._judge.backend, recorded.control_dt
        until = min(len(recorded.controls) * dt, len(plan.controls) * plan.control_dt)
        steps = max(math.floor(until / dt + 1e-6), 1)
        middle = plan.start_time + dt * (np.arange(steps) + 0.5)
        new = np.array([plan.control(time) for time in middle.tolist()])
        assert self._controller.start is not None
        problem = objective.pose(self._controller.start, reference)
        pair = np.stack([recorded.controls[:steps], new])
        controls = torch.as_tensor(pair, dtype=backend.dtype, device=backend.device)
        batch = backend.rollout(problem.start, controls, dt)
        asked = replace(problem.reference, times=problem.reference.times[:steps])
        costs = self._task.costs(batch, asked)
        return np.array(
            [
                self._weights[name] * cost.mean(-1)[:: backend.variants].cpu().numpy()
                for name, cost in costs.items()
            ],
            dtype=float,
        )

    def _difference(self, recorded: PlannedControls, plan: Plan) -> float:
        if plan.controls.shape != recorded.controls.shape:
            return math.nan
        return float((np.abs(plan.controls - recorded.controls) / self._range).max())


def _task(
    name: str,
    parameters: Mapping[str, Value],
    sha256: str,
    recorded: ModelFile,
    problems: list[str],
) -> Task:
    """The task with its own model where that is the recorded one, else with the bag's copy."""
    # MuJoCo writes MJCF with few digits: a copy compiles to almost the same model.
    own = ModelFile(str(parameters.get("model.path", "")), parameters.get("model.actuators", ""))  # type: ignore[arg-type]
    try:
        task = find_task(name)(own)
        if model_hash(task.model) == sha256:
            return task
        reason = "the model is not as it was"
    except TaskError as error:
        reason = str(error)
    problems.append(f"planned on the bag's copy of the model, which has rounded numbers: {reason}")
    return find_task(name)(recorded)


def _unlike_a_replay(
    run: EvaluatedRun, plans: Sequence[PlannedControls], recorded: Mapping[str, Value]
) -> list[str]:
    """Reasons for which the recorded parameters do not give the recorded plans back."""
    found = []
    numbers = [plan.number for plan in plans]
    if numbers and numbers[0] != 1:
        found.append(f"the bag begins with plan {numbers[0]}; what went before is unknown")
    if (gaps := len(numbers) and numbers[-1] - numbers[0] + 1 - len(numbers)) > 0:
        found.append(f"{gaps} plans are missing in the bag")
    if not recorded["lockstep"]:
        found.append(
            "recorded in real time: a plan's time decided its denoising steps and the rows of a "
            "policy; here each has all its steps"
        )
    if run.run.plans.backend not in (None, "cpu"):
        found.append("planned on a device, whose sums are not the same twice")
    return found
