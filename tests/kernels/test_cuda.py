"""The CUDA kernels on a GPU: right for every shape, as planned, complete, the same in every run."""

from __future__ import annotations

import numpy as np
import pytest

import csbviz.ops.cuda.baselines  # noqa: F401  (registers its kernels)
from csbviz.balance import STRATEGIES
from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.ops.cuda.rows import prepare_gather, prepare_simple
from csbviz.ops.cuda.rows_launch import TUNABLES
from csbviz.ops.registry import _KERNELS
from tests.kernels.cuda_cases import CASES, NAMES, Case, product

pytestmark = pytest.mark.gpu

OPS = ("A@B", "A.T@B")
BASELINES = [
    kernel
    for kernel in _KERNELS.values()
    if kernel.device == "cuda" and kernel.format != "csb" and kernel.dtypes[0] in ("float32", "float64")
]


def operands(A, op: str, n: int, dtype: str = "float32"):
    """B on the host, B on the device, and an output full of NaN."""
    import cupy

    rows, inner = A.shape[::-1] if op == "A.T@B" else A.shape
    B = np.random.default_rng(n).standard_normal((inner, n)).astype(dtype)
    return B, cupy.asarray(B), cupy.full((rows, n), cupy.nan, dtype)


WAYS = ("simple", "grid", "ticket")
"""Version 1; version 2 with a CTA an item, or with CTAs that draw tickets (stream-K's have their shares)."""


def prepare(A, op: str, n: int, way: str = "grid", balance: str = "auto", **params):
    """Version 1 or version 2 made ready."""
    if way == "simple":
        return prepare_simple(A, op, n, balance=balance, **params)
    execution = None if balance == "stream_k" else way
    return prepare_gather(A, op, n, balance=balance, execution=execution, **params)


def check(A, op: str, n: int, dtype: str = "float32", **params):
    """Run and compare with float64; NaN left anywhere fails."""
    B, on_device, out = operands(A, op, n, dtype)
    prepared = prepare(A, op, n, **params)
    assert prepared.run(on_device, out) is out
    error = relative_error(out.get(), product(A, op, B))
    assert error <= ERROR_BOUNDS["fp32" if dtype == "float32" else "fp64"], (error, op, n, params)
    return prepared, out


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_any_shape_and_strategy(case, way, op):
    A = case.matrix()
    for strategy in STRATEGIES:
        for n in (1, 8, 33, 132):
            check(A, op, n, way=way, balance=strategy)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_float64(case, way, op):
    A = case.matrix("float64")
    for n in (1, 33, 64):
        for strategy in ("equal_nnz", "stream_k"):
            check(A, op, n, "float64", way=way, balance=strategy)


@pytest.mark.parametrize("lanes", TUNABLES["lanes"])
@pytest.mark.parametrize("warps", TUNABLES["warps"])
@pytest.mark.parametrize("window_rows", TUNABLES["window_rows"])
def test_every_launch_shape(lanes, warps, window_rows):
    A = CASES[NAMES.index("heavy row and column")].matrix()
    shape = {"lanes": lanes, "warps": warps, "window_rows": window_rows}
    for op in OPS:
        for n in (5, 196):
            for way, strategy in (("grid", "auto"), ("ticket", "equal_nnz"), ("grid", "stream_k")):
                check(A, op, n, way=way, balance=strategy, **shape)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_ctas_do_what_the_plan_says(strategy, way, op):
    import cupy

    A = CASES[NAMES.index("heavy row and column")].matrix()
    prepared, _ = check(A, op, 300, way=way, balance=strategy, record=True)
    plan, record = prepared.plan, prepared.launch.record.get()
    assert plan.strategy == strategy
    jobs = (plan.items,) if plan.tile is not None else (plan.tiles, plan.items)
    windows = (prepared.launch.windows,) if way == "simple" else ()
    assert record.shape == (*jobs, *windows, 8)
    processor, cta, entries, unit, clock, clock_end, begin, end = np.moveaxis(record, -1, 0)
    count = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["multiProcessorCount"]
    assert 0 <= processor.min() <= processor.max() < count
    assert len(np.unique(processor)) > 1
    assert (clock_end > clock).all()
    assert (end >= begin).all()
    done = entries.sum(axis=-1) if windows else entries
    assert np.array_equal(done, np.broadcast_to(plan.work, done.shape))
    of_item = plan.unit[:, None] if windows else plan.unit
    assert np.array_equal(unit, np.broadcast_to(of_item, unit.shape))
    check_ctas(plan, prepared.params.get("execution", "grid"), cta, clock, clock_end)


def check_ctas(plan, execution: str, cta, clock, clock_end) -> None:
    """Who did which job: a CTA each; whoever was free; or the worker that the plan names."""
    if execution == "grid":
        assert np.array_equal(np.sort(cta.ravel()), np.arange(cta.size))
    elif execution == "shares":
        assert np.array_equal(cta, np.broadcast_to(plan.item_worker, cta.shape))
    else:
        in_order = cta.T.ravel()  # jobs are drawn item by item, and of an item tile by tile
        drawn = min(cta.size, cta.max() + 1)
        assert np.array_equal(in_order[:drawn], np.arange(drawn))  # the first job is the CTA's own
    for one in np.unique(cta):  # a CTA does one thing at a time
        start, end = np.sort(clock[cta == one]), np.sort(clock_end[cta == one])
        assert (start[1:] >= end[:-1]).all()


