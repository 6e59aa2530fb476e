"""Collect data: episodes of the planner at a generous budget, in several processes or on Ray.

Beside the episodes, plans from old states: of former data, or of recorded runs.

Fields of a row, in single precision where nothing else is said:

- `observation` (history, obs): at the plan's start, the newest last, see `Task.observation`
- `reference` (10,): velocity (3,) and pose (7,), see `Reference`
- `previous` (num_knots, nu): the previous plan, shifted to now
- `knots` (num_knots, nu): the teacher's plan, one of its samples, or its tail
- `action` (nu,): action executed, normalised
- `cost`, `cost_to_go` (): of the executed step, and discounted, which after the episode's end
  counts as going on as in its last second
- `plan_cost` (): of these knots as rolled out; of a tail, the whole plan's
- `advantage` (): mean cost of the plan's samples less `plan_cost`, in their standard deviations
- `kind` (): 0 plan, 1 sample, 2 tail, uint8
- `episode`, `step` (): int32; `time` (): s, double precision
- `state` (nq + nv,): at the plan's start, double precision
- `failed` (): whether the robot had failed, uint8
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_mpc.config import (
    SIM,
    PlannerNodeConfig,
    SimConfig,
    Value,
    build,
    load_parameters,
    model_file,
    parameters,
    require_parameter,
    split_sim,
)
from diffusion_mpc.learning.dataset import Rows, open_shard, shard_name, write_index
from diffusion_mpc.learning.old_states import old_states_of_bags, old_states_of_data, plan_again
from diffusion_mpc.learning.plan_rows import PLAN
from diffusion_mpc.learning.shard_folder import begin_folder, make_missing
from diffusion_mpc.learning.teacher_episode import EpisodeOptions, TeacherEpisode
from diffusion_mpc.tasks import find_task
from diffusion_mpc.versions import model_hash, revision, versions

EPISODES = 4
"""Episodes of a shard."""

STATES = 200
"""Old states of a shard, which come after the shards of episodes."""


@dataclass(frozen=True)
class CollectOptions:
    """Data that are wanted.

    Attributes:
        episodes: number of episodes; a multiple of the episodes of a shard is made
        processes: worker processes; 0: one per core
        episode: course of an episode
        bags: recorded runs whose states are planned from again
        replan: former data whose states are; None: none
        replan_fraction: fraction of their plans
        ray_address: address of a Ray cluster to work on; empty: this machine, without Ray
    """

    episodes: int = 64
    processes: int = 0
    episode: EpisodeOptions = field(default_factory=EpisodeOptions)
    bags: Sequence[Path] = ()
    replan: Path | None = None
    replan_fraction: float = 0.25
    ray_address: str = ""


def teacher_settings(task: str, given: Mapping[str, str]) -> dict[str, Value]:
    """Settings of the teacher: four times the task's samples and twice its steps, then those given.

    Args:
        task: name of a task, or its file
        given: texts of planner parameters, and of the simulation's that begin with `sim.`

    Raises:
        ConfigError, TaskError: as `load_parameters`
    """
    kind = find_task(task)
    known = parameters(PlannerNodeConfig, kind, model_file(given))
    more = {
        f"planner.{name}": factor * int(known[f"planner.{name}"].default)
        for name, factor in (("num_samples", 4), ("iterations", 2))
    }
    return {
        "task": task,
        "backend.threads": 1,
        # A shipped policy would be a teacher of itself.
        "policy.checkpoint": "",
        **kind.demo,
        **more,
        **parse_given(task, given),
    }


def parse_given(task: str, given: Mapping[str, str]) -> dict[str, Value]:
    """Values of the texts that `teacher_settings` takes."""
    kind, model = find_task(task), model_file(given)
    planned, simulated = split_sim(given)
    values = dict[str, Value]()
    for config, texts, prefix in ((PlannerNodeConfig, planned, ""), (SimConfig, simulated, SIM)):
        known = parameters(config, kind, model)
        for name, text in texts.items():
            require_parameter(name, known)
            values[prefix + name] = known[name].parse(text)
    return values


def collect(
    task: str, folder: Path, given: Mapping[str, Any], options: CollectOptions
) -> dict[str, Any]:
    """Collect what is not there yet.

    Args:
        task: name of a task, or its file
        folder: where the data go; those of the same options that are there stay
        given: as `teacher_settings`
        options: data that are wanted

    Returns:
        figures: plans, pairs (rows), pairs per second; falls and mean cost of the episodes

    Raises:
        DatasetError: the folder has other data
        ConfigError, TaskError, ValueError: settings do not fit
    """
    settings = teacher_settings(task, given)
    about = _about(task, settings, options)
    same = ("task", "model_sha256", "parameters", "options", "old_states")
    before = {
        "options": asdict(EpisodeOptions()),
        "old_states": _said_of_old_states(CollectOptions()),
    }
    begin_folder(folder, about, same, before)
    # Wrong settings end here, in one line, not in every worker.
    TeacherEpisode(settings, 0, options.episode)
    episodes = -(-options.episodes // EPISODES)
    old = _old_states(options, settings, about)
    shards = episodes - (-len(old["time"]) // STATES if old else 0)
    began = time.perf_counter()
    work = partial(shard_rows, settings, options.episode, episodes, old)
    made = make_missing(folder, work, shards, options.processes, options.ray_address)
    seconds = time.perf_counter() - began
    write_index(folder, about, range(shards))
    plans = pairs = falls = 0
    cost = list[float]()
    for number in range(shards):
        fields = open_shard(folder / shard_name(number)).fields
        mine = np.flatnonzero(np.asarray(fields["kind"]) == PLAN)
        plans, pairs = plans + len(mine), pairs + len(fields["kind"])
        if number >= episodes:
            continue
        failed = np.asarray(fields["failed"])[mine].astype(int)
        same = np.diff(np.asarray(fields["episode"])[mine]) == 0
        falls += int(((np.diff(failed) == 1) & same).sum())
        cost += np.asarray(fields["cost"])[mine].tolist()
    return {
        "task": about["task"],
        "folder": str(folder),
        "episodes": EPISODES * episodes,
        "old_states": len(old["time"]) if old else 0,
        "plans": plans,
        "pairs": pairs,
        "new_pairs": made,
        "seconds": seconds,
        "pairs_per_s": made / seconds if made else None,
        "falls": falls,
        "mean_cost": float(np.mean(cost)) if cost else None,
    }


def shard_rows(
    settings: Mapping[str, Value], options: EpisodeOptions, episodes: int, old: Rows, number: int
) -> Rows:
    """Rows of one shard; called in other processes.

    Args:
        settings: parameters of the teacher
        options: course of an episode
        episodes: number of shards of episodes, which come first
        old: old states, see `old_states.KEPT`; may be empty
        number: of the shard
    """
    if number >= episodes:
        first = (number - episodes) * STATES
        chosen = slice(first, first + STATES)
        return plan_again(settings, old, chosen, options.samples, options.tails)
    parts = [
        TeacherEpisode(settings, number * EPISODES + i, options).run() for i in range(EPISODES)
    ]
    return {
        name: np.concatenate([part[name] for part in parts if part])
        for name in next(part for part in parts if part)
    }


def _old_states(
    options: CollectOptions, settings: Mapping[str, Value], about: Mapping[str, Any]
) -> Rows:
    """Rows of all old states that are planned from again; empty where none are asked for."""
    course, found = options.episode, list[Rows]()
    if options.replan is not None:
        found.append(
            old_states_of_data(options.replan, options.replan_fraction, course.seed, about)
        )
    if options.bags:
        found.append(old_states_of_bags(options.bags, settings, course.discount))
    return {name: np.concatenate([rows[name] for rows in found]) for name in next(iter(found), {})}


def _about(task: str, settings: Mapping[str, Value], options: CollectOptions) -> dict[str, Any]:
    planned = split_sim(settings)[0]
    config = build(PlannerNodeConfig, load_parameters(PlannerNodeConfig, planned)[1])
    made = find_task(task)(config.model.file)
    return {
        "task": made.name,
        "model_sha256": model_hash(made.model),
        "parameters": dict(settings),
        "options": asdict(options.episode),
        "old_states": _said_of_old_states(options),
        "revision": revision(),
        "versions": versions(),
    }


def _said_of_old_states(options: CollectOptions) -> dict[str, Any]:
    return {
        "bags": [str(bag) for bag in options.bags],
        "replan": str(options.replan or ""),
        "replan_fraction": options.replan_fraction if options.replan else 0.0,
    }
