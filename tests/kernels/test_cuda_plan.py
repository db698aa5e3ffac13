"""The arrays that the CUDA kernels read, checked by doing on the CPU what a launch does."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.balance import STRATEGIES, make_plan
from csbviz.errors import OptionError
from csbviz.ops.cuda.rows_launch import TUNABLES, Launch, choose_launch, plan_workers, predict_us
from csbviz.ops.cuda.rows_plan import MAX_BATCH, build_gather_plan, build_simple_plan
from tests.kernels.cuda_cases import CASES, NAMES, product

OPS = ("A@B", "A.T@B")


def run_batches(A, plan, arrays, B):
    """Version 2 step by step: stage from `source`, multiply by `row_ptr`, write, add the partials.

    Returns the product and how often each entry was multiplied for each tile of columns.
    """
    view = A.T if plan.transpose else A
    rows_a_unit, (out_block, in_block) = plan.unit_rows, view.block_shape
    units_a_block = out_block // rows_a_unit
    unit_stride, block_stride = (1, view.grid[0]) if view.transposed else (view.grid[1], 1)
    C = np.full((view.shape[0], B.shape[1]), np.nan)
    partials = np.full((plan.slots, rows_a_unit, B.shape[1]), np.nan)
    arrived = np.zeros((len(arrays.groups), plan.tiles), int)
    visited = np.zeros((plan.tiles, A.nnz), dtype=int)

    def run(item, tile):
        unit, slot, first_batch, last_batch, group, own_tile, *_ = arrays.items[item].tolist()
        assert first_batch < last_batch  # the kernel needs a batch to write the rows of an empty item
        assert plan.tile is None or own_tile == tile
        columns = slice(tile * plan.tile_n, (tile + 1) * plan.tile_n)
        first_row = unit * rows_a_unit
        rows = range(min(rows_a_unit, view.shape[0] - first_row))
        target = C[first_row:] if slot < 0 else partials[slot]
        target[: len(rows), columns] = 0
        for b in range(first_batch, last_batch):
            starts = arrays.row_ptr[b].tolist()
            assert starts[-1] <= arrays.capacity
            first_block, first_entry, source_begin, bits = arrays.batches[b].tolist()
            staged = []
            for code in arrays.source[source_begin : source_begin + starts[-1]].tolist():
                relative, offset = code >> bits, code & ((1 << bits) - 1)
                block = first_block + relative
                e = int(A.blk_ptr[unit // units_a_block * unit_stride + block * block_stride]) + offset
                e += first_entry if relative == 0 else 0
                staged.append((float(A.values[e]), block * in_block + int(view.col_ind[e])))
                visited[tile, e] += 1
            for r in rows:
                for value, k in staged[starts[r] : starts[r + 1]]:
                    target[r, columns] += value * B[k, columns]
        if group < 0:
            return
        arrived[group, tile] += 1
        group_unit, first_slot, last_slot, members = arrays.groups[group].tolist()
        assert group_unit == unit
        if arrived[group, tile] == members:
            for k in range(first_slot, last_slot):
                C[first_row : first_row + len(rows), columns] += partials[k, : len(rows), columns]

    for job in range(plan.jobs):
        if plan.tile is None:
            run(job % plan.items, job // plan.items)
        else:
            run(job, int(plan.tile[job]))
    assert (arrived == arrays.groups[:, 3:]).sum() == arrived.astype(bool).sum()  # all groups are complete
    return C, visited


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.name.startswith("dense")], ids=lambda c: c.name
)
def test_the_arrays_describe_the_product(case, op):
    A = case.matrix("float64")
    view = A.T if op == "A.T@B" else A
    B = np.random.default_rng(7).standard_normal((view.shape[1], 5))
    for strategy in STRATEGIES:
        unit_rows = min(8, view.block_shape[0])
        plan = make_plan(A, strategy, view is not A, 7, 5, 2, assignment="dynamic", unit_rows=unit_rows)
        plan.check(A)
        arrays = build_gather_plan(A, plan, 50)  # little room: items need several batches
        C, visited = run_batches(A, plan, arrays, B)
        assert (visited == 1).all(), strategy
        np.testing.assert_allclose(C, product(A, op, B), rtol=1e-12, atol=1e-12, err_msg=strategy)
        assert arrays.shares.size == (plan.workers + 1 if strategy == "stream_k" else 0)


@pytest.mark.parametrize("op", OPS)
def test_large_items_are_cut_into_batches(op):
    A = CASES[NAMES.index("dense: several batches a window")].matrix()
    view = A.T if op == "A.T@B" else A
    plan = make_plan(A, "in_order", view is not A, 7, 4, 4, assignment="dynamic", unit_rows=8)
    arrays = build_gather_plan(A, plan, 1000)
    sizes = arrays.row_ptr[:, -1].astype(int)
    assert sizes.sum() == A.nnz
    assert sizes.max() == arrays.capacity <= 1000
    assert (np.diff(arrays.items[:, 2:4]) >= 1).all()
    whole = make_plan(A, "in_order", view is not A, 7, 4, 4, assignment="dynamic", unit_rows=256)
    assert build_gather_plan(A, whole, 10**6).capacity <= MAX_BATCH


def test_a_plan_takes_two_bytes_an_entry():
    A = CASES[0].matrix()
    plan = make_plan(A, "in_order", False, 7, 128, 32, assignment="dynamic", unit_rows=8)
    arrays = build_gather_plan(A, plan, 4000)
    assert arrays.source.nbytes == 2 * A.nnz
    assert arrays.nbytes - arrays.source.nbytes < 0.8 * A.nnz


@pytest.mark.parametrize(("tiles", "orders"), [(4, 1), (16, 2), (13, 1)])
def test_stream_k_keeps_few_row_orders(tiles, orders):
    """Tiles that cut a unit alike share its row order."""
    A = CASES[0].matrix()
    launch = Launch(32, 16, 64, 128)
    workers = plan_workers(launch, "stream_k", 128 * tiles, 132)
    assert 0.95 * 264 <= workers <= 264
    plan = make_plan(A, "stream_k", False, workers, 128 * tiles, 128, assignment="dynamic", unit_rows=64)
    assert build_gather_plan(A, plan, 4000).source.size <= orders * A.nnz + A.nnz // 50


def test_version_1_reads_the_items_as_they_are():
    A = CASES[NAMES.index("heavy row and column")].matrix()
    for strategy in ("equal_nnz", "stream_k"):
        plan = make_plan(A, strategy, True, 12, 64, 32, assignment="dynamic")
        arrays = build_simple_plan(A, plan)
        assert arrays.source.size == arrays.row_ptr.size == 0
        expected = np.column_stack((plan.block_begin, plan.block_end, plan.entry_begin, plan.entry_end))
        filled = plan.work > 0
        np.testing.assert_array_equal(arrays.batches[filled], expected[filled])
        np.testing.assert_array_equal(arrays.groups[:, 3], plan.slot_tile[arrays.groups[:, 1]])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("n", [1, 3, 32, 196, 4096])
def test_a_launch_fits_its_kernel(case, n):
    A = case.matrix()
    for transpose in (False, True):
        unit_rows = A.block_shape[1 if transpose else 0]
        launch, strategy = choose_launch(A, transpose, n, 132)
        assert strategy in STRATEGIES
        assert unit_rows % launch.window_rows == 0
        assert launch.warps in TUNABLES["warps"]
        assert launch.tile_n == 4 * launch.lanes


def test_what_the_caller_sets_is_kept():
    A = CASES[0].matrix()
    launch, strategy = choose_launch(A, False, 128, 132, "in_order", lanes=16, warps=8, window_rows=32)
    assert (launch, strategy) == (Launch(16, 8, 32, 64), "in_order")


def test_the_cost_model_knows_what_matters():
    """Few rows and many columns of A: cutting units pays. Many units: it does not. One long row costs."""
    lengths = np.full((2, 64), 4000)
    launch = Launch(32, 16, 64, 128)
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
