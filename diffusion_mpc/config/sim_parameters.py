"""Parameters of the simulation node."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusion_mpc.config.parameter import param
from diffusion_mpc.config.search_parameters import ModelConfig
from diffusion_mpc.names import Integrator, ObjectType


@dataclass(frozen=True)
class PlantModelConfig(ModelConfig):
    """The simulated robot: finer steps than the planner's model."""

    timestep: float = param(
        0.005, "Physics time step of the simulation.", unit="s", low=1e-4, high=0.1
    )
    integrator: Integrator = param("implicitfast", "Integrator of the model.")
    iterations: int = param(50, "Most iterations of the constraint solver.", low=1, high=200)


@dataclass(frozen=True)
class NoiseConfig:
    """Standard deviations of what the simulated robot measures of itself."""

    position: float = param(
        0.0,
        "Noise of measured positions and angles.",
        unit="m or rad",
        low=0.0,
        high=1.0,
        live=True,
    )
    velocity: float = param(
        0.0, "Noise of measured velocities.", unit="m/s or rad/s", low=0.0, high=10.0, live=True
    )


@dataclass(frozen=True)
class PushConfig:
    """Pushes at the base of the simulated robot, from its left and its right in turn."""

    impulse: float = param(
        0.0, "Impulse of a push, which lasts 0.2 s; 0: none.", unit="N s", low=0.0, high=1e4
    )
    every: float = param(
        5.0, "Time from the start to the first push, and between two.", unit="s", low=0.5, high=1e4
    )


@dataclass(frozen=True)
class SimConfig:
    """Parameters of the simulation node."""

    task: str = param("ant", "Name of the task, or a Python file that defines one.")
    model: PlantModelConfig = field(default_factory=PlantModelConfig)
    rate: float = param(
        50.0,
        "States per second, and control periods per second in lockstep.",
        unit="Hz",
        low=1.0,
        high=1000.0,
    )
    lockstep: bool = param(
        False, "Advance one control period per command received, as fast as commands come."
    )
    duration: float = param(
        0.0, "Simulated time after which the node exits; 0: never.", unit="s", low=0.0, high=1e6
    )
    hold_until_command: bool = param(
        True, "Keep the robot at its initial state until the first command arrives."
    )
    wait_for_subscribers: int = param(
        1,
        "Subscribers of joint_states and joint_command to wait for before the first state.",
        low=0,
        high=100,
    )
    command_timeout: float = param(
        0.2,
        "Time without a command after which the controls return to rest.",
        unit="s",
        low=0.01,
        high=10.0,
        live=True,
    )
    state_delay: float = param(
        0.0,
        "Time from a measurement to its publication; its stamp stays.",
        unit="s",
        low=0.0,
        high=0.5,
    )
    object_type: ObjectType = param("pose_stamped", "Message type of objects/<body>.")
    joint_prefix: str = param(
        "", "Prefix of the names in joint_states and joint_command, before the model's own."
    )
    state_noise: NoiseConfig = field(default_factory=NoiseConfig)
    command_delay: float = param(
        0.0,
        "Time from the arrival of a command until it takes effect.",
        unit="s",
        low=0.0,
        high=0.5,
        live=True,
    )
    command_dropout: float = param(
        0.0, "Probability that a command is lost.", low=0.0, high=1.0, live=True
    )
    actuator_lag: float = param(
        0.0,
        "Time constant with which the actuators follow their controls; 0: at once.",
        unit="s",
        low=0.0,
        high=1.0,
        live=True,
    )
    mass_scale: float = param(
        1.0, "Masses and inertias of the robot, as a multiple of the model's.", low=0.1, high=10.0
    )
    friction_scale: float = param(
        1.0, "Sliding frictions, as a multiple of the model's.", low=0.0, high=10.0
    )
    push: PushConfig = field(default_factory=PushConfig)
    seed: int = param(0, "Seed of noise and dropout.", low=0, high=2**31 - 1)
    viewer: bool = param(False, "Open MuJoCo's viewer window.")
    publish_clock: bool = param(
        False,
        "Publish /clock, for nodes with use_sim_time; states are stamped with simulation time.",
    )
