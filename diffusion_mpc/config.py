"""Every parameter of every node: type, default, unit, bounds, meaning, and whether it may change while the node runs.

This is the only source of parameters. The ROS nodes declare from it, the command line checks against it, and `config/*.yaml` are
written by it (`python -m diffusion_mpc.config TASK`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_mpc.parameter import ConfigError as ConfigError
from diffusion_mpc.parameter import Parameter as Parameter
from diffusion_mpc.parameter import Value as Value
from diffusion_mpc.parameter import build as build
from diffusion_mpc.parameter import check as check
from diffusion_mpc.parameter import fields, param
from diffusion_mpc.tasks import find_task
from diffusion_mpc.tasks.base import Task


@dataclass(frozen=True)
class ModelConfig:
    """The model that plans are made with, or that the simulation steps."""

    path: str = param("", "MJCF file in place of the task's own; empty: the task's own.")
    timestep: float = param(0.02, "Physics time step of the model.", unit="s", low=1e-4, high=0.1, rebuilt=True)
    integrator: str = param(
        "implicitfast", "Integrator of the model.", choices=("euler", "rk4", "implicit", "implicitfast"), rebuilt=True
    )
    iterations: int = param(10, "Most iterations of the constraint solver.", low=1, high=200, rebuilt=True)


@dataclass(frozen=True)
class PlantModelConfig(ModelConfig):
    """The simulated robot: finer steps than the planner's model."""

    timestep: float = param(0.005, "Physics time step of the simulation.", unit="s", low=1e-4, high=0.1)
    integrator: str = param("implicitfast", "Integrator of the model.", choices=("euler", "rk4", "implicit", "implicitfast"))
    iterations: int = param(50, "Most iterations of the constraint solver.", low=1, high=200)


@dataclass(frozen=True)
class PlannerConfig:
    """The search for a plan."""

    algorithm: str = param(
        "mbd",
        "Sampling algorithm: Model-Based Diffusion, or one to compare it with.",
        choices=("mbd", "predictive_sampling", "mppi", "cem", "dial", "cma_es"),
        rebuilt=True,
    )
    rate: float = param(50.0, "Plans per second.", unit="Hz", low=1.0, high=500.0)
    num_samples: int = param(32, "Rollouts in one denoising step.", low=2, high=65536, rebuilt=True)
    iterations: int = param(4, "Denoising steps in one plan.", low=1, high=100, rebuilt=True)
    horizon_steps: int = param(20, "Control steps that a plan looks ahead.", low=2, high=500, rebuilt=True)
    control_dt: float = param(
        0.02, "Time between two controls of a plan; a multiple of model.timestep.", unit="s", low=1e-3, high=0.5, rebuilt=True
    )
    num_knots: int = param(5, "Spline knots that a plan's controls come from.", low=2, high=500, rebuilt=True)
    spline: str = param("quadratic", "Interpolation between knots.", choices=("zero", "linear", "quadratic", "cubic"), rebuilt=True)
    lead: float = param(
        0.0,
        "Time from the beginning of a plan to its first command, a period at most; 0: measured, what nearly all recent plans took.",
        unit="s",
        low=0.0,
        high=1.0,
        live=True,
    )
    time_budget: float = param(
        0.9, "Share of the period after which no further denoising step begins.", low=0.1, high=10.0, live=True
    )
    temperature: float = param(
        0.2, "Temperature of the weights; small: follow the best samples only.", low=1e-3, high=10.0, live=True
    )
    noise_start: float = param(
        0.7, "Standard deviation of the first denoising step, in normalised actions.", low=0.0, high=2.0, live=True
    )
    noise_end: float = param(0.25, "Standard deviation of the last denoising step.", low=0.0, high=2.0, live=True)
    mirrored: bool = param(True, "mbd draws its noise in pairs of opposite sign.", live=True)
    success_share: float = param(
        0.1,
        "Share of mbd's samples that should beat the plan: if more do, noise grows, else it shrinks.",
        low=0.0,
        high=1.0,
        live=True,
    )
    scale_rate: float = param(
        0.5, "How fast mbd's noise grows or shrinks in a denoising step; 0: not.", low=0.0, high=5.0, live=True
    )
    shape_rate: float = param(
        0.2, "How fast mbd's noise of each knot and actuator follows the good samples; 0: not.", low=0.0, high=1.0, live=True
    )
    noise_growth: float = param(0.7, "Noise of the last knot as a multiple of the first's.", low=0.1, high=10.0, live=True)
    elite_share: float = param(
        0.1,
        "Share of the samples, two at least, that cem refits mean and standard deviation to.",
        low=0.001,
        high=1.0,
        rebuilt=True,
    )
    noise_floor: float = param(
        0.05, "Least standard deviation of cem, so that the search never comes to a stop.", low=0.0, high=2.0, live=True
    )
    dial_beta1: float = param(
        0.7, "How slowly dial's noise falls from step to step; large: hardly at all.", low=0.05, high=100.0, live=True
    )
    dial_beta2: float = param(
        2.0, "How slowly dial's noise falls from the last knot to the first; large: hardly at all.", low=0.05, high=100.0, live=True
    )
    demonstration: str = param(
        "", "CSV file or bag with positions that the search is drawn to while it finds nothing cheaper; empty: none."
    )
    demonstration_distance: float = param(
        0.5, "Distance from the demonstration at which a position counts as far off, in m or rad.", low=1e-3, high=100.0
    )
    seed: int = param(0, "Seed of the samples: same seed, same states, same plans.", low=0, high=2**31 - 1, rebuilt=True)


