"""`benchmark soak`: a long run in real time over ROS 2.

Lateness, delays, and the planner's memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from diffusion_mpc.arguments import OutputFile, SetOption, parse_settings
from diffusion_mpc.benchmark.benchmark import Benchmark, Report
from diffusion_mpc.benchmark.figures import Row, table
from diffusion_mpc.benchmark.lateness import lateness_table


@dataclass(frozen=True, kw_only=True)
class Soak(Benchmark):
    """Run planner and simulation in real time, for long.

    Late plans, delays, and the planner's memory.

    example: diffusion-mpc benchmark soak --duration 1800 --json soak.json

    Attributes:
        task: task
        duration: time to run, s
        settings: planner parameter; can be repeated
        trace: file for what the nodes do when, for ui.perfetto.dev; a table compares late plans
            with plans on time
    """

    task: str = "ant"
    duration: float = 1800.0
    settings: SetOption = ()
    trace: OutputFile = None

    def report(self) -> Report:
        """Run, see `soak_run.soak`."""
        if find_spec("rclpy") is None:
            raise ValueError(
                "benchmark soak needs ROS 2 (rclpy): use ./dmpc, or source a ROS 2 distribution"
            )
        from diffusion_mpc.benchmark.soak_run import soak

        settings = parse_settings(self.settings)
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task(f"soak: {self.task}", total=self.duration)
            return soak(
                self.task,
                self.duration,
                settings,
                lambda passed: progress.update(bar, completed=passed),
                self.trace,
            )

    def tables(self, report: Report) -> list[Table]:
        """Lateness, delays and memory, interval by interval and over all."""
        growth = report["memory_growth"]
        memory = "unknown" if growth is None else f"{growth:+.2%} at most after the first row"
        title = (
            f"{report['task']} in real time; {report['safe_commands']} safe commands; "
            f"resident memory of the planner: {memory}"
        )
        intervals = table(
            title, [*report["rows"], report], _cells, wrap=True, section=lambda row: "time_s" in row
        )
        return [intervals, *([lateness_table(report["lateness"])] if "lateness" in report else [])]


def _cells(row: Row) -> dict[str, str]:
    """Texts of an interval, or of the whole run, which has no time and no memory of its own."""
    whole = "time_s" not in row
    delays = row["state_to_command_ms"] or {}
    fraction = f" ({row['deadline_misses'] / row['plans']:.2%})" if row["plans"] else ""
    p50, p99, most = (f"{delays[name]:.1f}" if delays else "–" for name in ("p50", "p99", "max"))
    return {
        "time, s": "all" if whole else f"{row['time_s']:.0f}",
        "plans": str(row["plans"]),
        "late": f"{row['deadline_misses']}{fraction}",
        "state to command p50, ms": p50,
        "p99": p99,
        "max": most,
        "memory, MB": "" if whole else f"{row['resident_mb']:.1f}",
    }
