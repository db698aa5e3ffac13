"""Times that a busy host disturbs: contenders take turns, and unsteady ones get further rounds."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

__all__ = ["in_turn"]

_ROUNDS, _EXTRA_ROUNDS = 3, 6
"""Rounds of each contender, and most further ones of those with unsteady times."""

_UNSTEADY = 0.2
"""Quartiles further apart than this share of the median: the host did something else meanwhile."""

_PAUSE_SECONDS = 0.05
"""Before a further round, so that what disturbed the last one may pass."""

_UNCOUNTED = 3
"""First samples of a contender, which wait for memory that is kept from then on."""


def in_turn(
    calls: dict[str, Callable[[], object]], sample: Callable[[Callable[[], object]], float], samples: int = 9
) -> dict[str, tuple[float, float, float]]:
    """Quartiles of the time of each call, of all samples of all rounds.

    Parameters
    ----------
    calls : dict
        Name → what to time.
    sample : callable
        ``sample(call)`` gives a time of it.
    samples : int
        In a round.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(_UNCOUNTED):
            sample(call)
    for number in range(_ROUNDS + _EXTRA_ROUNDS):
        names = list(calls)
        if number >= _ROUNDS:
            quartiles = {name: _quartiles(found[name]) for name in names}
            names = [name for name, (p25, p50, p75) in quartiles.items() if p75 - p25 > _UNSTEADY * p50]
            if not names:
                break
            time.sleep(_PAUSE_SECONDS)
        for name in names:
            found[name] += [sample(calls[name]) for _ in range(samples)]
    return {name: _quartiles(times) for name, times in found.items()}


def _quartiles(times: list[float]) -> tuple[float, float, float]:
    p25, median, p75 = np.percentile(times, (25, 50, 75))
    return round(p25, 3), round(median, 3), round(p75, 3)
