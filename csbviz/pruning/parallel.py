"""Run compiled loops on parts of arrays at once, in threads of our own.

The loops give up the GIL. Numba's own threads cannot be called from two Python threads at a time, which
the app would do; these can.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

__all__ = ["cuts", "in_threads", "spread"]

_WORTH_A_THREAD = 1 << 16  # elements below which handing work over takes longer than doing it
_MOST_THREADS = 16


@functools.cache
def thread_count() -> int:
    """Processors this process may use, 16 at most: beyond, memory sets the pace."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, _MOST_THREADS)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="csbviz-prune")


if hasattr(os, "register_at_fork"):  # a forked process has the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_threads(calls: Sequence[Callable[[], Any]]) -> list:
    """Give the results of all calls, in their order; one call is made at once."""
    if len(calls) == 1:
        return [calls[0]()]
    return [future.result() for future in [_pool().submit(call) for call in calls]]


def cuts(length: int, elements: int, align: int = 1) -> list[tuple[int, int]]:
    """Cut range(length) into one piece a thread, with edges at multiples of `align`.

    Parameters
    ----------
    length : int
        Positions, or rows.
    elements : int
        All the elements behind them; few are not worth a thread.
    align : int

    Returns
    -------
    list of (int, int)
        Half-open pieces in order, at least one; none is empty unless all is.
    """
    units = max(-(-length // align), 1)
    pieces = 1 if elements < _WORTH_A_THREAD else min(thread_count(), units)
    edges = [min(units * k // pieces * align, length) for k in range(pieces + 1)]
    return list(pairwise(edges))


def spread(sizes: Sequence[int]) -> list[list[tuple[int, int, int]]]:
    """Deal arrays of these sizes out to threads in nearly equal shares.

    Returns
    -------
    list of list of (int, int, int)
        For each thread, which array and which positions of it: (array, begin, end).
    """
    total = sum(sizes)
    threads = 1 if total < _WORTH_A_THREAD else thread_count()
    shares = []
    for k in range(threads):
        low, high, share, start = total * k // threads, total * (k + 1) // threads, [], 0
        for index, size in enumerate(sizes):
            begin, end = max(low - start, 0), min(high - start, size)
            if begin < end:
                share.append((index, begin, end))
            start += size
        shares.append(share)
    return shares
