"""Hypothesis strategies for sparse matrices and their blocks, and why each case exists.

Shapes and the kind of structure are drawn by Hypothesis, so a failure shrinks to a small matrix of a named
kind; positions and values inside come from a drawn seed.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

from csbviz.formats import CSBMatrix
from csbviz.formats.dtypes import VALUE_DTYPES
from csbviz.formats.order import ORDERS

__all__ = [
    "STRUCTURES",
    "block_shapes",
    "csb_matrices",
    "dense_operands",
    "dtypes",
    "index_forms",
    "messy_matrices",
    "orders",
    "packable_block_shapes",
    "shapes",
    "sparse_matrices",
]

# Each structure breaks an assumption that a kernel or a conversion may make by accident.
STRUCTURES = {
    "uniform": "the ordinary case: entries everywhere, about as many in every block",
    "empty": "no entry at all: loops over nothing, maxima of nothing, 0/0 in shares",
    "full": "every cell: a block's count reaches rows x columns, the most that pointers meet",
    "empty_rows": "whole rows, and so rows of blocks, without an entry: output must still be written",
    "empty_cols": "the same for columns, which only the transposed product meets",
    "one_row": "all entries in one row: the worst imbalance of A @ B, chunks of one unit",
    "one_col": "all entries in one column: the worst imbalance of A.T @ B",
    "diagonal": "one entry per row and column: blocks off the diagonal are empty",
    "corner": "one entry at the last row and column: the ragged last block alone holds something",
    "one_block": "a dense patch in an empty matrix: what load balancing must split",
}

orders = st.sampled_from(ORDERS)
dtypes = st.sampled_from(VALUE_DTYPES)
index_forms = st.sampled_from(("split", "packed"))


def shapes(max_side: int = 70, min_side: int = 0):
    """Draw (rows, columns): also 0 x n and n x 0; sides are seldom multiples of a block's."""
    side = st.integers(min_side, max_side)
    return st.tuples(side, side)


def block_shapes(max_bits: int = 9):
    """Draw (rows, columns) of a block, each a power of two up to 2**max_bits.

    Rectangles tell row from column; side 1 has no index bits; sides beyond the matrix make a single ragged
    block; 512 is past what one-byte indices hold.
    """
    side = st.integers(0, max_bits).map(lambda bits: 1 << bits)
    return st.tuples(side, side)


def packable_block_shapes():
    """Draw block shapes of at most 256 cells, which one-byte indices can address."""
    return st.integers(0, 8).flatmap(
        lambda bits: st.integers(0, bits).map(lambda row_bits: (1 << row_bits, 1 << (bits - row_bits)))
    )


@st.composite
def sparse_matrices(
    draw, dtype="float32", max_side: int = 70, min_side: int = 0, structures=tuple(STRUCTURES)
):
    """Draw a canonical `scipy.sparse.csr_matrix` (sorted, no duplicates) of one of the STRUCTURES.

    Values are small integers other than zero, exact in every dtype, also after sums of a few products: a
    wrong result differs by much more than rounding. float16 and bfloat16 give float32 matrices, since SciPy
    computes with neither.
    """
    rows, cols = draw(shapes(max_side, min_side))
    structure = draw(st.sampled_from(structures))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = _mask(structure, rows, cols, draw(st.sampled_from((0.02, 0.1, 0.5))), rng)
    values = rng.integers(1, 9, size=mask.shape) * rng.choice((-1, 1), size=mask.shape)
    return scipy.sparse.csr_matrix(
        np.where(mask, values, 0).astype("float64" if dtype == "float64" else "float32")
    )


def _mask(structure: str, rows: int, cols: int, density: float, rng) -> np.ndarray:
    mask = rng.random((rows, cols)) < density
    row, col = np.arange(rows)[:, None], np.arange(cols)[None, :]
    middle_row, middle_col = rows // 2, cols // 2
    return {
        "uniform": mask,
        "empty": mask & False,
        "full": mask | True,
        "empty_rows": mask & ~((rows // 4 <= row) & (row < 3 * rows // 4)),
        "empty_cols": mask & ~((cols // 4 <= col) & (col < 3 * cols // 4)),
        "one_row": (row == middle_row) & (col >= 0),
        "one_col": (row >= 0) & (col == middle_col),
        "diagonal": row == col,
        "corner": (row == rows - 1) & (col == cols - 1),
        "one_block": (row >= middle_row)
        & (row < middle_row + 9)
        & (col >= middle_col)
        & (col < middle_col + 9),
    }[structure]


@st.composite
def messy_matrices(draw, dtype="float32", max_side: int = 50):
    """Draw (messy matrix, the same as a dense array): unsorted rows, duplicates, explicit zeros, any format.

    Other libraries hand out such matrices: COO with a cell twice, CSR rows in the sequence of insertion,
    int64 indices.
    """
    S = draw(sparse_matrices(dtype, max_side)).tocoo()
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    again = rng.integers(0, S.nnz, size=S.nnz // 2) if S.nnz else np.empty(0, int)
    row, col = np.r_[S.row, S.row[again]], np.r_[S.col, S.col[again]]
    data = np.r_[S.data, rng.integers(-2, 3, size=len(again)).astype(S.dtype)]
    dense = np.zeros(S.shape, S.dtype)
    np.add.at(dense, (row, col), data)
    shuffle = rng.permutation(len(row))
    if draw(st.booleans()):
        coo = scipy.sparse.coo_array((data[shuffle], (row[shuffle], col[shuffle])), shape=S.shape)
        return coo.asformat(draw(st.sampled_from(("coo", "csc", "lil")))), dense
    by_row = shuffle[np.argsort(row[shuffle], kind="stable")]  # CSR, its rows neither sorted nor distinct
    indptr = np.r_[0, np.cumsum(np.bincount(row, minlength=S.shape[0]))]
    width = draw(st.sampled_from((np.int32, np.int64)))
    arrays = data[by_row], col[by_row].astype(width), indptr.astype(width)
    return scipy.sparse.csr_array(arrays, shape=S.shape), dense


@st.composite
def csb_matrices(draw, dtype=None, max_side: int = 70, min_side: int = 0, max_bits: int = 7):
    """Draw a `CSBMatrix`, as stored or transposed, in any order, dtype, block shape and index form."""
    dtype = dtype or draw(dtypes)
    S = draw(sparse_matrices(dtype, max_side, min_side))
    index = draw(index_forms)
    block_shape = draw(packable_block_shapes() if index == "packed" else block_shapes(max_bits))
    A = CSBMatrix.from_scipy(S, block_shape, draw(orders), index).astype(dtype)
    return A.T if draw(st.booleans()) else A


@st.composite
def dense_operands(draw, rows: int, max_n: int = 40, dtype="float32"):
    """Draw a C-contiguous right-hand side, rows x N, of small integers.

    N is 1 (a vector in disguise), seldom a multiple of a vector register's lanes, or wider than a tile of
    columns.
    """
    n = draw(st.one_of(st.just(1), st.integers(1, max_n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(-4, 5, size=(rows, n)).astype(dtype)
