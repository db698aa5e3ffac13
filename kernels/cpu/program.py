"""From a work plan to what a thread really walks: its visits of blocks, and their segments.

A *visit* is one block (or the part of it that an item was given). A *segment* is a run of entries of one
output row inside a visit: the kernel keeps that row in registers while it walks the segment. The visits of a
thread are sorted so that a slice of B is packed once and serves all output rows of a group:

    for each group of items (their output rows fit a share of the second-level cache)
        for each tile of columns of B
            for each block position j along the units       <- the slice of B is packed here
                for each item of the group: its visit of block j

The first visit of an item names every row of its unit, also rows without entries; it overwrites the output,
later visits add to it. So the output needs no clearing.

Where segments would be short and B is narrow, a program without segments lets the kernel *scatter*: it takes
the entries of a visit as they are stored, and adds each product to its output row in memory.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "FIRST",
    "ITEM_SHIFT",
    "PARTIAL",
    "VISIT_FIELDS",
    "V_BASE",
    "V_BLOCK",
    "V_ENTRIES",
    "V_ENTRY",
    "V_FLAGS",
    "V_LOCAL",
    "V_ROW",
    "V_ROWS",
    "V_SEGMENT",
    "V_SEGMENTS",
    "build_program",
    "sort_entries",
]

# Fields of a visit, int64 each; together one cache line.
V_BLOCK = 0  # position j of the block along its unit, -1: no entries, only clear
V_ROW = 1  # first output row, counted in C or in the partial buffers
V_FLAGS = 2  # FIRST, PARTIAL, and the item's number from bit ITEM_SHIFT up
V_LOCAL = 3  # first output row, counted inside the group
V_ENTRY = 4  # first entry, in visiting order
V_BASE = 5  # where the block's entries begin in the stored arrays
V_SEGMENT = 6  # first segment
V_SEGMENTS = 7  # how many
V_ENTRIES, V_ROWS = 6, 7  # instead of segments, for scattering: how many entries, and how many rows to clear
VISIT_FIELDS = 8

FIRST = 1  # overwrite the rows
PARTIAL = 2  # write a partial buffer instead of C
ITEM_SHIFT = 2

_LONGEST = 65535  # entries of a segment: its length is 16 bits


@njit(cache=True)
def sort_entries(blk_ptr, out_index, block_out):
    """For each block the positions of its entries sorted by output row (stable), relative to the block.

    Parameters
    ----------
    blk_ptr : int64[blocks + 1]
    out_index : uint16[nnz]
        Output row inside the block.
    block_out : int
        Output rows of a block.

    Returns
    -------
    uint32[nnz]
    """
    order = np.empty(out_index.size, np.uint32)
    fill = np.empty(block_out + 1, np.int64)
    for block in range(blk_ptr.size - 1):
        begin, end = blk_ptr[block], blk_ptr[block + 1]
        if end - begin <= 16:
            # Insertion sort: a nearly empty block should not cost a pass over its rows.
            for entry in range(begin, end):
                place = entry
                while place > begin and out_index[begin + order[place - 1]] > out_index[entry]:
                    order[place] = order[place - 1]
                    place -= 1
                order[place] = entry - begin
        else:
            fill[:] = 0
            for entry in range(begin, end):
                fill[out_index[entry] + 1] += 1
            for row in range(block_out):
                fill[row + 1] += fill[row]
            for entry in range(begin, end):
                row = out_index[entry]
                order[begin + fill[row]] = entry - begin
                fill[row] += 1
    return order


@njit(cache=True)
def _emit_segments(fill, visits, rows, ends, out_index, order, segments, first_segment):
    """Find the segments of each visit: count them into `first_segment`, or (if `fill`) write them."""
    count = 0
    for number in range(visits.shape[0]):
        entry, end, base = visits[number, V_ENTRY], ends[number], visits[number, V_BASE]
        every_row = visits[number, V_FLAGS] & FIRST
        expected = 0  # the next row to name, if every row is named
        first_segment[number] = count
        while entry < end or (every_row and expected < rows[number]):
            row, length = np.int64(rows[number]), 0
            if entry < end:
                row = np.int64(out_index[base + order[entry]] if order.size else out_index[entry])
            if every_row and expected < row:
                row = expected  # without entries
            else:
                length = 1
                while entry + length < end and length < _LONGEST:
                    at = entry + length
                    if row != (out_index[base + order[at]] if order.size else out_index[at]):
                        break
                    length += 1
            if fill:
                segments[count, 0] = row
                segments[count, 1] = length
            entry += length
            expected = row + 1
            count += 1
    first_segment[visits.shape[0]] = count


def _group_items(rows, worker_ptr, group_rows):
    """Cut each worker's items into groups of at most `group_rows` output rows (but at least one item).

    Returns
    -------
    group, local : int64[items]
        Group of each item, and its first row inside the group.
    worker_group : int64[workers + 1]
        Groups of each worker.
    most_rows : int
        Rows of the largest group.
    """
    group, local = np.zeros(rows.size, np.int64), np.zeros(rows.size, np.int64)
    worker_group = np.zeros(worker_ptr.size, np.int64)
    groups, most_rows = 0, 0
    for worker in range(worker_ptr.size - 1):
        filled = 0
        for item in range(worker_ptr[worker], worker_ptr[worker + 1]):
            if item == worker_ptr[worker] or filled + rows[item] > group_rows:
                groups, filled = groups + 1, 0
            group[item], local[item] = groups - 1, filled
            filled += rows[item]
            most_rows = max(most_rows, filled)
        worker_group[worker + 1] = groups
    return group, local, worker_group, most_rows


def _list_visits(blk_ptr, items, geometry, group, local):
    """All visits, sorted by group, block and item, with the end of their entries and their items.

    Segments are still missing.
    """
    unit, block_begin, block_end, entry_begin, entry_end, slot = items
    _, block_out, block_in, unit_step, block_step, _ = geometry
    blocks = np.maximum(block_end - block_begin, 1)  # an item without blocks has one visit, to clear its rows
    item = np.repeat(np.arange(unit.size), blocks)
    step = np.arange(item.size) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    inside = (block_end > block_begin)[item]
    j = np.where(inside, block_begin[item] + step, 0)
    block = np.where(inside, unit[item] * unit_step + j * block_step, 0)
    base = np.where(inside, blk_ptr[block], 0)
    begin = base + np.where(inside & (step == 0), entry_begin[item], 0)
    after = blk_ptr[np.minimum(block + 1, blk_ptr.size - 1)]
    end = np.where(j == block_end[item] - 1, base + entry_end[item], after)
    end = np.where(inside, end, begin)
    first = step == 0
    kept = np.flatnonzero(first | (begin < end))
    part = np.zeros(kept.size, np.int64)
    if block_in > _LONGEST:
        # A row may have more entries than a segment holds, so it takes several: clear first, then only add.
        adding = kept[first[kept] & (begin[kept] < end[kept])]
        kept, part = np.append(kept, adding), np.append(part, np.ones(adding.size, np.int64))
    clears_alone = first[kept] & (part == 0) & (block_in > _LONGEST)
    ends = np.where(clears_alone, begin[kept], end[kept])
    first = first[kept] & (part == 0)
    item, j, begin, base = item[kept], j[kept], begin[kept], base[kept]
    visits = np.zeros((kept.size, VISIT_FIELDS), np.int64)
    visits[:, V_BLOCK] = np.where(begin < ends, j, -1)
    visits[:, V_ROW] = np.where(slot >= 0, slot, unit)[item] * block_out
    visits[:, V_FLAGS] = (
        (item << ITEM_SHIFT) | np.where(first, FIRST, 0) | np.where(slot >= 0, PARTIAL, 0)[item]
    )
    visits[:, V_LOCAL] = local[item]
    visits[:, V_ENTRY] = begin
    visits[:, V_BASE] = base
    sequence = np.lexsort((part, item, j, group[item]))
    return visits[sequence], ends[sequence], item[sequence]


def build_program(blk_ptr, out_index, order, items, worker_ptr, geometry, scatter=False):
    """Turn a plan into visits and segments.

    Parameters
    ----------
    blk_ptr : int64[blocks + 1]
        Where each stored block's entries begin.
    out_index : uint16[nnz]
        Output row of each stored entry, inside its block.
    order : uint32[nnz]
        Visiting order from `sort_entries`; empty when it is the stored order.
    items : tuple of int64[items]
        unit, block_begin, block_end, entry_begin, entry_end, slot of the work plan.
    worker_ptr : int64[workers + 1]
        Items of each worker.
    geometry : tuple of int
        Output rows, rows and columns of a block as the product sees it, steps in the block table from unit
        to unit and along a unit, and the output rows that a group may hold.
    scatter : bool
        Make no segments; `order` is not read, since the entries are visited in the stored order.

    Returns
    -------
    visits : int64[visits, 8]
    segments : uint16[segments, 2]
        Row inside the block, and number of entries.
    group_ptr : int64[groups + 1]
        Visits of each group.
    worker_group : int64[workers + 1]
        Groups of each worker.
    most_rows : int
        Output rows of the largest group.
    """
    rows = np.minimum(geometry[1], geometry[0] - items[0] * geometry[1])
    group, local, worker_group, most_rows = _group_items(rows, worker_ptr, geometry[5])
    visits, ends, item = _list_visits(blk_ptr, items, geometry, group, local)
    group_ptr = np.searchsorted(group[item], np.arange(worker_group[-1] + 1))
    worked = (group_ptr.astype(np.int64), worker_group, int(most_rows))
    if scatter:
        visits[:, V_ENTRIES] = ends - visits[:, V_ENTRY]
        visits[:, V_ROWS] = rows[item]
        return visits, np.empty((0, 2), np.uint16), *worked
    first_segment = np.empty(visits.shape[0] + 1, np.int64)
    rest = (visits, rows[item], ends, out_index, order)
    _emit_segments(False, *rest, np.empty((0, 2), np.uint16), first_segment)
    segments = np.empty((first_segment[-1], 2), np.uint16)
    _emit_segments(True, *rest, segments, first_segment)
    visits[:, V_SEGMENT] = first_segment[:-1]
    visits[:, V_SEGMENTS] = np.diff(first_segment)
    return visits, segments, *worked
