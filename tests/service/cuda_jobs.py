"""Jobs on a GPU that the tests run in the worker process; each imports what it needs there."""

from __future__ import annotations

import os
import sys

_OUT_OF_BOUNDS = r"""
extern "C" __global__ void spoil(float* values) { values[-(1ll << 36)] = 1.0f; }  // 256 GiB before the array
"""

_SPIN = r"""
__device__ unsigned long long nanoseconds() {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
extern "C" __global__ void spin(unsigned long long length) {
    const unsigned long long start = nanoseconds();
    while (nanoseconds() - start < length) {}
}
"""


def environment(progress, **ignored):
    """What a CUDA job's process looks like; it uses the GPU."""
    import cupy
    from distributed.diagnostics import nvml

    return {
        "pid": os.getpid(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "name": cupy.cuda.runtime.getDeviceProperties(0)["name"].decode(),
        "sum": float(cupy.zeros(8, dtype=cupy.float32).sum()),
        "imported": sorted(name for name in ("streamlit", "torch") if name in sys.modules),
        "monitored": nvml.NVML_STATE is nvml.NVMLState.INITIALIZED,
    }


def held_bytes(progress):
    """GPU memory that CuPy holds in this process."""
    import cupy

    return cupy.get_default_memory_pool().total_bytes()


def _write_out_of_bounds():
    import cupy

    cupy.RawKernel(_OUT_OF_BOUNDS, "spoil")((1,), (1,), (cupy.zeros(1, dtype=cupy.float32),))


def write_out_of_bounds(progress, **ignored):
    """Launch a kernel that writes where nothing is, and wait for it."""
    import cupy

    progress(0.5, f"pid {os.getpid()}")
    _write_out_of_bounds()
    cupy.cuda.Device().synchronize()


def write_out_of_bounds_unnoticed(progress):
    """The same, without waiting for the kernel."""
    _write_out_of_bounds()
    return "looks fine"


def bench_a_faulty_kernel(csr, request, progress, **rest):
    """A run of the benchmark in which a CUDA kernel writes out of bounds."""
    from csbviz.bench.jobs import run_bench
    from csbviz.ops.registry import Kernel, Prepared, get_kernel, register

    def prepare(A, op, n, *, threads=0, balance="auto"):
        def run(B, out):
            _write_out_of_bounds()
            return out

        return Prepared(run, 0)

    get_kernel("csb_cuda")  # the registry is filled first
    register(
        Kernel(
            name="faulty",
            title="Faulty",
            format="csb",
            device="cuda",
            ops=("A@B",),
            dtypes=("float32",),
            precision={"float32": "fp32"},
            prepare=prepare,
            summary="Writes out of bounds.",
        )
    )
    return run_bench(csr, request | {"kernels": ["cublas_fp32", "faulty", "csb_cuda"]}, progress, **rest)


def spin(seconds, progress):
    """Keep the GPU busy with one kernel, as long as nobody ends it."""
    import cupy
    import numpy as np

    kernel = cupy.RawKernel(_SPIN, "spin")
    kernel((1,), (1,), (np.uint64(0),))
    cupy.cuda.Device().synchronize()
    kernel((1,), (1,), (np.uint64(seconds * 1e9),))
    progress(0.5, f"pid {os.getpid()}")
    cupy.cuda.Device().synchronize()
