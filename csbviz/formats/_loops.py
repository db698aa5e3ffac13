"""The loops of `convert`, compiled by Numba: serial, without the GIL, cached on disk. They assume checked arguments.

Values travel as unsigned integers of their width, so float16, float32, float64 and bfloat16 share three versions.
Ranges in comments are half open.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import order

__all__ = ["ORDER_CODES", "SORTED", "UNSORTED", "csb_to_csr", "csr_to_csb", "dense_to_csb", "sort_blocks"]

SORTED, UNSORTED = -1, -2  # what csr_to_csb returns when all columns are in range
ORDER_CODES = {"row": 0, "col": 1, "morton": 2}
SMALL = 24  # entries up to which insertion sort beats a radix sort's passes over 256 counters

_spread_bits = njit(nogil=True, cache=True)(order.spread_bits)


@njit(nogil=True, cache=True)
def csr_to_csb(indptr, indices, bits, cols, row_shift, col_shift, values, row_ind, col_ind, blk_ptr):
    """Fill CSB arrays in row order; return SORTED, UNSORTED or the first entry whose column is out of range.

    indptr: rows + 1, checked. blk_ptr: blocks + 1, zeros. values, row_ind, col_ind: nnz, written in full.
    """
    rows = len(indptr) - 1
    grid_rows = (rows + (1 << row_shift) - 1) >> row_shift
    grid_cols = (cols + (1 << col_shift) - 1) >> col_shift
    row_mask, col_mask = (1 << row_shift) - 1, (1 << col_shift) - 1
    place = np.zeros(grid_cols, np.int64)
    result = SORTED
    for i in range(grid_rows):
        first_row, last_row = i << row_shift, min((i + 1) << row_shift, rows)
        place[:] = 0
        for row in range(first_row, last_row):
            before = -1
            for p in range(indptr[row], indptr[row + 1]):
                col = np.int64(indices[p])
                if col <= before:
                    result = UNSORTED
                if col < 0 or col >= cols:
                    return p
                before = col
                place[col >> col_shift] += 1
        position = np.int64(indptr[first_row])
        for j in range(grid_cols):
            count = place[j]
            place[j] = position
            position += count
            blk_ptr[i * grid_cols + j + 1] = position
        for row in range(first_row, last_row):
            for p in range(indptr[row], indptr[row + 1]):
                col = np.int64(indices[p])
                j = col >> col_shift
                position = place[j]
                place[j] = position + 1
                values[position] = bits[p]
                row_ind[position] = row & row_mask
                col_ind[position] = col & col_mask
    return result


@njit(nogil=True, cache=True)
def dense_to_csb(bits, magnitude, row_shift, col_shift, values, row_ind, col_ind, blk_ptr):
    """Fill CSB arrays in row order from a C-contiguous array of float bits.

    magnitude: scalar of the bits' dtype, every bit but the sign, so that -0.0 is zero too.
    """
    rows, cols = bits.shape
    grid_rows = (rows + (1 << row_shift) - 1) >> row_shift
    grid_cols = (cols + (1 << col_shift) - 1) >> col_shift
    row_mask, col_mask = (1 << row_shift) - 1, (1 << col_shift) - 1
    place = np.zeros(grid_cols, np.int64)
    total = np.int64(0)
    for i in range(grid_rows):
        first_row, last_row = i << row_shift, min((i + 1) << row_shift, rows)
        place[:] = 0
        for row in range(first_row, last_row):
            for j in range(grid_cols):
                count = 0
                for col in range(j << col_shift, min((j + 1) << col_shift, cols)):
                    count += (bits[row, col] & magnitude) != 0
                place[j] += count
        for j in range(grid_cols):
            count = place[j]
            place[j] = total
            total += count
            blk_ptr[i * grid_cols + j + 1] = total
        for row in range(first_row, last_row):
            for j in range(grid_cols):
                position = place[j]
                for col in range(j << col_shift, min((j + 1) << col_shift, cols)):
                    if (bits[row, col] & magnitude) != 0:
                        values[position] = bits[row, col]
                        row_ind[position] = row & row_mask
                        col_ind[position] = col & col_mask
                        position += 1
                place[j] = position


@njit(nogil=True, cache=True)
def csb_to_csr(
    blk_ptr,
    row_ind,
    col_ind,
    bits,
    grid_rows,
    grid_cols,
    stride_i,
    stride_j,
    row_shift,
    col_shift,
    indptr,
    indices,
    data,
):
    """Fill CSR arrays from the view whose block (i, j) is stored as block i * stride_i + j * stride_j.

    indptr: rows + 1, zeros. indices, data: nnz, written in full.
    """
    rows = len(indptr) - 1
    place = np.zeros(1 << row_shift, np.int64)
    total = np.int64(0)
    for i in range(grid_rows):
        first_row, last_row = i << row_shift, min((i + 1) << row_shift, rows)
        place[:] = 0
        for j in range(grid_cols):
            block = i * stride_i + j * stride_j
            for p in range(blk_ptr[block], blk_ptr[block + 1]):
                place[row_ind[p]] += 1
        for row in range(first_row, last_row):
            count = place[row - first_row]
            place[row - first_row] = total
            total += count
            indptr[row + 1] = total
        for j in range(grid_cols):
            block = i * stride_i + j * stride_j
            first_col = j << col_shift
            for p in range(blk_ptr[block], blk_ptr[block + 1]):
                position = place[row_ind[p]]
                place[row_ind[p]] = position + 1
                indices[position] = first_col + col_ind[p]
                data[position] = bits[p]


@njit(nogil=True, cache=True)
def _order_key(row, col, row_bits, col_bits, code):
    """Return one entry's order key; see `order.order_key`."""
    if code == 0:
        return (row << np.uint32(col_bits)) | col
    if code == 1:
        return (col << np.uint32(row_bits)) | row
    low = min(row_bits, col_bits)
    mask = np.uint32((1 << low) - 1)
    square = (_spread_bits(row & mask) << np.uint32(1)) | _spread_bits(col & mask)
    if low == 16:
        return square
    return square | (((row >> np.uint32(low)) | (col >> np.uint32(low))) << np.uint32(2 * low))


