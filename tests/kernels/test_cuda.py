"""The CUDA kernels on a GPU: right for every shape, as planned, complete, the same in every run."""

from __future__ import annotations

import numpy as np
import pytest

import csbviz.ops.cuda.baselines  # noqa: F401  (registers its kernels)
from csbviz.balance import STRATEGIES
from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.ops.cuda.rows import prepare
from csbviz.ops.cuda.rows_launch import TUNABLES
from csbviz.ops.registry import _KERNELS
from tests.kernels.cuda_cases import CASES, NAMES, product

pytestmark = pytest.mark.gpu

OPS = ("A@B", "A.T@B")
BASELINES = [kernel for kernel in _KERNELS.values() if kernel.device == "cuda" and kernel.format != "csb"]


def operands(A, op: str, n: int, dtype: str = "float32"):
    """B on the host, B on the device, and an output full of NaN."""
    import cupy

    rows, inner = A.shape[::-1] if op == "A.T@B" else A.shape
    B = np.random.default_rng(n).standard_normal((inner, n)).astype(dtype)
    return B, cupy.asarray(B), cupy.full((rows, n), cupy.nan, dtype)


def check(A, op: str, n: int, dtype: str = "float32", **params):
    """Run and compare with float64; NaN left anywhere fails."""
    B, on_device, out = operands(A, op, n, dtype)
    prepared = prepare(A, op, n, **params)
    assert prepared.run(on_device, out) is out
    error = relative_error(out.get(), product(A, op, B))
    assert error <= ERROR_BOUNDS["fp32" if dtype == "float32" else "fp64"], (error, op, n, params)
    return prepared, out


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_any_shape_and_strategy(case, version, op):
    A = case.matrix()
    for strategy in STRATEGIES:
        for n in (1, 8, 33, 132):
            check(A, op, n, version=version, balance=strategy)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_float64(case, version, op):
    A = case.matrix("float64")
    for n in (1, 33, 64):
        check(A, op, n, "float64", version=version, balance="equal_nnz")


@pytest.mark.parametrize("lanes", TUNABLES["lanes"])
@pytest.mark.parametrize("warps", TUNABLES["warps"])
@pytest.mark.parametrize("window_rows", TUNABLES["window_rows"])
def test_every_launch_shape(lanes, warps, window_rows):
    A = CASES[NAMES.index("heavy row and column")].matrix()
    for op in OPS:
        for n in (5, 196):
            check(A, op, n, lanes=lanes, warps=warps, window_rows=window_rows)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_ctas_do_what_the_plan_says(strategy, version, op):
    import cupy

    A = CASES[NAMES.index("heavy row and column")].matrix()
    prepared, _ = check(A, op, 300, version=version, balance=strategy, record=True)
    plan, record = prepared.plan, prepared.run.record.get()
    assert plan.strategy == strategy
    assert record.shape == (plan.tiles, plan.items, prepared.run.windows, 4)
    processor, cta, entries, unit = np.moveaxis(record, -1, 0)
    count = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["multiProcessorCount"]
    assert processor.min() >= 0
    assert processor.max() < count
    assert len(np.unique(processor)) > 1
    assert np.array_equal(np.sort(cta.ravel()), np.arange(cta.size))
    for tile in range(plan.tiles):
        assert np.array_equal(entries[tile].sum(axis=-1), plan.work)
        assert np.array_equal(unit[tile], np.broadcast_to(plan.unit[:, None], unit[tile].shape))


def test_the_strategies_really_differ():
    """Heaviest first starts with another unit than in order; equal nonzeros writes partials."""
    A = CASES[NAMES.index("heavy row and column")].matrix()
    plans = {name: check(A, "A.T@B", 64, balance=name)[0].plan for name in STRATEGIES}
    assert not np.array_equal(plans["swizzle"].unit, plans["in_order"].unit)
    assert plans["equal_nnz"].slots > 0


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_two_runs_give_the_same_bits(strategy, op):
    import cupy

    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    _, on_device, out = operands(A, op, 64)
    prepared = prepare(A, op, 64, balance=strategy)
    first = prepared.run(on_device, out).copy()
    for _ in range(3):
        out.fill(cupy.nan)
        prepared.run(on_device, out)
        assert np.array_equal(out.get().view(np.int32), first.get().view(np.int32))


