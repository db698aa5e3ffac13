"""One number of threads for every contender on the CPU."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from csbviz.errors import OptionError

__all__ = ["check_threads", "cpu_count", "use_threads"]


@functools.cache
def cpu_count() -> int:
    """Processors this process may use (its affinity mask, not the machine's total)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int | None) -> int:
    """The number of threads to use: all processors for None.

    Raises
    ------
    OptionError
        If it is below one or above the processors of this process.
    """
    limit = cpu_count()
    if threads is None:
        return limit
    if not 1 <= threads <= limit:
        raise OptionError(f"Threads must be between 1 and {limit} on this machine; {threads} was asked for.")
    return int(threads)


def use_threads(threads: int) -> AbstractContextManager:
    """Give PyTorch and Numba this many threads inside the block, and what they had before after it.

    PyTorch is only touched once it is loaded; Numba's number is a mask within its pool, which is as large
    as the processor count of the process. Where both have the number already, nothing is done: a product of a
    few microseconds should not pay for it.
    """
    torch = sys.modules.get("torch")
    numba = sys.modules.get("numba")
    if (torch is None or torch.get_num_threads() == threads) and (
        numba is None or numba.get_num_threads() == min(threads, numba.config.NUMBA_NUM_THREADS)
    ):
        return nullcontext()
    return _changed_threads(torch, numba, threads)


@contextmanager
def _changed_threads(torch, numba, threads: int) -> Iterator[None]:
    before_torch = torch.get_num_threads() if torch else None
    before_numba = numba.get_num_threads() if numba else None
    try:
        if torch:
            torch.set_num_threads(threads)
        if numba:
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        yield
    finally:
        if torch:
            torch.set_num_threads(before_torch)
        if numba:
            numba.set_num_threads(before_numba)
