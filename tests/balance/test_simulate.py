"""The simulator: bounds that every schedule keeps, and small schedules worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.balance import WorkPlan, simulate
from csbviz.errors import OptionError


def plan_of(work, workers=2, static_ptr=None, n=None, tile_n=None) -> WorkPlan:
    """A plan of one item a unit with the given nonzeros."""
    work = np.asarray(work, dtype=np.int64)
    zeros = np.zeros(work.size, dtype=np.int64)
    return WorkPlan(
        strategy="by hand",
        transpose=False,
        workers=workers,
        tile_n=tile_n,
        n=n,
        unit=np.arange(work.size, dtype=np.int32),
        block_begin=zeros.astype(np.int32),
        block_end=np.ones(work.size, dtype=np.int32),
        entry_begin=zeros,
        entry_end=work,
        slot=np.full(work.size, -1, dtype=np.int32),
        work=work,
        worker_ptr=None if static_ptr is None else np.asarray(static_ptr, dtype=np.int32),
        slot_unit=np.zeros(0, dtype=np.int32),
    )


works = st.lists(st.integers(0, 1000), max_size=40)


@given(
    work=works, workers=st.integers(1, 12), tiles=st.integers(1, 3), fastest=st.sampled_from(["tile", "item"])
)
def test_a_dynamic_schedule_keeps_its_bounds(work, workers, tiles, fastest):
    line = simulate(plan_of(work), workers, tiles, fastest=fastest)
    low, high = line.bounds
    assert low - 1e-9 <= line.makespan <= high + 1e-9
    assert line.ctas == len(work) * tiles
    assert line.loads.sum() == sum(work) * tiles
    assert line.imbalance >= 1 - 1e-12
    if sum(work):
        # List scheduling leaves no gaps, so the longest load is the makespan and 1/λ the share of busy time.
        assert line.efficiency == pytest.approx(sum(work) * tiles / (workers * line.makespan))
    assert 0 <= line.tail_share <= 1


@given(work=works, workers=st.integers(1, 12), tiles=st.integers(1, 3))
def test_ctas_of_one_worker_follow_each_other_without_gaps(work, workers, tiles):
    cuts = np.linspace(0, len(work), workers + 1).astype(int)
    for line in (
        simulate(plan_of(work), workers, tiles),
        simulate(plan_of(work, workers, static_ptr=cuts), tile_n_count=tiles),
    ):
        assert sorted(zip(line.item, line.tile, strict=True)) == [
            (i, t) for i in range(len(work)) for t in range(tiles)
        ]
        for w in range(workers):
            own = line.worker == w
            start, end = np.sort(line.start[own]), np.sort(line.end[own])
            np.testing.assert_array_equal(start, np.concatenate(([0.0], end[:-1]))[: start.size])


@given(work=works, workers=st.integers(1, 12))
def test_ctas_start_in_launch_order_on_the_first_free_worker(work, workers):
    line = simulate(plan_of(work), workers)
    assert (np.diff(line.start) >= 0).all()
    for i in range(line.ctas):
        free = np.zeros(workers)
        np.maximum.at(free, line.worker[:i], line.end[:i])
        assert line.start[i] == free.min()
        assert line.worker[i] == np.argmin(free)


def test_a_schedule_worked_out_by_hand():
    line = simulate(plan_of([5, 3, 2, 4]), workers=2)
    assert line.worker.tolist() == [0, 1, 1, 0]  # at 5 both are free: the lower number goes first
    assert line.start.tolist() == [0, 0, 3, 5]
    assert line.end.tolist() == [5, 3, 5, 9]
    assert line.makespan == 9
    assert line.loads.tolist() == [9, 5]
    assert line.imbalance == pytest.approx(9 / 7)
    assert line.efficiency == pytest.approx(7 / 9)
    assert (line.waves, line.wave_efficiency) == (2, 1.0)
    assert line.tail_share == pytest.approx(4 / 9)  # worker 1 has nothing from 5 on
    assert line.variation == pytest.approx(np.std([5, 3, 2, 4]) / 3.5)
    assert line.bounds == (7, 7 + 0.5 * 5)


def test_a_static_schedule_worked_out_by_hand():
    line = simulate(plan_of([5, 3, 2, 4], workers=3, static_ptr=[0, 1, 1, 4]), tile_n_count=2)
    assert line.worker.tolist() == [0, 0, 2, 2, 2, 2, 2, 2]
    assert line.item.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert line.start.tolist() == [0, 5, 0, 3, 6, 8, 10, 14]
    assert line.loads.tolist() == [10, 0, 18]
    assert line.tail_share == 1.0  # worker 1 never has anything


def test_waves():
    line = simulate(plan_of([1] * 9), workers=4)
    assert (line.waves, line.wave_efficiency, line.makespan) == (3, 0.75, 3)
    assert line.tail_share == pytest.approx(1 / 3)


def test_tiles_multiply_the_ctas_and_come_from_the_plan():
    plan = plan_of([2, 1], n=100, tile_n=64)
    assert simulate(plan).ctas == 4
    assert simulate(plan).item.tolist() == [0, 0, 1, 1]
    assert simulate(plan, fastest="item").item.tolist() == [0, 1, 0, 1]
    assert simulate(plan, fastest="item").tile.tolist() == [0, 0, 1, 1]
    assert simulate(plan, tile_n_count=3).ctas == 6


def test_what_a_cta_costs_besides_its_nonzeros():
    line = simulate(plan_of([0, 4]), workers=1, fixed_cost=1.5)
    assert line.end.tolist() == [1.5, 7.0]


def test_nothing_to_do():
    for work in ([], [0, 0]):
        line = simulate(plan_of(work), workers=3)
        assert (line.makespan, line.imbalance, line.efficiency) == (0, 1, 1)
        assert (line.tail_share, line.variation) == (0, 0)
    assert simulate(plan_of([])).bounds == (0, 0)
    assert simulate(plan_of([])).wave_efficiency == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 0}, "both must be at least 1"),
        ({"tile_n_count": 0}, "both must be at least 1"),
        ({"fastest": "row"}, "fastest is 'row'; it must be 'tile' or 'item'"),
        ({"fixed_cost": float("nan")}, "fixed_cost is nan"),
        ({"fixed_cost": -1}, "fixed_cost is -1"),
    ],
)
def test_options_that_cannot_be(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        simulate(plan_of([1, 2]), **options)


def test_a_static_plan_keeps_its_workers():
    with pytest.raises(OptionError, match="The plan deals its items to 2 workers and cannot be played on 3"):
        simulate(plan_of([1, 2], static_ptr=[0, 1, 2]), workers=3)


def test_a_plan_whose_items_have_their_own_tile_is_played_as_it_is():
    from csbviz.balance import make_plan
    from tests.balance.test_plan import skewed

    plan = make_plan(skewed(), "stream_k", workers=5, n=96, tile_n=32, assignment="dynamic")
    line = simulate(plan)
    assert line.ctas == plan.items
    assert np.array_equal(line.tile, plan.tile)
    assert np.array_equal(line.worker, plan.item_worker)
    assert line.loads.sum() == 3 * plan.nnz
    assert line.imbalance < 1.001
    with pytest.raises(OptionError, match="The plan cuts 3 tiles of columns and cannot be played with 2"):
        simulate(plan, tile_n_count=2)
