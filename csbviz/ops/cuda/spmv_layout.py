"""How a product with a vector is dealt to a GPU: the layout that a small cost model prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.errors import OptionError
from csbviz.ops.cuda.settings import given
from csbviz.ops.cuda.spmv_plan import SpmvLayout, rows_in_order

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["TUNABLES", "choose_layout"]

TUNABLES = {
    "rows": (1, 2, 4, 8, 16, 32, 64),
    "shares": (1, 2, 4, 8, 16),
    "threads": (64, 128, 256, 512),
    "lanes": (4, 8, 16, 32),
    "slots": (1, 2, 3, 4, 6),
}
"""Parameters of the kernel and the values worth trying; `SpmvLayout` says what they mean."""

_WAVES = 4
"""CTAs a multiprocessor beyond which rows are not dealt out further."""


class _Costs(NamedTuple):
    """Microseconds; from timings on an H100, matrices of the DLMC, caches emptied before each product.

    A launch that reads, multiplies and writes next to nothing takes 2.6 µs, whatever the layout.
    """

    cta: float = 0.03  # another CTA of a multiprocessor
    threads: float = 0.06  # 256 threads that begin and end
    slot: float = 0.1  # a slot of 256 threads
    round: float = 0.9  # another trip to memory
    entry: float = 8e-5  # an entry through one multiprocessor's path to the L2 cache
    add: float = 0.006  # a product added up by a lane
    cluster: float = 0.6  # sums that CTAs of a cluster send each other
    large_cluster: float = 0.45  # the same among sixteen, beyond that
    many_slots: float = 0.3  # six slots of a CTA that shares its rows with none: fewer warps take turns
    second_launch: float = 2.0  # sums that a second kernel adds
    plan: float = 0.02  # a byte of the plan an entry: where layouts are alike, the small plan is better


_COSTS = _Costs()


def choose_layout(
    A: CSBMatrix,
    transpose: bool,
    multiprocessors: int,
    clusters: bool = True,
    products: int = 8192,
    most_shares: int = 16,
    **wanted: int | None,
) -> SpmvLayout:
    """The layout that should be fastest.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    transpose : bool
        Whether the product is with its transpose.
    multiprocessors : int
        Of the device.
    clusters : bool
        Whether the device has them (compute capability 9.0).
    products : int
        Products that the shared memory of a CTA holds.
    most_shares : int
        CTAs of the largest cluster that the device runs.
    **wanted : int or None
        Parameters of `TUNABLES` that the caller sets; None and absent ones are chosen.

    Raises
    ------
    OptionError
        If a parameter has a value that does not fit the matrix.

    Notes
    -----
    Where the entries of a block come by row of the product, CTAs take a few rows each; elsewhere a CTA takes
    all rows of a unit, alone or with others that take other blocks of it.
    """
    wanted = given(wanted, TUNABLES)
    view = A.T if transpose else A
    unit_rows = view.block_shape[0]
    if not rows_in_order(A, transpose) and wanted.get("rows", unit_rows) != unit_rows:
        raise OptionError(
            f"rows is {wanted['rows']}; with entries in {A.order} order a CTA computes all {unit_rows} rows."
        )
    best = None, SpmvLayout(unit_rows, 1, 256, 32, 1)
    for rows, shares, counts in _ways_to_cut(A, transpose, multiprocessors, most_shares, wanted):
        for lanes in _allowed(wanted, "lanes"):
            runs = int((-(-(counts + 3) // (4 * lanes)) * (counts > 0)).sum(axis=1).max(initial=1))
            runs = -(-runs // shares)
            for threads in _allowed(wanted, "threads"):
                groups = threads // lanes
                slots = wanted.get("slots") or _slots(-(-runs // groups))
                room = products // (4 * threads)
                slots = max(s for s in TUNABLES["slots"] if s == 1 or s <= min(slots, room))
                layout = SpmvLayout(rows, shares, threads, lanes, slots)
                rounds = -(-runs // layout.round_runs)
                cost = _predict_us(layout, rounds, counts, multiprocessors, clusters)
                if best[0] is None or cost < best[0]:
                    best = cost, layout
    return best[1]


def _allowed(wanted: dict, name: str) -> tuple[int, ...]:
    return (wanted[name],) if name in wanted else TUNABLES[name]


def _slots(runs: int) -> int:
    """Fewest slots for so many runs of a group of lanes; the most there are where they do not suffice."""
    return next((slots for slots in TUNABLES["slots"] if slots >= runs), TUNABLES["slots"][-1])


def _ways_to_cut(A: CSBMatrix, transpose: bool, multiprocessors: int, most_shares: int, wanted: dict):
    """Rows of a CTA, shares, and the entries of those rows in each block, int64[rows of CTAs, blocks]."""
    view = A.T if transpose else A
    units, blocks = view.grid
    unit_rows = view.block_shape[0]
    if A.nnz == 0:
        return
    if not rows_in_order(A, transpose):
        counts = np.asarray(view.block_nnz(), np.int64)
        for shares in _allowed(wanted, "shares"):
            if shares <= unit_rows and (shares <= most_shares or "shares" in wanted):
                yield unit_rows, shares, counts
        return
    least = 1
    while least < unit_rows and view.shape[0] > least * _WAVES * multiprocessors:
        least *= 2
    asked = wanted.get("rows")
    rows = least if asked is None else min(asked, unit_rows)
    strips = unit_rows // rows
    row, column = view.coordinates()
    shape = (units * strips, blocks)
    cell = (row // rows).astype(np.int64) * blocks + column // view.block_shape[1]
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    while True:
        yield rows, 1, counts
        if asked is not None or rows == unit_rows:
            return
        rows, counts = 2 * rows, counts[::2] + counts[1::2]


def _predict_us(layout: SpmvLayout, rounds: int, counts, multiprocessors: int, clusters: bool) -> float:
    """Microseconds beyond the shortest launch."""
    c = _COSTS
    entries = -(-int(counts.sum(axis=1).max(initial=0)) // layout.shares)
    ctas = len(counts) * layout.shares
    row_lanes = min(32, max(1, layout.threads // layout.rows))
    each = -(-ctas // multiprocessors)  # CTAs of a multiprocessor
    passes = layout.slots * rounds
    work = c.cta + (c.threads + c.slot * passes) * layout.threads / 256 + c.entry * entries
    adding = c.add * entries / (layout.rows * row_lanes)
    extra = c.plan * 8 * ctas * rounds * layout.round_runs / max(int(counts.sum()), 1)
    if layout.rows > layout.threads or (layout.shares > 1 and not clusters):
        extra += c.second_launch
    elif layout.shares > 1:
        extra += c.cluster + c.large_cluster * (layout.shares > 8)
    if layout.slots > 4 and layout.shares == 1:
        extra += c.many_slots
    return each * work + c.round * (rounds - 1) + adding + extra
