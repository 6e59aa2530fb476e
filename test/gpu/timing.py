"""Times of plans on the GPU, where they go, and what they cannot go below."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import warp as wp
from budget import Result
from cases import kernel_modules, loop_settings, planned, sized, time_plans, title
from scale import Scale, absent

from diffusion_mpc.benchmark.stages import time_stages, timed
from diffusion_mpc.rollout.capture import capturing
from diffusion_mpc.rollout.warp import CAPTURES
from diffusion_mpc.simulation.closed_loop import ClosedLoop, run_episode

SIZES = (64, 256, 1024, 4096, 16384, 65536)
LAUNCHES = 1000


def plan_time(scale: Scale, task: str, iterations: int, aim_ms: float) -> Iterator[Result]:
    """Time of a plan with 2048 samples and 20 steps."""
    before = kernel_modules()
    row = time_plans(scale, sized(scale, task, 2048, 20, iterations))
    yield Result(f"{title(row)}: kernel modules compiled", str(kernel_modules() - before))
    ms = row["plan_ms_p50"]
    measured = f"{ms:.2f} ms (p99 {row['plan_ms_p99']:.2f} ms, graph: {row['capture']})"
    yield scale.timed(f"{title(row)}, p50", measured, f"<= {aim_ms:g} ms", ms <= aim_ms, row)
    lost = row["overflows"]
    yield Result(
        f"{title(row)}: samples without room for their contacts", str(lost), "0", lost == 0
    )


def floor(scale: Scale) -> Iterator[Result]:
    """What one launch takes in a graph, and how fast memory is."""
    yield (
        absent("one kernel of a graph")
        if scale.rehearsal
        else Result("one kernel of a graph", f"{1e3 * _launch_ms():.2f} us")
    )
    yield Result("memory traffic", f"{_bytes_a_ms(scale) / 1e9:.3f} TB/s")


def stages(scale: Scale, task: str, iterations: int) -> Iterator[Result]:
    """Stages of a plan, and the whole over the least that launches, or memory, must take."""
    case = sized(scale, task, 2048, 20, iterations)
    row = time_plans(scale, case, seconds=2.0)
    name, plan = title(row), row["plan_ms_p50"]
    yield Result(f"{name}: plan", f"{plan:.2f} ms")
    parts = time_stages(case, scale.count(50))
    for part in parts:
        measured = (
            f"{part['calls']} x {part['ms']:.3f} ms, {part['fraction']:.1%}; "
            f"{part['launches']} launches in a call"
        )
        yield Result(f"{name}: {part['stage']}", measured, row=part)
    loop = ClosedLoop(loop_settings(scale, task, 2048, **{"backend.capture": "none"}), 0)
    repeats = round(loop.config.planner.control_dt / row["timestep"])
    traffic = (
        2
        * loop.controller.backend.footprint(row["num_samples"])
        * row["horizon_steps"]
        * row["iterations"]
        * repeats
    )
    least = traffic / _bytes_a_ms(scale)
    yield Result(f"{name}: worlds read and written once a physics step take", f"{least:.2f} ms")
    launches = sum(part["calls"] * part["launches"] for part in parts)
    if scale.rehearsal:
        yield absent(f"{name}: {launches} launches take")
    else:
        launching = launches * _launch_ms()
        yield Result(f"{name}: {launches} launches take", f"{launching:.2f} ms")
        least = max(least, launching)
    yield Result(f"{name}: plan against the least that it can take", f"{plan / least:.2f} times")


def graphs(scale: Scale) -> Iterator[Result]:
    """One graph of the whole plan against one of each control step, and none."""
    ms = {}
    for capture in CAPTURES:
        row = time_plans(scale, sized(scale, "ant", 512, 20, 2, **{"backend.capture": capture}))
        ms[capture] = row["plan_ms_p50"]
        yield Result(
            f"{title(row)} through capture {capture}, p50",
            f"{ms[capture]:.2f} ms (graph: {row['capture']})",
            row=row,
        )
    gain, what = (
        ms["step"] / ms["plan"],
        "ant 512 x 20 x 2: graph of the plan against that of a step",
    )
    yield (
        absent(what)
        if scale.rehearsal
        else Result(what, f"{gain:.2f} times", ">= 2 times", gain >= 2.0)
    )


def throughput(scale: Scale) -> Iterator[Result]:
    """Whether more samples still use the GPU better."""
    rates = []
    for samples in (8192, 16384):
        row = time_plans(scale, sized(scale, "ant", samples, 20, 2))
        rates.append(row["physics_steps_per_s"])
        yield Result(
            title(row), f"{rates[-1]:,.0f} physics steps/s, {row['plan_ms_p50']:.2f} ms", row=row
        )
    grows = rates[1] / rates[0]
    yield scale.timed(
        "ant: throughput at 16384 against 8192 samples",
        f"{grows:.2f} times",
        "> 1 times",
        grows > 1.0,
    )


def crossover(scale: Scale) -> Iterator[Result]:
    """Where a GPU begins to be faster than the CPU's threads."""
    # In a rehearsal, the small ones are one.
    for samples in {scale.samples(n): n for n in SIZES}.values():
        row = time_plans(scale, sized(scale, "ant", samples, 20, 2), seconds=2.0)
        faster = row["physics_steps_per_s"] / row["raw_steps_per_s"]
        yield Result(
            f"{title(row)} against C MuJoCo on {row['threads']} threads",
            f"{faster:.2f} times",
            row=row,
        )


