"""The balance strategies: each cuts the entries of a CSB matrix into items and deals them to workers.

A strategy is one function and one entry of `STRATEGIES`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from .cutting import (
    Pieces,
    chunk_limit,
    cut_blocks,
    cut_chunks,
    cut_equally,
    deal_heaviest_first,
    deal_runs,
    heaviest_first,
    join_neighbours,
    whole_units,
)
from .plan import WorkPlan, block_counts

if TYPE_CHECKING:
    from ..formats import CSBMatrix

__all__ = ["DEFAULT_MULTIPROCESSORS", "STRATEGIES", "Strategy", "chunk_limit", "make_plan"]

DEFAULT_MULTIPROCESSORS = 132
"""Workers of a dynamic plan when none are named: the multiprocessors of an H100."""


class Request(NamedTuple):
    """What a strategy is told."""

    counts: np.ndarray  # int64[units, blocks]: nonzeros of each block
    unit_rows: int  # output rows of a unit, the paper's β
    workers: int
    tiles: int  # tiles of N columns, which run as workers of their own when the plan is dynamic
    static: bool


class Draft(NamedTuple):
    """What a strategy answers: pieces, and for each either its worker (static) or its turn (dynamic)."""

    pieces: Pieces
    worker: np.ndarray | None = None  # worker of each piece
    order: np.ndarray | None = None  # indices of the pieces, first to start comes first
    tile: np.ndarray | None = None  # tile of each piece; pieces go tile by tile, and in a tile unit by unit


@dataclass(frozen=True)
class Strategy:
    """An entry of the registry.

    Attributes
    ----------
    name, title, summary : str
        Key of the registry, a few words for a menu, and a sentence that says what it does.
    make : callable
        ``Request → Draft``.
    deterministic : bool
        Whether a product has the same bits in every run: sums are taken in an order that the plan fixes.
    """

    name: str
    title: str
    summary: str
    make: Callable[[Request], Draft]
    deterministic: bool = True


def make_plan(
    A: CSBMatrix,
    strategy: str = "chunks",
    transpose: bool = False,
    workers: int | None = None,
    n: int | None = None,
    tile_n: int | None = None,
    assignment: str = "static",
    unit_rows: int | None = None,
) -> WorkPlan:
    """Cut the work of ``A @ B`` (or ``A.T @ B``) into items and deal them to workers.

    Parameters
    ----------
    A : CSBMatrix
        The matrix, or a transposed view of it.
    strategy : str
        A name in `STRATEGIES`.
    transpose : bool
        Plan ``A.T @ B``: the units are the block columns of `A`.
    workers : int, optional
        Threads of a CPU, or CTAs a GPU holds at a time. By default the cores this process may use when
        `assignment` is "static", and `DEFAULT_MULTIPROCESSORS` when it is "dynamic".
    n, tile_n : int, optional
        Columns of B, and how many of them one CTA handles. A dynamic plan that cuts by the number of workers
        then needs fewer items, because each item runs ⌈n / tile_n⌉ times.
    assignment : {"static", "dynamic"}
        "static": every worker's items are fixed (CPU threads). "dynamic": items are taken in order by whoever
        is free (CTAs); a strategy whose workers stay until the end fixes their items all the same.
    unit_rows : int, optional
        Output rows that an item covers, a divisor of a block's rows; by default all of them.

    Returns
    -------
    WorkPlan

    Raises
    ------
    OptionError
        For an unknown strategy or assignment, or a number below 1.
    """
    if strategy not in STRATEGIES:
        raise OptionError(
            f"There is no balance strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}."
        )
    if assignment not in ("static", "dynamic"):
        raise OptionError(f"assignment is {assignment!r}; it must be 'static' or 'dynamic'.")
    static = assignment == "static"
    if workers is None:
        workers = _cores() if static else DEFAULT_MULTIPROCESSORS
    for name, value, least in (("workers", workers, 1), ("n", n, 0), ("tile_n", tile_n, 1)):
        if value is not None and value < least:
            raise OptionError(f"{name} is {value}; it must be at least {least}.")
    view = A.T if transpose else A
    tiles = max(1, -(-n // tile_n)) if n is not None and tile_n is not None else 1
    counts = block_counts(A, transpose, unit_rows)
    request = Request(counts, unit_rows or view.block_shape[0], int(workers), tiles, static)
    draft = STRATEGIES[strategy].make(request)
    known = {"strategy": strategy, "transpose": bool(transpose), "n": n, "tile_n": tile_n}
    return _assemble(draft, request.workers, unit_rows=unit_rows, **known)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


# ---- the strategies -------------------------------------------------------------------------------------


def _in_order(request: Request) -> Draft:
    pieces = whole_units(request.counts)
    units = pieces.unit.size
    if not request.static:
        return Draft(pieces, order=np.arange(units))
    return Draft(pieces, worker=np.arange(units) * request.workers // max(units, 1))


def _swizzle(request: Request) -> Draft:
    pieces = whole_units(request.counts)
    if not request.static:
        return Draft(pieces, order=heaviest_first(pieces.work))
    loads = [0] * request.workers
    return Draft(pieces, worker=deal_heaviest_first(pieces.work, loads))


def _chunks(request: Request) -> Draft:
    chunks = cut_chunks(request.counts, request.unit_rows)
    if not request.static:
        return Draft(chunks, order=heaviest_first(chunks.work))
    split = np.bincount(chunks.unit, minlength=request.counts.shape[0])[chunks.unit] > 1
    loads = [0] * request.workers
    worker = np.empty(chunks.unit.size, dtype=np.int64)
    worker[~split] = deal_heaviest_first(chunks.work[~split], loads)
    worker[split] = deal_runs(chunks.work[split], loads, int(chunks.work.sum()))
    return Draft(*join_neighbours(chunks, worker))


def _parts(request: Request) -> int:
    """Pieces that are wanted: one a worker, but where whoever is free takes items each runs once a tile."""
    return request.workers if request.static else -(-request.workers // request.tiles)


def _equal_nnz(request: Request) -> Draft:
    pieces, worker = cut_equally(request.counts, _parts(request))
    if request.static:
        return Draft(pieces, worker=worker)
    return Draft(pieces, order=heaviest_first(pieces.work))


def _split_k(request: Request) -> Draft:
    units = request.counts.shape[0]
    pieces = cut_blocks(request.counts, -(-_parts(request) // max(units, 1)))
    if not request.static:
        return Draft(pieces, order=heaviest_first(pieces.work))
    loads = [0] * request.workers
    return Draft(pieces, worker=deal_heaviest_first(pieces.work, loads))


def _stream_k(request: Request) -> Draft:
    units, tiles = request.counts.shape[0], request.tiles
    if request.static or tiles == 1:  # threads do all tiles of an item
        return Draft(*cut_equally(request.counts, request.workers))
    pieces, worker = cut_equally(np.tile(request.counts, (tiles, 1)), request.workers)
    tile, unit = np.divmod(pieces.unit, max(units, 1))
    return Draft(pieces._replace(unit=unit), worker=worker, tile=tile)


def _assemble(draft: Draft, workers: int, **plan: object) -> WorkPlan:
    """Number the partials and store the items in the order in which they are worked on."""
    unit = draft.pieces.unit
    tile = np.zeros_like(unit) if draft.tile is None else draft.tile
    follows = np.zeros(unit.size, dtype=bool)
    follows[1:] = (unit[1:] == unit[:-1]) & (tile[1:] == tile[:-1])
    # Partials are numbered unit by unit; in a unit tile by tile, and there from left to right.
    partial = np.flatnonzero(follows)
    partial = partial[np.argsort(unit[partial], kind="stable")]
    slot = np.full(unit.size, -1, dtype=np.int32)
    slot[partial] = np.arange(partial.size)
    order, worker_ptr = draft.order, None
    if draft.worker is not None:
        order = np.argsort(draft.worker, kind="stable")
        worker_ptr = np.searchsorted(draft.worker[order], np.arange(workers + 1)).astype(np.int32)
    narrow = {"unit": np.int32, "block_begin": np.int32, "block_end": np.int32}
    items = {
        name: array[order].astype(narrow.get(name, np.int64))
        for name, array in draft.pieces._asdict().items()
    }
    return WorkPlan(
        workers=workers,
        slot=slot[order],
        worker_ptr=worker_ptr,
        slot_unit=unit[partial].astype(np.int32),
        tile=None if draft.tile is None else tile[order].astype(np.int32),
        **items,
        **plan,
    )


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "in_order",
            "Block rows in order",
            "Every worker gets the same number of neighbouring block rows, however full they are.",
            _in_order,
        ),
        Strategy(
            "swizzle",
            "Heaviest block rows first",
            "Block rows are sorted by nonzeros, and each goes to the worker with the least to do so far.",
            _swizzle,
        ),
        Strategy(
            "chunks",
            "CSB's chunks",
            "A block row with more than max(2 x average, 4β) nonzeros is split between blocks; "
            "its parts are added in a second phase.",
            _chunks,
        ),
        Strategy(
            "equal_nnz",
            "Equal nonzeros",
            "The sequence of all nonzeros is cut into equal parts, inside a block where need be; "
            "parts of one block row are added in a second phase.",
            _equal_nnz,
        ),
        Strategy(
            "split_k",
            "Split-K",
            "Every block row is cut into the same number of equal ranges of blocks, however full they are; "
            "the parts of a block row are added afterwards.",
            _split_k,
        ),
        Strategy(
            "stream_k",
            "Stream-K",
            "The nonzeros of all block rows in all tiles of columns form one sequence, cut into equal parts; "
            "each worker stays with its part, and the pieces of a block row are added afterwards.",
            _stream_k,
        ),
    )
}
