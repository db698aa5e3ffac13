"""The CPU kernel against float64: any block shape, order, edge, number of columns, strategy, threads."""

from __future__ import annotations

import ctypes
import mmap
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from hypothesis import strategies as st

from csbviz.balance import STRATEGIES, make_plan
from csbviz.errors import MatrixError, OptionError
from csbviz.formats import CSBMatrix, load_matrix
from csbviz.ops import csb_cpu, csb_cpu_tiles
from csbviz.ops.registry import SPMM_OPS as OPS

SENTINEL = 12345.0


def random_matrix(rows, cols, density, seed, dtype=np.float32, empty=True) -> sp.csr_matrix:
    """Normal values; some stored zeros; some rows and columns are empty if `empty`."""
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, cols)) < density
    if empty:
        mask[rng.random(rows) < 0.2] = False
        mask[:, rng.random(cols) < 0.2] = False
    row, col = np.nonzero(mask)
    values = rng.standard_normal(row.size).astype(dtype)
    values[rng.random(row.size) < 0.05] = 0
    return sp.csr_matrix((values, (row, col)), shape=(rows, cols))


def reference(S, B):
    """The product in float64, entry by entry, and the sum of absolute terms that bounds rounding errors."""
    S = S.tocoo()
    C = np.zeros((S.shape[0], B.shape[1]))
    size = np.zeros_like(C)
    with np.errstate(invalid="ignore"):
        terms = S.data.astype(np.float64)[:, None] * B[S.col].astype(np.float64)
        np.add.at(C, S.row, terms)
    np.add.at(size, S.row, np.abs(terms))
    return C, size


def guarded_output(rows, n, dtype):
    """An output full of NaN between two rows that nobody may write."""
    around = np.full((rows + 2, n), SENTINEL, dtype)
    around[1:-1] = np.nan
    return around, around[1:-1]


def check(S, A, op, n, *, B=None, threads=2, seed=0, **options):
    X = S if op == "A@B" else S.T
    if B is None:
        B = np.random.default_rng(seed).standard_normal((X.shape[1], n)).astype(S.dtype)
    prepared = csb_cpu.prepare(A, op, n, threads=threads, **options)
    around, out = guarded_output(X.shape[0], n, S.dtype)
    assert prepared.run(B, out) is out
    expected, size = reference(X, B)
    terms = np.diff(X.tocsr().indptr).max(initial=0)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.where(finite, 0, out), np.where(finite, 0, expected))
    error = np.abs(out[finite] - expected[finite])
    assert (error <= (terms + 2) * np.finfo(S.dtype).eps * size[finite]).all()
    assert (around[0] == SENTINEL).all()
    assert (around[-1] == SENTINEL).all()
    first = out.copy()
    prepared.run(B, out)
    np.testing.assert_array_equal(first, out)  # the same in every run, and nothing left over from the last
    return prepared


SIDES = st.sampled_from([1, 2, 4, 16, 64, 256, 512])


@st.composite
def problems(draw):
    """A matrix in CSB, an operation, columns and options; few types, since each combination is compiled."""
    rows, cols = draw(st.integers(0, 150)), draw(st.integers(0, 150))
    density = draw(st.sampled_from([0.0, 0.02, 0.2, 1.0]))
    dtype, tiles = draw(st.sampled_from([(np.float32, (16, 64)), (np.float64, (16,))]))
    block = draw(SIDES), draw(SIDES)
    if dtype == np.float64:
        block = min(block[0], 256), min(block[1], 256)
    packed = block[0] * block[1] <= 256 and draw(st.booleans())
    S = random_matrix(rows, cols, density, draw(st.integers(0, 9)), dtype)
    order = draw(st.sampled_from(["row", "col", "morton"]))
    A = CSBMatrix.from_scipy(S, block, order=order, index="packed" if packed else "split")
    n = draw(st.one_of(st.integers(1, 130), st.sampled_from([1, 16, 64, 128])))
    options = {
        "tile_n": draw(st.sampled_from(tiles)),
        "balance": draw(st.sampled_from(["auto", *STRATEGIES])),
        "threads": draw(st.sampled_from([1, 2, 3])),
    }
    return S, A, draw(st.sampled_from(OPS)), n, options


@given(problems())
def test_product_equals_float64(problem):
    S, A, op, n, options = problem
    check(S, A, op, n, **options)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("n", [*range(1, 18), 31, 32, 33, 63, 64, 65, 66, 96, 130])
def test_every_width(op, n):
    """Short and long rows of blocks, so that narrow products are scattered in one and not in the other."""
    for density in (0.01, 0.3):
        S = random_matrix(150, 170, density, n)
        prepared = check(S, CSBMatrix.from_scipy(S, 64), op, n)
        assert prepared.params["tile_n"] == csb_cpu_tiles.default_tile(n, 4, csb_cpu_tiles.lanes_at_most(4))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("n", [1, 2, 7, 17, 20])
