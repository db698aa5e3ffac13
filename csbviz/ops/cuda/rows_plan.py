"""From a work plan to the arrays that the CUDA kernels read: items, batches, and where the entries lie.

Pure NumPy and SciPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from csbviz.balance import WorkPlan
    from csbviz.formats import CSBMatrix

__all__ = ["MAX_BATCH", "CudaPlan", "build_cuda_plan"]

MAX_BATCH = 0xFFFF
"""Most entries of a batch, so that 16 bits hold where each row begins."""


class CudaPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmm.cu; that file says what they mean.

    Attributes
    ----------
    items : int32[items, 4]
        Unit, slot, first batch, one past the last batch.
    batches : int32[batches, 4]
        Version 1: first block, one past the last block, first entry in the first, end in the last.
        Version 2: first block, first entry in it, where the batch begins in `source`, bits of an offset.
    source : uint16[nnz]
        Batch by batch and row by row, where each entry lies: block above offset. Empty for version 1.
    row_ptr : uint16[batches, rows of a unit + 1]
        Where the rows of a batch begin in that order; empty for version 1.
    reduced : int32[units with partials, 4]
        Unit, first slot, one past the last slot, 0.
    capacity : int
        Most entries of a batch that fall into one window of rows.
    """

    items: np.ndarray
    batches: np.ndarray
    source: np.ndarray
    row_ptr: np.ndarray
    reduced: np.ndarray
    capacity: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self if isinstance(array, np.ndarray))


def build_cuda_plan(
    A: CSBMatrix, plan: WorkPlan, window_rows: int | None = None, capacity: int | None = None
) -> CudaPlan:
    """Arrays for a product.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    plan : WorkPlan
        A plan made from `A`, for either direction.
    window_rows : int, optional
        Output rows of a unit that one CTA computes; a power of two, at most the unit's rows.
        None builds for version 1, which takes the entries as they are stored.
    capacity : int, optional
        Most entries of a window of rows that fit into shared memory; needed with `window_rows`.

    Returns
    -------
    CudaPlan
    """
    view = A.T if plan.transpose else A
    begin, end = plan.entry_ranges(A)
    running = np.concatenate(([0], np.cumsum(view.block_nnz().ravel(), dtype=np.int64)))
    if window_rows is None:
        piece_item = np.arange(plan.items)
        batches = _locate(running, plan.unit, view.grid[1], begin, end)
        source, row_ptr, most = np.empty(0, np.uint16), np.empty((0, 0), np.uint16), 0
    else:
        unit_rows = view.block_shape[0]
        rows = view.row_ind[_visiting_order(view, running)].astype(np.int64)
        window, windows = rows // window_rows, unit_rows // window_rows
        piece_item, begin, end = _cut(begin, end, running, window, windows, capacity)
        batches, source, row_ptr = _row_order(running, rows, unit_rows, begin, end)
        filled = end > begin
        batches[filled, 0] -= plan.unit[piece_item][filled] * view.grid[1]
        most = _fullest_window(window, windows, begin, end).max(initial=0)
    batch_ptr = np.searchsorted(piece_item, np.arange(plan.items + 1))
    items = np.column_stack((plan.unit, plan.slot, batch_ptr[:-1], batch_ptr[1:])).astype(np.int32)
    units, slot_ptr = plan.reduction()
    reduced = np.column_stack((units, slot_ptr[:-1], slot_ptr[1:], np.zeros_like(units))).astype(np.int32)
    return CudaPlan(items, batches.astype(np.int32), source, row_ptr, reduced, int(most))


def _visiting_order(view: CSBMatrix, running: np.ndarray) -> np.ndarray:
    """Where the entries lie in the order in which a plan visits them: unit by unit, block by block.

    `running` counts the entries over the blocks in that order. Unless the view is transposed, it is the
    order in which they are stored.
    """
    position = np.arange(view.nnz)
    if view.transposed:
        starts = np.asarray(view.blk_ptr[:-1]).reshape(view.stored.grid).T.ravel()
        position += np.repeat(starts - running[:-1], np.diff(running))
    return position


