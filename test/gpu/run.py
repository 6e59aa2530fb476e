"""Checks and times planning on a CUDA GPU, and prints one table of what came out beside what was aimed at.

    ./dmpc exec python test/gpu/run.py [--json FILE] [--plot FILE] [--quick]

Exit code 0: every check passed and every aim was met. Without a GPU it says so and ends with 2.
"""

import argparse
import json
import sys
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from diffusion_mpc.benchmark.case import Case
from diffusion_mpc.benchmark.closed_loop import ClosedLoop, run_episode
from diffusion_mpc.benchmark.speed import plot_speed, run_case
from diffusion_mpc.benchmark.stages import stages_table, time_stages, timed
from diffusion_mpc.rollout.cpu import CpuBackend
from diffusion_mpc.tasks import find_task

CAPTURES = ("plan", "step", "none")
SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)


def loop_of(task, samples, **settings):
    demo = {name: value for name, value in find_task(task).demo.items() if not name.startswith("sim.")}
    return ClosedLoop({"task": task, "backend.name": "warp", "planner.num_samples": samples, **demo, **settings}, 0)


def case_of(task, samples, horizon, iterations, **settings):
    sizes = {"num_samples": samples, "horizon_steps": horizon, "iterations": iterations}
    texts = {f"planner.{name}": str(value) for name, value in sizes.items()}
    return Case(task, {**texts, "backend.name": "warp", **settings})


def run_of(task, samples, horizon, iterations, plans, **settings):
    return run_case(case_of(task, samples, horizon, iterations, **settings), plans, 10, lambda: None)


def check_captures():
    """Plans through the three kinds of capture, from the same state with the same seed: mean knots agree, and nothing fell back."""
    for task in ("cartpole", "ant", "ant_wall", "humanoid_walk"):
        plans = {}
        for capture in CAPTURES:
            loop = loop_of(task, 256, **{"backend.capture": capture})
            plans[capture] = [loop.plan() for _ in range(2)]
            used = loop.controller.backend.capture
            yield f"{task}: capture {capture} is what was asked for", used, capture, used == capture
        for capture in ("plan", "step"):
            pairs = zip(plans[capture], plans["none"], strict=True)
            apart = max(float(np.abs(a.knots - b.knots).max()) for a, b in pairs)
            yield f"{task}: knots through capture {capture} against none", f"{apart:.1e}", "<= 2e-2", apart <= 2e-2


def check_live_parameters():
    """Weights, temperature, noise, reference, state and seed reach a recorded plan; another structure is recorded beside it."""
    loop = loop_of("ant", 256)
    planner, task = loop.controller.planner, loop.task
    config, recordings = planner._settings.config, planner._settings.recordings
    state, seen = loop.state(), []

    def note():
        planner.reset()
        seen.append(planner.plan(state, loop.reference).knots)

    note()
    note()
    same = float(np.abs(seen[0] - seen[1]).max())
    yield "same seed, same plan", f"{same:.1e}", "<= 2e-2", same <= 2e-2
    changes = {"temperature": 1.0, "noise_start": 0.05, "seed": 7}
    for name, value in changes.items():
        planner.configure(replace(config, **{name: value}), planner._settings.traces)
        note()
        yield f"{name} reaches the recorded plan", "yes", "yes", bool(np.abs(seen[-1] - seen[0]).max() > 1e-3)
    planner.configure(config, planner._settings.traces)
    loop.controller.objective.configure({name: 0.0 if name != "effort" else 1.0 for name in task.cost_terms()}, loop.config.robust)
    note()
    yield "weights reach the recorded plan", "yes", "yes", bool(np.abs(seen[-1] - seen[0]).max() > 1e-3)
    kept = planner._settings.recordings is recordings
    yield "nothing was recorded anew", "yes" if kept else "no", "yes", kept


def check_rollouts():
    """Rollouts against C MuJoCo's, where contacts do not amplify single precision."""
    loop = loop_of("cartpole", 64)
    backend, task = loop.controller.backend, loop.task
    controls = torch.from_numpy(np.random.default_rng(0).uniform(*task.ctrl_limits, (64, 50, 1)))
    state = loop.state()
    on_gpu = backend.rollout(state, controls.float().to(backend.device), 0.02).qpos.cpu().double()
    apart = float((on_gpu - CpuBackend([backend.model]).rollout(state, controls, 0.02).qpos).abs().max())
    yield "cartpole: positions against C MuJoCo after 1 s", f"{apart:.1e}", "<= 5e-4", apart <= 5e-4


