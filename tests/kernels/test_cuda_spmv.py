"""Products with a vector on a GPU: the plan, played in NumPy; the kernel, on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import OptionError
from csbviz.ops.cuda.spmv import prepare
from csbviz.ops.cuda.spmv_layout import TUNABLES, choose_layout
from csbviz.ops.cuda.spmv_plan import SpmvLayout, build_spmv_plan, rows_in_order
from csbviz.ops.registry import _KERNELS, get_kernel
from tests.kernels.cuda_cases import CASES, NAMES, product

OPS = ("A@x", "A.T@x")
SMALL = [case for case in CASES if max(case.block_shape) <= 512 and case.density]
CLASSES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}


def play(A, transpose: bool, plan, layout: SpmvLayout, x):
    """What csb_spmv does with a plan: y, and how often each entry was multiplied."""
    view = A.T if transpose else A
    in_block = view.block_shape[1]
    jobs, rounds = plan.runs.shape[:2]
    runs = plan.runs.reshape(jobs, rounds, layout.round_runs, 2).astype(np.int64)
    pack, what = np.moveaxis(runs, -1, 0)
    skew, count, block = what & 3, what >> 2 & 255, what >> 10
    assert (skew + count <= 4 * layout.lanes).all()
    share = (np.arange(jobs) % layout.shares)[:, None, None]
    first = block * in_block - np.maximum(0, share * plan.step - plan.lead)
    assert (first >= 0).all()  # also where there is nothing to read
    assert (first + in_block <= plan.window).all()
    seen = np.zeros(A.nnz, int)
    y = np.zeros((jobs // layout.shares, layout.rows))
    for job in range(jobs):
        for round_ in range(rounds):
            products = np.full(plan.capacity, np.nan)
            here = job, round_
            entries = np.concatenate(
                [
                    np.arange(4 * p + s, 4 * p + s + c)
                    for p, s, c in zip(pack[here], skew[here], count[here], strict=True)
                ]
            ).astype(int)
            base = np.repeat(block[here] * in_block, count[here])
            seen[entries] += 1
            products[plan.place[entries]] = A.values[entries] * x[base + view.col_ind[entries]]
            bounds = plan.row_ptr[here].astype(int)
            assert bounds[-1] == entries.size
            for row in range(layout.rows):
                y[job // layout.shares, row] += products[bounds[row] : bounds[row + 1]].sum()
    return y.ravel()[: view.shape[0]], seen


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("case", SMALL, ids=[case.name for case in SMALL])
def test_the_plan_multiplies_every_entry_once(case, transpose):
    A = case.matrix("float64")
    view = A.T if transpose else A
    x = np.random.default_rng(0).standard_normal(view.shape[1])
    S = A.to_scipy()
    unit_rows = view.block_shape[0]
    fewer = {1, max(1, unit_rows // 4)} if rows_in_order(A, transpose) and A.nnz < 5000 else set()
    for rows in {unit_rows, *fewer}:
        for shares, threads, lanes, slots in ((1, 256, 32, 2), (4, 64, 8, 1), (8, 32, 4, 4)):
            layout = SpmvLayout(rows, shares, threads, lanes, slots)
            plan = build_spmv_plan(A, transpose, layout)
            y, seen = play(A, transpose, plan, layout, x)
            assert (seen == 1).all()
            assert np.allclose(y, (S.T if transpose else S) @ x, rtol=1e-12, atol=1e-12)
            assert plan.capacity <= 4 * threads * slots


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_choice_fits_the_kernel(case, transpose):
    A = case.matrix()
    view = A.T if transpose else A
    layout = choose_layout(A, transpose, 132)
    assert view.block_shape[0] % layout.rows == 0
    assert layout.rows == view.block_shape[0] or rows_in_order(A, transpose)
    assert layout.shares <= layout.rows
    for number in (layout.rows, layout.shares, layout.threads, layout.lanes):
        assert number & (number - 1) == 0
    assert 4 <= layout.lanes <= 32
    assert layout.slots in TUNABLES["slots"]
    assert layout.threads <= 512
    small = choose_layout(A, transpose, 40, clusters=False, products=2048)
    assert 4 * small.slots * small.threads <= 2048


def test_a_plan_is_small():
    """Two bytes an entry say where its product goes; the rest is small."""
    A = CASES[0].matrix()
    for transpose in (False, True):
        plan = build_spmv_plan(A, transpose, choose_layout(A, transpose, 132))
        assert plan.place.nbytes == 2 * A.nnz
    import scipy.sparse as sp

    from csbviz.formats import CSBMatrix

    S = sp.random_array((2048, 512), density=0.3, rng=np.random.default_rng(0), dtype=np.float32)
    A = CSBMatrix.from_scipy(S.tocsr(), block_shape=(64, 64))
    for transpose in (False, True):
        plan = build_spmv_plan(A, transpose, choose_layout(A, transpose, 132))
        assert plan.nbytes < 2.5 * A.nnz


def test_values_that_do_not_fit_are_named():
    A = CASES[0].matrix()
    with pytest.raises(OptionError, match=r"lanes is 5; it must be one of 4, 8, 16, 32\."):
        choose_layout(A, False, 132, lanes=5)
    with pytest.raises(OptionError, match="rows is 8; with entries in row order a CTA computes all 64 rows"):
        choose_layout(A, True, 132, rows=8)


def test_it_is_listed():
    kernel = get_kernel("csb_spmv")
    assert kernel.ops == OPS
    assert kernel.deterministic


def operands(A, op: str, dtype: str):
    """x on the host in float64, x on the device, and an output full of NaN."""
    import cupy

    rows, inner = A.shape[::-1] if op == "A.T@x" else A.shape
    x = np.random.default_rng(rows).standard_normal((inner, 1)).astype(np.float32)
    if dtype == "bfloat16":
        bits = (x.view(np.uint32) >> 16).astype(np.uint16)
        x = (bits.astype(np.uint32) << 16).view(np.float32)
        return x, cupy.asarray(bits), cupy.full((rows, 1), 0x7FC0, np.uint16)
    x = x.astype(dtype)
    return x, cupy.asarray(x), cupy.full((rows, 1), cupy.nan, dtype)


def values_of(out, dtype: str) -> np.ndarray:
    """A result as float64."""
    out = out.get()
    if dtype == "bfloat16":
        out = (out.astype(np.uint32) << 16).view(np.float32)
    return out.astype(np.float64)


def check(A, op: str, dtype: str = "float32", **params):
    x, on_device, out = operands(A, op, dtype)
    prepared = prepare(A, op, 1, **params)
    assert prepared.run(on_device, out) is out
    error = relative_error(values_of(out, dtype), product(A, op, x))
    assert error <= ERROR_BOUNDS[CLASSES[dtype]], (error, op, dtype, params)
    return prepared, on_device, out


@pytest.mark.gpu
class TestOnTheGpu:
    @pytest.mark.parametrize("op", OPS)
    @pytest.mark.parametrize("dtype", CLASSES)
    @pytest.mark.parametrize("case", CASES, ids=NAMES)
    def test_any_shape(self, case, dtype, op):
        if dtype == "bfloat16":
            pytest.importorskip("torch")
        check(case.matrix().astype(dtype), op, dtype)

    @pytest.mark.parametrize("lanes", TUNABLES["lanes"])
    @pytest.mark.parametrize("slots", TUNABLES["slots"])
    def test_every_layout(self, slots, lanes):
        A = CASES[NAMES.index("heavy row and column")].matrix()
        for shares in TUNABLES["shares"]:
            check(A, "A.T@x", shares=shares, slots=slots, lanes=lanes)
        for rows in TUNABLES["rows"]:
            check(A, "A@x", rows=rows, slots=slots, lanes=lanes)

    @pytest.mark.parametrize("op", OPS)
    def test_a_long_vector_is_not_staged(self, op):
        import scipy.sparse as sp

        from csbviz.formats import CSBMatrix

        for shape in ((40, 100_003), (100_003, 40)):
            S = sp.random_array(shape, density=0.01, rng=np.random.default_rng(1), dtype=np.float32).tocsr()
            for block in ((64, 64), (32, 4096), (2048, 1024)):
                check(CSBMatrix.from_scipy(S, block_shape=block), op)

    @pytest.mark.parametrize("op", OPS)
    def test_infinity_stays_where_it_belongs(self, op):
        import cupy

        A = CASES[NAMES.index("gaps: empty rows, columns and blocks")].matrix()
        x, on_device, out = operands(A, op, "float32")
        empty = np.flatnonzero(np.diff((A if op == "A@x" else A.T).to_scipy().tocsc().indptr) == 0)
        on_device[empty[::2]] = cupy.inf
        on_device[empty[1::2]] = cupy.nan
        x[empty] = 0
        prepare(A, op, 1).run(on_device, out)
        assert relative_error(out.get(), product(A, op, x)) <= ERROR_BOUNDS["fp32"]

    @pytest.mark.parametrize("op", OPS)
    def test_special_values_go_through(self, op):
        import cupy

        from csbviz.formats import CSBMatrix

        D = np.zeros((70, 90), np.float32)
        D[0, 0], D[1, 1], D[2, 2], D[3, 3] = np.inf, np.nan, 1e-42, 1e30
        A = CSBMatrix.from_dense(D, block_shape=(32, 32))
        out = cupy.full((D.shape[0 if op == "A@x" else 1], 1), 7, np.float32)
        x = cupy.full((D.shape[1 if op == "A@x" else 0], 1), 1e10, np.float32)
        prepare(A, op, 1).run(x, out)
        y = out.get().ravel()
        assert y[0] == np.inf
        assert np.isnan(y[1])
        assert y[2] == np.float32(1e-42) * np.float32(1e10)
        assert y[3] == np.inf
        assert (y[4:] == 0).all()

    @pytest.mark.parametrize("op", OPS)
    def test_two_runs_give_the_same_bits(self, op):
        import cupy

        A = CASES[NAMES.index("dense: several batches a window")].matrix()
        prepared, on_device, out = check(A, op)
        first = out.get()
        for _ in range(3):
            out.fill(cupy.nan)
            prepared.run(on_device, out)
            assert out.get().tobytes() == first.tobytes()

    @pytest.mark.parametrize("op", OPS)
    def test_another_stream_and_a_graph(self, op):
        import cupy

        A = CASES[0].matrix()
        prepared, on_device, out = check(A, op)
        first = out.get()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            out.fill(cupy.nan)
            stream.begin_capture()
            prepared.run(on_device, out)
            graph = stream.end_capture()
            graph.launch(stream)
            stream.synchronize()
        assert out.get().tobytes() == first.tobytes()

    def test_without_clusters(self, monkeypatch):
        """What older devices do: partial sums, added by a second kernel."""
        from csbviz.ops.cuda import spmv

        device = spmv.current_device()._replace(capability=(7, 5))
        monkeypatch.setattr(spmv, "current_device", lambda: device)
        for case in CASES:
            check(case.matrix(), "A.T@x", shares=8)

    def test_values_at_an_odd_address_are_refused(self):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch was installed without CUDA")
        from csbviz.errors import UnavailableError
        from csbviz.formats import CSBMatrix

        A = CASES[0].matrix()
        values = torch.zeros(A.nnz + 1, device="cuda")[1:]
        B = CSBMatrix(values, A.row_ind, A.col_ind, A.blk_ptr, A.shape, A.block_shape)
        with pytest.raises(UnavailableError, match="multiple of 16 bytes"):
            prepare(B, "A@x", 1)

    @pytest.mark.parametrize("op", OPS)
    @pytest.mark.parametrize(
        "name", ["cusparse_spmv_default", "cusparse_spmv_alg1", "cusparse_spmv_alg2", "cublas_gemv"]
    )
    def test_baselines(self, name, op):
        for dtype in ("float32", "float64"):
            for case in CASES:
                A = case.matrix(dtype)
                x, on_device, out = operands(A, op, dtype)
                _KERNELS[name].prepare(A, op, 1, threads=1).run(on_device, out)
                error = relative_error(out.get(), product(A, op, x))
                assert error <= ERROR_BOUNDS[CLASSES[dtype]], (case.name, dtype, error)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    @pytest.mark.parametrize("op", ["A@B", "A.T@B"])
    def test_dense_baselines_of_16_bits(self, op, dtype):
        import cupy

        pytest.importorskip("torch")
        for case in CASES:
            A = case.matrix().astype(dtype)
            x, on_device, out = operands(A, op.replace("B", "x"), dtype)
            B, n = cupy.ascontiguousarray(cupy.repeat(on_device, 24, axis=1)), 24
            C = cupy.ascontiguousarray(cupy.repeat(out, n, axis=1))
            _KERNELS[f"cublas_{CLASSES[dtype]}"].prepare(A, op, n, threads=1).run(B, C)
            reference = np.repeat(product(A, op.replace("B", "x"), x), n, axis=1)
            assert relative_error(values_of(C, dtype), reference) <= ERROR_BOUNDS[CLASSES[dtype]]