def test_few_ctas_draw_many_tickets():
    """More jobs than CTAs fit: every CTA's first job is its own, the others are drawn, and none is lost."""
    A = Case("long", (20_000, 64), 0.05, (8, 64)).matrix()
    prepared, _ = check(A, "A@B", 300, way="ticket", balance="swizzle", warps=16, record=True)
    record = prepared.launch.record.get()
    assert prepared.launch.ctas < prepared.plan.jobs == record[..., 1].size
    assert set(record[..., 1].ravel()) == set(range(prepared.launch.ctas))
    for _ in range(2):  # the ticket was set back
        prepared.launch.record.fill(-1)
        _, on_device, out = operands(A, "A@B", 300)
        prepared.run(on_device, out)
        entries = prepared.launch.record.get()[..., 2]
        assert (entries.sum(axis=0) == prepared.plan.work * prepared.plan.tiles).all()


def test_the_strategies_really_differ():
    """Heaviest first starts with another unit than in order; cuts write partials; stream-K crosses tiles."""
    A = CASES[NAMES.index("heavy row and column")].matrix()
    plans = {name: check(A, "A.T@B", 300, balance=name)[0].plan for name in STRATEGIES}
    assert not np.array_equal(plans["swizzle"].unit, plans["in_order"].unit)
    assert plans["equal_nnz"].slots > 0
    assert plans["split_k"].slots > 0
    assert plans["stream_k"].static
    assert len(np.unique(plans["stream_k"].tile)) == plans["stream_k"].tiles > 1


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_two_runs_give_the_same_bits(strategy, way, op):
    """Also where whoever is free draws the next ticket, or comes last and adds."""
    import cupy

    assert STRATEGIES[strategy].deterministic
    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    _, on_device, out = operands(A, op, 64)
    prepared = prepare(A, op, 64, way, balance=strategy)
    first = prepared.run(on_device, out).copy()
    for _ in range(10):
        out.fill(cupy.nan)
        prepared.run(on_device, out)
        assert np.array_equal(out.get().view(np.int32), first.get().view(np.int32))


@pytest.mark.parametrize("way", ["simple", "ticket", "stream_k"])
def test_two_streams_at_once(way):
    """Each stream has partial sums and a ticket of its own."""
    import cupy

    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    strategy = "stream_k" if way == "stream_k" else "equal_nnz"
    prepared = prepare(A, "A@B", 300, "grid" if way == "stream_k" else way, balance=strategy)
    assert prepared.launch.workspaces == 1
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]
    pairs = []
    for seed in range(len(streams)):
        B = cupy.random.RandomState(seed).standard_normal((A.shape[1], 300), dtype=cupy.float32)
        pairs.append((B, cupy.full((A.shape[0], 300), cupy.nan, cupy.float32)))
    cupy.cuda.Device().synchronize()
    for _ in range(20):
        for stream, (B, out) in zip(streams, pairs, strict=True):
            with stream:
                prepared.run(B, out)
    cupy.cuda.Device().synchronize()
    assert prepared.launch.workspaces == len(streams)
    for B, out in pairs:
        assert relative_error(out.get(), product(A, "A@B", B.get())) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("way", ["simple", "ticket", "stream_k"])
