"""`diffusion-mpc benchmark`: the benchmarks by name.

The class of each is its command, see `Benchmark`.
"""

from __future__ import annotations

from cyclopts import App

from diffusion_mpc.benchmark.augmentation import Augmentation
from diffusion_mpc.benchmark.black_box import BlackBox
from diffusion_mpc.benchmark.delay import Delay
from diffusion_mpc.benchmark.generative import Generative
from diffusion_mpc.benchmark.integrators import Integrators
from diffusion_mpc.benchmark.quality import Quality
from diffusion_mpc.benchmark.renoising import Renoising
from diffusion_mpc.benchmark.soak import Soak
from diffusion_mpc.benchmark.speed import Speed
from diffusion_mpc.benchmark.trajectories import TrajectoryDiffusion
from diffusion_mpc.benchmark.tune import Tune
from diffusion_mpc.benchmark.warm_start import WarmStart

app = App(name="benchmark")
for benchmark in (
    Speed,
    Quality,
    Tune,
    Delay,
    Renoising,
    Integrators,
    BlackBox,
    Generative,
    TrajectoryDiffusion,
    Augmentation,
    WarmStart,
    Soak,
):
    app.command(benchmark)
