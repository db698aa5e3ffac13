"""What the constructors of a CSB matrix share: the block shape asked for, and the form of the indices."""

from __future__ import annotations

import numpy as np

from ..errors import OptionError
from .checks import check_block_shape
from .order import log2_of

__all__ = ["resolve_block_shape", "with_index"]


def resolve_block_shape(block_shape, shape, nnz: int, device: str = "auto") -> tuple[int, int]:
    """Return the block shape asked for, or what `choose_block_shape` chooses for None."""
    if block_shape is None:
        from .block_shape import choose_block_shape

        block_shape = choose_block_shape(shape, nnz, device=device)
    return check_block_shape(block_shape)


def with_index(A, index: str):
    """Return a matrix with split indices in the form asked for: "auto", "split" or "packed".

    Raises
    ------
    OptionError
        If the form is unknown or the blocks have too many cells for it.
    """
    if index in ("auto", "split"):
        return A
    if index != "packed":
        raise OptionError(f"The index form is {index!r}; needed is 'auto', 'split' or 'packed'.")
    rows, cols = A.block_shape
    if rows * cols > 256:
        raise OptionError(
            f"A {rows} x {cols} block has {rows * cols} cells; packed indices need at most 256."
        )
    packed = (A.row_ind.astype(np.uint8) << np.uint8(log2_of(cols))) | A.col_ind
    return type(A)(A.values, None, None, A.blk_ptr, A.shape, A.block_shape, A.order, packed_ind=packed)
