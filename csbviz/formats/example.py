"""The 6 x 6 example with ten entries that documentation, figures and tests share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .csb import CSBMatrix

__all__ = ["PlanExample", "plan_example"]

_PICTURE = """
    a . . . . .
    b . . . c .
    . . . d . e
    . . . . . .
    . . . f g .
    . . h . i j
"""


class PlanExample(NamedTuple):
    """The example and its letters.

    Attributes
    ----------
    matrix : CSBMatrix
        6 x 6 float32, 2 x 2 blocks, row order; a is 1, b is 2, … j is 10.
    letters : tuple of str
        The letter of every entry, in stored order.
    picture : tuple of str
        The six rows of the matrix as text, a point where there is no entry.
    """

    matrix: CSBMatrix
    letters: tuple[str, ...]
    picture: tuple[str, ...]


def plan_example() -> PlanExample:
    """Build the example from its picture.

    Examples
    --------
    >>> from csbviz.formats.example import plan_example
    >>> A, letters, picture = plan_example()
    >>> " ".join(letters)
    'a b c d e f h g i j'
    >>> A.blk_ptr.tolist()
    [0, 2, 2, 3, 3, 4, 5, 5, 7, 10]
    """
    picture = tuple(line.strip() for line in _PICTURE.strip().splitlines())
    dense = np.array(
        [[0 if c == "." else ord(c) - ord("a") + 1 for c in line.split()] for line in picture], np.float32
    )
    matrix = CSBMatrix.from_dense(dense, block_shape=2)
    letters = tuple(chr(ord("a") + int(value) - 1) for value in matrix.values)
    return PlanExample(matrix, letters, picture)
