"""Conversions of CSB from and to CSR, dense arrays and PyTorch tensors, in time linear in the entries.

CSR to CSB is a counting sort by block. A row of blocks reads a contiguous run of the CSR arrays, so it is
counted and scattered while it is in the cache, and row order inside the blocks falls out for free. Counting
by column instead gives column order. For Morton order every entry marks its cell in a bitmap along the curve:
its place is the count of marks before its own. Matrices that fill such tables too thinly, and rows that were
not sorted, are sorted block by block afterwards.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ..errors import MatrixError
from . import dtypes
from .checks import blk_ptr_dtype, check_grid, grid_of, index_dtype
from .order import key_bits, log2_of, order_key

__all__ = [
    "as_csr",
    "check_csr",
    "count_nonzero_bits",
    "csb_to_csr",
    "csr_to_csb",
    "dense_to_csb",
    "dense_to_csr",
    "torch_sparse_to_scipy",
]


def as_csr(S):
    """Return a SciPy sparse matrix as CSR with float values; its arrays may be S's own: do not write to them.

    Raises
    ------
    MatrixError
        If S is no 2-D SciPy sparse matrix of real numbers.
    """
    if not scipy.sparse.issparse(S):
        raise MatrixError(
            f"Found a {type(S).__name__}; needed is a SciPy sparse matrix (or use from_dense, from_torch)."
        )
    if S.ndim != 2:
        raise MatrixError(f"The sparse array has {S.ndim} dimension; a matrix needs 2.")
    if S.format != "csr":
        narrow = S.dtype == np.float16  # which SciPy holds, yet does not convert
        S = (S.astype(np.float32) if narrow else S).tocsr()
        if narrow:
            S.data = S.data.astype(np.float16)
    values = dtypes.float_values(S.data)
    if values is not S.data:
        S = type(S)((values, S.indices, S.indptr), shape=S.shape)
    return S


def check_csr(S) -> None:
    """Check row pointers against the arrays; column indices are checked where they are read.

    Raises
    ------
    MatrixError
    """
    rows = S.shape[0]
    if len(S.indptr) != rows + 1:
        raise MatrixError(f"There are {len(S.indptr)} row pointers; {rows} rows need {rows + 1}.")
    held = min(len(S.indices), len(S.data))
    if S.indptr[0] != 0 or S.indptr[-1] > held:
        raise MatrixError(
            f"Row pointers run from {S.indptr[0]} to {S.indptr[-1]}; needed is 0 to at most {held}."
        )
    falls = S.indptr[1:] < S.indptr[:-1]
    if falls.any():
        row = int(np.argmax(falls))
        begin, end = S.indptr[row : row + 2]
        raise MatrixError(
            f"Row {row} begins at entry {begin} and ends at {end}; row pointers must never fall."
        )


def csr_to_csb(S, block_shape: tuple[int, int], order: str) -> tuple:
    """Convert a CSR matrix.

    Parameters
    ----------
    S : CSR matrix from `as_csr`
        Rows may be unsorted; entries of the same cell are added in the order in which they come.
    block_shape : (int, int)
    order : {"row", "col", "morton"}

    Returns
    -------
    values, row_ind, col_ind, blk_ptr, shape, block_shape
        The arguments of `CSBMatrix`.

    Raises
    ------
    MatrixError
        If S's arrays are inconsistent.
    """
    from . import _loops

    check_csr(S)
    nnz = int(S.indptr[-1])
    bits = _wide(dtypes.bits_of(np.ascontiguousarray(S.data)))
    csr = S.indptr.astype(np.int64), _narrow_indices(S.indices[:nnz], S.shape[1]), bits, S.shape[1]
    arrays = _empty(S.shape, block_shape, bits.dtype, nnz)
    found = _fill(csr, block_shape, order, arrays)
    if found >= 0:
        _refuse_column(found, S.indices[found], S.shape[1])
    values, row_ind, col_ind, blk_ptr = arrays
    arrays = _typed(values, dtypes.dtype_name(S.data)), *_tight(row_ind, col_ind, block_shape), blk_ptr
    if found == _loops.UNSORTED:
        arrays = _sum_duplicates(*arrays, block_shape)
    return *arrays, S.shape, block_shape


def _fill(csr: tuple, block_shape: tuple[int, int], order: str, arrays: tuple) -> int:
    """Fill CSB arrays by the fastest way for the order; see `_loops.csr_to_csb` for what is returned."""
    from . import _loops

    indptr, indices, _, cols = csr
    shifts = row_shift, col_shift = tuple(map(log2_of, block_shape))
    grid_rows, grid_cols = grid_of((len(indptr) - 1, cols), block_shape)
    # Two ways below keep a table per row of blocks: they pay while not many more words are cleared than read.
    enough = 4 * len(indices)
    if order == "morton" and grid_rows * grid_cols * (1 << max(row_shift + col_shift - 6, 0)) <= enough:
        found = _loops.csr_to_csb_by_rank(*csr, *shifts, *_key_parts(block_shape, order), *arrays)
        if found != _loops.UNSORTED:
            return found
    by_column = order == "col" and grid_rows * cols <= enough
    found = _loops.csr_to_csb(*csr, *shifts, by_column, *arrays)
    if found < 0 and not by_column and (found == _loops.UNSORTED or order != "row"):
        _sort(*arrays, block_shape, order)
    return found


def count_nonzero_bits(bits: np.ndarray) -> int:
    """Count floats other than zero in an array of their bits; the sign of a zero does not matter."""
    return int(np.count_nonzero(bits << 1))


def dense_to_csb(bits: np.ndarray, dtype: str, block_shape: tuple[int, int], order: str, nnz: int) -> tuple:
    """Convert a C-contiguous 2-D array of float bits that has `nnz` values other than zero."""
    from . import _loops

    magnitude = np.iinfo(bits.dtype).max >> 1
    bits = _wide(bits)
    values, row_ind, col_ind, blk_ptr = _empty(bits.shape, block_shape, bits.dtype, nnz)
    shifts = map(log2_of, block_shape)
    _loops.dense_to_csb(bits, bits.dtype.type(magnitude), *shifts, values, row_ind, col_ind, blk_ptr)
    if order != "row":
        _sort(values, row_ind, col_ind, blk_ptr, block_shape, order)
    return _typed(values, dtype), *_tight(row_ind, col_ind, block_shape), blk_ptr, bits.shape, block_shape


def dense_to_csr(matrix: np.ndarray):
    """Convert a 2-D float32 or float64 array to a `scipy.sparse.csr_matrix` of its values other than zero.

    About ten times as fast as SciPy's own conversion; NaN is a value other than zero.
    """
    from . import _loops

    rows = matrix.shape[0]
    indptr = np.zeros(rows + 1, np.int32 if matrix.size < 2**31 else np.int64)
    np.cumsum(np.count_nonzero(matrix, axis=1), out=indptr[1:])
    indices, values = np.empty(indptr[-1], indptr.dtype), np.empty(indptr[-1], matrix.dtype)
    _loops.dense_to_csr(matrix, indptr, indices, values)
    return scipy.sparse.csr_matrix((values, indices, indptr), shape=matrix.shape)


def csb_to_csr(A):
    """Convert a CSB matrix or transposed view to a `scipy.sparse.csr_matrix` with sorted rows.

    In each of the three orders the entries of one row come by column and those of one column by row, so a
    stable scatter leaves rows sorted, and for a transposed view too.
    """
    from . import _loops

    bits = _wide(dtypes.bits_of(A.values))
    rows, cols = A.shape
    width = np.dtype(np.int64 if max(rows, cols, A.nnz) >= 2**31 else np.int32)
    indptr, indices, data = np.zeros(rows + 1, width), np.empty(A.nnz, width), np.empty(A.nnz, bits.dtype)
    strides = (1, A.grid[0]) if A.transposed else (A.grid[1], 1)
    shifts = map(log2_of, A.block_shape)
    inside = (index.astype(_inside_dtype(A.block_shape), copy=False) for index in (A.row_ind, A.col_ind))
    _loops.csb_to_csr(A.blk_ptr, *inside, bits, *A.grid, *strides, *shifts, indptr, indices, data)
    data = dtypes.as_numpy(_typed(data, A.dtype))
    if data.dtype == np.float16:  # SciPy holds float16 but cannot compute with it
        data = data.astype(np.float32)
    S = scipy.sparse.csr_matrix((data, indices, indptr), shape=A.shape)
    S.has_canonical_format = True
    return S


def strided_layout():
    """Return PyTorch's layout of dense tensors."""
    import torch

    return torch.strided


