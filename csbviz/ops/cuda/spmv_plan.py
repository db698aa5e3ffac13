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
        CTAs that share those rows, each with an equal run of blocks.
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
    window : int
        Elements of x that a share needs.
    """

    runs: np.ndarray
    place: np.ndarray
    row_ptr: np.ndarray
    capacity: int
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
    share_blocks = -(-blocks // layout.shares)
    counts = np.asarray(view.block_nnz(), dtype=np.int64).ravel()
    stored_at = np.asarray(A.blk_ptr[:-1], dtype=np.int64).reshape(A.grid)
    stored_at = (stored_at.T if transpose else stored_at).ravel()

    # Entries in visiting order: unit by unit, block by block, as stored inside a block.
    block = np.repeat(np.arange(counts.size), counts)
    position = np.arange(block.size) + np.repeat(stored_at - (np.cumsum(counts) - counts), counts)
    rows = view.row_ind[position].astype(np.int64)
    strip = rows // layout.rows
    unit, along = block // max(blocks, 1), block % max(blocks, 1)
    job = (unit * strips + strip) * layout.shares + along // max(share_blocks, 1)
    jobs = units * strips * layout.shares

    begins = np.flatnonzero(np.diff(block * strips + strip, prepend=-1))
    length = np.diff(begins, append=block.size)
    segment = np.repeat(np.arange(begins.size), length)
    runs, rounds, of_run = _runs(
        position[begins], length, along[begins], job[begins], jobs, share_blocks, layout
    )
    # The run of an entry, then the round of the run.
    skew = position[begins] % _PACK
    inside = np.arange(block.size) - begins[segment] + skew[segment]
    round_of = of_run[0][segment] + inside // (_PACK * layout.lanes)
    round_of = of_run[1][round_of]
    rank, row_ptr, capacity = _rank_by_row(rows % layout.rows, round_of, jobs * rounds, layout.rows)
    place = np.empty(block.size, np.uint16)
    place[position] = rank
    row_ptr = row_ptr.reshape(jobs, rounds, layout.rows + 1)
    return SpmvPlan(runs, place, row_ptr, capacity, share_blocks * view.block_shape[1])


def _runs(stored, length, along, job, jobs: int, share_blocks: int, layout: SpmvLayout):
    """Cut segments into runs and deal those of each job to its rounds, slots and groups of lanes.

    Returns
    -------
    runs, rounds, (first run of each segment, round of each run)
    """
    skew = stored % _PACK
    pieces = -(-(skew + length) // (_PACK * layout.lanes))
    first = np.cumsum(pieces) - pieces
    segment = np.repeat(np.arange(pieces.size), pieces)
    part = np.arange(segment.size) - first[segment]
    low = np.maximum(part * _PACK * layout.lanes, skew[segment])
    high = np.minimum((part + 1) * _PACK * layout.lanes, (skew + length)[segment])
    pack = stored[segment] // _PACK + part * layout.lanes

    owner = job[segment]
    of_job = np.bincount(owner, minlength=jobs)
    order = np.argsort(owner, kind="stable")
    index = np.empty(owner.size, np.int64)
    index[order] = np.arange(owner.size) - (np.cumsum(of_job) - of_job)[owner[order]]
    rounds = max(1, -(-int(of_job.max(initial=0)) // layout.round_runs))
    table = np.zeros((jobs, rounds * layout.round_runs, 2), np.uint32)
    # A group without a run reads entries all the same, and x where its share of x begins.
    table[..., 1] = (np.arange(jobs) % layout.shares * share_blocks << 10)[:, None]
    what = along[segment] << 10 | (high - low) << 2 | low % (_PACK * layout.lanes)
    table[owner, index] = np.column_stack((pack, what))
    groups = layout.threads // layout.lanes
    shape = (jobs, rounds, layout.slots, groups, 2)
    return table.reshape(shape), rounds, (first, owner * rounds + index // layout.round_runs)


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
