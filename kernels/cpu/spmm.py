"""C = A·B and C = Aᵀ·B for a matrix in compressed sparse blocks, on the threads of a CPU.

One compiled worker serves both directions: for the transposed product rows and columns swap their parts, and
a second order of the entries inside each block (two bytes an entry) takes the place of a second copy.

How it gets its speed:

1. A tile of columns of B (up to four AVX-512 registers wide) is multiplied at a time; the tile of the output
   row stays in registers for a whole segment, two partial sums at a time hide the latency of the additions.
2. The rows of B that a block needs, cut to the tile, are packed side by side in the thread's own panel: they
   stay in the first-level cache, whatever the row length of B, and serve all output rows of the group.
   Meanwhile the rows for the next blocks are asked for.
3. The last columns get a tile of their own width. Where B has few columns and the rows of blocks few entries,
   the products are added to C in memory one by one, without a second order and without branches to guess.
4. The Python side of a product is one call with few arguments; the rest lies in a table of 64-bit words.

Every output row belongs to one thread at a time and nothing is added atomically: results are the same in
every run. No product is skipped and none is reordered on the assumption of finite numbers, so NaN and Inf
spread as in IEEE arithmetic.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from .program import (
    FIRST,
    ITEM_SHIFT,
    PARTIAL,
    V_BASE,
    V_BLOCK,
    V_ENTRIES,
    V_ENTRY,
    V_FLAGS,
    V_LOCAL,
    V_ROW,
    V_ROWS,
    V_SEGMENT,
    V_SEGMENTS,
    VISIT_FIELDS,
)
from .simd import (
    element_bytes,
    prefetch,
    read,
    read_two,
    vector_add,
    vector_bytes,
    vector_fma,
    vector_load,
    vector_store,
    vector_zero,
    write,
)

__all__ = ["ALWAYS", "IF_UNALIGNED", "NEVER", "multiply", "reduce"]

# Words of the table that a worker reads, int64 each.
P_B, P_B_ROW, P_B_ROWS = 0, 1, 2  # address of B, bytes of a row, rows
P_C, P_C_ROW = 3, 4  # address of C, bytes of a row
P_PARTIALS = 5  # address of the partial buffers, rows as long as those of C
P_MASK, P_SHIFT = 6, 7  # index of an entry: stored & mask, in units of 1 << shift
P_BLOCK_IN = 8  # rows of B that a block covers
P_PACK = 9  # pack slices of B where a tile is whole: NEVER, ALWAYS, or IF_UNALIGNED to cache lines
P_PANELS, P_PANEL_SIZE = 10, 11  # address and bytes of the threads' panels
P_TAILS, P_TAIL_SIZE = 12, 13  # address and bytes of the threads' buffers for output tiles that are not whole
P_VISITS, P_SEGMENTS, P_GROUP_PTR, P_WORKER_GROUP = 14, 15, 16, 17  # addresses of the arrays of `program`
P_RECORD = 18  # address of int32[items] that receives the worker of each item, or 0
P_SLOTS, P_SLOT_UNIT, P_BLOCK_OUT, P_ROWS_OUT, P_WORKERS = 19, 20, 21, 22, 23  # for the second phase
P_COLUMNS, P_COLUMNS_END = 24, 25  # the columns to multiply, in bytes of a row
P_OUT_MASK, P_OUT_SHIFT = 26, 27  # the same for its output row, for scattering
P_WORDS = 28

NEVER, ALWAYS, IF_UNALIGNED = 0, 1, 2

_LINE = 64  # bytes of a cache line
_I64 = np.int64(0)
_I32 = np.int32(0)
_U16 = np.uint16(0)
_VISIT_BYTES = VISIT_FIELDS * 8


def _stored_position(order, base, entry):
    """Where the entry visited as number `entry` is stored."""


@overload(_stored_position)
def _stored_position_in(order, base, entry):
    if order is types.voidptr:
        return lambda order, base, entry: entry
    return lambda order, base, entry: base + np.int64(order[entry])


def _two_stored_positions(order, base, entry):
    """Where the entries visited as numbers `entry` and `entry + 1` are stored."""


@overload(_two_stored_positions)
def _two_stored_positions_in(order, base, entry):
    if order is types.voidptr:
        return lambda order, base, entry: (entry, entry + 1)

    def positions(order, base, entry):
        first, second = read_two(order, entry)
        return base + first, base + second

    return positions


@njit
def _word(table, number):
    return read(table + 8 * number, _I64)


@njit
def _copy_row(target, source, size, witness):
    """Copy `size` bytes, fewer than a vector's, number by number."""
    step = element_bytes(witness)
    zero = _number(witness)
    at = np.int64(0)
    while at < size:
        write(target + at, read(source + at, zero))
        at += step


def _number(witness):
    """A zero of the type of a vector's numbers."""


@overload(_number)
def _number_of(witness):
    dtype = witness.dtype.dtype
    return lambda witness: dtype(0)