def torch_sparse_to_scipy(T):
    """Convert a 2-D sparse CPU tensor to SciPy; 16-bit floats become float32, duplicates stay."""
    import torch

    values = T._values() if T.layout == torch.sparse_coo else T.values()
    if values.ndim != 1:
        raise MatrixError(
            f"The sparse tensor holds blocks of values (layout {T.layout}); needed is one value per index."
        )
    narrow = values.dtype in (torch.bfloat16, torch.float16)  # SciPy computes with neither
    data = (values.float() if narrow else values).numpy()
    if T.layout == torch.sparse_coo:
        return scipy.sparse.coo_matrix((data, tuple(T._indices().numpy())), shape=tuple(T.shape))
    if T.layout == torch.sparse_csr:
        return scipy.sparse.csr_matrix(
            (data, T.col_indices().numpy(), T.crow_indices().numpy()), shape=tuple(T.shape)
        )
    if T.layout == torch.sparse_csc:
        return scipy.sparse.csc_matrix(
            (data, T.row_indices().numpy(), T.ccol_indices().numpy()), shape=tuple(T.shape)
        )
    raise MatrixError(
        f"The tensor's layout is {T.layout}; needed is strided, sparse_coo, sparse_csr or sparse_csc."
    )


# The loops are compiled anew for every combination of dtypes, about a second each the first time. Casting the
# rare ones keeps them few: values of 4 or 8 bytes, both indices in a block of one width, int32 columns.


