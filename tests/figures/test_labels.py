"""Labels that would cover each other move apart."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.figures.labels import spread


def test_labels_with_room_stay():
    assert spread([4, 1, 2.5], gap=1, low=0, high=5) == [4, 1, 2.5]


def test_labels_that_touch_move_evenly_apart():
    assert spread([2.0, 2.2], gap=1, low=0, high=5) == pytest.approx([1.6, 2.6])


@given(st.lists(st.floats(0, 10), max_size=12), st.floats(0.01, 3))
def test_order_gap_and_borders_hold(positions, gap):
    placed = spread(positions, gap, 0, 10)
    assert len(placed) == len(positions)
    room = 10 / max(len(positions) - 1, 1)
    ordered = sorted(placed)
    assert all(b - a >= min(gap, room) - 1e-6 for a, b in itertools.pairwise(ordered))
    assert all(-1e-6 <= place <= 10 + 1e-6 for place in placed)
    for (a, p), (b, q) in zip(
        zip(positions, placed, strict=True), list(zip(positions, placed, strict=True))[1:], strict=False
    ):
        assert (a < b) <= (p < q)
