"""The Pareto front: what no other choice beats in both cost and gain."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(costs: Sequence[float | None], gains: Sequence[float | None]) -> list[bool]:
    """Mark the points that no other one dominates.

    A point dominates another if it costs no more and gains no less, and one of the two is strictly better.
    Equal points are both on the front.

    Parameters
    ----------
    costs, gains : sequence of float or None
        One of each for every point, such as microseconds and accuracy. A point with None or NaN was not
        measured: it is never on the front and dominates nothing.

    Returns
    -------
    list of bool
    """
    known = [index for index, pair in enumerate(zip(costs, gains, strict=True)) if all(map(_is_known, pair))]
    marks = [False] * len(costs)
    best, at_best = -math.inf, math.nan
    for index in sorted(known, key=lambda i: (costs[i], -gains[i])):
        # Cheaper points come first: only one that gains more than all of them is not dominated.
        if gains[index] > best or (gains[index] == best and costs[index] == at_best):
            best, at_best = gains[index], costs[index]
            marks[index] = True
    return marks


def _is_known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
