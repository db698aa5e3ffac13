"""Checks of a CSB matrix: cheap ones for the constructor, a full scan for arrays that are not trusted."""

from __future__ import annotations

import operator

import numpy as np

from ..errors import MatrixError, OptionError
from . import dtypes
from .order import order_key

__all__ = [
    "MAX_BLOCKS",
    "MAX_SIDE",
    "blk_ptr_dtype",
    "check_block_shape",
    "check_entries",
    "check_structure",
    "grid_of",
    "index_dtype",
]

MAX_SIDE = 65536  # of a block: an index inside a block has at most 16 bits
MAX_BLOCKS = 2**28  # the table of block pointers is dense: 1 GiB of it is more than any sensible layout needs


def grid_of(shape: tuple[int, int], block_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of blocks that cover a matrix; the last ones may be ragged."""
    return -(-shape[0] // block_shape[0]), -(-shape[1] // block_shape[1])


def blk_ptr_dtype(nnz: int) -> np.dtype:
    """Return int32 while it can hold the last pointer, which is nnz, else int64."""
    return np.dtype(np.int32 if nnz < 2**31 else np.int64)


def index_dtype(side: int) -> np.dtype:
    """Return the dtype of indices below a block side: uint8 up to 256, else uint16."""
    return np.dtype(np.uint8 if side <= 256 else np.uint16)


def check_block_shape(block_shape) -> tuple[int, int]:
    """Return a block shape as two ints; an int means a square block.

    Raises
    ------
    OptionError
        If a side is no power of two from 1 to 65536.
    """
    sides = tuple(block_shape) if np.iterable(block_shape) else (block_shape, block_shape)
    try:
        rows, cols = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        raise OptionError(f"The block shape is {block_shape!r}; needed are two powers of two.") from None
    for side in (rows, cols):
        if not 1 <= side <= MAX_SIDE or side & (side - 1):
            raise OptionError(
                f"The block shape is {rows} x {cols}; both sides must be powers of two, 1 to {MAX_SIDE}."
            )
    return rows, cols


def check_grid(shape: tuple[int, int], block_shape: tuple[int, int]) -> int:
    """Return the number of blocks, or raise an OptionError when their table would not fit memory sensibly."""
    rows, cols = grid_of(shape, block_shape)
    if rows * cols > MAX_BLOCKS:
        raise OptionError(
            "A {} x {} matrix in {} x {} blocks has {:,} blocks; at most {:,} are possible, "
            "so take larger blocks.".format(*shape, *block_shape, rows * cols, MAX_BLOCKS)
        )
    return rows * cols


def check_structure(A) -> None:
    """Check dtypes and lengths of a stored matrix' arrays (constant time).

    Raises
    ------
    MatrixError, OptionError
    """
    if len(A.shape) != 2 or min(A.shape) < 0:
        raise MatrixError(f"The shape is {A.shape}; needed are two numbers that are not negative.")
    blocks = check_grid(A.shape, A.block_shape)
    if (dtype := dtypes.dtype_name(A.values)) not in dtypes.VALUE_DTYPES:
        raise MatrixError(f"The values are {dtype}; needed is one of {', '.join(dtypes.VALUE_DTYPES)}.")
    if A.values.ndim != 1:
        raise MatrixError(f"The values have {A.values.ndim} dimensions; needed is 1.")
    nnz = len(A.values)
    if A.packed_ind is not None and A.block_shape[0] * A.block_shape[1] > 256:
        raise MatrixError(
            "Packed one-byte indices need blocks of at most 256 cells; found {} x {}.".format(*A.block_shape)
        )
    if A.packed_ind is not None:
        _check_array("packed_ind", A.packed_ind, np.dtype(np.uint8), nnz)
    else:
        _check_array("row_ind", A.row_ind, index_dtype(A.block_shape[0]), nnz)
        _check_array("col_ind", A.col_ind, index_dtype(A.block_shape[1]), nnz)
    _check_array("blk_ptr", A.blk_ptr, blk_ptr_dtype(nnz), blocks + 1)


def _check_array(name: str, array, dtype: np.dtype, length: int) -> None:
    if getattr(array, "dtype", None) != dtype or array.ndim != 1:
        found = f"{array.ndim}-D {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise MatrixError(f"{name} is {found}; needed is a 1-D {dtype} array.")
    if len(array) != length:
        raise MatrixError(f"{name} has {len(array)} elements; needed are {length}.")


def check_entries(A) -> None:
    """Scan a stored matrix: pointers rise, indices lie inside, entries come in the stated order.

    Raises
    ------
    MatrixError
    """
    counts = np.diff(A.blk_ptr)
    if A.blk_ptr[0] != 0 or A.blk_ptr[-1] != A.nnz:
        raise MatrixError(f"blk_ptr runs from {A.blk_ptr[0]} to {A.blk_ptr[-1]}; needed is 0 to {A.nnz}.")
    if (counts < 0).any():
        block = int(np.argmax(counts < 0))
        begin, end = A.blk_ptr[block : block + 2]
        raise MatrixError(
            f"Block {block} begins at entry {begin} and ends at {end}; blk_ptr must never fall."
        )
    for name, index, side in zip(("row_ind", "col_ind"), (A.row_ind, A.col_ind), A.block_shape, strict=True):
        if A.nnz and index.max() >= side:
            raise MatrixError(f"{name} holds {index.max()}; the block has indices 0 to {side - 1}.")
    for name, index, size in zip(("row", "column"), A.coordinates(), A.shape, strict=True):
        if A.nnz and index.max() >= size:
            raise MatrixError(
                f"An entry lies in {name} {index.max()}; the matrix has {name}s 0 to {size - 1}."
            )
    keys = order_key(A.row_ind, A.col_ind, A.block_shape, A.order)
    rising = keys[1:] > keys[:-1]
    starts = A.blk_ptr[1:-1]  # between two blocks keys may fall
    rising[starts[(starts > 0) & (starts < A.nnz)] - 1] = True
    if not rising.all():
        entry = int(np.argmin(rising)) + 1
        same = keys[entry] == keys[entry - 1]
        what = "stands in the same cell as" if same else f"is out of {A.order} order after"
        raise MatrixError(
            f"Entry {entry} {what} the entry before it; a block's entries must be sorted and distinct."
        )