@dataclass(frozen=True)
class BackendConfig:
    """Where rollouts run."""

    name: str = param(
        "cpu",
        "Rollout backend; warp: MuJoCo on an NVIDIA GPU; function: the task's own dynamics; auto: the one measured to be fastest.",
        choices=("cpu", "warp", "function", "auto"),
        rebuilt=True,
    )
    capture: str = param(
        "plan",
        "What of a plan the warp backend makes a CUDA graph of: all of it, the physics of each control step, or nothing.",
        choices=("plan", "step", "none"),
        rebuilt=True,
    )
    threads: int = param(0, "Rollout threads of the cpu backend; 0: one per core.", low=0, high=256, rebuilt=True)


@dataclass(frozen=True)
class RobustConfig:
    """Planning for robots that differ from the model: every sample is rolled out on several perturbed models."""

    models: int = param(
        1, "Models that each sample is rolled out on: the given one and perturbed ones.", low=1, high=64, rebuilt=True
    )
    mass: float = param(
        0.2, "Largest change of all masses and inertias of a perturbed model, as a share.", low=0.0, high=0.9, rebuilt=True
    )
    friction: float = param(
        0.3, "Largest change of all sliding frictions of a perturbed model, as a share.", low=0.0, high=0.9, rebuilt=True
    )
    gain: float = param(
        0.1, "Largest change of all actuator gains of a perturbed model, as a share.", low=0.0, high=0.9, rebuilt=True
    )
    aggregate: str = param(
        "mean",
        "What counts as the cost of a sample: its mean over the models, the worst, or the mean of the worst ones (cvar).",
        choices=("mean", "worst", "cvar"),
        live=True,
    )
    tail: float = param(0.5, "Share of the models, the worst ones, that cvar averages over.", low=0.01, high=1.0, live=True)
    seed: int = param(0, "Seed of the perturbations.", low=0, high=2**31 - 1, rebuilt=True)


@dataclass(frozen=True)
class PredictionConfig:
    """From the measured state to the state when a plan's first action takes effect: compensation of delays."""

    enabled: bool = param(
        True, "Plan from the state predicted for when the plan takes effect; otherwise from the measured one.", live=True
    )
    command_delay: float = param(
        0.0, "Time from the publication of a command until the actuators obey it.", unit="s", low=0.0, high=0.5, live=True
    )
    timestep: float = param(0.005, "Longest physics time step of the prediction.", unit="s", low=1e-4, high=0.1, rebuilt=True)
    iterations: int = param(50, "Most iterations of the prediction's constraint solver.", low=1, high=200, rebuilt=True)


@dataclass(frozen=True)
class CommandConfig:
    """The velocity to track while no `cmd_vel` arrives."""

    vx: float = param(0.0, "Forward velocity to track.", unit="m/s", low=-5.0, high=5.0, live=True)
    vy: float = param(0.0, "Lateral velocity to track, positive to the left.", unit="m/s", low=-5.0, high=5.0, live=True)
    yaw_rate: float = param(0.0, "Yaw rate to track, positive to the left.", unit="rad/s", low=-5.0, high=5.0, live=True)
    timeout: float = param(0.5, "Age from which a cmd_vel no longer counts.", unit="s", low=0.05, high=3600.0, live=True)
    stamped: bool = param(False, "cmd_vel is a TwistStamped; otherwise a Twist.")


@dataclass(frozen=True)
class GoalConfig:
    """The goal to pursue while no `goal_pose` has come."""

    wait: bool = param(True, "Send no command before a goal_pose has come; otherwise pursue the goal below until then.")
    x: float = param(0.0, "Goal position, world frame.", unit="m", low=-1e4, high=1e4, live=True)
    y: float = param(0.0, "Goal position, world frame.", unit="m", low=-1e4, high=1e4, live=True)
    z: float = param(0.0, "Goal position, world frame.", unit="m", low=-1e4, high=1e4, live=True)
    yaw: float = param(0.0, "Goal angle about the world's vertical.", unit="rad", low=-10.0, high=10.0, live=True)


