"""Work plans: every entry once, one owner a unit, and each strategy's own promise."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from csbviz.balance import STRATEGIES, make_plan
from csbviz.balance.strategies import DEFAULT_MULTIPROCESSORS, chunk_limit
from csbviz.errors import InputError, OptionError
from csbviz.formats import CSBMatrix

NAMES = ("in_order", "swizzle", "chunks", "equal_nnz", "split_k", "stream_k")
PERSISTENT = ("stream_k",)  # workers that stay: their items are fixed on a GPU too
ASSIGNMENTS = ("static", "dynamic")


@st.composite
def matrices(draw) -> CSBMatrix:
    """Small CSB matrices: without rows or columns, empty or full units, ragged edges, views of transposes.

    The rows' densities differ by orders of magnitude, so that units are heavy enough to be split.
    """
    rows, cols = draw(st.integers(0, 70)), draw(st.integers(0, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    row_density = rng.choice([0.0, 0.02, 0.3, 1.0], size=(rows, 1), p=draw(st.sampled_from(MIXES)))
    dense = (rng.random((rows, cols)) < row_density) * rng.standard_normal((rows, cols))
    block_shape = draw(st.tuples(st.sampled_from([1, 2, 4, 16]), st.sampled_from([1, 2, 4, 16])))
    A = CSBMatrix.from_scipy(sp.csr_matrix(dense), block_shape=block_shape)
    return A.T if draw(st.booleans()) else A


MIXES = ([0.25] * 4, [0.9, 0, 0, 0.1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1])
transposes = st.booleans()
worker_counts = st.integers(1, 9)


def units_of(A, transpose):
    """Counts of nonzeros, int[units, blocks], and output rows of a unit."""
    view = A.T if transpose else A
    return view.block_nnz(), view.block_shape[0]


def executed(A, plan):
    """How often each stored entry is visited, and each unit's output written, if the plan is followed."""
    view = A.T if plan.transpose else A
    visits = np.zeros(A.nnz, dtype=int)
    owned = np.zeros(view.grid[0], dtype=int)
    for i in range(plan.items):
        if plan.slot[i] < 0:
            owned[plan.unit[i]] += 1
        else:
            assert plan.slot_unit[plan.slot[i]] == plan.unit[i]
        for block in range(plan.block_begin[i], plan.block_end[i]):
            entries = view.block_slice(int(plan.unit[i]), block)
            first = plan.entry_begin[i] if block == plan.block_begin[i] else 0
            last = plan.entry_end[i] if block == plan.block_end[i] - 1 else entries.stop - entries.start
            visits[entries.start + first : entries.start + last] += 1
    return visits, owned


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("name", NAMES)
@given(A=matrices(), transpose=transposes, workers=worker_counts)
def test_every_entry_is_visited_once_and_every_unit_has_one_owner(name, assignment, A, transpose, workers):
    plan = make_plan(A, name, transpose=transpose, workers=workers, assignment=assignment)
    visits, owned = executed(A, plan)
    assert (visits == 1).all()
    assert (owned == 1).all()
    plan.check(A)
    assert plan.nnz == A.nnz
    assert plan.units == (A.grid[1] if transpose else A.grid[0])
    assert (plan.strategy, plan.transpose, plan.workers) == (name, transpose, workers)
    assert plan.static == (assignment == "static" or name in PERSISTENT)


@pytest.mark.parametrize("name", NAMES)
@given(A=matrices(), workers=worker_counts)
def test_a_transposed_plan_is_the_plan_of_the_transpose(name, A, workers):
    one = make_plan(A, name, transpose=True, workers=workers)
    other = make_plan(A.T, name, workers=workers)
    for field in (
        "unit",
        "block_begin",
        "block_end",
        "entry_begin",
        "entry_end",
        "slot",
        "work",
        "slot_unit",
    ):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@given(A=matrices(), transpose=transposes, workers=worker_counts)
