"""Parameters of what plans: model, search, backend, perturbed models."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_mpc.config.parameter import param
from diffusion_mpc.names import (
    ActuatorKind,
    Aggregate,
    AlgorithmName,
    BackendChoice,
    Capture,
    FusionName,
    Integrator,
    SplineKind,
)
from diffusion_mpc.tasks.model_file import ModelFile


@dataclass(frozen=True)
class ModelConfig:
    """The model that plans are made with, or that the simulation steps."""

    path: str = param(
        "",
        "MJCF or URDF file, or menagerie:NAME, in place of the task's own; empty: the task's own.",
    )
    actuators: ActuatorKind = param(
        "", "Actuators to add to a file that has none, from its joints' limits; empty: none."
    )
    timestep: float = param(
        0.02, "Physics time step of the model.", unit="s", low=1e-4, high=0.1, rebuilt=True
    )
    integrator: Integrator = param("implicitfast", "Integrator of the model.", rebuilt=True)
    iterations: int = param(
        10, "Most iterations of the constraint solver.", low=1, high=200, rebuilt=True
    )

    @property
    def file(self) -> ModelFile:
        """The file that the model is read from."""
        return ModelFile(self.path, self.actuators)


@dataclass(frozen=True)
class SearchConfig:
    """The search for a plan."""

    algorithm: AlgorithmName = param(
        "mbd",
        "Sampling algorithm: Model-Based Diffusion, or one to compare it with; policy: the plans "
        "of policy.checkpoint as they are.",
        rebuilt=True,
    )
    rate: float = param(50.0, "Plans per second.", unit="Hz", low=1.0, high=500.0)
    num_samples: int = param(32, "Rollouts in one denoising step.", low=2, high=65536, rebuilt=True)
    iterations: int = param(4, "Denoising steps in one plan.", low=1, high=100, rebuilt=True)
    horizon_steps: int = param(
        20, "Control steps that a plan looks ahead.", low=2, high=500, rebuilt=True
    )
    control_dt: float = param(
        0.02,
        "Time between two controls of a plan; a multiple of model.timestep.",
        unit="s",
        low=1e-3,
        high=0.5,
        rebuilt=True,
    )
    num_knots: int = param(
        5, "Spline knots that a plan's controls come from.", low=2, high=500, rebuilt=True
    )
    spline: SplineKind = param("quadratic", "Interpolation between knots.", rebuilt=True)
    lead: float = param(
        0.0,
        "Time from the beginning of a plan to its first command, a period at most; 0: measured, "
        "what nearly all recent plans took.",
        unit="s",
        low=0.0,
        high=1.0,
        live=True,
    )
    time_budget: float = param(
        0.9,
        "Fraction of the period after which no further denoising step begins.",
        low=0.1,
        high=10.0,
        live=True,
    )
    temperature: float = param(
        0.2,
        "Temperature of the weights; small: follow the best samples only.",
        low=1e-3,
        high=10.0,
        live=True,
    )
    noise_start: float = param(
        0.7,
        "Standard deviation of the first denoising step, in normalised actions.",
        low=0.0,
        high=2.0,
        live=True,
    )
    noise_end: float = param(
        0.25, "Standard deviation of the last denoising step.", low=0.0, high=2.0, live=True
    )
    antithetic: bool = param(True, "mbd draws its noise in pairs of opposite sign.", live=True)
    success_fraction: float = param(
        0.1,
        "Fraction of mbd's samples that should beat the plan: if more do, noise grows, else it "
        "shrinks.",
        low=0.0,
        high=1.0,
        live=True,
    )
    scale_rate: float = param(
        0.5,
        "How fast mbd's noise grows or shrinks in a denoising step; 0: not.",
        low=0.0,
        high=5.0,
        live=True,
    )
    shape_rate: float = param(
        0.2,
        "How fast mbd's noise of each knot and actuator follows the good samples; 0: not.",
        low=0.0,
        high=1.0,
        live=True,
    )
    noise_growth: float = param(
        0.7, "Noise of the last knot as a multiple of the first's.", low=0.1, high=10.0, live=True
    )
    elite_fraction: float = param(
        0.1,
        "Fraction of the samples, two at least, that cem refits mean and standard deviation to.",
        low=0.001,
        high=1.0,
        rebuilt=True,
    )
    noise_floor: float = param(
        0.05,
        "Least standard deviation of cem, so that the search never comes to a stop.",
        low=0.0,
        high=2.0,
        live=True,
    )
    dial_beta1: float = param(
        0.7,
        "How slowly dial's noise falls from step to step; large: hardly at all.",
        low=0.05,
        high=100.0,
        live=True,
    )
    dial_beta2: float = param(
        2.0,
        "How slowly dial's noise falls from the last knot to the first; large: hardly at all.",
        low=0.05,
        high=100.0,
        live=True,
    )
    demonstration: str = param(
        "",
        "CSV file or bag with positions that the search is drawn to while it finds nothing "
        "cheaper; empty: none.",
    )
    demonstration_distance: float = param(
        0.5,
        "Distance from the demonstration at which a position counts as far off, in m or rad.",
        low=1e-3,
        high=100.0,
    )
    seed: int = param(
        0,
        "Seed of the samples: same seed, same states, same plans.",
        low=0,
        high=2**31 - 1,
        rebuilt=True,
    )

    def __post_init__(self) -> None:
        """Give a policy alone its one sample, whatever searches have."""
        if self.algorithm == "policy":
            object.__setattr__(self, "num_samples", 1)
            object.__setattr__(self, "iterations", 1)


@dataclass(frozen=True)
class PolicyConfig:
    """A policy that was learnt, see `train`."""

    checkpoint: str = param(
        "",
        "Checkpoint of a policy, whose plans are among the samples of every plan, or executed as "
        "they are with planner.algorithm policy: a file, or shipped:NAME; empty: none.",
        rebuilt=True,
    )
    fusion: FusionName = param(
        "rows",
        "Part of the policy in a plan; rows: its plans are among the samples of the first "
        "denoising step; max_rule: where one rolls out, samples are drawn to in all steps, as to "
        "planner.demonstration, as long as it costs less than they do; it harms where samples are "
        "few.",
        rebuilt=True,
    )
    fraction: float = param(
        0.25,
        "Fraction of the samples of the first denoising step that are the policy's; 0: none.",
        low=0.0,
        high=0.5,
        live=True,
    )
    noise: float = param(
        0.4,
        "Noise of the policy's samples, as a fraction of that of the others; the first has none.",
        low=0.0,
        high=2.0,
        live=True,
    )
    level: float = param(
        1.0,
        "Noise level to which the previous plan is noised again for the policy; 1: all noise.",
        low=0.01,
        high=1.0,
        live=True,
    )
    steps: int = param(
        2, "Sampling steps of the policy, each one evaluation.", low=1, high=100, live=True
    )
    guidance: float = param(
        1.5,
        "Weight of the label of a policy that was trained with one; 0: without the label, 1: the "
        "label as it is, larger: beyond it.",
        low=0.0,
        high=50.0,
        live=True,
    )


@dataclass(frozen=True)
class TerminalValueConfig:
    """A cost to go that was learnt, see `train --kind value`."""

    checkpoint: str = param(
        "",
        "Checkpoint of a value, the cost of what follows the horizon: a file, or shipped:NAME; "
        "empty: none.",
        rebuilt=True,
    )
    weight: float = param(
        1.0, "Weight of the cost of what follows the horizon.", low=0.0, high=100.0, live=True
    )


@dataclass(frozen=True)
class BackendConfig:
    """Place where rollouts run."""

    name: BackendChoice = param(
        "cpu",
        "Rollout backend; warp: MuJoCo on an NVIDIA GPU; function: the task's own dynamics; "
        "auto: the one measured to be fastest.",
        rebuilt=True,
    )
    capture: Capture = param(
        "plan",
        "What of a plan the warp backend makes a CUDA graph of: all of it, the physics of each "
        "control step, or nothing.",
        rebuilt=True,
    )
    threads: int = param(
        0, "Rollout threads of the cpu backend; 0: one per core.", low=0, high=256, rebuilt=True
    )


@dataclass(frozen=True)
class RobustConfig:
    """Planning for robots that differ from the model.

    Every sample is rolled out on several perturbed models.
    """

    models: int = param(
        1,
        "Models that each sample is rolled out on: the given one and perturbed ones.",
        low=1,
        high=64,
        rebuilt=True,
    )
    mass: float = param(
        0.2,
        "Largest change of all masses and inertias of a perturbed model, as a fraction.",
        low=0.0,
        high=0.9,
        rebuilt=True,
    )
    friction: float = param(
        0.3,
        "Largest change of all sliding frictions of a perturbed model, as a fraction.",
        low=0.0,
        high=0.9,
        rebuilt=True,
    )
    gain: float = param(
        0.1,
        "Largest change of all actuator gains of a perturbed model, as a fraction.",
        low=0.0,
        high=0.9,
        rebuilt=True,
    )
    aggregate: Aggregate = param(
        "mean",
        "What counts as the cost of a sample: its mean over the models, the worst, or the mean "
        "of the worst ones (cvar).",
        live=True,
    )
    tail: float = param(
        0.5,
        "Fraction of the models, the worst ones, that cvar averages over.",
        low=0.01,
        high=1.0,
        live=True,
    )
    seed: int = param(0, "Seed of the perturbations.", low=0, high=2**31 - 1, rebuilt=True)
