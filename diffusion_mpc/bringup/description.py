"""Description of the processes of a run, for the command line and for the launch files.

Imports neither rclpy nor launch.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from diffusion_mpc.command.decode import FIELDS
from diffusion_mpc.command.follower import TRAJECTORY
from diffusion_mpc.config import (
    MODEL_FILE,
    NODES,
    ROS_OWN,
    SIM,
    ConfigError,
    Parameter,
    SimConfig,
    Value,
    build,
    load_parameters,
    model_file,
    parameters,
    read_parameter_file,
    require_parameter,
    split_sim,
)
from diffusion_mpc.names import BackendChoice
from diffusion_mpc.node_processes import Process
from diffusion_mpc.rollout.backend import is_multiple
from diffusion_mpc.simulation.disturbances import whole_periods
from diffusion_mpc.tasks import find_task

LAST_DOMAIN = 232
"""Highest ROS domain: the ports of the next one would be beyond 65535."""


@dataclass(frozen=True)
class Argument:
    """A launch argument."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


ARGUMENTS = (
    Argument("task", "ant", "Name of the task, or a Python file that defines one."),
    Argument(
        "params_file", "", "ROS parameter file for the nodes; the other arguments win over it."
    ),
    Argument(
        "backend",
        "",
        "Rollout backend of the planner; empty: the task's.",
        ("", *get_args(BackendChoice)),
    ),
    Argument("headless", "true", "Without a viewer window.", ("true", "false")),
    Argument(
        "page",
        "false",
        "Serve the live page; the viewer node's log and its topic viewer/address say where.",
        ("true", "false"),
    ),
    Argument("record", "", "New folder for the bag; empty: nothing is recorded."),
    Argument(
        "lockstep",
        "false",
        "The simulation waits for every command: results do not depend on speed.",
        ("true", "false"),
    ),
    Argument(
        "duration", "0.0", "Simulated time in s after which everything ends; 0: run until stopped."
    ),
    Argument(
        "use_sim_time",
        "false",
        "All nodes follow /clock, which the simulation publishes.",
        ("true", "false"),
    ),
    Argument(
        "namespace",
        "",
        "Namespace of all nodes and of their topics, so that robots can run side by side.",
    ),
)
"""Arguments of `launch/*_sim.launch.py`."""

ROBOT_ARGUMENTS = (
    *(a for a in ARGUMENTS if a.name not in ("headless", "lockstep", "duration")),
    Argument("respawn", "false", "The planner is started again when it dies.", ("true", "false")),
)
"""Arguments of `launch/planner.launch.py`."""


@dataclass(frozen=True)
class Options:
    """Options of a run; the fields are the launch arguments, with values in place of texts."""

    task: str = "ant"
    params_file: str = ""
    backend: str = ""
    headless: bool = True
    page: bool = False
    record: str = ""
    lockstep: bool = False
    duration: float = 0.0
    use_sim_time: bool = False
    namespace: str = ""
    respawn: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Options:
        """Options from the texts of launch arguments.

        Those that are not among them are at their defaults.

        Raises:
            ConfigError: a text is not a number
        """
        known = (*ARGUMENTS, *ROBOT_ARGUMENTS)
        texts = {**{argument.name: argument.default for argument in known}, **texts}

        def number(name: str) -> float:
            try:
                return float(texts[name])
            except ValueError:
                raise ConfigError(f"{name}: '{texts[name]}' is not a number") from None

        def flag(name: str) -> bool:
            return texts[name].lower() == "true"

        return cls(
            task=texts["task"],
            params_file=texts["params_file"],
            backend=texts["backend"],
            headless=flag("headless"),
            page=flag("page"),
            record=texts["record"],
            lockstep=flag("lockstep"),
            duration=number("duration"),
            use_sim_time=flag("use_sim_time"),
            namespace=texts["namespace"],
            respawn=flag("respawn"),
        )


def processes(options: Options) -> list[Process]:
    """The nodes of a simulation, in the order they are started.

    Recorder and viewer, where they are asked for, planner, simulation.

    Raises:
        ConfigError: a setting or a parameter in the file is unknown or does not fit
        TaskError: there is no such task
    """
    # One mapping a node, not files and overrides for ROS to merge: in rcl, a value under
    # `/**/planner` and one under `/planner` override each other in the order in which these names
    # first appear, not in the order of the files.
    task = find_task(options.task)
    given = read_parameter_file(options.params_file, options.namespace, options.task)
    settings = _settings(options.settings, options.task, given["planner"])
    common: dict[str, Value] = {"use_sim_time": options.use_sim_time}
    # Robot and recorder listen to the commands, planner and recorder to the states.
    together: dict[str, Value] = {
        "task": options.task,
        "lockstep": options.lockstep,
        "wait_for_subscribers": 2 if options.record else 1,
    }
    simulation: dict[str, Value] = {
        "duration": options.duration,
        "publish_clock": options.use_sim_time,
        "viewer": not options.headless,
    }
    backend: dict[str, Value] = {"backend.name": options.backend} if options.backend else {}
    planner = {**task.demo, **given["planner"], **together, **backend, **settings["planner"]}
    # Rates, robots, names and message types of planner and simulation belong together unless the
    # user says otherwise.
    asked = _checked("planner", planner)
    if asked["output.type"] == TRAJECTORY:
        # The simulated robot has no controller that would make efforts of positions.
        planner = {**dict.fromkeys(FIELDS.values(), True), **planner}
    mine = {**split_sim(task.defaults)[1], **given["sim"], **settings["sim"]}
    robot = {} if "model.path" in mine else {name: asked[name] for name in MODEL_FILE}
    # The simulation is the source of time, so it follows the wall clock itself.
    sim = {
        "rate": asked["planner.rate"],
        "object_type": asked["objects.type"],
        "joint_prefix": asked["joint_prefix"],
        **robot,
        **given["sim"],
        **together,
        **simulation,
        **settings["sim"],
        "use_sim_time": False,
    }
    _require_fit(asked, _checked("sim", sim))
    if options.lockstep:
        # In real time the stamps tell how old a state is; in lockstep the planner has no clock to
        # compare them with.
        known = build(SimConfig, _checked("sim", sim))
        delay = whole_periods(known.state_delay, 1.0 / known.rate)
        planner = {"lockstep_lead": delay, **planner}
    return _with_helpers(options, {"planner": {**planner, **common}, "sim": sim}, given)


