"""All items in their order, the cheapest and most informative first.

Name, share of the time, limit in s, and what it is.
"""

from budget import Item

BUDGET = 540.0
"""Time for all of them, s, unless told otherwise."""

# The first of a model may have to compile its kernels: a long limit. Shares are what an H200 took,
# and a few seconds more.
ITEMS = (
    Item("machine", 5, 30, "correctness.machine"),
    Item("cartpole captures", 20, 150, "correctness.captures", {"task": "cartpole", "samples": 64}),
    Item("cartpole rollouts", 10, 60, "correctness.rollouts"),
    Item("ant plan", 20, 120, "timing.plan_time", {"task": "ant", "iterations": 2, "aim_ms": 8.0}),
    Item("floor", 5, 30, "timing.floor"),
    Item("ant stages", 30, 90, "timing.stages", {"task": "ant", "iterations": 2}),
    Item("ant throughput", 30, 60, "timing.throughput"),
    Item("ant kernels", 15, 60, "timing.kernels", {"task": "ant"}),
    Item("ant solver", 35, 90, "timing.solver"),
    Item("controller_swap", 40, 120, "correctness.controller_swap"),
    Item("closed loop", 35, 90, "timing.closed_loop"),
    Item(
        "humanoid plan",
        20,
        90,
        "timing.plan_time",
        {"task": "humanoid_walk", "iterations": 1, "aim_ms": 15.0},
    ),
    Item("humanoid stages", 30, 60, "timing.stages", {"task": "humanoid_walk", "iterations": 1}),
    Item("live parameters", 20, 45, "correctness.live_parameters"),
    Item("crossover", 60, 150, "timing.crossover"),
    Item("ant graphs", 35, 60, "timing.graphs"),
    Item("ant captures", 20, 60, "correctness.captures", {"task": "ant", "samples": 256}),
    Item(
        "humanoid captures",
        20,
        60,
        "correctness.captures",
        {"task": "humanoid_walk", "samples": 256},
    ),
    Item("ant_wall captures", 25, 90, "correctness.captures", {"task": "ant_wall", "samples": 256}),
    Item("horizons", 30, 60, "timing.horizons"),
)
