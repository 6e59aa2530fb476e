"""Rows of a search that a policy proposes, scored like every other row (GPC, 2502.13406).

A policy can only add: where it fails, proposes nothing or is slow, the search goes on without it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import mujoco
import numpy as np
import torch

from diffusion_mpc.config import PolicyConfig
from diffusion_mpc.planner.spline import Spline
from diffusion_mpc.policy.policy import Policy
from diffusion_mpc.tasks.base import Task
from diffusion_mpc.tasks.cost import constant
from diffusion_mpc.tasks.measured import observe
from diffusion_mpc.types import Array, Reference, State

PACE = 0.1
"""Rate, a plan, at which a policy's worth follows the weight of its samples."""

SLOW = 0.2
"""Part of a plan's time beyond which the policy gets a thread of its own."""


@dataclass(frozen=True)
class Proposed:
    """Plans of a policy for one search.

    Attributes:
        knots: (rows, num_knots, nu); none where the policy failed or is not ready
        time: time that the network took, s
        age: age of the state that they were made for, s
        failure: why there is none; empty where nothing failed
    """

    knots: Array
    time: float = 0.0
    age: float = 0.0
    failure: str = ""


class Proposer:
    """Source of a policy's plans for one search after the other, for one thread.

    In line while that is quick; where it would take more than `SLOW` of a plan's time, in a thread
    of its own, and its newest plans are used when they are there, shifted by their age. No plan
    waits for it. Without a limit of time, as in lockstep, it is always in line.

    Attributes:
        policy: the policy
        worth: mean over the last plans of the weight of its samples, as a multiple of that of as
            many samples on average; below 1 it gets that fraction of the rows allowed, so that a
            bad policy costs one sample
    """

    def __init__(self, task: Task, model: mujoco.MjModel, spline: Spline, policy: Policy) -> None:
        """Take what observations and plans depend on."""
        self._task, self._model, self._spline, self.policy = task, model, spline, policy
        self._scratch = mujoco.MjData(model)
        self.worth = 1.0
        self._thread: ThreadPoolExecutor | None = None
        self._times: deque[float] = deque(maxlen=9)
        self._set_up = False
        self._pending: tuple[Future[tuple[Array, float]], float] | None = None

    def reset(self, seed: int) -> None:
        """Forget what was observed, and begin the random sequence anew."""
        if self._pending is not None:
            # It draws from the same random sequence.
            self._pending[0].exception()
            self._pending = None
        self.policy.reset(seed)
        self.worth = 1.0

    def rows(self, allowed: int) -> int:
        """Rows that it gets of those allowed: one at least, or it could never prove its worth."""
        return min(allowed, max(1, round(min(self.worth, 1.0) * allowed)))

    def credit(self, rows: int, weight: float, samples: int) -> None:
        """Take in the weight, from 0 to 1, that some rows of a search's samples had."""
        if rows and math.isfinite(weight):
            self.worth += PACE * (weight * samples / rows - self.worth)

    def __call__(
        self,
        state: State,
        reference: Reference,
        shifted: Array,
        rows: int,
        config: PolicyConfig,
        budget: float,
    ) -> Proposed:
        """Plans from a state.

        Args:
            state: state at the time of the first action
            reference: what to track
            shifted: (num_knots, nu) the previous plan, shifted to now
            rows: number of plans
            config: parameters of the policy
            budget: time that the whole plan may take, s
        """
        none = np.zeros((0, *shifted.shape))
        # Whatever a network or a task's observation may raise: the plan goes on, and says so.
        try:
            seen = observe(self._task, self._model, state, reference, self._scratch)
            self.policy.observe(seen, state.stamp)
            if not rows:
                return Proposed(none)
            seen, now = self.policy.seen(), state.stamp
            knots, took, age = none, 0.0, 0.0
            if self._pending is not None and self._pending[0].done():
                (found, took), began = self._pending[0].result(), self._pending[1]
                self._pending, age = None, max(0.0, now - began)
                knots = np.stack([self._spline.shift(row, age) for row in found]).clip(-1.0, 1.0)
            if self._pending is None and not self._slow(budget):
                # Back in line as soon as it is quick again: a plan of now is worth more.
                knots, took = self._sample(seen, shifted, rows, config)
                return _checked(knots, shifted, took, 0.0)
            if self._pending is None:
                self._thread = self._thread or ThreadPoolExecutor(1, "policy")
                job = self._thread.submit(self._sample, seen, shifted, rows, config)
                self._pending = job, now
            return _checked(knots, shifted, took, age)
        except Exception as error:
            self._pending = None
            return Proposed(none, failure=f"{type(error).__name__}: {error}")

    def _slow(self, budget: float) -> bool:
        return bool(self._times) and math.isfinite(budget) and median(self._times) > SLOW * budget

    def _sample(
        self, seen: Array, shifted: Array, rows: int, config: PolicyConfig
    ) -> tuple[Array, float]:
        began = time.perf_counter()
        knots = self.policy.propose(
            shifted, rows, config.steps, config.guidance, config.level, seen
        )
        took = time.perf_counter() - began
        # The first call sets up what all others find, and takes several times as long.
        if self._set_up:
            self._times.append(took)
        self._set_up = True
        return knots, took


