"""The strategy that "auto" stands for when the kernel does not know better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .simulate import simulate
from .strategies import make_plan

if TYPE_CHECKING:
    from ..formats import CSBMatrix

__all__ = ["UNEVEN", "automatic_strategy"]

UNEVEN = 1.2
"""Whole units are dealt out unless the heaviest worker has this much more than the mean."""


def automatic_strategy(
    A: CSBMatrix,
    transpose: bool = False,
    workers: int | None = None,
    assignment: str = "static",
    tiles: int = 1,
) -> str:
    """Choose between whole units, heaviest first, and equal nonzeros.

    Cutting units costs partial results and a second phase, so it must be worth it. The CPU kernel follows the
    same rule, but takes one thread for very little work; the GPU kernel predicts times instead.

    Parameters
    ----------
    A, transpose, workers, assignment
        As in `make_plan`.
    tiles : int
        Tiles of columns.

    Returns
    -------
    str
        "swizzle" or "equal_nnz".
    """

    def imbalance(strategy: str) -> float:
        plan = make_plan(A, strategy, transpose, workers, n=tiles, tile_n=1, assignment=assignment)
        return simulate(plan).imbalance

    whole = imbalance("swizzle")
    if whole <= UNEVEN:
        return "swizzle"
    return "equal_nnz" if imbalance("equal_nnz") < whole else "swizzle"