@pytest.mark.parametrize("block", [(16, 16), (2, 128), (128, 2)])
def test_packed_positions_with_rows_of_any_length(op, n, block):
    for density in (0.02, 0.5):  # B is read where it lies in the first, from packed slices in the second
        S = random_matrix(100, 90, density, n)
        check(S, CSBMatrix.from_scipy(S, block, index="packed"), op, n, tile_n=16)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("order", ["row", "col", "morton"])
def test_scattered_products_of_cut_units(op, strategy, order):
    S = random_matrix(300, 200, 0.02, 17)
    S = sp.vstack([S, random_matrix(16, 200, 0.9, 18, empty=False)]).tocsr()
    A = CSBMatrix.from_scipy(S, 16, order=order)
    prepared = check(S, A, op, 1, threads=3, balance=strategy)
    assert not prepared.notes  # no second order


@pytest.mark.parametrize("op", OPS)
def test_real_pruned_layers(op, dlmc):
    files = sorted(dlmc.rglob("*.smtx*"))[::9]
    assert files
    for file in files:
        S = load_matrix(file).astype(np.float32)
        check(S, CSBMatrix.from_scipy(S), op, 64)


@pytest.mark.parametrize("op", OPS)
def test_dense_block_of_more_entries_than_16_bits_count(op):
    S = random_matrix(300, 300, 1.0, 2, empty=False)
    prepared = check(S, CSBMatrix.from_scipy(S, 512), op, 16)
    assert ("second order of 4 bytes" in prepared.notes) == (op == "A.T@B")


@pytest.mark.parametrize("op", OPS)
def test_row_of_65536_entries(op):
    rng = np.random.default_rng(3)
    S = sp.vstack(
        [
            sp.csr_matrix(rng.standard_normal((1, 1 << 16)).astype(np.float32)),
            sp.csr_matrix((1, 1 << 16), dtype=np.float32),
            sp.random(1, 1 << 16, 0.01, dtype=np.float32, random_state=rng),
        ]
    ).tocsr()
    if op == "A.T@B":
        S = S.T.tocsr()
    A = CSBMatrix.from_scipy(S, 1 << 16, order="row" if op == "A@B" else "col")
    check(S, A, op, 3, tile_n=16, balance="in_order")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_numbers_spread_as_in_ieee_arithmetic(op, special):
    S = random_matrix(90, 70, 0.1, 4)
    A = CSBMatrix.from_scipy(S, 16)
    X = S if op == "A@B" else S.T
    B = np.random.default_rng(5).standard_normal((X.shape[1], 20)).astype(np.float32)
    B[::7, 3] = special  # stored zeros times this are NaN; absent entries never touch it
    check(S, A, op, 20, B=B, tile_n=16)
    S.data[::11] = special
    check(S, CSBMatrix.from_scipy(S, 16), op, 20, B=B, tile_n=16)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_workers_run_the_items_that_the_plan_gives_them(op, strategy, threads):
    S = random_matrix(400, 350, 0.1, 6)
    S = sp.vstack([S, random_matrix(16, 350, 0.9, 7, empty=False)]).tocsr()  # one heavy block row
    A = CSBMatrix.from_scipy(S, 16)
    plan = make_plan(A, strategy, transpose=op == "A.T@B", workers=threads)
    record = np.full(plan.items, -1, np.int32)
    prepared = check(S, A, op, 40, threads=threads, balance=strategy, record=record, tile_n=16)
    np.testing.assert_array_equal(record, plan.item_worker)
    np.testing.assert_array_equal(prepared.plan.unit, plan.unit)


def test_a_plan_of_ones_own_is_followed():
    S = random_matrix(64, 64, 0.3, 8)
    A = CSBMatrix.from_scipy(S, 16)
    plan = make_plan(A, "equal_nnz", workers=3)
    assert plan.slots
    record = np.full(plan.items, -1, np.int32)
    check(S, A, "A@B", 64, threads=3, balance=plan, record=record)
    np.testing.assert_array_equal(record, np.repeat(np.arange(3), np.diff(plan.worker_ptr)))


