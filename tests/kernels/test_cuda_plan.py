"""The arrays that the CUDA kernels read, checked by doing on the CPU what a launch does."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.balance import STRATEGIES, make_plan
from csbviz.errors import OptionError
from csbviz.ops.cuda.rows_launch import TUNABLES, Launch, choose_launch, predict_us
from csbviz.ops.cuda.rows_plan import MAX_BATCH, build_cuda_plan
from tests.kernels.cuda_cases import CASES, NAMES, product

OPS = ("A@B", "A.T@B")


def run_batches(A, plan, arrays, window_rows, B):
    """Version 2 step by step: stage from `source`, multiply by `row_ptr`, write, add the partials."""
    view = A.T if plan.transpose else A
    out_block, in_block = view.block_shape
    units, blocks = view.grid
    unit_stride, block_stride = (1, units) if view.transposed else (blocks, 1)
    C = np.full((view.shape[0], B.shape[1]), np.nan)
    partials = np.full((plan.slots, out_block, B.shape[1]), np.nan)
    windows = out_block // window_rows
    visited = np.zeros(A.nnz, dtype=int)
    for unit, slot, first_batch, last_batch in arrays.items:
        for window in range(windows):
            low_row = window * window_rows
            rows = range(low_row, min(low_row + window_rows, view.shape[0] - unit * out_block))
            sums = {r: np.zeros(B.shape[1]) for r in rows}
            for b in range(first_batch, last_batch):
                starts = arrays.row_ptr[b].astype(int)
                low, high = starts[low_row], starts[low_row + window_rows]
                assert high - low <= arrays.capacity
                first_block, first_entry, source_begin, bits = arrays.batches[b].tolist()
                staged = []
                for code in arrays.source[source_begin + low : source_begin + high].tolist():
                    relative, offset = code >> bits, code & ((1 << bits) - 1)
                    block = first_block + relative
                    e = int(A.blk_ptr[unit * unit_stride + block * block_stride]) + offset
                    e += first_entry if relative == 0 else 0
                    staged.append((float(A.values[e]), block * in_block + int(view.col_ind[e])))
                    visited[e] += 1
                for r in rows:
                    for value, k in staged[starts[r] - low : starts[r + 1] - low]:
                        sums[r] += value * B[k]
            for r in rows:
                target = C[unit * out_block :] if slot < 0 else partials[slot]
                target[r] = sums[r]
    for unit, first_slot, last_slot, _ in arrays.reduced:
        rows = min(out_block, view.shape[0] - unit * out_block)
        for slot in range(first_slot, last_slot):
            C[unit * out_block :][:rows] += partials[slot][:rows]
    return C, visited


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.name.startswith("dense")], ids=lambda c: c.name
)
def test_the_arrays_describe_the_product(case, op):
    A = case.matrix("float64")
    view = A.T if op == "A.T@B" else A
    B = np.random.default_rng(7).standard_normal((view.shape[1], 2))
    for strategy in STRATEGIES:
        plan = make_plan(A, strategy, view is not A, 7, 2, 2, assignment="dynamic")
        window_rows, capacity = min(8, view.block_shape[0]), 50  # little room: items need several batches
        arrays = build_cuda_plan(A, plan, window_rows, capacity)
        C, visited = run_batches(A, plan, arrays, window_rows, B)
        assert (visited == 1).all(), strategy
        np.testing.assert_allclose(C, product(A, op, B), rtol=1e-12, atol=1e-12, err_msg=strategy)


@pytest.mark.parametrize("op", OPS)
def test_large_items_are_cut_into_batches(op):
    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    view = A.T if op == "A.T@B" else A
    plan = make_plan(A, "in_order", view is not A, 7, 4, 4, assignment="dynamic")
    window_rows, capacity = 8, 1000
    arrays = build_cuda_plan(A, plan, window_rows, capacity)
    sizes = arrays.row_ptr[:, -1].astype(int)
    assert sizes.sum() == A.nnz
    assert sizes.max() <= MAX_BATCH
    windows = np.diff(arrays.row_ptr[:, ::window_rows].astype(int), axis=1)
    assert windows.max() == arrays.capacity <= capacity
    assert (np.diff(arrays.items[:, 2:]) >= 1).all()


def test_a_plan_takes_two_bytes_an_entry():
    A = CASES[0].matrix()
    plan = make_plan(A, "in_order", False, 7, 128, 32, assignment="dynamic")
    arrays = build_cuda_plan(A, plan, 8, 4000)
    assert arrays.source.nbytes == 2 * A.nnz
    assert arrays.nbytes - arrays.source.nbytes < 0.5 * A.nnz


def test_version_1_reads_the_items_as_they_are():
    A = CASES[NAMES.index("heavy row and column")].matrix()
    plan = make_plan(A, "equal_nnz", True, 12, 32, 32, assignment="dynamic")
    arrays = build_cuda_plan(A, plan)
    assert arrays.source.size == arrays.row_ptr.size == 0
    expected = np.column_stack((plan.block_begin, plan.block_end, plan.entry_begin, plan.entry_end))
    filled = plan.work > 0
    np.testing.assert_array_equal(arrays.batches[filled], expected[filled])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("n", [1, 3, 32, 196, 4096])
@pytest.mark.parametrize("version", [1, 2])
def test_a_launch_fits_its_kernel(case, n, version):
    A = case.matrix()
    for transpose in (False, True):
        unit_rows = A.block_shape[1 if transpose else 0]
        launch, strategy = choose_launch(A, transpose, n, 132, version=version)
        assert strategy in STRATEGIES
        assert unit_rows % launch.window_rows == 0
        assert launch.warps in ((1, 2, 3, 4) if version == 1 else TUNABLES["warps"])
        assert launch.tile_n == (32 * launch.warps if version == 1 else 4 * launch.lanes)


def test_what_the_caller_sets_is_kept():
    A = CASES[0].matrix()
    launch, strategy = choose_launch(A, False, 128, 132, "in_order", lanes=16, warps=8, window_rows=32)
    assert (launch, strategy) == (Launch(2, 16, 8, 32, 64), "in_order")


def test_the_cost_model_knows_what_matters():
    """Few rows and many columns of A: cutting units pays. Many units: it does not. One long row costs."""
    lengths = np.full((2, 64), 4000)
    launch = Launch(2, 32, 16, 64, 128)
    assert predict_us(lengths, launch, 128, 132, cut=True) < predict_us(lengths, launch, 128, 132, cut=False)
    lengths = np.full((500, 64), 40)
    assert predict_us(lengths, launch, 128, 132, cut=True) > predict_us(lengths, launch, 128, 132, cut=False)
    skewed = lengths.copy()
    skewed[0, 0] = 20_000
    assert predict_us(skewed, launch, 128, 132, cut=False) > 2 * predict_us(
        lengths, launch, 128, 132, cut=False
    )


def test_an_unknown_parameter_value_is_one_sentence():
    with pytest.raises(OptionError, match=r"lanes is 7; it must be one of 1, 8, 16, 32\."):
        choose_launch(CASES[0].matrix(), False, 128, 132, lanes=7)