def _piece_of_entry(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """For each entry in visiting order the piece that holds it; the pieces cover all entries once."""
    length = end - begin
    order = np.argsort(begin, kind="stable")
    return np.repeat(order, length[order])


def _fullest_window(window: np.ndarray, windows: int, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Entries of each piece in its fullest window of rows."""
    key = _piece_of_entry(begin, end) * windows + window
    return (
        np.bincount(key, minlength=begin.size * windows).reshape(begin.size, windows).max(axis=1, initial=0)
    )


def _blocks_of(running: np.ndarray, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last block of each piece, counted over the whole matrix; 0 and 0 for an empty piece."""
    filled = end > begin
    first = np.searchsorted(running, begin, side="right") - 1
    last = np.searchsorted(running, end, side="left") - 1
    return np.where(filled, first, 0), np.where(filled, last, 0)


def _offset_bits(running: np.ndarray, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks that each piece spans, and bits for the place of an entry among those of its block."""
    first, last = _blocks_of(running, begin, end)
    counts = np.append(np.diff(running), 0)
    span = np.column_stack((first, last + 1)).ravel()
    fullest = np.maximum.reduceat(counts, span)[::2] if counts.size > 1 else np.zeros(begin.size, np.int64)
    most = np.minimum(fullest, end - begin)
    return last - first + 1, np.ceil(np.log2(np.maximum(most, 1))).astype(np.int64)


def _cut(begin, end, running: np.ndarray, window: np.ndarray, windows: int, capacity: int):
    """Halve the items that are too large for one batch until none is; item, begin and end of each piece."""
    item = np.arange(begin.size)
    while True:
        blocks, bits = _offset_bits(running, begin, end)
        large = (end - begin > MAX_BATCH) | (blocks << bits > MAX_BATCH + 1)
        large |= _fullest_window(window, windows, begin, end) > capacity
        if not large.any():
            return item, begin, end
        middle = (begin + end) // 2
        item = np.concatenate((item, item[large]))
        begin, end = (
            np.concatenate((begin, middle[large])),
            np.concatenate((np.where(large, middle, end), end[large])),
        )
        order = np.lexsort((begin, item))
        item, begin, end = item[order], begin[order], end[order]


def _row_order(running, rows, unit_rows: int, begin: np.ndarray, end: np.ndarray):
    """Sort each piece by output row: batches (blocks still counted over all), source, row_ptr."""
    from scipy.sparse import csr_array

    piece = _piece_of_entry(begin, end)
    shape = (rows.size, begin.size * unit_rows)
    # A matrix with one entry a row, its column the key: SciPy's CSR → CSC is a stable counting sort in C.
    keyed = csr_array(
        (np.empty(rows.size, np.bool_), piece * unit_rows + rows, np.arange(rows.size + 1)), shape
    )
    keyed = keyed.tocsc()
    row_ends = keyed.indptr.astype(np.int64)
    source_begin = row_ends[:-1:unit_rows]
    row_ptr = np.zeros((begin.size, unit_rows + 1), dtype=np.uint16)
    row_ptr[:, 1:] = row_ends[1:].reshape(begin.size, unit_rows) - source_begin[:, None]

    first, _ = _blocks_of(running, begin, end)
    _, bits = _offset_bits(running, begin, end)
    skipped = np.where(end > begin, begin - running[first], 0)
    block = np.repeat(np.arange(running.size - 1), np.diff(running))
    relative = block - first[piece]
    offset = np.arange(rows.size) - running[block] - np.where(relative == 0, skipped[piece], 0)
    source = (relative << bits[piece] | offset).astype(np.uint16)[keyed.indices]
    batches = np.column_stack((first, skipped, source_begin.astype(np.uint32).view(np.int32), bits))
    return batches, source, row_ptr


def _locate(running, unit, blocks: int, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Blocks and cuts of ranges of entries in visiting order, each inside one unit; int32[ranges, 4]."""
    filled = end > begin
    first = np.searchsorted(running, begin, side="right") - 1
    last = np.searchsorted(running, end, side="left") - 1
    row = unit.astype(np.int64) * blocks
    columns = (first - row, last + 1 - row, begin - running[first], end - running[last])
    return np.column_stack([np.where(filled, column, 0) for column in columns]).astype(np.int32)
