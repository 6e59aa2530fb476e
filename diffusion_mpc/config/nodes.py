"""Parameters of the nodes, with a task's defaults, its cost weights, and gains for its joints."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from diffusion_mpc.config.parameter import Parameter, Value, check, fields
from diffusion_mpc.config.planner_parameters import JointGains, PlannerNodeConfig
from diffusion_mpc.config.recorder_parameters import RecorderConfig
from diffusion_mpc.config.renamed import replacement
from diffusion_mpc.config.search_parameters import ModelConfig
from diffusion_mpc.config.sim_parameters import SimConfig
from diffusion_mpc.config.viewer_parameters import ViewerConfig
from diffusion_mpc.names import ActuatorKind
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.model_file import OWN, ModelFile
from diffusion_mpc.tasks.user_code import naming

if TYPE_CHECKING:
    from diffusion_mpc.tasks.base import Task

V = TypeVar("V")

MODEL_FILE = ("model.path", "model.actuators")
"""Parameters that say which model a node works with."""

NODES: dict[str, type] = {
    "planner": PlannerNodeConfig,
    "sim": SimConfig,
    "recorder": RecorderConfig,
    "viewer": ViewerConfig,
}
"""The nodes by name, and their parameters."""

# Every ROS node has these; they are not ours to know.
ROS_OWN = ("use_sim_time", "start_type_description_service", "qos_overrides.")

SIM = "sim."
"""Prefix of the simulation's parameters where they stand among the planner's."""


def split_sim(values: Mapping[str, V]) -> tuple[dict[str, V], dict[str, V]]:
    """Values of the planner's parameters, and of the simulation's without their prefix `sim.`."""
    simulation = {
        name.removeprefix(SIM): value for name, value in values.items() if name.startswith(SIM)
    }
    return {name: value for name, value in values.items() if not name.startswith(SIM)}, simulation


def parameters(
    config: type, task: type[Task] | None = None, model: ModelFile = OWN
) -> dict[str, Parameter]:
    """All parameters of a config class by full name, with the defaults of a task.

    For the planner that includes the task's cost weights, and the gains of the joints that its
    model drives by effort.

    Args:
        config: class of one of the nodes
        task: the task; None: only what no task decides
        model: what is given in place of the task's own model

    Raises:
        TaskError: the model cannot be read
    """
    found = {p.name: p for p in fields(config)}
    if task is None:
        return found
    with naming(task, "defaults"):
        planner, simulation = split_sim(task.defaults)
    if config is PlannerNodeConfig:
        defaults: Mapping[str, Value] = planner
        with naming(task, "defaults"):
            own = model_file(planner)
        used = ModelFile(model.path or own.path, model.actuators or own.actuators)
        for joint in task(used).effort_joints():
            found |= {p.name: p for p in fields(JointGains, f"gains.{joint}.")}
        for term in task.cost_terms().values():
            name = f"cost.{term.name}"
            found[name] = Parameter(
                name, float, term.weight, f"Weight of: {term.description}", "", 0.0, 1e6, live=True
            )
    else:
        defaults = simulation if config is SimConfig else {}
    with naming(task, "defaults"):
        for name, value in check(defaults, found).items():
            found[name] = dataclasses.replace(found[name], default=value)
    if config in (PlannerNodeConfig, SimConfig):
        with naming(task, "demo"):
            check(split_sim(task.demo)[config is SimConfig], found)
    return found


def model_file(values: Mapping[str, Any]) -> ModelFile:
    """The model that values name, of which any may be missing.

    Raises:
        ConfigError: there are no such actuators
    """
    known = {p.name: p for p in fields(ModelConfig, "model.")}
    path, actuators = (known[name].check(values.get(name, "")) for name in MODEL_FILE)
    return ModelFile(cast(str, path), cast(ActuatorKind, actuators))


def cost_weights(values: Mapping[str, Value]) -> dict[str, float]:
    """Weights of the cost terms by their names, from checked values."""
    return {
        name.removeprefix("cost."): float(value)
        for name, value in values.items()
        if name.startswith("cost.")
    }


def load_parameters(
    config: type, given: Mapping[str, Any]
) -> tuple[dict[str, Parameter], dict[str, Value]]:
    """Descriptions and checked values of a node's parameters.

    Task and model among `given` decide which there are.

    Raises:
        ConfigError: as `check`
        TaskError: there is no such task, or its model cannot be read
    """
    own = parameters(config)
    task = find_task(str(given.get("task", own["task"].default))) if "task" in own else None
    known = parameters(config, task, model_file(given) if task is not None else OWN)
    return known, check(given, known)


def own_parameters(
    config: type, given: Mapping[str, Any], shared: Collection[str], task: str = ""
) -> dict[str, Any]:
    """Values that are meant for a node, of those that it is given.

    Args:
        config: class of the node
        given: what it is given
        shared: names among them that were given to any node; those that another node has, and
            those that are not nearly one of this node's, are left to others
        task: task that decides which parameters there are; empty: the one that is given

    Raises:
        ConfigError: as `model_file`
        TaskError: as `load_parameters`
    """
    if given.keys().isdisjoint(shared):
        return dict(given)
    task = str(task or given.get("task", ""))
    found = find_task(task) if task else None
    model = model_file(given)
    known = {kind: parameters(kind, found, model) for kind in NODES.values()}
    names = [name for described in known.values() for name in described]

    def mine(name: str) -> bool:
        if name in known[config] or name not in shared or name.startswith(ROS_OWN):
            return True
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
        return bool(replacement(name, known[config]) or (near and near[0] in known[config]))

    return {name: value for name, value in given.items() if mine(name)}
