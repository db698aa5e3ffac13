"""Which measurements of a run are too unsteady to be trusted."""

from __future__ import annotations

from collections.abc import Iterable

from csbviz.bench.record import Record

__all__ = ["UNSTEADY", "spread", "unsteady"]

UNSTEADY = 0.5
"""Quartiles further apart than this share of the median: the machine did something else meanwhile."""


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
