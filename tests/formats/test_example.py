"""The 6 x 6 example decodes to its picture, and its arrays are the published ones, corrected."""

from __future__ import annotations

import numpy as np

from csbviz.formats import CSBMatrix, plan_example

PICTURE = ["a.....", "b...c.", "...d.e", "......", "...fg.", "..h.ij"]


def decode(letters, row_ind, col_ind, blk_ptr):
    """Draw the matrix from its arrays by the definition of the format alone; None when two cells collide."""
    cells = {}
    for block in range(9):
        for entry in range(blk_ptr[block], blk_ptr[block + 1]):
            cell = 2 * (block // 3) + row_ind[entry], 2 * (block % 3) + col_ind[entry]
            if cell in cells:
                return None
            cells[cell] = letters[entry]
    return ["".join(cells.get((i, j), ".") for j in range(6)) for i in range(6)]


def test_the_arrays():
    A, letters, _ = plan_example()
    assert " ".join(letters) == "a b c d e f h g i j"
    assert A.row_ind.tolist() == [0, 1, 1, 0, 0, 0, 1, 0, 1, 1]
    assert A.col_ind.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]
    assert A.blk_ptr.tolist() == [0, 2, 2, 3, 3, 4, 5, 5, 7, 10]
    assert A.values.tolist() == [1, 2, 3, 4, 5, 6, 8, 7, 9, 10]


def test_they_decode_to_the_picture():
    A, letters, picture = plan_example()
    assert [line.replace(" ", "") for line in picture] == PICTURE
    assert decode(letters, A.row_ind, A.col_ind, A.blk_ptr) == PICTURE
    expected = np.array([[0 if c == "." else ord(c) - 96 for c in line] for line in PICTURE])
    assert np.array_equal(A.to_dense(), expected)
    A.check_format()


def test_the_arrays_that_are_often_printed_decode_wrongly():
    row_ind, col_ind = [0, 1, 1, 0, 0, 0, 0, 1, 1, 1], plan_example().matrix.col_ind
    assert decode("abcdefghij", row_ind, col_ind, plan_example().matrix.blk_ptr) is None


def test_csr_of_the_example():
    S = plan_example().matrix.to_scipy()
    assert S.indptr.tolist() == [0, 1, 3, 5, 5, 7, 10]
    assert S.indices.tolist() == [0, 0, 4, 3, 5, 3, 4, 2, 4, 5]
    assert S.data.tolist() == list(range(1, 11))
    assert np.array_equal(CSBMatrix.from_scipy(S, 2).values, plan_example().matrix.values)
