"""From a work plan to the arrays that the CUDA kernels read: items, batches and positions in row order.

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
"""Most entries of a batch, so that 16 bits hold every position and every row's end."""


class CudaPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmm.cu; the head of that file says what they mean.

    Attributes
    ----------
    items : int32[items, 4]
        Unit, slot, first batch, one past the last batch.
    batches : int32[batches, 4]
        First block, one past the last block, first entry in the first block, end in the last block.
    place : uint16[nnz]
        Position of each stored entry in the row order of its batch; empty for version 1.
    row_ptr : uint16[batches, rows of a unit + 1]
        Where rows begin in that order; empty for version 1.
    reduced : int32[units with partials, 4]
        Unit, first slot, one past the last slot, 0.
    capacity : int
        Most entries of a batch that fall into one window of rows.
    """

    items: np.ndarray
    batches: np.ndarray
    place: np.ndarray
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
    ordered = _visiting_order(view)
    if window_rows is None:
        piece_item, piece_begin, piece_end = np.arange(plan.items), begin, end
        place, row_ptr, most = np.empty(0, np.uint16), np.empty((0, 0), np.uint16), 0
    else:
        rows = view.row_ind[ordered.stored].astype(np.int64)
        window = rows // window_rows
        windows = view.block_shape[0] // window_rows
        piece_item, piece_begin, piece_end = _cut(begin, end, window, windows, capacity)
        place, row_ptr = _row_order(ordered.stored, rows, view.block_shape[0], piece_begin, piece_end)
        most = _fullest_window(window, windows, piece_begin, piece_end).max(initial=0)
    batches = _locate(ordered.running, plan.unit[piece_item], view.grid[1], piece_begin, piece_end)
    batch_ptr = np.searchsorted(piece_item, np.arange(plan.items + 1))
    items = np.column_stack((plan.unit, plan.slot, batch_ptr[:-1], batch_ptr[1:])).astype(np.int32)
    units, slot_ptr = plan.reduction()
    reduced = np.column_stack((units, slot_ptr[:-1], slot_ptr[1:], np.zeros_like(units))).astype(np.int32)
    return CudaPlan(items, batches, place, row_ptr, reduced, int(most))


class _Visits(NamedTuple):
    stored: np.ndarray  # int64[nnz]: where the entries lie, in the order in which the plan visits them
    running: np.ndarray  # int64[blocks + 1]: running count of entries over the blocks in visiting order


def _visiting_order(view: CSBMatrix) -> _Visits:
    """Entries unit by unit and block by block of the view; the stored order unless the view is transposed."""
    counts = np.ascontiguousarray(view.block_nnz(), dtype=np.int64).ravel()
    running = np.concatenate(([0], np.cumsum(counts)))
    position = np.arange(view.nnz)
    if view.transposed:
        starts = np.asarray(view.blk_ptr[:-1]).reshape(view.stored.grid).T.ravel()
        position += np.repeat(starts - running[:-1], counts)
    return _Visits(position, running)


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


def _cut(begin, end, window: np.ndarray, windows: int, capacity: int):
    """Halve the items that are too large for one batch until none is; item, begin and end of each piece."""
    item = np.arange(begin.size)
    while True:
        fullest = _fullest_window(window, windows, begin, end)
        large = (end - begin > MAX_BATCH) | (fullest > capacity)
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


def _row_order(stored, rows, unit_rows: int, begin: np.ndarray, end: np.ndarray):
    """Sort the entries of each piece by output row: `place` (by stored position) and `row_ptr`."""
    from scipy.sparse import csr_array

    key = _piece_of_entry(begin, end) * unit_rows + rows
    shape = (key.size, begin.size * unit_rows)
    # A matrix with one entry a row, its column the key: SciPy's CSR → CSC is a stable counting sort in C.
    keyed = csr_array((np.empty(key.size, np.bool_), key, np.arange(key.size + 1)), shape=shape).tocsc()
    row_ends = keyed.indptr.astype(np.int64)
    piece_starts = row_ends[:-1:unit_rows]
    row_ptr = np.zeros((begin.size, unit_rows + 1), dtype=np.uint16)
    row_ptr[:, 1:] = row_ends[1:].reshape(begin.size, unit_rows) - piece_starts[:, None]
    place = np.empty(key.size, dtype=np.uint16)
    rank = np.arange(key.size) - np.repeat(piece_starts, np.diff(row_ends[::unit_rows]))
    place[stored[keyed.indices]] = rank
    return place, row_ptr


def _locate(running, unit, blocks: int, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Blocks and cuts of ranges of entries in visiting order, each inside one unit; int32[ranges, 4]."""
    filled = end > begin
    first = np.searchsorted(running, begin, side="right") - 1
    last = np.searchsorted(running, end, side="left") - 1
    row = unit.astype(np.int64) * blocks
    columns = (first - row, last + 1 - row, begin - running[first], end - running[last])
    return np.column_stack([np.where(filled, column, 0) for column in columns]).astype(np.int32)
