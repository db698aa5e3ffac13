"""From a work plan to the arrays that the CUDA kernels read: items, batches, and where the entries lie.

Pure NumPy and SciPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.balance.plan import block_counts

if TYPE_CHECKING:
    from csbviz.balance import WorkPlan
    from csbviz.formats import CSBMatrix

__all__ = ["MAX_BATCH", "CudaPlan", "build_gather_plan", "build_simple_plan"]

MAX_BATCH = 0xFFFF
"""Most entries of a batch, so that 16 bits hold where each row begins."""


class CudaPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmm.cu; that file says what they mean.

    Attributes
    ----------
    items : int32[items, 8]
        Unit, slot, first batch, one past the last batch; group, tile, 0, 0.
    batches : int32[batches, 4]
        Version 1: first block, one past the last block, first entry in the first, end in the last.
        Version 2: first block, first entry in it, where the batch begins in `source`, bits of an offset.
    source : uint16[entries of all batches]
        Batch by batch and row by row, where each entry lies: block above offset. Empty for version 1.
        Items that are the same run of entries, for different tiles, share their batches.
    row_ptr : uint16[batches, rows of a unit + 1]
        Where the rows of a batch begin in that order; empty for version 1.
    groups : int32[groups, 4]
        Unit, first slot, one past the last slot, and for version 1 the tile, for version 2 the contributions.
    shares : int32[workers + 1]
        Where the items of each persistent CTA begin; empty when items are taken by whoever is free.
    capacity : int
        Most entries of a batch.
    """

    items: np.ndarray
    batches: np.ndarray
    source: np.ndarray
    row_ptr: np.ndarray
    groups: np.ndarray
    shares: np.ndarray
    capacity: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self if isinstance(array, np.ndarray))


def build_simple_plan(A: CSBMatrix, plan: WorkPlan) -> CudaPlan:
    """Arrays for version 1, which takes the entries as they are stored.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    plan : WorkPlan
        A plan of whole block rows made from `A`, for either direction.
    """
    batches = np.column_stack((plan.block_begin, plan.block_end, plan.entry_begin, plan.entry_end))
    one_each = np.arange(plan.items + 1)
    items, groups = _items(plan, one_each)
    group_tile = np.zeros(len(groups)) if plan.tile is None else plan.slot_tile[groups[:, 1]]
    groups[:, 3] = group_tile
    nothing = np.empty(0, np.uint16)
    return CudaPlan(
        items, batches.astype(np.int32), nothing, nothing.reshape(0, 0), groups, np.empty(0, np.int32), 0
    )


def build_gather_plan(A: CSBMatrix, plan: WorkPlan, capacity: int) -> CudaPlan:
    """Arrays for version 2.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    plan : WorkPlan
        A plan made from `A` with `unit_rows`, for either direction.
    capacity : int
        Most entries that fit into the shared memory of a CTA.

    Returns
    -------
    CudaPlan
    """
    view = A.T if plan.transpose else A
    block, place, row = _visiting_order(view, plan.unit_rows, block_counts(A, plan.transpose, plan.unit_rows))
    ranges, which = _distinct(*plan.entry_ranges(A))
    piece_range, begin, end = _cut(*ranges, block, place, min(capacity, MAX_BATCH))
    batches, source, row_ptr = _row_order(begin, end, block, place, row, plan.unit_rows)
    filled = end > begin
    batches[filled, 0] %= view.grid[1]
    range_ptr = np.searchsorted(piece_range, np.arange(ranges[0].size + 1))
    items, groups = _items(plan, range_ptr, which)
    shares = np.empty(0, np.int32) if plan.worker_ptr is None else plan.worker_ptr
    return CudaPlan(
        items, batches.astype(np.int32), source, row_ptr, groups, shares, int((end - begin).max(initial=0))
    )