def test_a_captured_graph_has_its_own_workspace(way):
    import cupy

    A = CASES[NAMES.index("heavy row and column")].matrix()
    strategy = "stream_k" if way == "stream_k" else "equal_nnz"
    prepared = prepare(A, "A@B", 300, "grid" if way == "stream_k" else way, balance=strategy)
    B, on_device, out = operands(A, "A@B", 300)
    other = cupy.full_like(out, cupy.nan)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        prepared.run(on_device, other)
        stream.begin_capture()
        for _ in range(3):
            prepared.run(on_device, out)
        graph = stream.end_capture()
        assert prepared.launch.workspaces == 2
    elsewhere = cupy.cuda.Stream(non_blocking=True)
    for _ in range(10):
        graph.launch(elsewhere)
        with stream:
            prepared.run(on_device, other)
    cupy.cuda.Device().synchronize()
    for result in (out, other):
        assert relative_error(result.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_plan_takes_the_memory_that_it_states(strategy, way):
    """CuPy's pool gives whole multiples of 512 bytes, to each array."""
    import gc

    import cupy

    A = CASES[NAMES.index("heavy row and column")].matrix()
    prepare(A, "A@B", 300, way, balance=strategy)  # the matrix is uploaded and kept, the kernels are loaded
    gc.collect()
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    prepared = prepare(A, "A@B", 300, way, balance=strategy)
    taken = pool.used_bytes() - before
    matrix = prepared.bytes - sum(array.nbytes for array in prepared.launch._arrays.values())
    stated = prepared.bytes - matrix + prepared.launch.workspace_bytes
    arrays = len(prepared.launch._arrays) + 2
    assert stated <= taken <= stated + 512 * arrays
    indices = 2 if way == "simple" else 1
    assert matrix == A.values.nbytes + A.blk_ptr.nbytes + indices * A.row_ind.nbytes


def test_a_launch_takes_ten_microseconds():
    """From Python, without waiting for the device."""
    import time

    import cupy

    A = Case("small", (64, 64), 0.1, (64, 64)).matrix()
    for strategy in ("swizzle", "equal_nnz"):
        _, on_device, out = operands(A, "A@B", 64)
        run = prepare(A, "A@B", 64, balance=strategy).run
        seconds = []
        for _ in range(10):  # the best round: others may use this machine at the same time
            run(on_device, out)
            cupy.cuda.Device().synchronize()
            start = time.perf_counter()
            for _ in range(100):
                run(on_device, out)
            seconds.append(time.perf_counter() - start)
            cupy.cuda.Device().synchronize()
        assert min(seconds) / 100 < 10e-6


@pytest.mark.parametrize("way", WAYS)
def test_more_than_two_to_the_31_elements(way):
    """Rows of C past the 2³¹-th element are where they belong."""
    import cupy

    n, rows = 1 << 15, (1 << 16) + 200
    if cupy.cuda.runtime.memGetInfo()[0] < 5 * n * rows:
        pytest.skip("the GPU has too little memory")
    A = Case("tall", (rows, 64), 0.02, (64, 64)).matrix()
    B = cupy.random.RandomState(0).standard_normal((64, n), dtype=cupy.float32)
    out = cupy.full((rows, n), cupy.nan, cupy.float32)
    prepare(A, "A@B", n, way, balance="swizzle").run(B, out)
    S, ends = A.to_scipy().astype(np.float64), [*range(3), *range(rows - 300, rows)]
    expected = S[ends] @ B[:, -40:].get().astype(np.float64)
    assert relative_error(out[ends, -40:].get(), expected) <= ERROR_BOUNDS["fp32"]
    del out
    cupy.get_default_memory_pool().free_all_blocks()


@pytest.mark.parametrize("way", WAYS)
def test_64_bit_block_pointers(way):
    """As a matrix of more than 2³¹ entries has them."""
    from csbviz.ops.cuda.module import current_device
    from csbviz.ops.cuda.storage import device_arrays

    A = CASES[NAMES.index("ragged edges")].matrix()
    uploaded = device_arrays(A, current_device().id)
    uploaded["blk_ptr"] = uploaded["blk_ptr"].astype(np.int64)
    for op in OPS:
        for strategy in ("swizzle", "stream_k"):
            check(A, op, 64, way=way, balance=strategy)


def test_an_unaligned_operand():
    """A B that begins in the middle of a 16-byte word takes the path for any n."""
    import cupy

    A = CASES[0].matrix()
    B, _, out = operands(A, "A@B", 64)
    shifted = cupy.empty(B.size + 1, cupy.float32)[1:].reshape(B.shape)
    shifted[...] = cupy.asarray(B)
    prepare(A, "A@B", 64).run(shifted, out)
    assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", ["swizzle", "equal_nnz", "stream_k"])
def test_infinity_stays_where_it_belongs(strategy, way):
    """Rows of C without an entry in a column of A do not see what that row of B holds."""
    import cupy

    A = CASES[NAMES.index("gaps: empty rows, columns and blocks")].matrix()
    B, on_device, out = operands(A, "A@B", 40)
    on_device[1::3] = cupy.inf  # these columns of A are empty
    B[1::3] = 0
    prepare(A, "A@B", 40, way, balance=strategy).run(on_device, out)
    assert relative_error(out.get(), product(A, "A@B", B)) <= ERROR_BOUNDS["fp32"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("strategy", ["swizzle", "equal_nnz", "stream_k"])
def test_special_values(strategy, way, op):
    """NaN, Inf, subnormal numbers and 1e±30 come out as from a float32 product."""
    A = CASES[NAMES.index("heavy row and column")].matrix()
    B, on_device, out = operands(A, op, 64)
    B[3, 0], B[5, 1], B[7, 2] = np.nan, np.inf, -np.inf
    B[:, 3] = 1e30 * np.sign(B[:, 3])
    B[:, 4] *= 1e-30
    B[:, 5] = 1e-40  # subnormal
    on_device.set(B)
    prepare(A, op, 64, way, balance=strategy).run(on_device, out)
    with np.errstate(invalid="ignore"):
        expected = product(A, op, B)
    found = out.get()
    special = expected[:, :3]
    assert np.array_equal(np.isnan(found[:, :3]), np.isnan(special))
    assert np.array_equal(found[:, :3][np.isinf(special)], special[np.isinf(special)])
    for column in (3, 4, *range(6, 64)):
        assert relative_error(found[:, column], expected[:, column]) <= ERROR_BOUNDS["fp32"]
    assert np.abs(found[:, 5] - expected[:, 5]).max() <= A.shape[0] * 2e-45  # each product is rounded


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


@pytest.mark.parametrize(
    "name", ["csb_gather", "csb_simple", "cusparse_csr_default", "cusparse_csr_alg3", "cublas_fp32"]
)
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
