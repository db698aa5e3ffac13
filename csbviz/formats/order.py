"""Orders of the entries inside a block: row by row, column by column, or along the Z-Morton curve."""

from __future__ import annotations

import numpy as np

from ..errors import OptionError

__all__ = ["ORDERS", "check_order", "key_bits", "log2_of", "morton_key", "order_key", "transposed_order"]

ORDERS = ("row", "col", "morton")


def check_order(order: str) -> str:
    """Return `order`, or raise an OptionError that names the orders there are."""
    if order not in ORDERS:
        raise OptionError(f"The entry order is {order!r}; needed is one of {', '.join(map(repr, ORDERS))}.")
    return order


def transposed_order(order: str) -> str:
    """Name the order in which a transposed view meets the same entries.

    Row order read with rows and columns swapped is column order. A Morton curve stays a Morton curve; its
    first turn then goes down instead of to the right.
    """
    return {"row": "col", "col": "row"}.get(order, order)


def log2_of(side: int) -> int:
    """Return the exponent of a power of two."""
    return int(side).bit_length() - 1


def key_bits(block_shape: tuple[int, int]) -> int:
    """Return how many bits an order key of a block of this shape has: lg(rows) + lg(columns), at most 32."""
    return log2_of(block_shape[0]) + log2_of(block_shape[1])


def spread_bits(x):
    """Put bit i of a 16-bit number at bit 2i (scalar or array, uint32)."""
    x = (x | (x << np.uint32(8))) & np.uint32(0x00FF00FF)
    x = (x | (x << np.uint32(4))) & np.uint32(0x0F0F0F0F)
    x = (x | (x << np.uint32(2))) & np.uint32(0x33333333)
    return (x | (x << np.uint32(1))) & np.uint32(0x55555555)


def morton_key(row, col, row_bits: int, col_bits: int):
    """Return the position of (row, col) along the Z-Morton curve of a 2**row_bits x 2**col_bits block.

    Bits of row and column alternate, the row's bit above the column's, so the quadrants of a block come as
    0 = upper left, 1 = upper right, 2 = lower left, 3 = lower right. A rectangular block is a line of square
    ones: the spare high bits of the longer side go on top. Within a row keys grow with the column, and within
    a column with the row.

    Parameters
    ----------
    row, col : uint32 array or uint32 scalar
        Indices inside the block.
    row_bits, col_bits : int
        Base-2 logarithms of the block's sides, at most 16 each.

    Returns
    -------
    uint32 array or scalar of the same shape
    """
    low = min(row_bits, col_bits)
    mask = np.uint32((1 << low) - 1)
    square = (spread_bits(row & mask) << np.uint32(1)) | spread_bits(col & mask)
    if low == 16:  # a shift by 32 bits is undefined, and nothing is left to shift
        return square
    return square | (((row >> np.uint32(low)) | (col >> np.uint32(low))) << np.uint32(2 * low))


def order_key(row_ind, col_ind, block_shape: tuple[int, int], order: str) -> np.ndarray:
    """Return the numbers that grow along a block in the given order.

    Parameters
    ----------
    row_ind, col_ind : (n,) integer arrays
        Indices inside the block.
    block_shape : (int, int)
        Powers of two.
    order : {"row", "col", "morton"}

    Returns
    -------
    (n,) uint32 array
    """
    row, col = np.asarray(row_ind).astype(np.uint32), np.asarray(col_ind).astype(np.uint32)
    row_bits, col_bits = map(log2_of, block_shape)
    if check_order(order) == "row":
        return (row << np.uint32(col_bits)) | col
    if order == "col":
        return (col << np.uint32(row_bits)) | row
    return morton_key(row, col, row_bits, col_bits)