def test_an_unaligned_operand():
    """A B that begins in the middle of a 16-byte word takes the path for any n."""
    import cupy

    A = CASES[0].matrix()
    B, _, out = operands(A, "A@B", 64)
    shifted = cupy.empty(B.size + 1, cupy.float32)[1:].reshape(B.shape)
    shifted[...] = cupy.asarray(B)
    prepare(A, "A@B", 64).run(shifted, out)
    assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("version", [1, 2])
def test_infinity_stays_where_it_belongs(version):
    """Rows of C without an entry in a column of A do not see what that row of B holds."""
    import cupy

    A = CASES[NAMES.index("gaps: empty rows, columns and blocks")].matrix()
    B, on_device, out = operands(A, "A@B", 40)
    on_device[1::3] = cupy.inf  # these columns of A are empty
    B[1::3] = 0
    prepare(A, "A@B", 40, version=version).run(on_device, out)
    assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kernel", BASELINES, ids=lambda kernel: kernel.name)
def test_baselines(kernel, op):
    if op not in kernel.ops:
        pytest.skip(f"{kernel.name} does not compute {op}")
    dtype = kernel.dtypes[0]
    for case in CASES:
        A = case.matrix(dtype)
        for n in (1, 33, 64):
            B, on_device, out = operands(A, op, n, dtype)
            kernel.prepare(A, op, n, threads=1).run(on_device, out)
            error = relative_error(out.get(), product(A, op, B))
            assert error <= ERROR_BOUNDS[kernel.precision[dtype]], (case.name, n, error)


def test_tf32_and_fp32_are_told_apart():
    A = CASES[0].matrix()
    errors = {}
    for name in ("cublas_fp32", "cublas_tf32"):
        B, on_device, out = operands(A, "A@B", 128)
        _KERNELS[name].prepare(A, "A@B", 128, threads=1).run(on_device, out)
        errors[name] = relative_error(out.get(), product(A, "A@B", B))
    assert errors["cublas_fp32"] < 1e-6 < 1e-5 < errors["cublas_tf32"]


@pytest.mark.parametrize("kind", ["cupy", "torch"])
@pytest.mark.parametrize("transpose", [False, True])
def test_arrays_on_the_gpu_go_through_the_front_door(kind, transpose):
    import csbviz

    A = CASES[1].matrix()
    B = np.random.default_rng(0).standard_normal((A.shape[0 if transpose else 1], 20)).astype(np.float32)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch was installed without CUDA")
        on_device = torch.from_numpy(B).cuda()
    else:
        import cupy

        on_device = cupy.asarray(B)
    result = csbviz.spmm(A, on_device, transpose=transpose)
    assert type(result) is type(on_device)
    result = result.cpu().numpy() if kind == "torch" else result.get()
    op = "A.T@B" if transpose else "A@B"
    assert relative_error(result, product(A, op, B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("name", ["csb_cuda", "cusparse_csr_default", "cusparse_csr_alg3", "cublas_fp32"])
def test_timing(name):
    """Every kernel can be captured into a graph, and a sample is close to the next."""
    from csbviz.bench import gpu_timing

    A = CASES[0].matrix()
    _, on_device, out = operands(A, "A@B", 128)
    run = _KERNELS[name].prepare(A, "A@B", 128, threads=1).run
    warm = gpu_timing.time_cuda(run, on_device, out, mode="warm", min_time=0.02)
    cold = gpu_timing.time_cuda(run, on_device, out, mode="cold", min_time=0.02)
    assert len(warm) >= 15
    assert len(cold) >= 15
    assert 0 < np.median(warm) < np.median(cold) < 1000
    assert np.isfinite(out.get()).all()


def test_a_call_that_cannot_be_captured_is_timed_all_the_same():
    import cupy

    from csbviz.bench.gpu_timing import time_cuda

    def run(B, out):
        out[...] = B.get().sum()  # a copy to the host needs the stream to be idle

    samples = time_cuda(
        run, cupy.ones((4, 4), cupy.float32), cupy.empty((4, 4), cupy.float32), min_time=0.005
    )
    assert (samples > 0).all()


def test_device_info_is_complete():
    import json

    from csbviz.bench.gpu_timing import device_info

    info = device_info()
    assert json.loads(json.dumps(info)) == info
    assert {"name", "capability", "multiprocessors", "l2_bytes", "memory_bytes", "cuda_driver"} <= set(info)
