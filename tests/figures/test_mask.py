"""The picture of a mask: every unit is counted, scores and marks are those of the units, at any size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz import figures
from csbviz.errors import OptionError
from csbviz.pruning.unit_map import UnitMap

SEEDS = st.integers(0, 2**32 - 1)


def units_of(shape, block, seed=0, kept=0.5, **facts):
    """Units with random scores, of which the best stay."""
    grid = tuple(-(-length // side) for length, side in zip(shape, block, strict=True))
    scores = np.random.default_rng(seed).random(grid)
    mask = scores >= np.quantile(scores, 1 - kept) if kept else np.zeros(grid, bool)
    given_facts = {"count": scores.size, "noun": "block", "score": "mean |w|", "group": None, **facts}
    return UnitMap(shape, block, mask, scores, **given_facts)


@st.composite
def cases(draw):
    """Units in ragged matrices, and a window."""
    shape = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    block = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    units = units_of(shape, block, draw(SEEDS), draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])))
    windows = []
    for length in shape:
        begin = draw(st.integers(0, length - 1))
        windows.append((begin, draw(st.integers(begin + 1, length))))
    return units, windows


@given(cases(), st.integers(1, 70))
def test_cells_hold_the_marks_and_the_scores_of_their_units(case, pixels):
    units, (rows, cols) = case
    info = figures.get_mask_info(units, rows, cols, pixels)
    (h, w), (down, across) = units.block, info.cell
    assert max(info.values.shape) <= pixels
    assert info.values.dtype == np.float32
    # The window is widened to whole units.
    assert info.rows == (rows[0] // h * h, min(-(-rows[1] // h) * h, units.shape[0]))
    assert info.cols == (cols[0] // w * w, min(-(-cols[1] // w) * w, units.shape[1]))
    first = info.rows[0] // h, info.cols[0] // w
    last = -(-info.rows[1] // h), -(-info.cols[1] // w)
    kept, scores = (array[first[0] : last[0], first[1] : last[1]] for array in (units.kept, units.scores))
    for (i, j), value in np.ndenumerate(info.values):
        part = kept[i * down : (i + 1) * down, j * across : (j + 1) * across]
        if info.single:
            assert (value > 0) == part[0, 0]
            assert abs(value) == pytest.approx(scores[i, j], abs=1e-5)
        else:
            assert value == pytest.approx(part.mean())
    assert info.kept == np.count_nonzero(units.kept)


@given(cases(), st.booleans())
def test_every_picture_can_be_drawn_and_explained(case, dark):
    units, (rows, cols) = case
    info = figures.get_mask_info(units, rows, cols, 20)
    drawn = figures.plot_mask(info, dark=dark)
    (picture,) = drawn.data
    assert np.shape(picture.z) == info.values.shape
    assert len(picture.x) == info.values.shape[1] + 1
    assert (picture.x[0], picture.x[-1]) == (info.cols[0] - 0.5, info.cols[1] - 0.5)
    assert (picture.y[0], picture.y[-1]) == (info.rows[0] - 0.5, info.rows[1] - 0.5)
    caption = figures.mask_caption(info)
    assert caption.endswith(".")
    assert "nan" not in caption
    assert ("Zoom in" in caption) != info.single


def test_a_large_layer_sends_at_most_512_by_512_numbers():
    info = figures.get_mask_info(units_of((4096, 3000), (1, 1), noun="weight", score="|w|"))
    assert info.cell == (8, 6)
    assert info.values.shape == (512, 500)
    assert np.average(info.values) == pytest.approx(0.5, abs=1e-3)
    sent = sum(np.size(trace.z) for trace in figures.plot_mask(info).data)
    assert sent <= 512 * 512


def test_the_caption_says_what_decided_and_what_is_empty():
    units = units_of((8, 12), (2, 3), kept=0.5)
    low, high = units.scores[units.kept].min(), units.scores[~units.kept].max()
    caption = figures.mask_caption(figures.get_mask_info(units))
    assert caption.startswith("8 of 16 blocks stayed (50.0 %). What stayed scores at least")
    assert f"{low:.3f}" in caption
    assert f"{high:.3f}" in caption
    mixed = UnitMap((2, 2), (1, 1), np.eye(2, dtype=bool), np.array([[1, 2], [3, 4.0]]), 4, "weight", "|w|")
    assert "did not decide: 3.00 went while 1.00 stayed" in figures.mask_caption(figures.get_mask_info(mixed))
    top = UnitMap((4, 4), (2, 2), np.array([[1, 1], [0, 0]], bool), np.ones((2, 2)), 4, "block", "mean |w|")
    assert "1 row of the picture went altogether" in figures.mask_caption(figures.get_mask_info(top))


def test_captions_of_whole_and_of_empty_layers():
    for kept, said in ((1.0, "Nothing went."), (0.0, "The whole layer went")):
        info = figures.get_mask_info(units_of((6, 6), (6, 6), kept=kept, noun="layer"))
        assert said in figures.mask_caption(info)
        assert math.isnan(info.lowest_kept) == (kept == 0)
        figures.plot_mask(info)


def test_heads_are_counted_by_their_blocks_in_this_layer():
    info = figures.get_mask_info(units_of((12, 5), (2, 5), count=2, noun="head"))
    assert figures.mask_caption(info).startswith("3 of 6 blocks of the 2 heads stayed")


def test_groups_of_n_to_m_have_borders_when_they_are_wide_enough():
    wide = units_of((4, 24), (1, 1), noun="weight", score="|w|", group=(2, 4))
    groups = figures.plot_mask(figures.get_mask_info(wide)).data[1]
    assert sorted({x for x in groups.x if x is not None}) == [3.5, 7.5, 11.5, 15.5, 19.5]
    part = figures.plot_mask(figures.get_mask_info(wide, cols=(6, 13))).data[1]
    assert sorted({x for x in part.x if x is not None}) == [7.5, 11.5]
    narrow = units_of((4, 2400), (1, 1), noun="weight", score="|w|", group=(2, 4))
    assert len(figures.plot_mask(figures.get_mask_info(narrow)).data) == 1
    assert "2 of every 4 neighbours" in figures.mask_caption(figures.get_mask_info(narrow))


def test_a_window_beyond_the_matrix():
    with pytest.raises(OptionError, match="must lie in 0 to 8"):
        figures.get_mask_info(units_of((8, 8), (2, 2)), rows=(0, 9))
