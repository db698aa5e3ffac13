"""The loops of `convert`, compiled by Numba: serial, without the GIL, cached on disk.

They assume checked arguments. Values travel as unsigned integers of their width, so float16, float32, float64
and bfloat16 share three versions. Ranges in comments are half open.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["SORTED", "UNSORTED", "csb_to_csr", "csr_to_csb", "dense_to_csb", "dense_to_csr", "sort_blocks"]

SORTED, UNSORTED = -1, -2  # what csr_to_csb returns when all columns are in range
SMALL = 16  # entries up to which insertion sort is the fastest
WORDS_PER_ENTRY = 4  # of a block's bitmap, up to which ranking beats a radix sort


@intrinsic
def popcount(typingctx, word):
    """Count the ones of a uint64 in one instruction."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@njit(nogil=True, cache=True)
def _first_out_of_range(indices, begin, end, cols):
    """Return the first position of [begin, end) whose column is not in [0, cols), else end."""
    bound, bad = np.uintp(cols), False
    for p in range(np.uintp(begin), np.uintp(end)):  # without an exit, so that it becomes vector code
        bad |= np.uintp(indices[p]) >= bound  # a negative column is a huge unsigned one
    if bad:
        for p in range(begin, end):
            if np.uintp(indices[p]) >= bound:
                return p
    return end


@njit(nogil=True, cache=True)
def _count(indices, begin, end, shift, counts, counts2):
    """Add to counts[column >> shift] the entries of [begin, end); counts2 is scratch of the same size.

    Neighbours often meet in one counter and would wait for each other: two tables take a half each.
    """
    one, shift = np.uintp(1), np.uintp(shift)
    counts2[:] = 0
    begin, end = np.uintp(begin), np.uintp(end)
    half = (end - begin) >> one
    for p in range(begin, begin + half):
        counts[np.uintp(indices[p]) >> shift] += one
        counts2[np.uintp(indices[p + half]) >> shift] += one
    if (end - begin) & one:
        counts[np.uintp(indices[end - one]) >> shift] += one
    for j in range(len(counts)):
        counts[j] += counts2[j]


@njit(nogil=True, cache=True)
def csr_to_csb(
    indptr, indices, bits, cols, row_shift, col_shift, by_column, values, row_ind, col_ind, blk_ptr
):
    """Fill CSB arrays; return SORTED, UNSORTED or the first entry whose column is out of range.

    indptr: rows + 1, checked. blk_ptr: blocks + 1, zeros. values, row_ind, col_ind: nnz, written in full.
    by_column: count by column instead of by block, which gives column order instead of row order.
    Unsigned positions spare the test for negative indices.
    """
    rows = len(indptr) - 1
    grid_rows = (rows + (1 << row_shift) - 1) >> row_shift
    grid_cols = (cols + (1 << col_shift) - 1) >> col_shift
    row_mask, col_mask = (1 << row_shift) - 1, (1 << col_shift) - 1
    shift = 0 if by_column else col_shift
    places = cols if by_column else grid_cols
    one, ushift = np.uintp(1), np.uintp(shift)
    place, scratch = np.empty(places, np.uintp), np.empty(places, np.uintp)
    unsorted = False
    for i in range(grid_rows):
        first_row, last_row = i << row_shift, min((i + 1) << row_shift, rows)
        begin, end = np.int64(indptr[first_row]), np.int64(indptr[last_row])
        bad = _first_out_of_range(indices, begin, end, cols)
        if bad < end:
            return bad
        place[:] = 0
        _count(indices, begin, end, shift, place, scratch)
        position = np.uintp(begin)
        for k in range(places):  # from counts to the next free place of each block or column
            count = place[k]
            place[k] = position
            position += count
            blk_ptr[i * grid_cols + (k >> (col_shift - shift)) + 1] = position
        for row in range(first_row, last_row):
            first, last = np.uintp(indptr[row]), np.uintp(indptr[row + 1])
            for p in range(first + one, last):
                unsorted |= indices[p] <= indices[p - one]
            for p in range(first, last):
                col = np.uintp(indices[p])
                position = place[col >> ushift]
                place[col >> ushift] = position + one
                values[position] = bits[p]
                row_ind[position] = row & row_mask
                col_ind[position] = col & col_mask
    return UNSORTED if unsorted else SORTED


