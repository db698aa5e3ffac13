"""From a CSB matrix to the arrays that kernels/cuda/csb_spmv.cu reads: who reads which entries, and where
their products go.

Pure NumPy and SciPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["SpmvLayout", "SpmvPlan", "build_spmv_plan", "rows_in_order"]

_PACK = 4
"""Neighbouring entries that a lane reads at once."""


class SpmvLayout(NamedTuple):
    """How a product is dealt to the device; all but `slots` and `threads` are powers of two.

    Attributes
    ----------
    rows : int
        Rows of y that a CTA computes: all of a block row, or fewer where its entries are sorted by row.
    shares : int
        CTAs that share those rows; each takes the same number of runs of entries, one after the other.
    threads : int
        Threads of a CTA.
    lanes : int
        Lanes that read a run of entries of one block.
    slots : int
        Runs that a group of lanes has under way at once.
    """

    rows: int
    shares: int
    threads: int
    lanes: int
    slots: int

    @property
    def round_runs(self) -> int:
        """Runs that a CTA reads in one round."""
        return self.slots * self.threads // self.lanes


class SpmvPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmv.cu; that file says what they mean.

    Attributes
    ----------
    runs : uint32[jobs, rounds, slots, groups, 2]
        Pack, and block above count above skew, of every run.
    place : uint16[nnz]
        For each entry as stored, the place of its product among those of its round.
    row_ptr : uint16[jobs, rounds, rows + 1]
        Where the products of each row begin.
    capacity : int
        Most entries of a round.
    step, lead, window : int
        Share number s needs no elements of x but the first `window` from ``max(0, s * step - lead)`` on.
    """

    runs: np.ndarray
    place: np.ndarray
    row_ptr: np.ndarray
    capacity: int
    step: int
    lead: int
    window: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.runs.nbytes + self.place.nbytes + self.row_ptr.nbytes


def rows_in_order(A: CSBMatrix, transpose: bool) -> bool:
    """Whether the entries of a block come by row of the product: then CTAs can share out the rows."""
    return A.order == ("col" if transpose else "row")