def test_in_order_gives_each_worker_neighbouring_units_in_equal_number(A, transpose, workers):
    plan = make_plan(A, "in_order", transpose=transpose, workers=workers)
    np.testing.assert_array_equal(plan.unit, np.arange(plan.items))
    each = np.diff(plan.worker_ptr)
    assert each.max() - each.min() <= 1
    assert plan.slots == 0


@pytest.mark.parametrize("name", ["swizzle", "chunks"])
@given(A=matrices(), transpose=transposes, workers=worker_counts)
def test_no_worker_exceeds_the_bound_of_list_scheduling(name, A, transpose, workers):
    plan = make_plan(A, name, transpose=transpose, workers=workers)
    # Items of a static plan may be several chunks, so the heaviest chunk comes from the dynamic plan.
    heaviest = make_plan(A, name, transpose=transpose, workers=workers, assignment="dynamic").work.max(
        initial=0
    )
    assert plan.worker_loads.max() <= plan.nnz / workers + (1 - 1 / workers) * heaviest + 1e-9


@given(A=matrices(), transpose=transposes, workers=worker_counts)
def test_swizzle_is_within_four_thirds_of_the_best_schedule(A, transpose, workers):
    """Graham's bound for the longest first rule: 4/3 - 1/(3P), here against every assignment of few units."""
    plan = make_plan(A, "swizzle", transpose=transpose, workers=workers)
    work = np.sort(plan.work)[::-1]
    if work.size > 7 or workers > 3:
        return  # too many assignments to try
    loads = np.zeros((1, workers), dtype=int)
    for weight in work:
        loads = (loads[:, None, :] + weight * np.eye(workers, dtype=int)).reshape(-1, workers)
    best = loads.max(axis=1).min()
    assert plan.worker_loads.max() <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9


@given(A=matrices(), transpose=transposes)
def test_swizzle_starts_the_heaviest_units_first(A, transpose):
    plan = make_plan(A, "swizzle", transpose=transpose, assignment="dynamic")
    assert (np.diff(plan.work) <= 0).all()
    assert plan.slots == 0


@given(A=matrices(), transpose=transposes)
def test_chunks_obey_the_rule_of_the_paper(A, transpose):
    counts, height = units_of(A, transpose)
    plan = make_plan(A, "chunks", transpose=transpose, assignment="dynamic")
    average = counts.sum() / max(1, len(counts))
    limit = max(2 * average, 4 * height)
    assert chunk_limit(counts, height) == limit
    for unit in range(len(counts)):
        own = np.flatnonzero(plan.unit == unit)
        own = own[np.argsort(plan.block_begin[own])]
        if counts[unit].sum() <= limit:
            assert own.size == 1
            continue
        for i in own:
            blocks = counts[unit, plan.block_begin[i] : plan.block_end[i]]
            assert plan.entry_begin[i] == 0  # cuts lie between blocks
            assert plan.entry_end[i] == blocks[-1]
            assert plan.work[i] < 4 * height or np.count_nonzero(blocks) == 1
        work = plan.work[own]
        assert (work[1:] + work[:-1] >= 4 * height).all()  # else the two would be one chunk
        assert (work > 0).all()  # blocks without entries make no chunk
        assert plan.slot[own[0]] == -1
        assert (np.diff(plan.slot[own[1:]]) == 1).all()  # partials are added from left to right


@given(A=matrices(), transpose=transposes, workers=worker_counts)
def test_static_chunks_of_one_worker_are_joined(A, transpose, workers):
    plan = make_plan(A, "chunks", transpose=transpose, workers=workers)
    begin, end = plan.entry_ranges(A)
    worker = plan.item_worker
    for i in range(plan.items):
        follows = (plan.unit == plan.unit[i]) & (begin == end[i]) & (plan.work > 0) & (worker == worker[i])
        assert plan.work[i] == 0 or not follows.any()


@given(A=matrices(), transpose=transposes, workers=worker_counts)
def test_equal_nnz_loads_differ_by_at_most_one_entry(A, transpose, workers):
    plan = make_plan(A, "equal_nnz", transpose=transpose, workers=workers)
    assert plan.worker_loads.max() - plan.worker_loads.min() <= 1
    begin, _ = plan.entry_ranges(A)
    if A.nnz:
        assert (np.diff(begin[plan.work > 0]) >= 0).all()  # each worker goes through its part in order
        assert plan.slots < workers


