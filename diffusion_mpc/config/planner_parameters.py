"""Parameters of the planner node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diffusion_mpc.config.parameter import param
from diffusion_mpc.config.search_parameters import (
    BackendConfig,
    ModelConfig,
    PolicyConfig,
    RobustConfig,
    SearchConfig,
    TerminalValueConfig,
)
from diffusion_mpc.names import ObjectType, OutputType, SafeCommand, TwistFrame


@dataclass(frozen=True)
class PredictionConfig:
    """From the measured state to the state when a plan's first action takes effect.

    Compensation of delays.
    """

    enabled: bool = param(
        True,
        "Plan from the state predicted for when the plan takes effect; otherwise from the "
        "measured one.",
        live=True,
    )
    command_delay: float = param(
        0.0,
        "Time from the publication of a command until the actuators obey it.",
        unit="s",
        low=0.0,
        high=0.5,
        live=True,
    )
    timestep: float = param(
        0.005,
        "Longest physics time step of the prediction.",
        unit="s",
        low=1e-4,
        high=0.1,
        rebuilt=True,
    )
    iterations: int = param(
        50, "Most iterations of the prediction's constraint solver.", low=1, high=200, rebuilt=True
    )


@dataclass(frozen=True)
class InputConfig:
    """Measurements of the robot as they come in."""

    twist_frame: TwistFrame = param(
        "child", "Frame of the twist in odom: child_frame_id's or the header's.", live=True
    )
    world_frame: str = param(
        "",
        "Frame of the model's world, which goals and objects are transformed to; empty: odom's.",
    )
    time_jump: float = param(
        0.1,
        "Step back of a stamp from which time counts as begun anew; nearer messages are dropped.",
        unit="s",
        low=0.0,
        high=10.0,
        live=True,
    )


@dataclass(frozen=True)
class CommandConfig:
    """The velocity to track while no `cmd_vel` arrives; the bounds hold for that, too."""

    vx: float = param(0.0, "Forward velocity to track.", unit="m/s", low=-5.0, high=5.0, live=True)
    vy: float = param(
        0.0,
        "Lateral velocity to track, positive to the left.",
        unit="m/s",
        low=-5.0,
        high=5.0,
        live=True,
    )
    yaw_rate: float = param(
        0.0, "Yaw rate to track, positive to the left.", unit="rad/s", low=-5.0, high=5.0, live=True
    )
    timeout: float = param(
        0.5,
        "Age from which a cmd_vel no longer counts, by its stamp where it has one.",
        unit="s",
        low=0.05,
        high=3600.0,
        live=True,
    )
    stamped: bool = param(False, "cmd_vel is a TwistStamped; otherwise a Twist.")


@dataclass(frozen=True)
class GoalConfig:
    """The goal to pursue while no `goal_pose` has come; the bounds hold for that, too."""

    wait: bool = param(
        True,
        "Send no command before a goal_pose has come; otherwise pursue the goal below until then.",
    )
    x: float = param(0.0, "Goal position, world frame.", unit="m", low=-1e4, high=1e4, live=True)
    y: float = param(0.0, "Goal position, world frame.", unit="m", low=-1e4, high=1e4, live=True)
    z: float = param(0.0, "Goal position, world frame.", unit="m", low=-1e4, high=1e4, live=True)
    yaw: float = param(
        0.0, "Goal angle about the world's vertical.", unit="rad", low=-10.0, high=10.0, live=True
    )
    max_age: float = param(
        5.0,
        "Difference of a goal_pose's stamp from the clock from which it is refused.",
        unit="s",
        low=0.1,
        high=1e9,
        live=True,
    )


@dataclass(frozen=True)
class ObjectsConfig:
    """Free bodies other than the base, measured by the topics `objects/<body>`."""

    type: ObjectType = param("pose_stamped", "Message type of objects/<body>.")
    filter_time: float = param(
        0.05,
        "Time constant of the filter of velocities that poses do not carry; 0: none.",
        unit="s",
        low=0.0,
        high=10.0,
        live=True,
    )
    timeout: float = param(
        0.5,
        "Age of an object's pose from which the safe command is sent.",
        unit="s",
        low=0.005,
        high=3600.0,
        live=True,
    )


@dataclass(frozen=True)
class OutputConfig:
    """Commands as they leave the node."""

    type: OutputType = param(
        "joint_command",
        "Message type of joint_command.",
    )
    trajectory_velocities: bool = param(
        False,
        "Velocities in a joint_trajectory, beside positions; joint_trajectory_controller takes "
        "them where its allow_nonzero_velocity_at_trajectory_end is true.",
        live=True,
    )
    trajectory_effort: bool = param(
        False,
        "Efforts in a joint_trajectory, beside positions; joint_trajectory_controller takes them "
        "where it has the effort command interface, from version 4.22 on.",
        live=True,
    )
    rate: float = param(
        0.0, "Commands per second; 0: as many as plans.", unit="Hz", low=0.0, high=1000.0
    )
    rate_limit: float = param(
        0.0,
        "Fastest change of a command, in control ranges per second; 0: no limit.",
        unit="1/s",
        low=0.0,
        high=1e4,
        live=True,
    )
    blend_time: float = param(
        0.0,
        "Time to blend from holding position to the plan when control begins.",
        unit="s",
        low=0.0,
        high=60.0,
        live=True,
    )


@dataclass(frozen=True)
class JointGains:
    """Gains of an effort-driven joint round its planned motion, sent with every command."""

    p: float = param(
        0.0,
        "Position gain round the planned motion.",
        unit="N m/rad or N/m",
        low=0.0,
        high=1e4,
        live=True,
    )
    d: float = param(
        0.0,
        "Velocity gain round the planned motion.",
        unit="N m s/rad or N s/m",
        low=0.0,
        high=1e4,
        live=True,
    )


@dataclass(frozen=True)
class MarkerConfig:
    """Contents of `~/markers`; published only where somebody listens."""

    count: int = param(
        10, "Cheapest samples whose paths are shown beside the plan's.", low=0, high=1000, live=True
    )
    rate: float = param(5.0, "Marker messages per second.", unit="Hz", low=0.1, high=100.0)


@dataclass(frozen=True)
class RealtimeConfig:
    """Cores and priorities of the threads that plan, roll out and command."""

    cpus: str = param("", "Cores for planning and commanding, such as 2,3 or 2-3; empty: any.")
    priority: int = param(
        0, "Real-time priority (SCHED_FIFO) of planning; 0: none.", low=0, high=98
    )
    nice: int = param(
        0, "Niceness of planning, where it has no real-time priority.", low=-20, high=0
    )


@dataclass(frozen=True)
class PlannerNodeConfig:
    """Parameters of the planner node; `gains` are by joint.

    Weights of cost terms come in beside them, see `cost_weights`.
    """

    task: str = param("ant", "Name of the task, or a Python file that defines one.")
    model: ModelConfig = field(default_factory=ModelConfig)
    planner: SearchConfig = field(default_factory=SearchConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    value: TerminalValueConfig = field(default_factory=TerminalValueConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    input: InputConfig = field(default_factory=InputConfig)
    command: CommandConfig = field(default_factory=CommandConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    objects: ObjectsConfig = field(default_factory=ObjectsConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    gains: Mapping[str, JointGains] = field(default_factory=dict)
    markers: MarkerConfig = field(default_factory=MarkerConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)
    realtime: RealtimeConfig = field(default_factory=RealtimeConfig)
    joint_prefix: str = param(
        "", "Prefix of the names in joint_states and joint_command, before the model's own."
    )
    autostart: bool = param(
        True, "Configure and activate on start; otherwise wait for the lifecycle services."
    )
    lockstep: bool = param(
        False,
        "Plan once for every state, in its own time: for a simulation that waits for commands.",
    )
    lockstep_lead: float = param(
        0.0,
        "In lockstep, time from a state's stamp to its plan's first command: the delay of states.",
        unit="s",
        low=0.0,
        high=1.0,
    )
    wait_for_subscribers: int = param(
        0,
        "Subscribers of joint_command to wait for before the first plan in lockstep.",
        low=0,
        high=100,
    )
    state_timeout: float = param(
        0.1,
        "Age of the state from which the safe command is sent.",
        unit="s",
        low=0.005,
        high=10.0,
        live=True,
    )
    recovery_time: float = param(
        0.2,
        "Time for which states and objects have to be fresh again before plans are followed.",
        unit="s",
        low=0.0,
        high=10.0,
        live=True,
    )
    max_plan_age: float = param(
        0.3,
        "Age of a plan's start time from which the safe command is sent.",
        unit="s",
        low=0.01,
        high=10.0,
        live=True,
    )
    safe_command: SafeCommand = param("zero", "What is sent when control is lost.", live=True)
    safe_kp: float = param(
        20.0,
        "Position gain of the safe command 'hold'.",
        unit="N m/rad",
        low=0.0,
        high=1e4,
        live=True,
    )
    safe_kd: float = param(
        2.0,
        "Velocity gain of the safe commands 'hold' and 'damping'.",
        unit="N m s/rad",
        low=0.0,
        high=1e3,
        live=True,
    )
