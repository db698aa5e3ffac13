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
    "V_ENTRY",
    "V_FLAGS",
    "V_LOCAL",
    "V_ROW",
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
def _cut(blk_ptr, block, at_begin, at_end, entry_begin, entry_end):
    """The entries of one block that belong to an item."""
    begin, end = blk_ptr[block], blk_ptr[block + 1]
    return begin + (entry_begin if at_begin else 0), (begin + entry_end if at_end else end)


@njit(cache=True)
def _emit_segments(segments, count, order, out_index, base, begin, end, rows, every_row, fill):
    """Write the segments of a visit (if `fill`), all rows if `every_row`; return the new count."""
    expected = 0
    entry = begin
    while entry < end:
        row = np.int64(out_index[base + order[entry]] if order.size else out_index[entry])
        length = 1
        while entry + length < end and length < _LONGEST:
            at = entry + length
            if row != (out_index[base + order[at]] if order.size else out_index[at]):
                break
            length += 1
        if every_row:
            while expected < row:
                if fill:
                    segments[count, 0] = expected
                    segments[count, 1] = 0
                expected += 1
                count += 1
        if fill:
            segments[count, 0] = row
            segments[count, 1] = length
        count += 1
        expected = row + 1
        entry += length
    if every_row:
        while expected < rows:
            if fill:
                segments[count, 0] = expected
                segments[count, 1] = 0
            expected += 1
            count += 1
    return count


@njit(cache=True)
def _walk_plan(
    fill,
    visits,
    segments,
    group_ptr,
    worker_group,
    sizes,
    blk_ptr,
    out_index,
    order,
    items,
    worker_ptr,
    geometry,
):
    """Count (or, if `fill`, write) groups, visits and segments; `sizes` receives the counts."""
    unit, block_begin, block_end, entry_begin, entry_end, slot = items
    rows_out, block_out, block_in, unit_step, block_step, group_rows = geometry
    n_visits, n_segments, n_groups, most_rows = 0, 0, 0, 0
    for worker in range(worker_ptr.size - 1):
        item = worker_ptr[worker]
        while item < worker_ptr[worker + 1]:
            last, rows_of_group = item, np.int64(0)
            j_begin, j_end = np.int64(2**62), np.int64(0)
            while last < worker_ptr[worker + 1]:
                rows = min(block_out, rows_out - unit[last] * block_out)
                if last > item and rows_of_group + rows > group_rows:
                    break
                rows_of_group += rows
                if block_begin[last] < block_end[last]:
                    j_begin, j_end = min(j_begin, block_begin[last]), max(j_end, block_end[last])
                last += 1
            most_rows = max(most_rows, rows_of_group)
            for j in range(min(j_begin, j_end) - 1, j_end):
                # Position j_begin - 1 is before all blocks: items without any block clear their rows there.
                before_all = j < j_begin
                local = 0
                for i in range(item, last):
                    rows = min(block_out, rows_out - unit[i] * block_out)
                    nothing = block_begin[i] == block_end[i]
                    begin, end, base = np.int64(0), np.int64(0), np.int64(0)
                    inside = not before_all and block_begin[i] <= j < block_end[i]
                    if inside:
                        block = unit[i] * unit_step + j * block_step
                        base = blk_ptr[block]
                        begin, end = _cut(
                            blk_ptr,
                            block,
                            j == block_begin[i],
                            j == block_end[i] - 1,
                            entry_begin[i],
                            entry_end[i],
                        )
                    opening = (inside and j == block_begin[i]) or (before_all and nothing)
                    # A row of more entries than a segment can hold takes several: clear first, then only add.
                    clear_alone = opening and inside and block_in > _LONGEST
                    for part in range(2 if clear_alone else 1):
                        clearing = clear_alone and part == 0
                        first = opening and part == 0
                        if not first and begin == end:
                            continue
                        before = n_segments
                        n_segments = _emit_segments(
                            segments,
                            n_segments,
                            order,
                            out_index,
                            base,
                            begin,
                            begin if clearing else end,
                            rows,
                            first,
                            fill,
                        )
                        if fill:
                            visit = visits[n_visits]
                            visit[V_BLOCK] = -1 if begin == end or clearing else j
                            visit[V_ROW] = (slot[i] if slot[i] >= 0 else unit[i]) * block_out
                            visit[V_FLAGS] = (
                                (i << ITEM_SHIFT) | (FIRST if first else 0) | (PARTIAL if slot[i] >= 0 else 0)
                            )
                            visit[V_LOCAL] = local
                            visit[V_ENTRY] = begin
                            visit[V_BASE] = base
                            visit[V_SEGMENT] = before
                            visit[V_SEGMENTS] = n_segments - before
                        n_visits += 1
                    local += rows
            n_groups += 1
            if fill:
                group_ptr[n_groups] = n_visits
            item = last
        if fill:
            worker_group[worker + 1] = n_groups
    sizes[:] = (n_visits, n_segments, n_groups, most_rows)


def build_program(blk_ptr, out_index, order, items, worker_ptr, geometry):
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
    sizes = np.zeros(4, np.int64)
    visits = np.empty((0, VISIT_FIELDS), np.int64)
    segments = np.empty((0, 2), np.uint16)
    group_ptr = np.zeros(1, np.int64)
    worker_group = np.zeros(worker_ptr.size, np.int64)
    rest = (sizes, blk_ptr, out_index, order, items, worker_ptr, geometry)
    _walk_plan(False, visits, segments, group_ptr, worker_group, *rest)
    visits = np.empty((sizes[0], VISIT_FIELDS), np.int64)
    segments = np.empty((sizes[1], 2), np.uint16)
    group_ptr = np.zeros(sizes[2] + 1, np.int64)
    _walk_plan(True, visits, segments, group_ptr, worker_group, *rest)
    return visits, segments, group_ptr, worker_group, int(sizes[3])
