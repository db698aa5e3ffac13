"""How strategies cut the entries of a matrix into pieces, and deal pieces to workers."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

__all__ = [
    "Pieces",
    "chunk_limit",
    "cut_blocks",
    "cut_chunks",
    "cut_equally",
    "deal_heaviest_first",
    "deal_runs",
    "heaviest_first",
    "join_neighbours",
    "whole_units",
]


class Pieces(NamedTuple):
    """Runs of entries in visiting order: unit by unit, and inside a unit from its first block on."""

    unit: np.ndarray
    block_begin: np.ndarray
    block_end: np.ndarray
    entry_begin: np.ndarray
    entry_end: np.ndarray
    work: np.ndarray


def chunk_limit(counts: np.ndarray, unit_rows: int) -> float:
    """Return the nonzeros above which CSB splits a unit: max(2 x average, 4β), with β = `unit_rows`."""
    average = counts.sum() / counts.shape[0] if counts.shape[0] else 0.0
    return max(2.0 * average, 4.0 * unit_rows)


def whole_units(counts: np.ndarray) -> Pieces:
    """One piece a unit; a unit without entries has an empty range of blocks."""
    units, blocks = counts.shape
    work = counts.sum(axis=1)
    filled = work > 0
    zeros = np.zeros(units, dtype=np.int64)
    last = counts[:, -1] if blocks else zeros
    return Pieces(
        np.arange(units), zeros, np.where(filled, blocks, 0), zeros, np.where(filled, last, 0), work
    )


def cut_chunks(counts: np.ndarray, unit_rows: int) -> Pieces:
    """Split the heavy units at block borders: < 4β entries a chunk, or one block.

    A chunk takes blocks until the next would bring it to 4β entries, so that two neighbours always hold at
    least 4β together. Empty blocks join the chunk before them.
    """
    whole = whole_units(counts)
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


def cut_blocks(counts: np.ndarray, parts: int) -> Pieces:
    """Cut every unit into at most `parts` ranges of equally many blocks; ranges without entries drop out."""
    parts = min(parts, counts.shape[1])
    if parts < 2:
        return whole_units(counts)
    edges = np.arange(parts + 1) * counts.shape[1] // parts
    work = np.add.reduceat(counts, edges[:-1], axis=1)
    kept = work > 0
    empty = ~kept.any(axis=1)
    kept[empty, 0] = True  # it still has output to clear
    unit, part = np.nonzero(kept)
    begin, end = edges[part], edges[part + 1]
    last = counts[unit, end - 1]
    begin, end, last = (np.where(empty[unit], 0, array) for array in (begin, end, last))
    return Pieces(unit, begin, end, np.zeros_like(unit), last, work[kept])


def cut_equally(counts: np.ndarray, parts: int) -> tuple[Pieces, np.ndarray]:
    """Cut the sequence of all entries at ⌊k · nnz / parts⌋, k = 1 … parts − 1, and at the borders of units.

    Returns
    -------
    pieces : Pieces
    part : int64[pieces]
        Number of the part that a piece belongs to; units without entries go round all parts.
    """
    total = int(counts.sum())
    cuts = np.arange(parts + 1, dtype=np.int64) * total // parts
    unit_begin = np.concatenate(([0], np.cumsum(counts.sum(axis=1))))
    inside = np.setdiff1d(cuts, unit_begin)  # cuts at a unit's border need no item of their own
    begin = np.concatenate((unit_begin[:-1], inside))
    starts_unit = np.concatenate(
        (np.ones(counts.shape[0], dtype=np.int64), np.zeros(inside.size, dtype=np.int64))
    )
    order = np.argsort(begin, kind="stable")
    begin, unit = begin[order], np.cumsum(starts_unit[order]) - 1
    end = np.append(begin, total)[1:]
    part = np.minimum(np.searchsorted(cuts, begin, side="right") - 1, parts - 1)
    empty = np.flatnonzero(begin == end)
    part[empty] = np.arange(empty.size) * parts // max(empty.size, 1)
    return _locate(counts, unit, begin, end), part


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


def heaviest_first(work: np.ndarray) -> np.ndarray:
    """Indices of the pieces, the heaviest first; equals keep their order."""
    return np.argsort(-work, kind="stable")


def deal_heaviest_first(work: np.ndarray, loads: list[int]) -> np.ndarray:
    """Give each piece, heaviest first, to the least loaded worker (LPT); `loads` is brought up to date.

    Equally loaded workers take turns, so that units without work, whose output is still to be cleared, are
    shared out too.
    """
    worker = np.empty(work.size, dtype=np.int64)
    heap = [(load, 0, w) for w, load in enumerate(loads)]
    heapq.heapify(heap)
    order = heaviest_first(work)
    for i, weight in zip(order.tolist(), work[order].tolist(), strict=True):
        load, given, w = heap[0]
        worker[i] = w
        heapq.heapreplace(heap, (load + weight, given + 1, w))
    for load, _, w in heap:
        loads[w] = load
    return worker


def deal_runs(work: np.ndarray, loads: list[int], total: int) -> np.ndarray:
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


def join_neighbours(chunks: Pieces, worker: np.ndarray) -> tuple[Pieces, np.ndarray]:
    """Make one item of neighbouring chunks of a unit that the same worker does."""
    if worker.size == 0:
        return chunks, worker
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
    return joined, worker[first]