def check_times(plans, rows):
    def add(*size, **settings):
        rows.append(run_of(*size, plans, **settings))
        return rows[-1]

    ms = add("ant", 2048, 20, 2)["plan_ms_p50"]
    yield "ant 2048 x 20 x 2, p50", f"{ms:.2f} ms", "<= 10 ms", ms <= 10.0
    ms = add("humanoid_walk", 2048, 20, 1)["plan_ms_p50"]
    yield "humanoid 2048 x 20 x 1, p50", f"{ms:.2f} ms", "<= 20 ms", ms <= 20.0
    by_capture = {capture: add("ant", 512, 20, 2, **{"backend.capture": capture})["plan_ms_p50"] for capture in CAPTURES}
    gain = by_capture["step"] / by_capture["plan"]
    yield "ant 512 x 20 x 2: graph of the plan against that of a step", f"{gain:.2f} times", ">= 2 times", gain >= 2.0
    rates = {}
    for samples in SIZES if plans > 20 else SIZES[::3]:
        row = add("ant", samples, 20, 2)
        rates[samples] = row["physics_steps_per_s"]
        faster = rates[samples] / row["raw_steps_per_s"]
        yield f"ant {samples} x 20 x 2 against C MuJoCo on {row['threads']} threads", f"{faster:.2f} times", "", True
    if {8192, 16384} <= set(rates):
        grows = rates[16384] / rates[8192]
        yield "ant: throughput at 16384 against 8192 samples", f"{grows:.2f} times", "> 1 times", grows > 1.0
    for horizon in (10, 30, 50):
        yield f"ant 2048 x {horizon} x 1, p50", f"{add('ant', 2048, horizon, 1)['plan_ms_p50']:.2f} ms", "", True


def median_ms(work):
    return 1e3 * float(np.median([timed(work, torch.device("cuda")) for _ in range(20)][3:]))


def launch_ms():
    """What one kernel in a CUDA graph takes at least: a chain of a thousand that add 1 to one number."""
    number, graph, count = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph(), 1000
    number.add_(1.0)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(count):
            number.add_(1.0)
    return median_ms(graph.replay) / count


def bytes_a_ms():
    """Bytes that the GPU's memory reads and writes in a millisecond, by copying 1 GiB."""
    source = torch.zeros(1 << 28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_ms(lambda: target.copy_(source))


def check_floor(console, plans, rows):
    """Stages of a plan, and how far the whole is from what its launches, or the memory of its worlds, must take."""
    launch, rate = launch_ms(), bytes_a_ms()
    yield "one kernel of a graph, and memory traffic", f"{1e3 * launch:.2f} us, {rate / 1e9:.2f} TB/s", "", True
    for sizes in (("ant", 2048, 20, 2), ("humanoid_walk", 2048, 20, 1)):
        case = case_of(*sizes)
        row = run_of(*sizes, plans)
        row["stages"] = time_stages(case)
        rows.append(row)
        console.print(stages_table(row))
        launches = sum(stage["calls"] * stage["launches"] for stage in row["stages"])
        loop = loop_of(sizes[0], sizes[1], **{"backend.capture": "none"})
        traffic = 2 * loop.controller.backend.footprint(sizes[1]) * row["horizon_steps"] * row["iterations"]
        traffic *= round(loop.config.planner.control_dt / row["timestep"])
        name, plan = " x ".join(map(str, sizes)), row["plan_ms_p50"]
        yield f"{name}: plan", f"{plan:.2f} ms", "", True
        yield f"{name}: {launches} launches take", f"{launches * launch:.2f} ms", "", True
        yield f"{name}: worlds read and written once a physics step take", f"{traffic / rate:.2f} ms", "", True
        floor = max(launches * launch, traffic / rate)
        yield f"{name}: plan against the greater of the two", f"{plan / floor:.2f} times", "", True


def check_closed_loop(duration):
    loop = loop_of("ant", 2048)
    times = []
    for _ in range(round(duration * loop.config.planner.rate)):
        times.append(loop.plan().stats.plan_time)
        loop.advance()
    late = float(np.mean(np.array(times[5:]) > 1.0 / loop.config.planner.rate))
    yield "ant in closed loop with 2048 samples: plans later than 20 ms", f"{late:.1%}", "<= 1 %", late <= 0.01
    settings = {"task": "ant", "backend.name": "warp", "planner.num_samples": 2048, "command.vx": 1.0}
    falls = run_episode(settings, 0, duration).falls
    yield "ant in closed loop: falls", str(falls), "0", falls == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to a file")
    parser.add_argument("--plot", help="draw physics steps/s against samples, GPU and CPU, into a PNG")
    parser.add_argument("--quick", action="store_true", help="a tenth of the plans")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("error: PyTorch sees no CUDA GPU; there is nothing to check\n")
        return 2
    console, results, rows, floors = Console(width=140), [], [], []
    plans = 20 if options.quick else 200
    parts = (
        check_captures(),
        check_live_parameters(),
        check_rollouts(),
        check_times(plans, rows),
        check_floor(console, plans, floors),
        check_closed_loop(2.0 if options.quick else 10.0),
    )
    for part in parts:
        for result in part:
            results.append(result)
            console.print(" ", *result)
    table = Table("what", "measured", "aim", "", title=f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    for what, measured, aim, met in results:
        table.add_row(what, measured, aim, "" if not aim else "met" if met else "[red]NOT met[/red]")
    console.print(table)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"device": torch.cuda.get_device_name(), "results": results, "rows": rows, "stages": floors}, file, indent=1)
    if options.plot:
        # The crossover: one horizon, and all numbers of samples.
        plot_speed([row for row in rows if (row["model"], row["horizon_steps"], row["iterations"]) == ("ant", 20, 2)], options.plot)
    return 0 if all(met for *_, met in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
