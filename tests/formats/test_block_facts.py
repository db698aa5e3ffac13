"""Facts of a block agree with the dense matrix."""

import numpy as np
import pytest
import scipy.sparse

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.formats.block_facts import block_facts, heaviest_block

RNG = np.random.default_rng(11)
DENSE = scipy.sparse.random(37, 50, 0.2, "csr", np.float32, RNG).toarray()
MATRIX = CSBMatrix.from_dense(DENSE, (8, 16))


@pytest.mark.parametrize("view", [False, True])
def test_every_block_agrees_with_the_dense_matrix(view):
    matrix, dense = (MATRIX.T, DENSE.T) if view else (MATRIX, DENSE)
    total = np.count_nonzero(dense)
    for i in range(matrix.grid[0]):
        for j in range(matrix.grid[1]):
            facts = block_facts(matrix, i, j)
            rows, cols = slice(*facts.rows), slice(*facts.cols)
            count = np.count_nonzero(dense[rows, cols])
            assert facts.nnz == count
            assert facts.density == pytest.approx(count / dense[rows, cols].size)
            assert facts.row_share == pytest.approx(count / np.count_nonzero(dense[rows]))
            assert facts.col_share == pytest.approx(count / np.count_nonzero(dense[:, cols]))
            assert facts.share == pytest.approx(count / total)
            assert facts.bytes == count * (4 + 2)


def test_ranges_tile_the_matrix_and_end_at_its_edge():
    rows = [block_facts(MATRIX, i, 0).rows for i in range(MATRIX.grid[0])]
    assert rows == [(0, 8), (8, 16), (16, 24), (24, 32), (32, 37)]
    assert block_facts(MATRIX, 0, MATRIX.grid[1] - 1).cols == (48, 50)


def test_the_heaviest_block_is_the_fullest():
    counts = MATRIX.block_nnz()
    assert counts[heaviest_block(MATRIX)] == counts.max()


def test_a_matrix_without_entries_has_blocks_without_shares():
    facts = block_facts(CSBMatrix.from_dense(np.zeros((5, 5), np.float32), (4, 4)), 1, 1)
    assert (facts.nnz, facts.bytes, facts.share, facts.row_share) == (0, 0, 0.0, 0.0)


@pytest.mark.parametrize("at", [(5, 0), (0, 4), (-1, 0)])
def test_a_block_that_is_not_there_is_named(at):
    with pytest.raises(OptionError, match="has 5 x 4 blocks"):
        block_facts(MATRIX, *at)
