"""States of former data or of recorded runs, planned from again.

Labels grow stale: what an earlier teacher planned, or the planner on a robot with the samples that
its computer had time for, is not what the teacher of today would. The states are worth keeping;
most of all those that a policy led to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_mpc.bags.bag_reader import BagError, Messages, read_messages
from diffusion_mpc.bags.planned_controls import PLAN_TYPE, planned_controls
from diffusion_mpc.bags.recorded_states import OBJECT_TYPES, STATE_TYPES, states_of
from diffusion_mpc.config import PlannerNodeConfig, Value, build, cost_weights, load_parameters
from diffusion_mpc.estimation.frames import pose_to_goal
from diffusion_mpc.estimation.reference import parameter_reference
from diffusion_mpc.learning.dataset import Dataset, DatasetError, Rows
from diffusion_mpc.learning.executed import costs_to_go, executed_costs
from diffusion_mpc.learning.plan_rows import PLAN, SYNTHETIC, TYPES, TaughtPlan, as_arrays
from diffusion_mpc.message_fields import xyz, xyzw
from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.measured import observe
from diffusion_mpc.types import Array, Reference, State

KEPT = (
    "state",
    "time",
    "reference",
    "previous",
    "before",
    "action",
    "cost",
    "cost_to_go",
    "failed",
    "episode",
    "step",
)
"""Fields of old states; `before` (obs,) is the observation a period before."""

PASSES = 2
"""Plans from a state, each from the one before: a plan in closed loop has as many predecessors."""

STATS, STATS_TYPE = "planner/stats", "diffusion_mpc/msg/PlannerStats"
"""Topic of a planner that tells its references, and its message type."""


def old_states_of_data(folder: Path, fraction: float, seed: int, about: Mapping[str, Any]) -> Rows:
    """A fraction of the states of former data or of synthetic ones, chosen by chance.

    Args:
        folder: the data
        fraction: of their plans
        seed: same seed, same states
        about: `task` and `model_sha256` of the data to come

    Returns:
        rows of the fields `KEPT`

    Raises:
        DatasetError: there are no such data, or they are of another task or model
    """
    data = Dataset(folder)
    for name in ("task", "model_sha256"):
        if data.index[name] != about[name]:
            raise DatasetError(
                f"'{folder}' has data of another {name.replace('_', ' ')}; name others"
            )
    plans = np.flatnonzero(np.isin(data.columns("kind")["kind"], (PLAN, SYNTHETIC)))
    count = max(1, round(fraction * len(plans)))
    chosen = np.sort(np.random.default_rng(seed).choice(plans, count, replace=False))
    rows = data.rows(chosen, [name for name in KEPT if name != "before"] + ["observation"])
    rows["before"] = rows.pop("observation")[:, 0]
    return rows


def old_states_of_bags(
    bags: Sequence[Path], settings: Mapping[str, Value], discount: float
) -> Rows:
    """States of recorded runs that were planned from; all at the planner's rate without plans.

    Args:
        bags: rosbag2 folders or .mcap files, or folders of such
        settings: parameters of the teacher, `task` among them
        discount: of the cost to go, by step

    Returns:
        rows of the fields `KEPT`; each bag is an episode

    Raises:
        BagError: a bag cannot be read, or has no states of the task
    """
    values = load_parameters(PlannerNodeConfig, settings)[1]
    config = build(PlannerNodeConfig, values)
    task, search = find_task(config.task)(config.model.file), config.planner
    spline = Spline(search.num_knots, search.horizon_steps, search.control_dt, search.spline)
    found = [
        _rows_of_bag(bag, number, task, config, cost_weights(values), spline, discount)
        for number, bag in enumerate(_bags_in(bags))
    ]
    return {name: np.concatenate([rows[name] for rows in found]) for name in KEPT}


def plan_again(
    settings: Mapping[str, Value], old: Rows, chosen: slice, samples: int, tails: int
) -> Rows:
    """Rows of plans from old states, with the old costs of what was executed there.

    Args:
        settings: parameters of the teacher, `task` among them
        old: rows of the fields `KEPT`
        chosen: which of them
        samples: rows of a plan's samples
        tails: rows of a plan's tails
    """
    values = load_parameters(PlannerNodeConfig, settings)[1]
    config = build(PlannerNodeConfig, values)
    # Its own random numbers for each piece of work, so that it can be made again.
    config = replace(
        config, planner=replace(config.planner, seed=config.planner.seed + chosen.start)
    )
    task = find_task(config.task)(config.model.file)
    controller = Controller(task, config, cost_weights(values), config.planner.num_samples)
    made = list[dict[str, Any]]()
    for i in range(*chosen.indices(len(old["time"]))):
        nq = task.model.nq
        state = State(float(old["time"][i]), old["state"][i, :nq], old["state"][i, nq:])
        reference = Reference(old["reference"][i, :3].astype(float), old["reference"][i, 3:])
        controller.reset()
        controller.planner.follow(old["previous"][i].astype(float), state.stamp)
        try:
            for _ in range(PASSES):
                controller.current = controller.planner.plan(state, reference)
        except NoFeasibleSampleError:
            continue
        controller.start = state
        taught = TaughtPlan.of(controller, reference, old["before"][i], tails)
        # What the network is shown as the previous plan is what there was, not the first pass.
        taught = replace(taught, plan=replace(taught.plan, previous=old["previous"][i]))
        names = ("action", "cost", "cost_to_go", "failed", "episode", "step")
        made += taught.rows(samples, {name: old[name][i] for name in names})
    if not made:
        raise DatasetError("from none of the old states there is a plan; look at the task's terms")
    return as_arrays(made)


def _bags_in(paths: Sequence[Path]) -> list[Path]:
    """The bags that are named, or lie below the folders that are."""
    found = list[Path]()
    for path in paths:
        inside = sorted(
            {file.parent for file in path.rglob("metadata.yaml")} or path.rglob("*.mcap")
        )
        found += [path] if path.is_file() or (path / "metadata.yaml").is_file() else inside
        if not path.exists() or not (path.is_file() or inside):
            raise BagError(f"there is no bag in '{path}'; name folders that hold bags")
    return found


def _rows_of_bag(
    bag: Path,
    number: int,
    task: Task,
    config: PlannerNodeConfig,
    weights: Mapping[str, float],
    spline: Spline,
    discount: float,
) -> Rows:
    kinds = {kind for types in (*STATE_TYPES.values(), OBJECT_TYPES) for kind in types}
    kinds |= {PLAN_TYPE, STATS_TYPE}
    messages = read_messages(bag, lambda topic, kind: kind in kinds).of_robot(bag)
    problems = list[str]()
    recorded = states_of(messages, task, problems)
    if not len(recorded.stamps):
        raise BagError(f"bag '{bag}' holds no states of '{task.name}': {problems[0]}")
    plans = _plans(messages, bag, config, task, spline)
    if plans:
        places = np.searchsorted(recorded.stamps, [stamp - 1e-6 for stamp in plans])
        places = np.unique(places[places < len(recorded.stamps)])
    else:
        times = np.arange(recorded.stamps[0], recorded.stamps[-1], 1.0 / config.planner.rate)
        places = np.unique(np.searchsorted(recorded.stamps, times))
    states = [State(recorded.stamps[i], recorded.qpos[i], recorded.qvel[i]) for i in places]
    nothing = np.zeros((len(spline.knot_times), task.model.nu)), parameter_reference(config)
    knots, references = list[Array](), list[Reference]()
    for state in states:
        made = plans.get(round(state.stamp, 6), nothing)
        knots.append(made[0])
        references.append(made[1])
    actions = np.array([k[0] for k in knots])
    cost, failed = executed_costs(task, task.model, weights, states, actions, references)
    seen = np.array(
        [observe(task, task.model, s, r) for s, r in zip(states, references, strict=True)]
    )
    elapsed = np.diff([state.stamp for state in states])
    previous = [
        knots[0],
        *(spline.shift(k, t).clip(-1.0, 1.0) for k, t in zip(knots, elapsed, strict=False)),
    ]
    rows = {
        "state": np.array([np.concatenate([s.qpos, s.qvel]) for s in states]),
        "time": np.array([s.stamp for s in states]),
        "reference": np.array([np.concatenate([r.velocity, r.pose]) for r in references]),
        "previous": np.array(previous),
        "before": np.concatenate([seen[:1], seen[:-1]]),
        "action": actions,
        "cost": cost,
        "cost_to_go": costs_to_go(cost, discount, config.planner.rate),
        "failed": failed,
        "episode": np.full(len(states), number),
        "step": np.arange(len(states)),
    }
    return {name: x.astype(TYPES.get(name, np.float32)) for name, x in rows.items()}


def _plans(
    messages: Messages, bag: Path, config: PlannerNodeConfig, task: Task, spline: Spline
) -> dict[float, tuple[Array, Reference]]:
    """Knots and reference of the plans, by the rounded stamp of the state planned from.

    A plan tells its controls; knots that give them, as nearly as they can, are found by least
    squares. Those of another structure are left out.
    """
    topic = messages.find_topic(STATS, (STATS_TYPE,), [])
    stats = {m.content.plan_id: m.content for m in messages.on(topic)}
    plans = {}
    for plan in planned_controls(messages, bag, task):
        same = abs(plan.control_dt - config.planner.control_dt) < 1e-9
        if not (same and len(plan.controls) == len(spline.to_controls)):
            continue
        knots = spline.to_knots @ task.normalise(torch.from_numpy(plan.controls)).numpy()
        reference = parameter_reference(config)
        if (said := stats.get(plan.number)) is not None:
            reference = Reference(
                np.array([*xyz(said.command.linear)[:2], said.command.angular.z]),
                pose_to_goal(xyz(said.goal.position), xyzw(said.goal.orientation)),
            )
        plans[round(plan.stamp, 6)] = (knots.clip(-1.0, 1.0), reference)
    return plans
