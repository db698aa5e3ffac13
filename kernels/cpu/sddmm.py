"""The sampled product, out[e] = Σ_c U[row(e), c] · V[col(e), c] at the stored positions, on a CPU's threads.

Each thread takes a run of entries, as many as the others, and walks their blocks. The two rows of an entry
are multiplied a tile of columns at a time: the tiles that a block needs stay in the second-level cache, and
the sums wait in `out`. An entry belongs to one thread, so nothing is added atomically and every run gives the
same bits.

The compiler may add the products of a tile in any order and fuse them, which is what lets it use vectors; it
may not assume that numbers are finite.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit, prange, types

__all__ = ["sampled_product"]

_ALLOWED = {"reassoc", "contract", "nsz"}


@njit(fastmath=_ALLOWED)
def _dot(u, v):
    total = u.dtype.type(0)
    for column in range(u.size):
        total += u[column] * v[column]
    return total


@njit
def _run_of_entries(
    row_ind, col_ind, blk_ptr, block_rows, block_columns, grid_columns, U, V, tile, out, begin, end
):
    """Compute out[begin:end]."""
    first = np.searchsorted(blk_ptr, begin, side="right") - 1
    n = U.shape[1]
    out[begin:end] = 0
    while begin < end:
        stop = min(end, np.int64(blk_ptr[first + 1]))
        row, column = (first // grid_columns) * block_rows, (first % grid_columns) * block_columns
        for left in range(0, n, tile):
            right = min(n, left + tile)
            for e in range(begin, stop):
                out[e] += _dot(U[row + row_ind[e], left:right], V[column + col_ind[e], left:right])
        begin = max(begin, stop)
        first += 1


def _alone(row_ind, col_ind, blk_ptr, block_rows, block_columns, grid_columns, U, V, tile, out, workers):
    structure = row_ind, col_ind, blk_ptr, block_rows, block_columns, grid_columns
    _run_of_entries(*structure, U, V, tile, out, 0, out.size)


def _together(row_ind, col_ind, blk_ptr, block_rows, block_columns, grid_columns, U, V, tile, out, workers):
    for worker in prange(workers):
        begin, end = out.size * worker // workers, out.size * (worker + 1) // workers
        structure = row_ind, col_ind, blk_ptr, block_rows, block_columns, grid_columns
        _run_of_entries(*structure, U, V, tile, out, begin, end)


@cache
def sampled_product(dtype: str, row_index: str, col_index: str, pointer: str, parallel: bool):
    """Compile (or load from Numba's cache) the function for these types.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of U, V and out.
    row_index, col_index : {"uint8", "uint16"}
        Of the indices inside a block.
    pointer : {"int32", "int64"}
        Of the block pointers.
    parallel : bool
        Whether it starts Numba's threads.

    Returns
    -------
    callable
        ``function(row_ind, col_ind, blk_ptr, block rows, block columns, columns of blocks, U, V, tile, out,
        workers)`` with C-contiguous arrays: U rows x n, V columns x n, out one number an entry; `tile`
        columns are multiplied at a time.
    """

    def vector(name, readonly=True):
        return types.Array(getattr(types, name), 1, "C", readonly=readonly)

    operand = types.Array(getattr(types, dtype), 2, "C", readonly=True)
    structure = vector(row_index), vector(col_index), vector(pointer), *[types.int64] * 3
    out = vector(dtype, readonly=False)
    signature = types.void(*structure, operand, operand, types.int64, out, types.int64)
    function = _together if parallel else _alone
    return njit(signature, parallel=parallel, nogil=True, cache=True)(function)