@njit(nogil=True, cache=True)
def _insertion_sort(keys, items, n):
    for a in range(1, n):
        key, item, b = keys[a], items[a], a
        while b > 0 and keys[b - 1] > key:
            keys[b], items[b] = keys[b - 1], items[b - 1]
            b -= 1
        keys[b], items[b] = key, item


@njit(nogil=True, cache=True)
def _radix_sort(keys, items, keys2, items2, n, first_bit, last_bit):
    """Sort keys[:n] with their items by bits [first_bit, last_bit), at most 8 a pass; the result is in keys, items."""
    passes = (last_bit - first_bit + 7) // 8
    width = (last_bit - first_bit + passes - 1) // passes
    starts = np.empty((1 << width) + 1, np.int64)
    mask = np.uint32((1 << width) - 1)
    for k in range(passes):
        shift = np.uint32(first_bit + k * width)
        starts[:] = 0
        for a in range(n):
            starts[((keys[a] >> shift) & mask) + 1] += 1
        for digit in range(1, len(starts)):
            starts[digit] += starts[digit - 1]
        for a in range(n):
            digit = (keys[a] >> shift) & mask
            keys2[starts[digit]], items2[starts[digit]] = keys[a], items[a]
            starts[digit] += 1
        keys, keys2, items, items2 = keys2, keys, items2, items
    return keys, items


@njit(nogil=True, cache=True)
def sort_blocks(bits, row_ind, col_ind, blk_ptr, row_bits, col_bits, code, first_bit):
    """Sort every block's entries by key bits [first_bit, row_bits + col_bits) in place; stable.

    Bits below first_bit must be in order already.
    """
    longest = 0
    for block in range(len(blk_ptr) - 1):
        longest = max(longest, blk_ptr[block + 1] - blk_ptr[block])
    keys, keys2 = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    items, items2 = np.empty(longest, np.int64), np.empty(longest, np.int64)
    old_bits, old_row, old_col = (
        np.empty_like(bits[:longest]),
        np.empty_like(row_ind[:longest]),
        np.empty_like(col_ind[:longest]),
    )
    last_bit = row_bits + col_bits
    if first_bit == last_bit:
        return
    for block in range(len(blk_ptr) - 1):
        start = np.int64(blk_ptr[block])
        n = np.int64(blk_ptr[block + 1]) - start
        if n < 2:
            continue
        for a in range(n):
            p = start + a
            keys[a] = _order_key(np.uint32(row_ind[p]), np.uint32(col_ind[p]), row_bits, col_bits, code)
            items[a] = a
            old_bits[a], old_row[a], old_col[a] = bits[p], row_ind[p], col_ind[p]
        if n <= SMALL:
            _insertion_sort(keys, items, n)
            result = items
        else:
            result = _radix_sort(keys, items, keys2, items2, n, first_bit, last_bit)[1]
        for a in range(n):
            p, q = start + a, result[a]
            bits[p], row_ind[p], col_ind[p] = old_bits[q], old_row[q], old_col[q]
