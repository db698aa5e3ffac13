"""Plans of the tensor-core kernel for few columns, and the index arithmetic of its source, without a GPU."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.choice_terms import variant_of
from csbviz.ops.cuda import few, few_plan
from csbviz.ops.cuda.few_plan import (
    KINDS,
    TUNABLES,
    Shape,
    candidates,
    choose_shape,
    instantiations,
    shared_bytes,
)
from csbviz.ops.cuda.module import read_source
from csbviz.ops.cuda.wgmma_plan import position_of

SHAPES = tuple(map(Shape._make, product(*TUNABLES.values())))
SIZES = ((2048, 512, 128), (512, 2048, 128), (512, 512, 512), (128, 512, 196), (1, 1, 1), (64, 2000, 3))


# ---- the order inside a tile of B --------------------------------------------------------------------------


def quads_of_b(lane: np.ndarray, quad: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Row of eight and first column of a lane's quad, as in the source."""
    i = quad % groups
    if i < groups // 2 * 2:
        return lane // 8 % 2 + lane // 16 * 4 + i % 2 * 2, i // 2 * 32 + lane % 8 * 4
    return lane // 4, (groups - 1) * 16 + lane % 4 * 4


def places_of_b(thread: np.ndarray, quad: int, threads: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes where a thread stores the first two and the last two of its four columns, as in the source."""
    row, column = quads_of_b(thread % 32, quad, groups)
    chunk = column // 16 * 2 ^ row
    eights = thread // 32 * 1024 + quad // groups * (threads // 32 * 1024)
    upper = eights + row * 128 + chunk * 16 + thread % 4 * 4
    return upper, upper ^ 16


@pytest.mark.parametrize("columns", TUNABLES["tile_n"])
@pytest.mark.parametrize("threads", [128, 256])
def test_a_tile_of_b_is_stored_where_wgmma_looks_for_it(threads, columns):
    """Row k has its chunk c of 8 columns at k * 128 + (c ^ (k & 7)) * 16; columns in the order of sums."""
    thread, found, groups = np.arange(threads), {}, columns // 16
    for quad in range(groups * 8 * 32 // threads):
        row, column = quads_of_b(thread % 32, quad, groups)
        row = row + thread // 32 * 8 + quad // groups * (threads // 32 * 8)
        for half, places in enumerate(places_of_b(thread, quad, threads, groups)):
            for r, c, place in zip(row, column + 2 * half, places, strict=True):
                found[int(place)] = int(r), int(c)
    wanted = {}
    for row, column in product(range(64), range(0, columns, 2)):
        q = int(position_of(np.array(column)))
        wanted[row * 128 + ((q // 8) ^ (row & 7)) * 16 + q % 8 * 2] = row, column
    assert found == wanted


@pytest.mark.parametrize("columns", TUNABLES["tile_n"])
@pytest.mark.parametrize("threads", [128, 256])
def test_a_warp_stores_b_without_bank_conflicts(threads, columns):
    groups = columns // 16
    for warp, quad in product(range(threads // 32), range(groups * 8 * 32 // threads)):
        for places in places_of_b(32 * warp + np.arange(32), quad, threads, groups):
            assert len(set(places // 4 % 32)) == 32


def test_four_entries_find_their_cells_at_once():
    """Byte arithmetic on four indices: out * 128 + (in / 8 ^ out % 8) * 16 + in % 8 * 2."""
    rng = np.random.default_rng(0)
    for out, col in rng.integers(0, 64, (200, 2, 4)):
        packed_out, packed_in = (int(sum(int(x) << 8 * i for i, x in enumerate(v))) for v in (out, col))
        low = (packed_in << 2) ^ (packed_out & 0x07070707) << 5
        for i in range(4):
            place = (low >> 8 * i & 0xFF | int(out[i]) << 8) >> 1
            assert place == out[i] * 128 + (col[i] // 8 ^ out[i] % 8) * 16 + col[i] % 8 * 2


# ---- who waits for whom ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "depth"), [(1, 2), (1, 4), (2, 2), (2, 4)])
def test_every_block_is_handed_on_once_and_nobody_waits_for_ever(rows, depth):
    """Named barriers of the steps: each meets as many threads as it counts, in an order that ends."""
    shares = 2 if depth > rows else 1
    queues = []
    for group in range(depth):
        share = group // rows
        multiplies = group < rows * shares
        calls = [] if multiplies and group % shares == share else [("arrive", group)]
        if multiplies:
            calls += [("sync", step) for step in range(share, depth, shares)]
        queues.append(calls)
    count = dict.fromkeys(range(depth), 0)
    for step in range(depth):
        first = step % shares * rows
        expected = rows + (not first <= step < first + rows)
        meeting = [g for g in range(depth) for what, s in queues[g] if s == step]
        assert len(meeting) == len(set(meeting)) == expected
        assert step in meeting
        count[step] = expected
    while any(queues):
        waiting = [calls[0][1] for calls in queues if calls and calls[0][0] == "sync"]
        progress = False
        for calls in queues:
            if calls and calls[0][0] == "arrive":
                count[calls.pop(0)[1]] -= 1
                progress = True
        for step in set(waiting):
            if waiting.count(step) == count[step]:
                for calls in queues:
                    if calls and calls[0] == ("sync", step):
                        calls.pop(0)
                        progress = True
        assert progress, queues


@pytest.mark.parametrize("begin", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 300, 1229, 4096])
@pytest.mark.parametrize("threads", [64, 128, 256])
def test_every_entry_of_a_block_is_fetched_once(begin, count, threads):
    """In fours that lie within the block, and one by one before and after them."""
    end, seen = begin + count, []
    whole, last = (begin + 3) & ~3, end & ~3
    for thread in range(threads):
        for e in range(whole + 4 * thread, last, 4 * threads):
            seen += range(e, e + 4)
        edge = begin + thread if thread < 4 else last + thread - 4
        if thread < 8 and edge < end and (edge < whole if thread < 4 else edge >= whole):
            seen.append(edge)
    assert sorted(seen) == list(range(begin, end))


# ---- launches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_candidates_exist_fit_and_have_kernels(size):
    functions = set(instantiations())
    found = candidates(*size)
    assert found
    assert len(found) <= 12
    for shape in found:
        assert shape.fault(size[1]) is None
        for kind in KINDS.values():
            assert shape.function(kind) in functions


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_launch_fits_into_shared_memory(shape):
    for kind in KINDS.values():
        assert shared_bytes(shape, kind) <= 232448


def test_a_launch_has_a_kernel_or_a_reason():
    functions = set(instantiations())
    for shape in SHAPES:
        fault = shape.fault(64 * shape.depth * shape.split)
        assert (fault is None) == (shape.function(0) in functions)
        assert fault is None or "it must be one of 64" in fault


@pytest.mark.parametrize("size", SIZES)
def test_a_wish_is_granted_or_refused(size):
    assert choose_shape(*size, 132).fault(size[1]) is None
    for name, values in TUNABLES.items():
        for value in values:
            able = [s for s in SHAPES if getattr(s, name) == value and s.fault(size[1]) is None]
            if able:
                assert choose_shape(*size, 132, **{name: value}) in able
            else:
                with pytest.raises(OptionError, match="blocks"):
                    choose_shape(*size, 132, **{name: value})


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"tile_m": 32}, "tile_m is 32; it must be one of 64, 128"),
        ({"split": 8}, "split is 8 but the sum has 4 blocks"),
        ({"depth": 1, "split": 2}, "The sum has 4 blocks; split x depth is 2"),
    ],
)
def test_a_wrong_wish_is_one_sentence(wanted, complaint):
    with pytest.raises(OptionError, match=complaint):
        choose_shape(256, 256, 256, 132, **wanted)


def matrix(shape, values=(1.0,), block_shape=64) -> CSBMatrix:
    values = np.array(values, np.float32)
    places = np.zeros(values.size, np.int32), np.arange(values.size, dtype=np.int32)
    return CSBMatrix.from_scipy(sp.coo_array((values, places), shape=shape).tocsr(), block_shape=block_shape)


def test_what_is_accepted():
    assert few.accepts(matrix((64, 2048)), "A@B", 128) is None
    assert "has 33 blocks of 64; this kernel adds up to 32" in few.accepts(matrix((64, 2049)), "A@B", 128)
    assert few.accepts(matrix((64, 2049)), "A.T@B", 128) is None
    assert "32 x 64" in few.accepts(matrix((64, 64), block_shape=(32, 64)), "A@B", 64)
    assert "Inf or NaN" in few.accepts(matrix((64, 64), (1.0, np.inf)), "A@B", 64)
    assert "too large for one launch" in few.accepts(matrix((64, 64)), "A@B", 64 * 65536)


def test_the_source_says_what_the_plan_assumes():
    source = read_source(few_plan.SOURCE)
    assert "SHARES = WARPS / 4 > ROWS ? 2 : 1" in source
    assert "received = traded + (DEPTH == 1 ? TILE_BYTES : 0)" in source
    for shape in SHAPES:
        assert shape.warps in (8, 16)
        assert shape.warps // 4 >= shape.tile_m // 64  # a warpgroup for each 64 rows
        assert shape.warps % (4 * shape.depth) == 0  # and whole ones for each block of the sum


def test_the_choice_knows_costs_of_every_width_of_tiles():
    from csbviz.ops.choice_costs import COSTS

    for columns in (64, 48, 32):
        found = variant_of("csb_few", {"tile_m": 64, "tile_n": columns, "depth": 2, "split": 2})
        assert found.settings["tile_n"] == columns
        assert found.group in COSTS["csb_few"]


def test_two_rounds_take_longer_than_one():
    shape = Shape(64, 64, 4, 2)
    one, two = (few_plan.predict_us(shape, rows, 512, 128, 132) for rows in (2048, 4096))
    assert one < two
    assert choose_shape(2048, 512, 128, 132) == shape
    assert choose_shape(512, 2048, 128, 132) == Shape(128, 48, 4, 8)