@dataclass(frozen=True)
class OutputConfig:
    """How commands leave the node."""

    type: str = param(
        "joint_command",
        "Message type of joint_command.",
        choices=("joint_command", "float64_multi_array", "joint_trajectory"),
    )
    rate: float = param(0.0, "Commands per second; 0: as many as plans.", unit="Hz", low=0.0, high=1000.0)
    rate_limit: float = param(
        0.0,
        "Fastest change of a command, in control ranges per second; 0: no limit.",
        unit="1/s",
        low=0.0,
        high=1e4,
        live=True,
    )
    takeover: float = param(
        0.0, "Time to blend from holding position to the plan when control begins.", unit="s", low=0.0, high=60.0, live=True
    )
    kp: str = param("0", "Position gain round the planned motion, SI: one for all joints, or joint=gain pairs.", live=True)
    kd: str = param("0", "Velocity gain round the planned motion, as kp.", live=True)


@dataclass(frozen=True)
class MarkerConfig:
    """What `~/markers` shows; published only where somebody listens."""

    count: int = param(10, "Cheapest samples whose paths are shown beside the plan's.", low=0, high=1000, live=True)
    rate: float = param(5.0, "Marker messages per second.", unit="Hz", low=0.1, high=100.0)


@dataclass(frozen=True)
class RealtimeConfig:
    """What the machine does for the threads that plan, roll out and command."""

    cpus: str = param("", "Cores for planning and commanding, such as 2,3 or 2-3; empty: any.")
    priority: int = param(0, "Real-time priority (SCHED_FIFO) of planning; 0: none.", low=0, high=98)
    nice: int = param(0, "Niceness of planning, where it has no real-time priority.", low=-20, high=0)


