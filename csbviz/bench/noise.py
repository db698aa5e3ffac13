"""Which measurements are not to be trusted: unsteady ones, and those of a machine that others kept busy."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

from csbviz.bench.record import Record

__all__ = ["BUSY", "UNSTEADY", "OthersLoad", "busiest", "spread", "unsteady"]

UNSTEADY = 0.5
"""Quartiles further apart than this share of the median: the machine did something else meanwhile."""

BUSY = 0.2
"""From this share of all processors on, other programs falsify the times of kernels that use every processor:
a thread that was set aside makes the others wait for it in every repeat, and the quartiles look fine."""

_SHORTEST = 0.1
"""Seconds under which the processors' clocks are too coarse to say anything."""


class OthersLoad:
    """What the machine's processors did for others since this object was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before = _busy_seconds()

    def share(self) -> float | None:
        """Share of all processors' time that went to other programs, 0 to 1; None after too short a time."""
        elapsed = time.monotonic() - self._start
        if elapsed < _SHORTEST:
            return None
        used = _busy_seconds() - self._before
        return min(max(used / (elapsed * (psutil.cpu_count() or 1)), 0.0), 1.0)


def _busy_seconds() -> float:
    """Seconds that all processors were at work so far, without those for this process."""
    times = psutil.cpu_times()
    # Linux counts the time of guests in that of users too; time taken by the host counts as busy.
    doubled = {"idle", "iowait", "guest", "guest_nice"}
    every = sum(value for name, value in times._asdict().items() if name not in doubled)
    own = psutil.Process().cpu_times()
    return every - own.user - own.system


def busiest(records: Iterable[Record]) -> float:
    """The largest share of the processors that other programs used while a record was timed; 0 if unknown."""
    return max((record.others_load or 0.0 for record in records if record.ok), default=0.0)


def spread(record: Record) -> float:
    """Distance of the quartiles as a share of the median; 0 for a record without a time."""
    if not record.ok or not record.median_us:
        return 0.0
    return (record.p75_us - record.p25_us) / record.median_us


def unsteady(records: Iterable[Record], limit: float = UNSTEADY) -> list[Record]:
    """The verified records whose quartiles are further apart than `limit` times their median, worst first.

    Parameters
    ----------
    records : iterable of Record
    limit : float
        Share of the median.

    Returns
    -------
    list of Record
    """
    found = [record for record in records if spread(record) > limit]
    return sorted(found, key=spread, reverse=True)