@given(A=matrices(), transpose=transposes, workers=worker_counts, tiles=st.integers(1, 4))
def test_equal_nnz_ctas_are_no_longer_than_a_part(A, transpose, workers, tiles):
    plan = make_plan(
        A, "equal_nnz", transpose=transpose, workers=workers, n=32 * tiles, tile_n=32, assignment="dynamic"
    )
    parts = -(-workers // tiles)
    assert plan.tiles == tiles
    assert plan.work.max(initial=0) <= -(-A.nnz // parts)
    assert plan.slots < max(1, parts)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@given(A=matrices(), transpose=transposes, workers=worker_counts, tiles=st.integers(1, 4))
def test_split_k_cuts_every_unit_into_equal_ranges_of_blocks(assignment, A, transpose, workers, tiles):
    counts, _ = units_of(A, transpose)
    plan = make_plan(A, "split_k", transpose, workers, n=32 * tiles, tile_n=32, assignment=assignment)
    parts = workers if assignment == "static" else -(-workers // tiles)
    units, blocks = counts.shape
    wanted = min(blocks, -(-parts // units)) if units and blocks else 0
    edges = [k * blocks // wanted for k in range(wanted + 1)] if wanted else []
    for unit in range(units):
        own = np.flatnonzero((plan.unit == unit) & (plan.work > 0))
        if wanted > 1:
            pairs = zip(plan.block_begin[own].tolist(), plan.block_end[own].tolist(), strict=True)
            assert set(pairs) <= set(itertools.pairwise(edges))
        assert own.size <= max(wanted, 1)
        assert (plan.unit == unit).sum() == max(own.size, 1)  # ranges without entries make no item
    assert (plan.entry_begin == 0).all()


@given(A=matrices(), transpose=transposes, workers=worker_counts, tiles=st.integers(1, 4))
def test_stream_k_shares_the_entries_of_all_tiles_equally(A, transpose, workers, tiles):
    n = 32 * tiles - 5
    plan = make_plan(A, "stream_k", transpose, workers, n=n, tile_n=32, assignment="dynamic")
    plan.check(A)
    assert plan.worker_loads.sum() == A.nnz * tiles
    assert plan.worker_loads.max() - plan.worker_loads.min() <= 1
    assert plan.nnz == A.nnz
    assert plan.units == units_of(A, transpose)[0].shape[0]
    assert plan.jobs == plan.items
    assert (plan.tile is None) == (tiles == 1)
    if A.nnz:
        assert plan.slots < workers  # a worker begins at most one tile of a unit in the middle
        tile = np.zeros(plan.items, int) if plan.tile is None else plan.tile
        begin, _ = plan.entry_ranges(A)
        place = (tile * A.nnz + begin)[plan.work > 0]
        assert (np.diff(place) > 0).all()  # each worker goes through its share in order
    assert plan.partial_bytes(4, 8) == plan.slots * 4 * (32 if tiles > 1 else n) * 8


@given(A=matrices(), transpose=transposes, workers=worker_counts, tiles=st.integers(2, 4))
def test_stream_k_adds_the_parts_of_a_tile_of_a_unit_in_order(A, transpose, workers, tiles):
    plan = make_plan(A, "stream_k", transpose, workers, n=tiles, tile_n=1, assignment="dynamic")
    units, slot_ptr = plan.reduction()
    begin, _ = plan.entry_ranges(A)
    owner = {(u, t): i for i, (u, t) in enumerate(zip(plan.unit, plan.tile, strict=True)) if plan.slot[i] < 0}
    for unit, first, last in zip(units, slot_ptr[:-1], slot_ptr[1:], strict=True):
        (tile,) = set(plan.slot_tile[first:last])
        items = [int(np.flatnonzero(plan.slot == slot)[0]) for slot in range(first, last)]
        assert all((plan.unit[i], plan.tile[i]) == (unit, tile) for i in items)
        assert (np.diff(begin[[owner[unit, tile], *items]]) > 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(A=matrices(), transpose=transposes, workers=worker_counts, unit_rows=st.sampled_from([1, 2, 4]))
def test_units_may_be_parts_of_block_rows(name, A, transpose, workers, unit_rows):
    view = A.T if transpose else A
    if view.block_shape[0] % unit_rows:
        with pytest.raises(OptionError, match="it must divide"):
            make_plan(A, name, transpose, workers, unit_rows=unit_rows)
        return
    plan = make_plan(A, name, transpose, workers, n=5, tile_n=2, assignment="dynamic", unit_rows=unit_rows)
    plan.check(A)
    assert plan.units in (-(-view.shape[0] // unit_rows), view.grid[0])
    rows = np.bincount(view.coordinates()[0] // unit_rows, minlength=plan.units)
    work = np.bincount(plan.unit, weights=plan.work, minlength=plan.units)
    assert np.array_equal(work, rows * (1 if plan.tile is None else plan.tiles))


@pytest.mark.parametrize("name", NAMES)
@given(A=matrices(), workers=worker_counts)
def test_the_second_phase_adds_each_partial_once_in_order(name, A, workers):
    plan = make_plan(A, name, workers=workers)
    units, slot_ptr = plan.reduction()
    assert (np.diff(units) > 0).all()
    assert slot_ptr[0] == 0
    assert slot_ptr[-1] == plan.slots
    for unit, first, last in zip(units, slot_ptr[:-1], slot_ptr[1:], strict=True):
        assert first < last
        assert (plan.slot_unit[first:last] == unit).all()
    begin, _ = plan.entry_ranges(A)
    assert (np.diff(begin[plan.slot >= 0][np.argsort(plan.slot[plan.slot >= 0])]) > 0).all()


def skewed(rows=256, cols=256, block_shape=(32, 32)) -> CSBMatrix:
    """The first block row is dense, the others hold 2 %."""
    rng = np.random.default_rng(1)
    dense = (rng.random((rows, cols)) < 0.02) * 1.0
    dense[: block_shape[0]] = 1.0
    return CSBMatrix.from_scipy(sp.csr_matrix(dense), block_shape=block_shape)


def test_strategies_even_out_a_skewed_matrix():
    A = skewed()
    imbalance = {name: make_plan(A, name, workers=4).imbalance for name in NAMES}
    assert imbalance["in_order"] > 3
    assert imbalance["swizzle"] > 3  # one block row holds most of the work, and no dealing helps
    assert imbalance["chunks"] < 1.2
    assert imbalance["equal_nnz"] < 1.001
    assert make_plan(A, "in_order", workers=4).efficiency == pytest.approx(1 / imbalance["in_order"])


def test_units_without_work_are_shared_out_too():
    A = CSBMatrix.from_scipy(sp.csr_matrix((64, 64)), block_shape=(4, 4))
    for name in NAMES:
        plan = make_plan(A, name, workers=4)
        assert np.diff(plan.worker_ptr).tolist() == [4, 4, 4, 4], name
        assert plan.imbalance == 1.0
        assert (plan.block_end == plan.block_begin).all()


def test_defaults():
    import os

    A = skewed()
    assert make_plan(A).workers == len(os.sched_getaffinity(0))
    assert make_plan(A).strategy == "chunks"
    assert make_plan(A, assignment="dynamic").workers == DEFAULT_MULTIPROCESSORS


def test_the_registry_describes_each_strategy():
    assert tuple(STRATEGIES) == NAMES
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert strategy.title
        assert strategy.summary.endswith(".")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "best"}, "There is no balance strategy 'best'; choose one of in_order, swizzle"),
        ({"assignment": "free"}, "assignment is 'free'; it must be 'static' or 'dynamic'"),
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"tile_n": 0, "n": 4}, "tile_n is 0; it must be at least 1"),
        ({"n": -1}, "n is -1; it must be at least 0"),
    ],
)
def test_options_that_cannot_be(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        make_plan(skewed(), **options)


def _drop_last(plan):
    keep = {
        f: getattr(plan, f)[:-1] for f in ("unit", "block_begin", "block_end", "entry_begin", "entry_end")
    }
    pointers = np.minimum(plan.worker_ptr, plan.items - 1)
    return replace(plan, slot=plan.slot[:-1], work=plan.work[:-1], worker_ptr=pointers, **keep)


def _changed(field, index, value):
    def change(plan):
        array = getattr(plan, field).copy()
        array[index] = value(array[index])
        return replace(plan, **{field: array})

    return change


def _swapped_slots(plan):
    slot = plan.slot.copy()
    slot[plan.slot >= 0] = slot[plan.slot >= 0][::-1]
    return replace(plan, slot=slot)


WRONG = [
    ("in_order", _drop_last, "Unit 7 has 0 owning items; it needs exactly 1"),
    ("in_order", _changed("unit", 3, lambda u: u - 1), "Unit 2 has 2 owning items"),
    ("in_order", _changed("work", 3, lambda w: w + 1), "Item 3 says"),
    ("in_order", _changed("block_end", 3, lambda b: b + 1), "The plan reaches unit 7 and block 8"),
    ("in_order", _changed("unit", 7, lambda u: 8), "The plan reaches unit 8"),
    ("in_order", _changed("entry_begin", 3, lambda e: e + 5000), "cut lies outside of the block"),
    ("in_order", _changed("unit", 0, lambda u: -1), "negative unit"),
    ("in_order", _changed("block_begin", 0, lambda b: 9), "last block comes before its first"),
    ("in_order", lambda p: replace(p, worker_ptr=p.worker_ptr[:-1]), "needs int32.5., workers . 1 values"),
    ("in_order", _changed("worker_ptr", -1, lambda i: i - 1), "must rise from 0 to 8"),
    ("in_order", lambda p: replace(p, work=p.work.astype(np.int32)), "work is int32.8.; it needs int64.8."),
    ("in_order", lambda p: replace(p, workers=0, worker_ptr=None), "A plan has 0 workers"),
    ("equal_nnz", _changed("slot", slice(None), lambda s: np.where(s == 1, 0, s)), "numbered 0, 1, 2"),
    ("equal_nnz", _changed("slot_unit", 0, lambda u: u - 1), "names another unit|negative|not sorted"),
    ("equal_nnz", lambda p: replace(p, slot_unit=p.slot_unit[:-1]), "one value a partial"),
    ("in_order", lambda p: replace(p, tile=p.unit[:-1]), "tile is int32.7.; it needs int32.8."),
    ("in_order", lambda p: replace(p, tile=np.ones_like(p.unit)), "not one of its 1"),
]


@pytest.mark.parametrize(("name", "change", "sentence"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_a_wrong_plan_is_found_out(name, change, sentence):
    A = skewed()
    plan = make_plan(A, name, workers=4)
    plan.check(A)
    with pytest.raises((InputError, OptionError), match=sentence):
        change(plan).check(A)


def test_an_entry_left_out_or_done_twice_is_found_out():
    A = skewed()
    plan = make_plan(A, "equal_nnz", workers=4)
    cut = int(np.flatnonzero(plan.slot == 0)[0])
    for step, sentence in ((1, "covered by nobody"), (-1, "covered by two items")):
        begin, work = plan.entry_begin.copy(), plan.work.copy()
        begin[cut] += step
        work[cut] -= step
        with pytest.raises(InputError, match=sentence):
            replace(plan, entry_begin=begin, work=work).check(A)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_for_64_x_64_blocks_takes_two_milliseconds(name, assignment):
    rng = np.random.default_rng(3)
    heavy = np.where(np.arange(512) % 5 == 0, 0.9, 0.05)[:, None]
    A = CSBMatrix.from_scipy(sp.csr_matrix((rng.random((512, 512)) < heavy) * 1.0), block_shape=(8, 8))
    assert A.grid == (64, 64)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        make_plan(A, name, workers=132, assignment=assignment)
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3
