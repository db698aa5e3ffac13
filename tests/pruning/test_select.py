"""The lowest of many scores, exactly as sorting them would find them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from csbviz.pruning import parallel
from csbviz.pruning.select import Cut, keep_marked, kept_in_groups, units_to_prune

TYPES = st.sampled_from([np.float16, np.float32, np.float64, np.uint32])


def values_of(dtype):
    """Few values on purpose, so that ties and zeros of both signs are common; or any value."""
    if np.dtype(dtype).kind == "u":
        return st.integers(0, 3) | st.integers(0, 2**32 - 1)
    width = 8 * np.dtype(dtype).itemsize
    few = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0])
    return few | st.floats(allow_nan=False, allow_infinity=False, width=width)


@st.composite
def scores(draw, dims=1):
    """One to three arrays of the same type; empty ones too."""
    dtype = draw(TYPES)
    shapes = hnp.array_shapes(min_dims=dims, max_dims=dims, min_side=0, max_side=20)
    arrays = st.lists(hnp.arrays(dtype, shapes, elements=values_of(dtype)), min_size=1, max_size=3)
    return draw(arrays)


def sorted_mask(flat, count):
    """The reference: a stable sort puts the earlier of equal scores first."""
    mask = np.ones(flat.size, bool)
    mask[np.argsort(np.abs(flat), kind="stable")[:count]] = False
    return mask


@given(scores(), st.floats(0, 1))
def test_a_cut_drops_what_a_stable_sort_puts_first(arrays, share):
    flat = np.concatenate(arrays)
    count = round(share * flat.size)
    cut = Cut(arrays, count)
    mask = np.concatenate([cut.kept(array) for array in arrays])
    np.testing.assert_array_equal(mask, sorted_mask(flat, count))


def test_arrays_of_several_types_are_compared_by_value():
    arrays = [np.array([1, -3], np.float16), np.array([2, 0.5], np.float64), np.array([-2.5], np.float32)]
    cut = Cut(arrays, 3)
    assert [cut.kept(array).tolist() for array in arrays] == [[False, True], [False, False], [True]]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(monkeypatch, threads):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-40, 40, size).astype(np.float32) for size in (70_000, 3, 0, 90_001)]
    monkeypatch.setattr(parallel, "thread_count", lambda: threads)
    cut = Cut(arrays, 100_000)
    mask = np.concatenate([cut.kept(array) for array in arrays])
    np.testing.assert_array_equal(mask, sorted_mask(np.concatenate(arrays), 100_000))


@given(st.integers(0, 200_000), st.integers(1, 9))
def test_pieces_cover_everything_once_and_respect_the_blocks(length, align):
    pieces = parallel.cuts(length, 1 << 20, align)
    assert [begin for begin, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == length
    assert all(begin % align == 0 for begin, _ in pieces)
    shares = parallel.spread([length, 0, 5, length])
    seen = sorted(span for share in shares for span in share)
    assert sum(end - begin for _, begin, end in seen) == 2 * length + 5
    assert all(end <= (length, 0, 5, length)[index] for index, _, end in seen)


@given(
    st.one_of(
        [
            hnp.arrays(
                dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=45), elements=values_of(dtype)
            )
            for dtype in (np.float16, np.float32, np.float64, np.uint32)
        ]
    ),
    st.integers(1, 40),
    st.integers(0, 39),
)
def test_every_group_keeps_its_highest(matrix, group, fewer):
    kept = max(group - fewer, 1)
    mask = kept_in_groups(matrix, kept, group)
    for row in range(matrix.shape[0]):
        for first in range(0, matrix.shape[1], group):
            part = matrix[row, first : first + group]
            expected = sorted_mask(part, max(part.size - kept, 0))
            np.testing.assert_array_equal(mask[row, first : first + group], expected)


@given(hnp.arrays(np.float32, st.integers(0, 30), elements=values_of(np.float32)), st.randoms())
def test_what_is_marked_stays_bit_for_bit(weight, random):
    mask = np.array([random.random() < 0.5 for _ in weight], bool)
    pruned = keep_marked(weight, mask)
    expected = np.where(mask | (weight == 0), weight, np.float32(0))
    np.testing.assert_array_equal(pruned.view(np.uint32), expected.view(np.uint32))


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_the_number_that_goes_is_exact_and_leaves_one(size, sparsity):
    count = units_to_prune(size, sparsity)
    assert 0 <= count <= max(size - 1, 0)
    assert abs(count - sparsity * size) <= 1