def _items(
    plan: WorkPlan, batch_ptr: np.ndarray, which: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`items` and `groups` of a plan whose item i has the batches of range ``which[i]``."""
    which = np.arange(plan.items) if which is None else which
    units, slot_ptr = plan.reduction()
    groups = np.column_stack((units, slot_ptr[:-1], slot_ptr[1:], np.diff(slot_ptr) + 1)).astype(np.int32)
    tile = np.zeros(plan.items, np.int64) if plan.tile is None else plan.tile.astype(np.int64)
    key = plan.unit * np.int64(plan.tiles) + tile
    group_tile = plan.slot_tile[slot_ptr[:-1]] if plan.slots else np.zeros(0, np.int64)
    group_key = units * np.int64(plan.tiles) + group_tile
    group = np.full(plan.items, -1)
    if group_key.size:
        at = np.minimum(np.searchsorted(group_key, key), group_key.size - 1)
        group = np.where(group_key[at] == key, at, -1)
    zeros = np.zeros(plan.items, np.int64)
    columns = (plan.unit, plan.slot, batch_ptr[which], batch_ptr[which + 1], group, tile, zeros, zeros)
    return np.column_stack(columns).astype(np.int32), groups


def _visiting_order(
    view: CSBMatrix, unit_rows: int, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries as a plan visits them: unit by unit, in a unit block by block, in a block as stored.

    Returns
    -------
    block : int64[nnz]
        Unit times blocks along a unit, plus the block along the unit.
    place : int64[nnz]
        Which entry of its whole block it is.
    row : int64[nnz]
        Row inside the unit.
    """
    rows, cols = view.coordinates()
    key = rows // unit_rows * counts.shape[1] + cols // view.block_shape[1]
    order = _stable_order(key, counts.size)
    starts = np.asarray(view.blk_ptr, dtype=np.int64)
    place = np.arange(view.nnz) - np.repeat(starts[:-1], np.diff(starts))
    return key[order], place[order], (rows % unit_rows)[order]


def _stable_order(key: np.ndarray, size: int) -> np.ndarray:
    """Indices that sort `key`, integers in [0, size); equals keep their order. Linear in time."""
    from scipy.sparse import csr_array

    # A matrix with one entry a row, its column the key: SciPy's CSR → CSC is a counting sort in C.
    keyed = csr_array((np.empty(key.size, np.bool_), key, np.arange(key.size + 1)), (key.size, max(size, 1)))
    return keyed.tocsc().indices


def _distinct(begin: np.ndarray, end: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The different ranges among (begin, end), all empty ones being one; and which of them each is."""
    filled = end > begin
    pairs = np.column_stack((np.where(filled, begin, 0), np.where(filled, end, 0)))
    found, which = np.unique(pairs, axis=0, return_inverse=True)
    return (found[:, 0], found[:, 1]), which.ravel()


def _entries_of(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pieces' entries one after the other, and the piece of each."""
    length = end - begin
    piece = np.repeat(np.arange(begin.size), length)
    first = np.cumsum(length) - length
    return np.arange(length.sum()) + (begin - first)[piece], piece


class _Places(NamedTuple):
    """How a batch says where its entries lie."""

    first_block: np.ndarray
    blocks: np.ndarray  # that it spans
    first_entry: np.ndarray  # least place in the first block
    bits: np.ndarray  # of an offset


def _places(begin, end, block: np.ndarray, place: np.ndarray) -> _Places:
    """What `batches` needs, int64[pieces]; for an empty piece 0, 1, 0 and 0."""
    filled = end > begin
    at, piece = _entries_of(begin, end)
    starts = (np.cumsum(end - begin) - (end - begin))[filled]
    first_block, blocks = np.zeros(begin.size, np.int64), np.ones(begin.size, np.int64)
    first_block[filled] = block[begin[filled]]
    blocks[filled] = block[end[filled] - 1] - first_block[filled] + 1
    in_first = block[at] == first_block[piece]
    first_entry, furthest = np.zeros(begin.size, np.int64), np.zeros(begin.size, np.int64)
    if at.size:
        first_entry[filled] = np.minimum.reduceat(
            np.where(in_first, place[at], np.iinfo(np.int64).max), starts
        )
        furthest[filled] = np.maximum.reduceat(place[at] - in_first * first_entry[piece], starts)
    return _Places(first_block, blocks, first_entry, np.ceil(np.log2(furthest + 1)).astype(np.int64))


def _cut(begin, end, block: np.ndarray, place: np.ndarray, most: int):
    """Halve the ranges that are too large for one batch until none is; range, begin and end of each piece."""
    owner = np.arange(begin.size)
    while True:
        places = _places(begin, end, block, place)
        large = (end - begin > most) | (places.blocks << places.bits > MAX_BATCH + 1)
        if not large.any():
            return owner, begin, end
        middle = (begin + end) // 2
        owner = np.concatenate((owner, owner[large]))
        begin, end = (
            np.concatenate((begin, middle[large])),
            np.concatenate((np.where(large, middle, end), end[large])),
        )
        order = np.lexsort((begin, owner))
        owner, begin, end = owner[order], begin[order], end[order]


def _row_order(begin, end, block, place, row, unit_rows: int):
    """Sort each piece by output row: batches (blocks still counted over all), source, row_ptr."""
    at, piece = _entries_of(begin, end)
    key = piece * unit_rows + row[at]
    order = _stable_order(key, begin.size * unit_rows)
    counts = np.bincount(key, minlength=begin.size * unit_rows).reshape(begin.size, unit_rows)
    row_ptr = np.zeros((begin.size, unit_rows + 1), dtype=np.uint16)
    row_ptr[:, 1:] = np.cumsum(counts, axis=1)

    places = _places(begin, end, block, place)
    relative = block[at] - places.first_block[piece]
    offset = place[at] - np.where(relative == 0, places.first_entry[piece], 0)
    source = (relative << places.bits[piece] | offset).astype(np.uint16)[order]
    source_begin = (np.cumsum(end - begin) - (end - begin)).astype(np.uint32).view(np.int32)
    batches = np.column_stack((places.first_block, places.first_entry, source_begin, places.bits))
    return batches, source, row_ptr
