"""The arrays that the CUDA kernels read, checked by doing on the CPU what a launch does."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.balance import STRATEGIES, make_plan
from csbviz.errors import OptionError
from csbviz.ops.csb_cuda import choose_launch
from csbviz.ops.csb_cuda_plan import MAX_BATCH, build_cuda_plan
from tests.kernels.cuda_cases import CASES, NAMES, product

OPS = ("A@B", "A.T@B")


def run_batches(A, plan, arrays, window_rows, B):
    """Version 2 step by step: stage by `place`, multiply by `row_ptr`, write C or a partial, add partials."""
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
                staged = [None] * (high - low)
                j0, j1, entry_begin, entry_end = arrays.batches[b]
                for block in range(j0, j1):
                    at = unit * unit_stride + block * block_stride
                    begin, end = int(A.blk_ptr[at]), int(A.blk_ptr[at + 1])
                    last = begin + entry_end if block == j1 - 1 else end
                    for e in range(begin + (entry_begin if block == j0 else 0), last):
                        if low <= arrays.place[e] < high:
                            assert staged[arrays.place[e] - low] is None
                            k = block * in_block + int(view.col_ind[e])
                            staged[arrays.place[e] - low] = (float(A.values[e]), k)
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
        window_rows = min(8, view.block_shape[0])
        arrays = build_cuda_plan(A, plan, window_rows, capacity=50)
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
    # Each batch numbers its entries 0, 1, 2, ... once.
    assert np.array_equal(np.bincount(arrays.place, minlength=MAX_BATCH + 1)[:1], [len(arrays.batches)])


def test_a_plan_takes_two_bytes_an_entry():
    A = CASES[0].matrix()
    plan = make_plan(A, "in_order", False, 7, 128, 32, assignment="dynamic")
    arrays = build_cuda_plan(A, plan, 8, 4000)
    assert arrays.place.nbytes == 2 * A.nnz
    assert arrays.nbytes - arrays.place.nbytes < 0.5 * A.nnz


def test_version_1_reads_the_items_as_they_are():
    A = CASES[NAMES.index("heavy row and column")].matrix()
    plan = make_plan(A, "equal_nnz", True, 12, 32, 32, assignment="dynamic")
    arrays = build_cuda_plan(A, plan)
    assert arrays.place.size == arrays.row_ptr.size == 0
    expected = np.column_stack((plan.block_begin, plan.block_end, plan.entry_begin, plan.entry_end))
    filled = plan.work > 0
    np.testing.assert_array_equal(arrays.batches[filled], expected[filled])


@pytest.mark.parametrize("unit_rows", [1, 4, 64, 1024])
@pytest.mark.parametrize("n", [1, 3, 32, 196, 4096])
@pytest.mark.parametrize("version", [1, 2])
def test_a_launch_fits_its_kernel(unit_rows, n, version):
    launch = choose_launch(unit_rows, 2048, n, 132, version=version)
    assert unit_rows % launch.window_rows == 0
    assert 1 <= launch.warps <= (4 if version == 1 else 16)
    assert version == 1 or launch.warps <= launch.window_rows
    assert launch.tile_n == (32 * launch.warps if version == 1 else 4 * launch.lanes)


def test_an_unknown_parameter_value_is_one_sentence():
    with pytest.raises(OptionError, match=r"lanes is 7; it must be one of 1, 8, 16, 32\."):
        choose_launch(64, 512, 128, 132, lanes=7)