def _require_fit(planner: Mapping[str, Value], sim: Mapping[str, Value]) -> None:
    """Refuse values of the two nodes that cannot go together.

    Raises:
        ConfigError: the message names both parameters
    """
    for name in ("task", "lockstep"):
        if planner[name] != sim[name]:
            raise ConfigError(
                f"{SIM}{name} is {sim[name]} and {name} of the planner is {planner[name]}; they "
                "have to be the same"
            )
    rate, timestep = float(sim["rate"]), float(sim["model.timestep"])
    if sim["lockstep"] and not is_multiple(1.0 / rate, timestep):
        came = ", from planner.rate," if rate == planner["planner.rate"] else ""
        raise ConfigError(
            f"{SIM}rate is {rate:g} Hz{came} and {SIM}model.timestep {timestep:g} s: a period of "
            f"{1.0 / rate:.5g} s is not a multiple of the time step, as lockstep needs; change one "
            "of them"
        )


def robot_processes(options: Options) -> list[Process]:
    """The nodes beside a robot that is not simulated here: recorder, viewer, planner.

    Raises:
        ConfigError, TaskError: as `processes`
    """
    given = read_parameter_file(options.params_file, options.namespace, options.task)
    backend: dict[str, Value] = {"backend.name": options.backend} if options.backend else {}
    common: dict[str, Value] = {"use_sim_time": options.use_sim_time}
    # Not the task's demo, which asks for motion: a robot waits for somebody to command it.
    planner = {**given["planner"], **backend, **common, "task": options.task}
    # A disk that is full is no reason to let go of a robot.
    return [
        replace(p, respawn=options.respawn) if p.name == "planner" else replace(p, helper=True)
        for p in _with_helpers(options, {"planner": planner}, given)
    ]


def _with_helpers(
    options: Options, nodes: Mapping[str, Mapping[str, Value]], given: Mapping[str, dict[str, Any]]
) -> list[Process]:
    common: dict[str, Value] = {"use_sim_time": options.use_sim_time}
    if options.page:
        nodes = {"viewer": {**given["viewer"], **common}, **nodes}
    if options.record:
        recorder = {**given["recorder"], **common, "directory": options.record}
        nodes = {"recorder": recorder, **nodes}
    for name, values in nodes.items():
        _checked(name, values)
    # A page that cannot be served is no reason to end a run.
    return [
        Process(name, values, options.namespace, helper=name == "viewer")
        for name, values in nodes.items()
    ]


def _checked(node: str, values: Mapping[str, Any]) -> dict[str, Value]:
    return load_parameters(
        NODES[node], {name: value for name, value in values.items() if not name.startswith(ROS_OWN)}
    )[1]


def _settings(
    texts: Mapping[str, str], task: str, planner: Mapping[str, Any]
) -> dict[str, dict[str, Value]]:
    """Values of the settings by node.

    What they do not say of the planner's model is as in `planner`.
    """
    model = model_file({**planner, **texts})
    return {
        node: _parsed(mine, parameters(NODES[node], find_task(task), model))
        for node, mine in zip(("planner", "sim"), split_sim(texts), strict=True)
    }


def _parsed(texts: Mapping[str, str], known: Mapping[str, Parameter]) -> dict[str, Value]:
    for name in texts:
        require_parameter(name, known)
    return {name: known[name].parse(text) for name, text in texts.items()}


def isolation() -> dict[str, str]:
    """Environment that keeps a simulation off the network: it must never reach a robot.

    What the user has set stands.

    Raises:
        ConfigError: ROS could not start with what the user has set
    """
    _require_domain(os.environ.get("ROS_DOMAIN_ID", ""))
    _require_log_folder()
    wanted = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(free_domain_id())}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def _require_domain(text: str) -> None:
    if text and not (text.isdecimal() and int(text) <= LAST_DOMAIN):
        raise ConfigError(f"ROS_DOMAIN_ID is '{text}'; set it to a number from 0 to {LAST_DOMAIN}")


def _require_log_folder() -> None:
    """Make the folder that nodes log to, as rcl finds it.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there
    """
    named = next((name for name in ("ROS_LOG_DIR", "ROS_HOME") if os.environ.get(name)), "")
    folder = Path(os.environ.get(named, "~/.ros")).expanduser()
    folder = folder if named == "ROS_LOG_DIR" else folder / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "Permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ConfigError(
            f"the log folder '{folder}' cannot be written to ({reason}); set ROS_LOG_DIR to "
            "another folder"
        )


def free_domain_id() -> int:
    """ROS domain that nobody on this machine is in: two simulations side by side do not mix.

    The first participant of a domain takes UDP port 7410 + 250 * domain (DDSI-RTPS 2.3, section
    9.6.1.1). Domains up to 101 have their ports below those that the system hands out.
    """
    for domain in random.sample(range(1, 102), 101):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise ConfigError("all ROS domains from 1 to 101 are in use on this machine; set ROS_DOMAIN_ID")