@njit(nogil=True, cache=True)
def csr_to_csb_by_rank(
    indptr, indices, bits, cols, row_shift, col_shift, row_keys, col_keys, values, row_ind, col_ind, blk_ptr
):
    """Fill CSB arrays in the order of row_keys[row] | col_keys[col]; rows may be unsorted.

    Return as csr_to_csb does; UNSORTED means here that a cell occurs twice, and the arrays are not filled.
    Each block has a bitmap with a bit per key, so an entry's place is the number of bits before its own.
    """
    rows = len(indptr) - 1
    grid_rows = (rows + (1 << row_shift) - 1) >> row_shift
    grid_cols = (cols + (1 << col_shift) - 1) >> col_shift
    row_mask, col_mask = (1 << row_shift) - 1, np.uintp((1 << col_shift) - 1)
    words = ((1 << (row_shift + col_shift)) + 63) >> 6  # of one block
    marks, place = np.empty(grid_cols * words, np.uint64), np.empty(grid_cols * words, np.uintp)
    shift, step, six, low = np.uintp(col_shift), np.uintp(words), np.uintp(6), np.uintp(63)
    one, total = np.uint64(1), np.uintp(0)
    for i in range(grid_rows):
        first_row, last_row = i << row_shift, min((i + 1) << row_shift, rows)
        begin, end = np.int64(indptr[first_row]), np.int64(indptr[last_row])
        bad = _first_out_of_range(indices, begin, end, cols)
        if bad < end:
            return bad
        marks[:] = 0
        for row in range(first_row, last_row):
            row_key = row_keys[row & row_mask]
            for p in range(np.uintp(indptr[row]), np.uintp(indptr[row + 1])):
                col = np.uintp(indices[p])
                key = np.uintp(row_key | col_keys[col & col_mask])
                marks[(col >> shift) * step + (key >> six)] |= one << (key & low)
        for j in range(grid_cols):
            for word in range(j * words, (j + 1) * words):
                place[word] = total
                total += np.uintp(popcount(marks[word]))
            blk_ptr[i * grid_cols + j + 1] = total
        if total != np.uintp(end):
            return UNSORTED
        for row in range(first_row, last_row):
            row_key = row_keys[row & row_mask]
            for p in range(np.uintp(indptr[row]), np.uintp(indptr[row + 1])):
                col = np.uintp(indices[p])
                key = np.uintp(row_key | col_keys[col & col_mask])
                word = (col >> shift) * step + (key >> six)
                position = place[word] + np.uintp(popcount(marks[word] & ((one << (key & low)) - one)))
                values[position] = bits[p]
                row_ind[position] = row & row_mask
                col_ind[position] = col & col_mask
    return SORTED


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
def _insertion_sort(keys, items, n):
    for a in range(1, n):
        key, item, b = keys[a], items[a], a
        while b > 0 and keys[b - 1] > key:
            keys[b], items[b] = keys[b - 1], items[b - 1]
            b -= 1
        keys[b], items[b] = key, item