@njit
def _pack_slice(panel, source, rows, source_row, size, end, witness):
    """Copy a slice of B, `rows` rows of `size` bytes, to the panel, where each row is as long as a vector.

    What stands behind a row up to the length of a vector is copied too, and its products are dropped in the
    end, but nothing behind `end`, where B ends.
    """
    width = vector_bytes(witness)
    for _ in range(rows):
        if source + width <= end:
            vector_store(panel, vector_load(source, witness))
        else:
            _copy_row(panel, source, size, witness)
        panel += width
        source += source_row


@njit
def multiply(values, index, order, witness, table, worker):
    """What worker number `worker` does; see the notes on visits and segments in `program`."""
    width = vector_bytes(witness)
    begin, end = _word(table, P_COLUMNS), _word(table, P_COLUMNS_END)
    groups = _word(table, P_WORKER_GROUP) + 8 * worker
    for group in range(_word(groups, 0), _word(groups, 1)):
        visits = _word(table, P_GROUP_PTR) + 8 * group
        first = _word(table, P_VISITS) + _VISIT_BYTES * _word(visits, 0)
        last = _word(table, P_VISITS) + _VISIT_BYTES * _word(visits, 1)
        for column in range(begin, end, width):
            size = min(width, end - column)
            _multiply_tile(values, index, order, witness, table, worker, first, last, column, size)
            if size < width:
                _finish_tail(witness, table, worker, first, last, column, size)


@njit
def _multiply_tile(values, index, order, witness, table, worker, first, last, column, size):
    """All visits of a group for one tile of columns."""
    width = vector_bytes(witness)
    whole = size == width
    wish = _word(table, P_PACK)
    packed = (
        not whole or wish == ALWAYS or (wish == IF_UNALIGNED and _word(table, P_B) % min(width, _LINE) != 0)
    )
    panel = _word(table, P_PANELS) + worker * _word(table, P_PANEL_SIZE)
    b_row = _word(table, P_B_ROW)
    b_end = _word(table, P_B) + _word(table, P_B_ROWS) * b_row
    block_in = _word(table, P_BLOCK_IN)
    row_step = (width if packed else b_row) >> _word(table, P_SHIFT)
    c_row = _word(table, P_C_ROW) if whole else width
    record = _word(table, P_RECORD)
    present = np.int64(-1)
    slice_of_b = panel
    ahead, ahead_end = np.int64(0), np.int64(0)  # rows of the slice after this one that are not yet asked for
    for visit in range(first, last, _VISIT_BYTES):
        block = _word(visit, V_BLOCK)
        if block != present and block >= 0:
            present = block
            source = _word(table, P_B) + block * block_in * b_row + column
            if packed:
                rows = min(block_in, _word(table, P_B_ROWS) - block * block_in)
                _pack_slice(panel, source, rows, b_row, size, b_end, witness)
                ahead = source + rows * b_row
                rows = min(block_in, _word(table, P_B_ROWS) - (block + 1) * block_in)
                ahead_end = ahead + rows * b_row
            else:
                slice_of_b = source
        if whole:
            target = _word(table, P_PARTIALS if _word(visit, V_FLAGS) & PARTIAL else P_C)
            target += _word(visit, V_ROW) * c_row + column
        else:
            target = (
                _word(table, P_TAILS) + worker * _word(table, P_TAIL_SIZE) + _word(visit, V_LOCAL) * width
            )
        if _word(visit, V_FLAGS) & FIRST and record:
            write(record + 4 * (_word(visit, V_FLAGS) >> ITEM_SHIFT), np.int32(worker))
        ahead = _add_visit(
            values, index, order, witness, table, visit, slice_of_b, row_step, target, c_row, ahead, ahead_end
        )


def _add_visit(
    values, index, order, witness, table, visit, slice_of_b, row_step, target, c_row, ahead, ahead_end
):
    """One visit for one tile of columns; return where the rows of B begin that are not yet asked for.

    `order` is what `_stored_position` takes, or a tuple of the pointer to the output index if the products
    are to be scattered.
    """


@overload(_add_visit)
def _add_visit_of(
    values, index, order, witness, table, visit, slice_of_b, row_step, target, c_row, ahead, ahead_end
):
    return _scatter_entries if isinstance(order, types.BaseTuple) else _walk_segments