def build_spmv_plan(A: CSBMatrix, transpose: bool, layout: SpmvLayout) -> SpmvPlan:
    """Arrays for y = A·x or y = Aᵀ·x.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    transpose : bool
        Whether the product is with its transpose.
    layout : SpmvLayout
        With fewer rows than a block row only where `rows_in_order`.

    Returns
    -------
    SpmvPlan
    """
    view = A.T if transpose else A
    units, blocks = view.grid
    strips = view.block_shape[0] // layout.rows
    counts = np.asarray(view.block_nnz(), dtype=np.int64).ravel()
    stored_at = np.asarray(A.blk_ptr[:-1], dtype=np.int64).reshape(A.grid)
    stored_at = (stored_at.T if transpose else stored_at).ravel()

    # Entries in visiting order: unit by unit, block by block, as stored inside a block.
    block = np.repeat(np.arange(counts.size), counts)
    position = np.arange(block.size) + np.repeat(stored_at - (np.cumsum(counts) - counts), counts)
    rows = view.row_ind[position].astype(np.int64)
    strip = rows // layout.rows

    begins = np.flatnonzero(np.diff(block * strips + strip, prepend=-1))
    length = np.diff(begins, append=block.size)
    segment = np.repeat(np.arange(begins.size), length)
    sharers = block[begins] // max(blocks, 1) * strips + strip[begins]
    along = block[begins] % max(blocks, 1)
    table, reach, (first, round_of_run) = _runs(
        position[begins], length, along, sharers, units * strips, blocks, layout
    )
    # The run of an entry, then the round of the run.
    skew = position[begins] % _PACK
    inside = np.arange(block.size) - begins[segment] + skew[segment]
    round_of = round_of_run[first[segment] + inside // (_PACK * layout.lanes)]
    jobs, rounds = table.shape[:2]
    rank, row_ptr, capacity = _rank_by_row(rows % layout.rows, round_of, jobs * rounds, layout.rows)
    place = np.empty(block.size, np.uint16)
    place[position] = rank
    row_ptr = row_ptr.reshape(jobs, rounds, layout.rows + 1)
    return SpmvPlan(table, place, row_ptr, capacity, *(view.block_shape[1] * b for b in reach))


def _runs(stored, length, along, sharers, most_sharers: int, blocks: int, layout: SpmvLayout):
    """Cut segments into runs, share out those of the same rows, deal each CTA's to rounds, slots and groups.

    Parameters
    ----------
    stored, length : int64[segments]
        First entry and number of entries of each segment: entries of one block and the same rows of y.
    along : int64[segments]
        The segment's block of its unit.
    sharers : int64[segments]
        Which CTAs compute those rows: numbers [sharers * shares, + shares).
    most_sharers : int
        How many of those there are.
    blocks : int
        Of a unit.
    layout : SpmvLayout

    Returns
    -------
    runs, (step, lead, window in blocks), (first run of each segment, round of each run)
    """
    skew = stored % _PACK
    pieces = -(-(skew + length) // (_PACK * layout.lanes))
    first = np.cumsum(pieces) - pieces
    segment = np.repeat(np.arange(pieces.size), pieces)
    part = np.arange(segment.size) - first[segment]
    low = np.maximum(part * _PACK * layout.lanes, skew[segment])
    high = np.minimum((part + 1) * _PACK * layout.lanes, (skew + length)[segment])
    pack = stored[segment] // _PACK + part * layout.lanes

    group = sharers[segment]
    of_group = np.bincount(group, minlength=most_sharers)
    order = np.argsort(group, kind="stable")
    place = np.empty(group.size, np.int64)
    place[order] = np.arange(group.size) - (np.cumsum(of_group) - of_group)[group[order]]
    each = np.maximum(1, -(-of_group // layout.shares))  # runs of a CTA
    owner = group * layout.shares + place // each[group]
    index = place % each[group]
    jobs = most_sharers * layout.shares
    rounds = max(1, -(-int(each.max(initial=0)) // layout.round_runs))

    block = along[segment]
    # Shares of equal work begin near the place where shares of equally many blocks would. So what a CTA needs
    # of x follows from its share's number and need not be looked up first.
    share = owner % layout.shares
    step = -(-blocks // layout.shares)
    lead = max((layout.shares - 1) * step - blocks + 1, int((share * step - block).max(initial=0)), 0)
    starts = np.maximum(0, np.arange(layout.shares) * step - lead)
    window = max(1, int((block + 1 - starts[share]).max(initial=1)))
    table = np.zeros((jobs, rounds * layout.round_runs, 2), np.uint32)
    # A group without a run reads entries all the same, and x where its CTA's part of x begins.
    table[..., 1] = (starts[np.arange(jobs) % layout.shares] << 10)[:, None]
    what = block << 10 | (high - low) << 2 | low % (_PACK * layout.lanes)
    table[owner, index] = np.column_stack((pack, what))
    shape = (jobs, rounds, layout.slots, layout.threads // layout.lanes, 2)
    return table.reshape(shape), (step, lead, window), (first, owner * rounds + index // layout.round_runs)


def _rank_by_row(rows, owner, owners: int, height: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Place of each entry among those of its round by row, where the rows begin, the fullest round."""
    from scipy.sparse import csr_array

    shape = rows.size, owners * height
    # A matrix with one entry a row, its column the key: SciPy's CSR → CSC is a stable counting sort in C.
    keyed = csr_array((np.empty(rows.size, np.bool_), owner * height + rows, np.arange(rows.size + 1)), shape)
    keyed = keyed.tocsc()
    ends = keyed.indptr.astype(np.int64)
    begins = ends[:-1:height][:owners]
    rank = np.empty(rows.size, np.int64)
    rank[keyed.indices] = np.arange(rows.size)
    rank -= begins[owner]
    row_ptr = np.zeros((owners, height + 1), np.uint16)
    row_ptr[:, 1:] = ends[1:].reshape(owners, height) - begins[:, None]
    return rank, row_ptr, int(row_ptr[:, -1].max(initial=0))
