"""From a CSB matrix to the arrays that kernels/cuda/csb_spmv.cu reads: who streams which entries, and where
their products go.

Pure NumPy and SciPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["MAX_CAPACITY", "PIECE", "SpmvPlan", "build_spmv_plan"]

MAX_CAPACITY = 0xFFFF
"""Most entries of a round, so that 16 bits say where each product goes."""

PIECE = np.dtype([("begin", np.int64), ("count", np.int32), ("block", np.int32)])
"""A run of entries of one block: first entry as stored, entries, block along the unit."""

_PASS = 32
"""Packs of four entries that a warp reads at once: shorter pieces would leave lanes idle."""


class SpmvPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmv.cu; that file says what they mean.

    Attributes
    ----------
    pieces : PIECE[jobs, rounds, steps, warps]
        What each warp of each CTA streams.
    place : uint16[nnz]
        For each entry as stored, the place of its product among those of its round.
    row_ptr : uint16[jobs, rounds, rows of a unit + 1]
        Where the products of each row begin.
    capacity : int
        Most entries of a round.
    """

    pieces: np.ndarray
    place: np.ndarray
    row_ptr: np.ndarray
    capacity: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.pieces.nbytes + self.place.nbytes + self.row_ptr.nbytes


def build_spmv_plan(A: CSBMatrix, transpose: bool, shares: int, warps: int, capacity: int) -> SpmvPlan:
    """Arrays for y = A·x or y = Aᵀ·x.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    transpose : bool
        Whether the product is with its transpose.
    shares : int
        CTAs that share a unit (a block row of the product).
    warps : int
        Warps of a CTA.
    capacity : int
        Most entries of a round, at most `MAX_CAPACITY`: what the shared memory of a CTA holds.

    Returns
    -------
    SpmvPlan
    """
    view = A.T if transpose else A
    units, blocks = view.grid
    unit_rows = view.block_shape[0]
    counts = np.asarray(view.block_nnz(), dtype=np.int64).ravel()
    running = np.concatenate(([0], np.cumsum(counts)))
    stored_at = np.asarray(A.blk_ptr[:-1], dtype=np.int64).reshape(A.grid)
    stored_at = (stored_at.T if transpose else stored_at).ravel()

    jobs = _cut_units(running, units, blocks, shares)
    begin, end, rounds = _cut_jobs(jobs, capacity)
    first, last, block, owner = _segments(running, counts, begin, end)
    stored = stored_at[block] + first - running[block]
    pieces, steps = _pieces(stored, last - first, block % max(blocks, 1), owner, begin.size, warps)

    position = np.arange(running[-1])  # where the entries lie, in visiting order
    position += np.repeat(stored_at - running[:-1], counts)
    rows = view.row_ind[position].astype(np.int64)
    rank, row_ptr = _rank_by_row(rows, np.repeat(np.arange(begin.size), end - begin), begin, unit_rows)
    place = np.empty(rank.size, np.uint16)
    place[position] = rank
    return SpmvPlan(
        pieces.reshape(units * shares, rounds, steps, warps),
        place,
        row_ptr.reshape(units * shares, rounds, unit_rows + 1),
        int((end - begin).max(initial=0)),
    )


def _cut_units(running: np.ndarray, units: int, blocks: int, shares: int) -> np.ndarray:
    """Cut every unit into equal shares, between two blocks where one ends near by; positions of the cuts."""
    unit_begin = running[:: max(blocks, 1)][: units + 1]
    size = np.diff(unit_begin)[:, None] / shares
    ideal = unit_begin[:-1, None] + size * np.arange(shares)
    after = np.clip(np.searchsorted(running, ideal), 1, max(running.size - 1, 1))
    nearest = np.where(ideal - running[after - 1] < running[after] - ideal, after - 1, after)
    snapped = np.abs(running[nearest] - ideal) <= size / 4
    cuts = np.where(snapped, running[nearest], np.floor(ideal)).astype(np.int64)
    return np.append(cuts.ravel(), running[-1])


def _cut_jobs(jobs: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Begin and end of each round of each job, and rounds a job: as many for all, within the capacity."""
    size = np.diff(jobs)
    rounds = max(1, -(-int(size.max(initial=0)) // capacity))
    cuts = jobs[:-1, None] + size[:, None] * np.arange(rounds + 1) // rounds
    return cuts[:, :-1].ravel(), cuts[:, 1:].ravel(), rounds


def _segments(running, counts, begin, end):
    """Runs of entries of one block and one round: first, last, block over all units, round."""
    filled = np.flatnonzero(end > begin)
    first = np.union1d(running[:-1][counts > 0], begin[filled])
    last = np.append(first[1:], running[-1])[: first.size]
    block = np.searchsorted(running, first, side="right") - 1
    owner = filled[np.searchsorted(begin[filled], first, side="right") - 1]
    return first, last, block, owner


def _pieces(stored, count, block, owner, ranges: int, warps: int) -> tuple[np.ndarray, int]:
    """Deal the segments of each round to the warps, in pieces as even as whole packs allow."""
    segments = np.bincount(owner, minlength=ranges)
    steps = max(1, -(-int(segments.max(initial=0)) // warps))
    skew = stored % 4
    packs = (skew + count + 3) // 4
    length = _piece_lengths(packs, owner, ranges, steps * warps)[owner]
    split = -(-packs // length)
    segment = np.repeat(np.arange(split.size), split)
    part = np.arange(segment.size) - np.repeat(np.cumsum(split) - split, split)
    low = 4 * length[segment] * part - skew[segment]
    high = np.minimum(low + 4 * length[segment], count[segment])
    low = np.maximum(low, 0)
    pieces_before = np.concatenate(([0], np.cumsum(np.bincount(owner, split, minlength=ranges))))
    slot = np.arange(segment.size) - pieces_before[owner[segment]].astype(np.int64)
    table = np.zeros((ranges, steps * warps), PIECE)
    cell = owner[segment], slot
    table["begin"][cell] = stored[segment] + low
    table["count"][cell] = high - low
    table["block"][cell] = block[segment]
    return table, steps


def _piece_lengths(packs, owner, ranges: int, budget: int) -> np.ndarray:
    """The least packs of a piece for which the pieces of each round do not outnumber the budget."""
    low = np.full(ranges, _PASS)
    high = np.maximum(low, np.bincount(owner, packs, minlength=ranges).astype(np.int64))
    while (low < high).any():
        middle = (low + high) // 2
        fits = np.bincount(owner, -(-packs // middle[owner]), minlength=ranges) <= budget
        low, high = np.where(fits, low, middle + 1), np.where(fits, middle, high)
    return low


def _rank_by_row(rows, owner, begin, unit_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Place of each entry when those of its round are sorted by row, and where the rows then begin."""
    from scipy.sparse import csr_array

    key = owner * unit_rows + rows
    shape = rows.size, begin.size * unit_rows
    # A matrix with one entry a row, its column the key: SciPy's CSR → CSC is a stable counting sort in C.
    keyed = csr_array((np.empty(rows.size, np.bool_), key, np.arange(rows.size + 1)), shape).tocsc()
    rank = np.empty(rows.size, np.int64)
    rank[keyed.indices] = np.arange(rows.size)
    rank -= begin[owner]
    ends = keyed.indptr[1:].astype(np.int64).reshape(begin.size, unit_rows) - begin[:, None]
    row_ptr = np.zeros((begin.size, unit_rows + 1), np.uint16)
    row_ptr[:, 1:] = ends
    return rank, row_ptr