def _walk_segments(
    values, index, order, witness, table, visit, slice_of_b, row_step, target, c_row, ahead, ahead_end
):
    mask = _word(table, P_MASK)
    b_row = _word(table, P_B_ROW)
    overwrite = _word(visit, V_FLAGS) & FIRST
    base = _word(visit, V_BASE)
    entry = _word(visit, V_ENTRY)
    segment = _word(table, P_SEGMENTS) + 4 * _word(visit, V_SEGMENT)
    for at in range(segment, segment + 4 * _word(visit, V_SEGMENTS), 4):
        row = target + np.int64(read(at, _U16)) * c_row
        end = entry + np.int64(read(at + 2, _U16))
        total = vector_zero(witness) if overwrite else vector_load(row, witness)
        if (end - entry) & 1:
            p = _stored_position(order, base, entry)
            b = vector_load(slice_of_b + (np.int64(index[p]) & mask) * row_step, witness)
            total = vector_fma(values[p], b, total)
            entry += 1
        other = vector_zero(witness)
        while entry < end:
            p, q = _two_stored_positions(order, base, entry)
            b = vector_load(slice_of_b + (np.int64(index[p]) & mask) * row_step, witness)
            total = vector_fma(values[p], b, total)
            b = vector_load(slice_of_b + (np.int64(index[q]) & mask) * row_step, witness)
            other = vector_fma(values[q], b, other)
            entry += 2
        vector_store(row, vector_add(total, other))
        if ahead < ahead_end:
            prefetch(ahead, witness)
            ahead += b_row
    return ahead


def _places(index, out_index, p, table):
    """Input and output row of the entry stored at `p`; without `out_index` both are in one byte."""


@overload(_places)
def _places_in(index, out_index, p, table):
    if out_index is not types.voidptr:
        return lambda index, out_index, p, table: (np.int64(index[p]), np.int64(out_index[p]))

    def places(index, out_index, p, table):
        both = np.int64(index[p])
        return (
            (both & _word(table, P_MASK)) >> _word(table, P_SHIFT),
            (both & _word(table, P_OUT_MASK)) >> _word(table, P_OUT_SHIFT),
        )

    return places


@njit
def _scatter_one(values, index, out_index, p, witness, table, b, c):
    """Add the product of the entry stored at `p` to its output row."""
    place, out_place = _places(index, out_index, p, table)
    row = c + out_place * vector_bytes(witness)
    vector = vector_load(b + place * vector_bytes(witness), witness)
    vector_store(row, vector_fma(values[p], vector, vector_load(row, witness)))


def _scatter_entries(
    values, index, order, witness, table, visit, slice_of_b, row_step, target, c_row, ahead, ahead_end
):
    # B has one tile of columns: its rows, and those of C, follow each other without gaps.
    width = vector_bytes(witness)
    if _word(visit, V_FLAGS) & FIRST:
        for row in range(target, target + _word(visit, V_ROWS) * width, width):
            vector_store(row, vector_zero(witness))
    entry = _word(visit, V_ENTRY)
    end = entry + _word(visit, V_ENTRIES)
    # Neighbours often have the same output row and would wait for each other: take turns at eight places.
    far = (end - entry) >> 3
    for first in range(entry, entry + far):
        for place in range(8):
            p = first + place * far
            _scatter_one(values, index, order[0], p, witness, table, slice_of_b, target)
    for p in range(entry + 8 * far, end):
        _scatter_one(values, index, order[0], p, witness, table, slice_of_b, target)
    return ahead


@njit
def _finish_tail(witness, table, worker, first, last, column, size):
    """Copy the last columns of a group's output from the thread's buffer to where they belong."""
    width = vector_bytes(witness)
    c_row = _word(table, P_C_ROW)
    for visit in range(first, last, _VISIT_BYTES):
        if _word(visit, V_FLAGS) & FIRST:
            source = (
                _word(table, P_TAILS) + worker * _word(table, P_TAIL_SIZE) + _word(visit, V_LOCAL) * width
            )
            target = _word(table, P_PARTIALS if _word(visit, V_FLAGS) & PARTIAL else P_C)
            target += _word(visit, V_ROW) * c_row + column
            for _ in range(_word(visit, V_ROWS)):
                _copy_row(target, source, size, witness)
                source += width
                target += c_row


@njit
def reduce(values, index, order, witness, table, worker):
    """Second phase: add this worker's share of the rows of every partial, in the order of the slots."""
    width = vector_bytes(witness)
    row_bytes = _word(table, P_C_ROW)
    block_out = _word(table, P_BLOCK_OUT)
    workers = _word(table, P_WORKERS)
    zero = _number(witness)
    for slot in range(_word(table, P_SLOTS)):
        unit = np.int64(read(_word(table, P_SLOT_UNIT) + 4 * slot, _I32))
        rows = min(block_out, _word(table, P_ROWS_OUT) - unit * block_out)
        begin, end = rows * worker // workers, rows * (worker + 1) // workers
        target = _word(table, P_C) + (unit * block_out + begin) * row_bytes
        source = _word(table, P_PARTIALS) + (slot * block_out + begin) * row_bytes
        at, size = np.int64(0), (end - begin) * row_bytes
        while at + width <= size:
            total = vector_add(vector_load(target + at, witness), vector_load(source + at, witness))
            vector_store(target + at, total)
            at += width
        while at < size:
            write(target + at, read(target + at, zero) + read(source + at, zero))
            at += element_bytes(witness)