@pytest.mark.skipif(sys.platform != "linux", reason="guards pages with mprotect")
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 17, 18, 64, 66])
@pytest.mark.parametrize("density", [0.01, 0.3])
def test_reads_nothing_behind_the_operand(n, density):
    rows = 100
    size = rows * n * 4
    pages = -(-size // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + pages * mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    B = np.frombuffer(memory, np.float32, rows * n, pages * mmap.PAGESIZE - size).reshape(rows, n)
    B[:] = np.random.default_rng(9).standard_normal(B.shape)
    S = random_matrix(50, rows, density, 10)
    last = sp.csr_matrix((np.ones(1, np.float32), ([7], [rows - 1])), shape=S.shape)
    S = (S + last).tocsr()  # so that the last row of B is used
    check(S, CSBMatrix.from_scipy(S, 64), "A@B", n, B=B)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_special_numbers_in_scattered_products(op, n):
    S = random_matrix(90, 70, 0.03, 20)
    A = CSBMatrix.from_scipy(S, 64)
    B = np.random.default_rng(21).standard_normal((S.shape[op == "A@B"], n)).astype(np.float32)
    B[::7, n // 2], B[3::7, n // 2] = np.nan, np.inf
    check(S, A, op, n, B=B)


def test_threads_may_share_a_prepared_product():
    S = random_matrix(300, 300, 0.2, 16)
    run = csb_cpu.prepare(CSBMatrix.from_scipy(S, 64), "A@B", 64, threads=2, balance="swizzle").run
    operands = [np.random.default_rng(i).standard_normal((300, 64)).astype(np.float32) for i in range(4)]
    expected = [run(B, np.empty_like(B)).copy() for B in operands]

    def many(number):
        out = np.empty_like(operands[number])
        return all((run(operands[number], out) == expected[number]).all() for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(many, range(4)))


def test_takes_read_only_operands():
    S = random_matrix(50, 60, 0.3, 11)
    B = np.ones((60, 16), np.float32)
    B.flags.writeable = False
    check(S, CSBMatrix.from_scipy(S, 16), "A@B", 16, B=B)


def test_refuses_operands_that_do_not_fit():
    S = random_matrix(50, 60, 0.3, 12)
    prepared = csb_cpu.prepare(CSBMatrix.from_scipy(S, 16), "A@B", 16, threads=2)
    with pytest.raises(MatrixError, match=r"\(50, 16\).*\(60, 16\)"):
        prepared.run(np.ones((50, 16), np.float32), np.ones((50, 16), np.float32))
    with pytest.raises(TypeError):
        prepared.run(np.ones((60, 16)), np.ones((50, 16), np.float32))
    with pytest.raises(TypeError):
        prepared.run(np.ones((16, 60), np.float32).T, np.ones((50, 16), np.float32))


def test_refuses_what_it_does_not_have():
    S = random_matrix(50, 60, 0.3, 13)
    A = CSBMatrix.from_scipy(S, 16)
    with pytest.raises(OptionError, match="float16"):
        csb_cpu.prepare(A.astype("float16"), "A@B", 16, threads=2)
    with pytest.raises(OptionError, match="no balance strategy 'best'"):
        csb_cpu.prepare(A, "A@B", 16, threads=2, balance="best")
    with pytest.raises(OptionError, match="tile_n is 48"):
        csb_cpu.prepare(A, "A@B", 16, threads=2, tile_n=48)
    with pytest.raises(OptionError, match="tile_n is 64"):
        csb_cpu.prepare(A.astype("float64"), "A@B", 64, threads=2, tile_n=64)
    with pytest.raises(OptionError, match="static plan"):
        csb_cpu.prepare(A, "A.T@B", 16, threads=2, balance=make_plan(A, workers=2))
    with pytest.raises(OptionError, match="operation is 'B@A'"):
        csb_cpu.prepare(A, "B@A", 16, threads=2)


def test_refuses_entries_outside_of_the_matrix():
    S = random_matrix(50, 60, 0.3, 14)
    A = CSBMatrix.from_scipy(S, 64)
    A.row_ind[3] = 60  # inside the block, below the last row
    with pytest.raises(MatrixError):
        csb_cpu.prepare(A, "A@B", 16, threads=2)


def test_states_the_bytes_it_reads():
    S = random_matrix(512, 512, 0.1, 15)
    A = CSBMatrix.from_scipy(S, 128)
    forward = csb_cpu.prepare(A, "A@B", 64, threads=2)
    backward = csb_cpu.prepare(A, "A.T@B", 64, threads=2)
    assert forward.bytes > A.nbytes
    # The second order takes two bytes an entry; visits and segments of the two directions are about as many.
    assert abs((backward.bytes - forward.bytes) - 2 * A.nnz) < 0.1 * 2 * A.nnz


@example(n=128, itemsize=4)
@given(n=st.integers(1, 2000), itemsize=st.sampled_from([4, 8]))
def test_passes_cover_the_columns_once(n, itemsize):
    tile = csb_cpu_tiles.default_tile(n, itemsize, 256 // itemsize)
    passes = csb_cpu_tiles.passes(n, tile, itemsize)
    assert len(passes) <= 2
    assert [p.begin for p in passes] == [0, *(p.end for p in passes[:-1])]
    assert passes[-1].end == n * itemsize
    assert all(p.whole for p in passes[:-1])
    for p in passes:
        assert p.tile_bytes <= 256
        assert p.tile & (p.tile - 1) == 0  # a power of two
        assert 2 * (p.end - p.begin) > p.tile_bytes  # never half empty