def horizons(scale: Scale) -> Iterator[Result]:
    """Time against the length of the horizon."""
    for horizon in (10, 30, 50):
        row = time_plans(scale, sized(scale, "ant", 2048, horizon, 1), seconds=2.0)
        yield Result(f"{title(row)}, p50", f"{row['plan_ms_p50']:.2f} ms", row=row)


def solver(scale: Scale) -> Iterator[Result]:
    """Time against the most iterations of the constraint solver.

    All worlds wait for the slowest one.
    """
    for iterations in (1, 2, 4, 10):
        row = time_plans(
            scale,
            sized(scale, "ant", 2048, 20, 1, **{"model.iterations": str(iterations)}),
            seconds=1.0,
        )
        yield Result(
            f"{title(row)}, at most {iterations} solver iterations, p50",
            f"{row['plan_ms_p50']:.2f} ms",
            row=row,
        )


def kernels(scale: Scale, task: str) -> Iterator[Result]:
    """Kernels of a plan without a graph, the longest first.

    The profiler does not see into the conditional nodes of a graph.
    """
    what = f"{task} {scale.samples(2048)} x {scale.horizon(20)} x 1"
    if scale.rehearsal:
        yield absent(f"{what}: kernels")
        return
    loop = ClosedLoop(
        sized(scale, task, 2048, 20, 1, **{"backend.capture": "none"}).parameters(), 0
    )
    for _ in range(3):
        planned(loop)
        loop.advance()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        planned(loop)
        torch.cuda.synchronize()
    spent = [
        (event.key, event.count, 1e-3 * event.self_device_time_total)
        for event in profile.key_averages()
    ]
    total = sum(ms for _, _, ms in spent)
    yield Result(
        f"{what}: kernels and copies",
        f"{sum(count for _, count, _ in spent)} of {total:.2f} ms in all",
    )
    for name, count, ms in sorted(spent, key=lambda each: -each[2])[:20]:
        row = {"kernel": name, "count": count, "ms": ms}
        yield Result(
            f"{what}: {name[:60]}",
            f"{count} x {1e3 * ms / count:.1f} us, {ms / total:.1%}",
            row=row,
        )


def closed_loop(scale: Scale) -> Iterator[Result]:
    """Plans in time, and a robot that walks, at 50 Hz.

    Of one denoising step, which is what a period of 20 ms has time for.
    """
    settings, times, first = (
        loop_settings(scale, "ant", 2048, **{"planner.iterations": "1"}),
        [],
        scale.count(5),
    )
    loop = ClosedLoop(settings, 0)
    for _ in range(first + round(scale.seconds(5.0) * loop.config.planner.rate)):
        times.append(planned(loop).stats.plan_time)
        loop.advance()
    late = float(np.mean(np.array(times[first:]) > 1.0 / loop.config.planner.rate))
    what = "ant in closed loop with 2048 samples, 1 denoising step"
    yield Result(f"{what}: p50", f"{1e3 * float(np.median(times[first:])):.2f} ms")
    yield scale.timed(f"{what}: plans later than 20 ms", f"{late:.1%}", "<= 1 %", late <= 0.01)
    episode = run_episode(settings, 0, scale.seconds(10.0))
    yield Result(f"{what}: mean cost of 10 s", f"{episode.mean_cost:.4f}")
    yield Result(f"{what}: falls", str(episode.falls), "0", episode.falls == 0)


def _median_ms(work: Callable[[], object], device: torch.device) -> float:
    return 1e3 * float(np.median([timed(work, device) for _ in range(20)][3:]))


def _launch_ms() -> float:
    """What one kernel in a CUDA graph takes at least.

    A chain of a thousand that add 1 to one number.
    """
    wp.init()
    number, stream = torch.zeros(1, device="cuda"), torch.cuda.Stream()
    number.add_(1.0)
    torch.cuda.synchronize()
    warp_stream = wp.stream_from_torch(stream)
    with torch.cuda.stream(stream):
        with capturing(warp_stream.device, warp_stream) as capture:
            for _ in range(LAUNCHES):
                number.add_(1.0)
        return (
            _median_ms(lambda: wp.capture_launch(capture.graph, warp_stream), number.device)
            / LAUNCHES
        )


def _bytes_a_ms(scale: Scale) -> float:
    """Bytes that the device's memory reads and writes in a millisecond, by copying 1 GiB."""
    source = torch.zeros(
        (1 << 30) // (16 if scale.rehearsal else 1), dtype=torch.uint8, device=scale.device
    )
    target = torch.empty_like(source)
    return 2 * source.nbytes / _median_ms(lambda: target.copy_(source), source.device)