def _wide(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint32) if bits.dtype == np.uint16 else bits


def _typed(bits: np.ndarray, dtype: str):
    """Return widened bits as values of `dtype`."""
    return dtypes.values_from_bits(bits.astype(np.uint16) if dtypes.VALUE_BYTES[dtype] == 2 else bits, dtype)


def _inside_dtype(block_shape: tuple[int, int]) -> np.dtype:
    return index_dtype(max(block_shape))


def _tight(row_ind, col_ind, block_shape) -> tuple:
    """Return each index array in the dtype that its own side of the block needs."""
    rows, cols = map(index_dtype, block_shape)
    return row_ind.astype(rows, copy=False), col_ind.astype(cols, copy=False)


def _narrow_indices(indices: np.ndarray, cols: int) -> np.ndarray:
    """Return column indices as int32; wider ones are checked first: a cast could hide one out of range."""
    if indices.dtype == np.int32 or cols >= 2**31:
        return indices
    if len(indices) and (indices.min() < 0 or indices.max() >= cols):
        entry = int(np.argmax((indices < 0) | (indices >= cols)))
        _refuse_column(entry, indices[entry], cols)
    return indices.astype(np.int32)


def _refuse_column(entry: int, column: int, cols: int):
    raise MatrixError(f"Entry {entry} has column {column}; the matrix has columns 0 to {cols - 1}.")


def _empty(shape, block_shape, bits_dtype, nnz) -> tuple:
    """Allocate values (as bits), row_ind, col_ind (both as wide as the longer side needs) and blk_ptr."""
    blocks = check_grid(shape, block_shape)
    inside = _inside_dtype(block_shape)
    return (
        np.empty(nnz, bits_dtype),
        np.empty(nnz, inside),
        np.empty(nnz, inside),
        np.zeros(blocks + 1, blk_ptr_dtype(nnz)),
    )


def _sort(bits, row_ind, col_ind, blk_ptr, block_shape, order) -> None:
    """Sort every block by its order key in place; stable, so entries of one cell keep their sequence."""
    from . import _loops

    parts = _key_parts(block_shape, order)
    _loops.sort_blocks(bits, row_ind, col_ind, blk_ptr, *parts, key_bits(block_shape))


def _key_parts(block_shape, order: str) -> tuple:
    """Return the order keys of a block's rows and of its columns; or-ed they are a cell's key."""
    rows, cols = (np.arange(side, dtype=np.uint32) for side in block_shape)
    nothing = np.uint32(0)
    return order_key(rows, nothing, block_shape, order), order_key(nothing, cols, block_shape, order)


def _sum_duplicates(values, row_ind, col_ind, blk_ptr, block_shape) -> tuple:
    """Add up neighbours of one cell and close the gaps; float16 sums are made in float32."""
    cells = order_key(row_ind, col_ind, block_shape, "row")
    first = np.ones(len(cells), bool)
    first[1:] = cells[1:] != cells[:-1]
    first[blk_ptr[:-1][blk_ptr[:-1] < len(cells)]] = True  # equal cells of two blocks are different cells
    starts = np.flatnonzero(first)
    if len(starts) == len(cells):
        return values, row_ind, col_ind, blk_ptr
    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    sums = dtypes.cast_values(np.add.reduceat(wide, starts), values.dtype.name)
    blk_ptr = np.searchsorted(starts, blk_ptr).astype(blk_ptr_dtype(len(starts)))
    return sums, row_ind[starts], col_ind[starts], blk_ptr
