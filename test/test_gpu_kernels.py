"""Kernels of a plan compile for a GPU, into a cache that a run on it looks in.

No GPU is needed, and none is used.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import warp as wp
from gpu.compile_kernels import gpu_of, launched_on, load_on, physics_of

ON_THE_HOST_ONLY = "x.data[0] = __builtin_readcyclecounter();"


@wp.kernel(module="unique")
def fill(x: wp.array(dtype=float)):
    x[wp.tid()] = 2.0


@wp.func_native(ON_THE_HOST_ONLY)
def count_cycles(x: wp.array(dtype=float)): ...


@wp.kernel(module="unique")
def for_the_host(x: wp.array(dtype=float)):
    count_cycles(x)


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    device = gpu_of(90)
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path))
    monkeypatch.setattr(wp.config, "cuda_output", "cubin")
    return device


def test_launches_are_noted_by_their_block_size_and_not_made(gpu):
    x = wp.zeros(4, dtype=float, device="cpu")

    def work():
        assert wp.get_device().is_cuda
        wp.launch(fill, dim=4, inputs=[x], device="cpu")
        wp.launch_tiled(fill, dim=[4], inputs=[x], block_dim=64, device="cpu")
        wp.launch(for_the_host, dim=0, inputs=[x], device="cpu")

    assert launched_on(gpu, work) == {(fill.module, 256), (fill.module, 64)}
    assert x.numpy().tolist() == [0.0] * 4
    assert wp.get_device().is_cpu


def test_a_binary_is_compiled_once_for_each_block_size_and_found_again(gpu, tmp_path):
    first, second = (load_on(gpu, (fill.module, block_dim)) for block_dim in (256, 64))
    assert first != second
    assert {first, second} == set(tmp_path.rglob("*.sm90.cubin"))
    made = first.stat().st_mtime_ns
    assert load_on(gpu, (fill.module, 256)) == first
    assert first.stat().st_mtime_ns == made


def test_a_kernel_that_compiles_for_the_cpu_only_is_an_error(gpu):
    wp.launch(for_the_host, dim=1, inputs=[wp.zeros(1, dtype=float, device="cpu")], device="cpu")
    with pytest.raises(Exception, match=r"CUDA kernel build failed"):
        load_on(gpu, (for_the_host.module, 256))


def test_a_few_kernels_of_a_plan_compile_for_a_gpu(gpu):
    some = ("_next_time", "_solve_done", "_efc_contact_jac_dense")
    variants = [v for v in launched_on(gpu, physics_of("cartpole")) if v[0].name.startswith(some)]
    assert len(variants) >= 2
    for variant in variants:
        assert load_on(gpu, variant).stat().st_size > 1000


@pytest.mark.kernels
@pytest.mark.timeout(1200)
def test_all_kernels_of_plans_of_the_ant_and_the_humanoid_compile_for_a_gpu(tmp_path):
    # In a process of its own, as the tool is used: what other tests have loaded plays no part.
    tool = [
        sys.executable,
        Path(__file__).parent / "gpu" / "compile_kernels.py",
        "--cache",
        tmp_path,
    ]
    done = subprocess.run([*tool, "ant", "humanoid_walk"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) > 30
