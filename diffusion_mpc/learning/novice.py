"""Plans of the novice, which the robot executes in part of the teacher's episodes.

The teacher says what it would have done at the states that they lead to (DAgger, Ross et al.,
1011.0686).
"""

from __future__ import annotations

from typing import Protocol

from diffusion_mpc.config import PolicyConfig
from diffusion_mpc.learning.plan_rows import TaughtPlan
from diffusion_mpc.planner.score import NoFeasibleSampleError
from diffusion_mpc.policy.policy import Policy
from diffusion_mpc.runtime.controller import Controller
from diffusion_mpc.types import Array


class Novice(Protocol):
    """Source of plans that are executed in place of the teacher's."""

    def observe(self, taught: TaughtPlan) -> None:
        """Take what was observed at a step that the teacher controls."""
        ...

    def plan(self, taught: TaughtPlan) -> Array:
        """Knots (num_knots, nu) to execute where the teacher has made a plan."""
        ...


class LearntPolicy:
    """The policy by itself."""

    def __init__(self, policy: Policy, config: PolicyConfig) -> None:
        """Take a policy, and the parameters of its sampling."""
        self._policy, self._config = policy, config

    def observe(self, taught: TaughtPlan) -> None:
        """Do nothing: the plan of the teacher has all observations."""

    def plan(self, taught: TaughtPlan) -> Array:
        """A sample of the policy."""
        config = self._config
        return self._policy.propose(
            taught.plan.previous,
            1,
            config.steps,
            config.guidance,
            config.level,
            taught.observations,
        )[0]


class DeployedPlanner:
    """A planner of few samples with the policy among them, as a robot in use has it."""

    def __init__(self, controller: Controller) -> None:
        """Take a controller with the policy, whose planner is used alone."""
        self._planner, self._policy = controller.planner, controller.policy

    def observe(self, taught: TaughtPlan) -> None:
        """Take the newest observation."""
        if self._policy is not None:
            self._policy.observe(taught.observations[-1], taught.start.stamp)

    def plan(self, taught: TaughtPlan) -> Array:
        """Its plan from the same state, after the same previous plan.

        The previous plan itself where no sample has a finite cost.
        """
        start = taught.start
        self._planner.follow(taught.plan.previous, start.stamp)
        try:
            return self._planner.plan(start, taught.reference).knots
        except NoFeasibleSampleError:
            return taught.plan.previous