def _checked(knots: Array, like: Array, took: float, age: float) -> Proposed:
    failure = ""
    if knots.shape[1:] != like.shape:
        failure = f"its plans have the wrong shape, {knots.shape[1:]} in place of {like.shape}"
    elif not np.isfinite(knots).all():
        failure = "its plan has a NaN or infinite value"
    return Proposed(np.zeros((0, *like.shape)) if failure else knots, took, age, failure)


def proposed_rows(num_samples: int, antithetic: bool) -> list[int]:
    """Half of the rows of a search that a policy's plans may take the place of, in their order.

    Never the first, which is the mean; of an antithetic pair both or, where it has no twin, the
    one, so that the noise of the others still averages to zero.
    """
    drawn = num_samples // 2 if antithetic else num_samples - 1
    order = sorted(range(1, num_samples), key=lambda row: ((row - 1) % drawn, -row), reverse=True)
    return order[: num_samples // 2]


def take_proposal(
    knots: torch.Tensor,
    costs: torch.Tensor,
    mine: torch.Tensor,
    mean: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and weights after a denoising step with a policy's plans among its samples.

    The policy's cheapest plan as it is, where it is cheaper than all of the search's own samples;
    else the search's. A weighted mean across both, or of several plans of a policy, is a plan of
    neither: they are different modes, which a policy that was learnt by diffusion keeps apart
    (2303.04137), and one denoising step is too few to repair it.

    Args:
        knots: (samples, num_knots, nu)
        costs: (samples,) finite or positive infinite
        mine: (samples,) 1 where a row is the policy's, else 0
        mean: (num_knots, nu) of the search's own samples
        weights: (samples,) of them, 0 for the policy's

    Returns:
        mean (num_knots, nu), weights (samples,), and figures (4,): number of the policy's plans,
        their weight, the cost of the cheapest of them (0 without any) and of the search's own
    """
    policy = mine > 0.0
    proposed = costs.where(policy, torch.inf)
    least, others = proposed.amin(), costs.where(~policy, torch.inf).amin()
    cheaper, best = least < others, proposed.argmin()[None]
    taken = torch.zeros_like(weights).index_fill(0, best, 1.0)
    return (
        torch.where(cheaper, knots.index_select(0, best)[0], mean),
        torch.where(cheaper, taken, weights),
        torch.stack([mine.sum(), cheaper.to(mine.dtype), least.where(policy.any(), 0.0), others]),
    )


def replace_rows(
    knots: torch.Tensor,
    rows: list[int],
    mean: torch.Tensor,
    proposals: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (samples, num_knots, nu) with a policy's plans among them, and which these are.

    A plan that is the mean itself proposes nothing: the search's own sample stays.

    Args:
        knots: (samples, num_knots, nu) samples of the search
        rows: k rows that may be replaced
        mean: (num_knots, nu) what the search began with
        proposals: (k, num_knots, nu)
        noise: (k,) part of the replaced sample's own noise that is added to each

    Returns:
        samples, and (samples,) 1 where a row is a policy's, else 0
    """
    # Not of a list: that would wait for the device.
    index = constant(tuple(rows), torch.int64, knots.device)
    own = knots.index_select(0, index)
    given = (proposals != mean).flatten(1).any(1)
    noisy = torch.addcmul(proposals, noise[:, None, None], own - mean).clamp(-1.0, 1.0)
    replaced = knots.index_copy(0, index, torch.where(given[:, None, None], noisy, own))
    return replaced, knots.new_zeros(len(knots)).index_copy(0, index, given.to(knots.dtype))