@dataclass(frozen=True)
class NodeConfig:
    """Parameters of the planner node."""

    task: str = param("ant", "Name of the task, or a Python file that defines one.")
    model: ModelConfig = field(default_factory=ModelConfig)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    command: CommandConfig = field(default_factory=CommandConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    markers: MarkerConfig = field(default_factory=MarkerConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)
    realtime: RealtimeConfig = field(default_factory=RealtimeConfig)
    autostart: bool = param(True, "Configure and activate on start; otherwise wait for the lifecycle services.")
    lockstep: bool = param(False, "Plan once for every state, in its own time: for a simulation that waits for commands.")
    lockstep_lead: float = param(
        0.0,
        "In lockstep, time from a state's stamp to its plan's first command: the delay of states.",
        unit="s",
        low=0.0,
        high=1.0,
    )
    wait_for_subscribers: int = param(
        0, "Subscribers of joint_command to wait for before the first plan in lockstep.", low=0, high=100
    )
    state_timeout: float = param(
        0.1, "Age of the state from which the safe command is sent.", unit="s", low=0.005, high=10.0, live=True
    )
    max_plan_age: float = param(
        0.3, "Age of a plan's start time from which the safe command is sent.", unit="s", low=0.01, high=10.0, live=True
    )
    safe_command: str = param("zero", "What is sent when control is lost.", choices=("zero", "hold", "damping"), live=True)
    safe_kp: float = param(20.0, "Position gain of the safe command 'hold'.", unit="N m/rad", low=0.0, high=1e4, live=True)
    safe_kd: float = param(
        2.0, "Velocity gain of the safe commands 'hold' and 'damping'.", unit="N m s/rad", low=0.0, high=1e3, live=True
    )


@dataclass(frozen=True)
class NoiseConfig:
    """Standard deviations of what the simulated robot measures of itself."""

    position: float = param(0.0, "Noise of measured positions and angles.", unit="m or rad", low=0.0, high=1.0, live=True)
    velocity: float = param(0.0, "Noise of measured velocities.", unit="m/s or rad/s", low=0.0, high=10.0, live=True)


@dataclass(frozen=True)
class SimConfig:
    """Parameters of the simulation node."""

    task: str = param("ant", "Name of the task, or a Python file that defines one.")
    model: PlantModelConfig = field(default_factory=PlantModelConfig)
    rate: float = param(50.0, "States per second, and control periods per second in lockstep.", unit="Hz", low=1.0, high=1000.0)
    lockstep: bool = param(False, "Advance one control period per command received, as fast as commands come.")
    duration: float = param(0.0, "Simulated time after which the node exits; 0: never.", unit="s", low=0.0, high=1e6)
    hold_until_command: bool = param(True, "Keep the robot at its initial state until the first command arrives.")
    wait_for_subscribers: int = param(
        1, "Subscribers of joint_states and joint_command to wait for before the first state.", low=0, high=100
    )
    command_timeout: float = param(
        0.2, "Time without a command after which the controls are set to zero.", unit="s", low=0.01, high=10.0, live=True
    )
    state_delay: float = param(0.0, "Time from a measurement to its publication; its stamp stays.", unit="s", low=0.0, high=0.5)
    state_noise: NoiseConfig = field(default_factory=NoiseConfig)
    command_delay: float = param(
        0.0, "Time from the arrival of a command until it takes effect.", unit="s", low=0.0, high=0.5, live=True
    )
    command_dropout: float = param(0.0, "Probability that a command is lost.", low=0.0, high=1.0, live=True)
    actuator_lag: float = param(
        0.0, "Time constant with which the actuators follow their controls; 0: at once.", unit="s", low=0.0, high=1.0, live=True
    )
    mass_scale: float = param(1.0, "Masses and inertias of the robot, as a multiple of the model's.", low=0.1, high=10.0)
    friction_scale: float = param(1.0, "Sliding frictions, as a multiple of the model's.", low=0.0, high=10.0)
    seed: int = param(0, "Seed of noise and dropout.", low=0, high=2**31 - 1)
    viewer: bool = param(False, "Open MuJoCo's viewer window.")
    publish_clock: bool = param(False, "Publish /clock, for nodes with use_sim_time; states are stamped with simulation time.")


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of the recorder node."""

    directory: str = param("", "New folder for the bag; empty: bag_<time> in the current folder.")
    start_on: str = param("joint_command", "Topic whose first message starts the recording; empty: record from the start.")
    stop_on: str = param("sim/finished", "Topic whose first message ends the recording; empty: record until shut down.")


def parameters(config: type, task: type[Task] | None = None, prefix: str = "") -> dict[str, Parameter]:
    """All parameters of a config class by full name, with the defaults of a task and, for the planner, its cost weights.

    A task's defaults are the planner's, and the simulation's where their names begin with `sim.`.
    """
    found = {p.name: p for p in fields(config, prefix)}
    if task is not None:
        if config is NodeConfig:
            for term in task.cost_terms().values():
                name = f"cost.{term.name}"
                found[name] = Parameter(name, float, term.weight, f"Weight of: {term.description}", "", 0.0, 1e6, live=True)
        defaults = {
            name.removeprefix("sim."): value
            for name, value in task.defaults.items()
            if {NodeConfig: not name.startswith("sim."), SimConfig: name.startswith("sim.")}.get(config, False)
        }
        for name, value in check(defaults, found).items():
            found[name] = dataclasses.replace(found[name], default=value)
    return found


def cost_weights(values: Mapping[str, Value]) -> dict[str, float]:
    """Weights of the cost terms by their names, from checked values."""
    return {name.removeprefix("cost."): float(value) for name, value in values.items() if name.startswith("cost.")}


NODES: dict[str, type] = {"planner": NodeConfig, "sim": SimConfig, "recorder": RecorderConfig}
"""The nodes by name, and their parameters."""

# Every ROS node has these; they are not ours to know.
ROS_OWN = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def load_parameters(config: type, given: Mapping[str, Any]) -> tuple[dict[str, Parameter], dict[str, Value]]:
    """Descriptions and checked values of a node's parameters; the task among `given` decides which there are.

    Raises:
        ConfigError: as `check`
        TaskError: there is no such task
    """
    plain = parameters(config)
    task = find_task(str(given.get("task", plain["task"].default))) if "task" in plain else None
    known = parameters(config, task)
    return known, check(given, known)


def to_yaml(task: str) -> str:
    """ROS parameter file with every parameter of every node at its default for a task, commented."""
    lines = [
        f"# Parameters of all nodes for the task '{task}', at their defaults.",
        "# 'live': may change while the node runs. 'rebuilt': so may these; a planner that is built anew takes over.",
        "# The others are read when the node is configured.",
    ]
    for node, config in NODES.items():
        lines += ["", f"/**/{node}:", "  ros__parameters:"]
        for p in parameters(config, find_task(task)).values():
            lines += [
                f"    # {p.description}{_details(p)}",
                f"    {p.name}: {_scalar(p.default if p.name != 'task' else task)}",
            ]
    return "\n".join(lines) + "\n"


def _details(p: Parameter) -> str:
    parts = [p.unit] if p.unit else []
    if p.choices:
        parts.append(" | ".join(p.choices))
    elif math.isfinite(p.low):
        parts.append(f"{p.low:g} to {p.high:g}")
    parts += [word for word, said in (("live", p.live), ("rebuilt", p.rebuilt)) if said]
    return f" [{', '.join(parts)}]" if parts else ""


def _scalar(value: Value) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)


if __name__ == "__main__":
    import sys

    sys.stdout.write(to_yaml(sys.argv[1]))
