import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.formats.cells import count_cells
from tests.strategies import messy_matrices


@given(messy_matrices(), st.data())
def test_counts_equal_a_walk_over_the_entries(drawn, data):
    S = drawn[0].tocsr()
    windows = []
    for length in S.shape:
        begin = data.draw(st.integers(0, length))
        windows.append((begin, data.draw(st.integers(begin, length))))
    sides = [data.draw(st.integers(1, 5)) for _ in windows]
    counts = count_cells(S, *windows, sides)
    assert counts.shape == tuple(
        -(-(end - begin) // side) for (begin, end), side in zip(windows, sides, strict=True)
    )
    expected = np.zeros_like(counts)
    entries = S.tocoo()
    for row, col in zip(entries.row, entries.col, strict=True):
        if all(begin <= at < end for at, (begin, end) in zip((row, col), windows, strict=True)):
            expected[(row - windows[0][0]) // sides[0], (col - windows[1][0]) // sides[1]] += 1
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_both_index_types(index):
    import scipy.sparse as sp

    S = sp.eye_array(6, format="csr", dtype=np.float32)
    S.indptr, S.indices = S.indptr.astype(index), S.indices.astype(index)
    np.testing.assert_array_equal(count_cells(S, (0, 6), (0, 6), (3, 3)), [[3, 0], [0, 3]])