@njit(nogil=True, cache=True)
def _radix_sort(keys, items, keys2, items2, n, bits):
    """Sort keys[:n] of `bits` bits with their items, at most 8 bits a pass; return the sorted items."""
    passes = max((bits + 7) // 8, 1)  # a 1 x 1 block has no key bits, and may hold one cell many times
    width = (bits + passes - 1) // passes
    starts = np.empty((1 << width) + 1, np.int64)
    mask = np.uint32((1 << width) - 1)
    for k in range(passes):
        shift = np.uint32(k * width)
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
    return items


@njit(nogil=True, cache=True)
def _mark_keys(keys, n, bitmap, before):
    """Set a bit per key of keys[:n] and count the bits before every word; return False when two are equal."""
    low, six = np.uint32(63), np.uint32(6)
    bitmap[:] = 0
    for a in range(n):
        bitmap[keys[a] >> six] |= np.uint64(1) << np.uint64(keys[a] & low)
    total = np.uint32(0)
    for word in range(len(bitmap)):
        before[word] = total
        total += np.uint32(popcount(bitmap[word]))
    return total == n


@njit(nogil=True, cache=True)
def _rank(key, bitmap, before):
    """Return how many marked keys are smaller: no comparison is made and nothing moves."""
    word = key >> np.uint32(6)
    smaller = (np.uint64(1) << np.uint64(key & np.uint32(63))) - np.uint64(1)
    return np.uintp(before[word]) + np.uintp(popcount(bitmap[word] & smaller))


@njit(nogil=True, cache=True)
def sort_blocks(bits, row_ind, col_ind, blk_ptr, row_keys, col_keys, key_bits):
    """Sort every block's entries by row_keys[row] | col_keys[col] in place; stable.

    row_keys, col_keys: uint32, as many as the block has rows and columns. Keys are below 2**key_bits.
    """
    longest = np.int64(0)
    for block in range(len(blk_ptr) - 1):
        longest = max(longest, np.int64(blk_ptr[block + 1]) - np.int64(blk_ptr[block]))
    keys, keys2 = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    items, items2 = np.empty(longest, np.int64), np.empty(longest, np.int64)
    from_bits, from_row, from_col = bits[:longest].copy(), row_ind[:longest].copy(), col_ind[:longest].copy()
    words = ((1 << key_bits) + 63) >> 6
    held = words if words <= WORDS_PER_ENTRY * longest else 0
    bitmap, before = np.empty(held, np.uint64), np.empty(held, np.uint32)
    for block in range(len(blk_ptr) - 1):
        start, end = np.uintp(blk_ptr[block]), np.uintp(blk_ptr[block + 1])
        n = end - start
        if n < 2:
            continue
        to_bits, to_row, to_col = bits[start:end], row_ind[start:end], col_ind[start:end]
        from_bits[:n], from_row[:n], from_col[:n] = to_bits, to_row, to_col
        for a in range(n):
            keys[a] = row_keys[from_row[a]] | col_keys[from_col[a]]
        if n > SMALL and words <= WORDS_PER_ENTRY * n and _mark_keys(keys, n, bitmap, before):
            for a in range(n):
                b = _rank(keys[a], bitmap, before)
                to_bits[b], to_row[b], to_col[b] = from_bits[a], from_row[a], from_col[a]
            continue
        for a in range(n):
            items[a] = a
        order = items
        if n <= SMALL:
            _insertion_sort(keys, items, n)
        else:
            order = _radix_sort(keys, items, keys2, items2, n, key_bits)
        for b in range(n):
            a = order[b]
            to_bits[b], to_row[b], to_col[b] = from_bits[a], from_row[a], from_col[a]


@njit(nogil=True, cache=True)
def dense_to_csr(matrix, indptr, indices, values):
    """Fill the arrays of CSR from a dense matrix whose row pointers are known."""
    for row in range(matrix.shape[0]):
        line = matrix[row]
        position = np.uintp(indptr[row])
        for col in range(matrix.shape[1]):
            if line[col] != 0:
                indices[position] = col
                values[position] = line[col]
                position += np.uintp(1)


@njit(nogil=True, cache=True)
def count_nonempty_blocks(indptr, indices, cols, row_shift, col_shift):
    """Count blocks with an entry; columns must be in range."""
    rows = len(indptr) - 1
    grid_cols = (cols + (1 << col_shift) - 1) >> col_shift
    seen = np.full(grid_cols, -1, np.int64)  # the last row of blocks that met each column of blocks
    blocks = np.int64(0)
    for row in range(rows):
        i = row >> row_shift
        for p in range(indptr[row], indptr[row + 1]):
            j = np.uintp(indices[p]) >> np.uintp(col_shift)
            if seen[j] != i:
                seen[j] = i
                blocks += 1
    return blocks


@njit(nogil=True, cache=True)
def count_cells(indptr, indices, first_row, cell_of_row, first_col, cell_of_col, counts):
    """Add the entries of a window to `counts` [cells down, cells across]; others are passed over.

    `cell_of_row` and `cell_of_col` name the cell of each row and column of the window.
    """
    width = len(cell_of_col)
    for r in range(len(cell_of_row)):
        row = first_row + r
        line = counts[cell_of_row[r]]
        for p in range(indptr[row], indptr[row + 1]):
            c = indices[p] - first_col
            if 0 <= c < width:
                line[cell_of_col[c]] += 1
