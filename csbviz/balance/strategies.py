"""The balance strategies: each cuts the entries of a CSB matrix into items and deals them to workers.

A strategy is one function and one entry of `STRATEGIES`.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from .plan import WorkPlan, block_counts

if TYPE_CHECKING:
    from ..formats import CSBMatrix

__all__ = ["DEFAULT_MULTIPROCESSORS", "STRATEGIES", "Strategy", "chunk_limit", "make_plan"]

DEFAULT_MULTIPROCESSORS = 132
"""Workers of a dynamic plan when none are named: the multiprocessors of an H100."""


class Pieces(NamedTuple):
    """Runs of entries in visiting order: unit by unit, and inside a unit from its first block on."""

    unit: np.ndarray
    block_begin: np.ndarray
    block_end: np.ndarray
    entry_begin: np.ndarray
    entry_end: np.ndarray
    work: np.ndarray


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


@dataclass(frozen=True)
class Strategy:
    """An entry of the registry.

    Attributes
    ----------
    name, title, summary : str
        Key of the registry, a few words for a menu, and a sentence that says what it does.
    make : callable
        ``Request → Draft``.
    """

    name: str
    title: str
    summary: str
    make: Callable[[Request], Draft]


def make_plan(
    A: CSBMatrix,
    strategy: str = "chunks",
    transpose: bool = False,
    workers: int | None = None,
    n: int | None = None,
    tile_n: int | None = None,
    assignment: str = "static",
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
        is free (CTAs).

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
    request = Request(block_counts(A, transpose), view.block_shape[0], int(workers), tiles, static)
    draft = STRATEGIES[strategy].make(request)
    return _assemble(
        draft, static, request.workers, strategy=strategy, transpose=bool(transpose), n=n, tile_n=tile_n
    )


def chunk_limit(counts: np.ndarray, unit_rows: int) -> float:
    """Return the nonzeros above which CSB splits a unit: max(2 x average, 4β), with β = `unit_rows`."""
    average = counts.sum() / counts.shape[0] if counts.shape[0] else 0.0
    return max(2.0 * average, 4.0 * unit_rows)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


# ---- the strategies -------------------------------------------------------------------------------------


def _in_order(request: Request) -> Draft:
    pieces = _whole_units(request.counts)
    units = pieces.unit.size
    return Draft(pieces, worker=np.arange(units) * request.workers // max(units, 1), order=np.arange(units))


def _swizzle(request: Request) -> Draft:
    pieces = _whole_units(request.counts)
    if not request.static:
        return Draft(pieces, order=_heaviest_first(pieces.work))
    loads = [0] * request.workers
    return Draft(pieces, worker=_deal_heaviest_first(pieces.work, loads))


def _chunks(request: Request) -> Draft:
    chunks = _cut_chunks(request.counts, request.unit_rows)
    if not request.static:
        return Draft(chunks, order=_heaviest_first(chunks.work))
    split = np.bincount(chunks.unit, minlength=request.counts.shape[0])[chunks.unit] > 1
    loads = [0] * request.workers
    worker = np.empty(chunks.unit.size, dtype=np.int64)
    worker[~split] = _deal_heaviest_first(chunks.work[~split], loads)
    worker[split] = _deal_runs(chunks.work[split], loads, int(chunks.work.sum()))
    return _join_neighbours(chunks, worker)


def _equal_nnz(request: Request) -> Draft:
    counts = request.counts
    total = int(counts.sum())
    if total == 0:
        return _in_order(request)
    parts = request.workers if request.static else -(-request.workers // request.tiles)
    cuts = np.arange(parts + 1, dtype=np.int64) * total // parts
    unit_begin = np.concatenate(([0], np.cumsum(counts.sum(axis=1))))
    inside = np.setdiff1d(cuts, unit_begin)  # cuts at a unit's border need no item of their own
    begin = np.concatenate((unit_begin[:-1], inside))
    starts_unit = np.concatenate(
        (np.ones(counts.shape[0], dtype=np.int64), np.zeros(inside.size, dtype=np.int64))
    )
    order = np.argsort(begin, kind="stable")
    begin, unit = begin[order], np.cumsum(starts_unit[order]) - 1
    end = np.append(begin[1:], total)
    pieces = _locate(counts, unit, begin, end)
    if not request.static:
        return Draft(pieces, order=_heaviest_first(pieces.work))
    worker = np.minimum(np.searchsorted(cuts, begin, side="right") - 1, parts - 1)
    return Draft(pieces, worker=worker)


# ---- cutting --------------------------------------------------------------------------------------------


def _whole_units(counts: np.ndarray) -> Pieces:
    units, blocks = counts.shape
    work = counts.sum(axis=1)
    filled = work > 0
    zeros = np.zeros(units, dtype=np.int64)
    last = counts[:, -1] if blocks else zeros
    return Pieces(
        np.arange(units), zeros, np.where(filled, blocks, 0), zeros, np.where(filled, last, 0), work
    )


def _cut_chunks(counts: np.ndarray, unit_rows: int) -> Pieces:
    """Split the heavy units at block borders: < 4β entries a chunk, or one block.

    A chunk takes blocks until the next would bring it to 4β entries, so that two neighbours always hold at
    least 4β together. Empty blocks join the chunk before them.
    """
    whole = _whole_units(counts)
    heavy = whole.work > chunk_limit(counts, unit_rows)
    if not heavy.any():
        return whole
    most = 4 * unit_rows
    unit, block_begin, block_end, work = [], [], [], []
    for u in np.flatnonzero(heavy).tolist():
        first, held = 0, 0
        row = counts[u].tolist()
        for b, count in enumerate(row):
            if held and count and held + count >= most:
                unit.append(u)
                block_begin.append(first)
                block_end.append(b)
                work.append(held)
                first, held = b, 0
            held += count
        unit.append(u)
        block_begin.append(first)
        block_end.append(len(row))
        work.append(held)
    unit, block_end = np.array(unit), np.array(block_end)
    cut = Pieces(
        unit,
        np.array(block_begin),
        block_end,
        np.zeros_like(unit),
        counts[unit, block_end - 1],
        np.array(work),
    )
    light = [array[~heavy] for array in whole]
    both = [np.concatenate(pair) for pair in zip(light, cut, strict=True)]
    order = np.argsort(both[0], kind="stable")
    return Pieces(*(array[order] for array in both))


def _locate(counts: np.ndarray, unit: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Pieces:
    """Turn ranges of entries in visiting order, each inside one unit, into blocks and cuts."""
    running = np.concatenate(([0], np.cumsum(counts.ravel())))
    filled = end > begin
    first = np.searchsorted(running, begin, side="right") - 1
    last = np.searchsorted(running, end, side="left") - 1
    row = unit * counts.shape[1]
    return Pieces(
        unit,
        np.where(filled, first - row, 0),
        np.where(filled, last + 1 - row, 0),
        np.where(filled, begin - running[first], 0),
        np.where(filled, end - running[last], 0),
        end - begin,
    )


# ---- dealing --------------------------------------------------------------------------------------------


def _heaviest_first(work: np.ndarray) -> np.ndarray:
    return np.argsort(-work, kind="stable")


def _deal_heaviest_first(work: np.ndarray, loads: list[int]) -> np.ndarray:
    """Give each piece, heaviest first, to the least loaded worker (LPT); `loads` is brought up to date.

    Equally loaded workers take turns, so that units without work, whose output is still to be cleared, are
    shared out too.
    """
    worker = np.empty(work.size, dtype=np.int64)
    heap = [(load, 0, w) for w, load in enumerate(loads)]
    heapq.heapify(heap)
    order = _heaviest_first(work)
    for i, weight in zip(order.tolist(), work[order].tolist(), strict=True):
        load, given, w = heap[0]
        worker[i] = w
        heapq.heapreplace(heap, (load + weight, given + 1, w))
    for load, _, w in heap:
        loads[w] = load
    return worker


def _deal_runs(work: np.ndarray, loads: list[int], total: int) -> np.ndarray:
    """Deal chunks in runs: a worker takes neighbours until it has its share, then the least loaded goes on.

    No worker gets more than Σw/P + (1 − 1/P)·max w, the bound of list scheduling, and far fewer partials are
    written than when every chunk is dealt by itself.
    """
    share = total / len(loads)
    worker = np.empty(work.size, dtype=np.int64)
    current = min(range(len(loads)), key=loads.__getitem__)
    for i, weight in enumerate(work.tolist()):
        if loads[current] + weight / 2 > share:
            current = min(range(len(loads)), key=loads.__getitem__)
        worker[i] = current
        loads[current] += weight
    return worker


def _join_neighbours(chunks: Pieces, worker: np.ndarray) -> Draft:
    """Make one item of neighbouring chunks of a unit that the same worker does."""
    if worker.size == 0:
        return Draft(chunks, worker=worker)
    starts = np.ones(worker.size, dtype=bool)
    starts[1:] = (chunks.unit[1:] != chunks.unit[:-1]) | (worker[1:] != worker[:-1])
    first = np.flatnonzero(starts)
    last = np.append(first[1:], worker.size) - 1
    joined = Pieces(
        chunks.unit[first],
        chunks.block_begin[first],
        chunks.block_end[last],
        chunks.entry_begin[first],
        chunks.entry_end[last],
        np.add.reduceat(chunks.work, first),
    )
    return Draft(joined, worker=worker[first])


def _assemble(draft: Draft, static: bool, workers: int, **plan: object) -> WorkPlan:
    """Number the partials and store the items in the order in which they are worked on."""
    unit = draft.pieces.unit
    follows = np.zeros(unit.size, dtype=bool)
    follows[1:] = unit[1:] == unit[:-1]
    slot = np.where(follows, np.cumsum(follows) - 1, -1).astype(np.int32)
    order, worker_ptr = draft.order, None
    if static:
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
        slot_unit=unit[follows].astype(np.int32),
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
    )
}
