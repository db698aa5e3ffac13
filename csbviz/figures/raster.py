"""Pictures of any matrix in few pixels: counts of nonzeros per cell, without losing one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from ..formats.cells import count_cells

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = [
    "Raster",
    "cell_areas",
    "check_block_shape",
    "check_window",
    "colour_top",
    "rasterise",
]


class Raster(NamedTuple):
    """The share of nonzeros per cell of a window.

    Attributes
    ----------
    rows, cols : (int, int)
        The window as half-open ranges of the matrix.
    cell : (int, int)
        Rows and columns of one cell; cells at the lower and right edge may be smaller.
    counts : int64[pixel rows, pixel columns]
        Nonzeros per cell; they add up to those of the window.
    density : float32[pixel rows, pixel columns]
        ``counts`` over the cell's real area.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    cell: tuple[int, int]
    counts: np.ndarray
    density: np.ndarray

    @property
    def nnz(self) -> int:
        """Nonzeros in the window."""
        return int(self.counts.sum())

    @property
    def size(self) -> int:
        """Entries of the window, zeros included."""
        return (self.rows[1] - self.rows[0]) * (self.cols[1] - self.cols[0])

    @property
    def uniform(self) -> bool:
        """True when every cell has the full area."""
        height, width = self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]
        return height % self.cell[0] == 0 and width % self.cell[1] == 0


def check_window(window: tuple[int, int] | None, length: int, what: str) -> tuple[int, int]:
    """Return the range as ints, all of it for None.

    Raises
    ------
    OptionError
        If the range is empty or reaches out of the matrix.
    """
    if window is None:
        return 0, length
    begin, end = (int(side) for side in window)
    if not 0 <= begin < end <= length:
        raise OptionError(f"the {what} {begin} to {end} were asked for; they must lie in 0 to {length}")
    return begin, end


def check_block_shape(block_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the block shape as two ints of at least 1, or raise OptionError."""
    sides = tuple(int(side) for side in block_shape)
    if len(sides) != 2 or min(sides) < 1:
        raise OptionError(f"the block shape is {block_shape}; it needs two sides of at least 1")
    return sides


def cell_areas(height: int, width: int, cell: tuple[int, int]) -> np.ndarray:
    """Entries of each cell, zeros included, int64[⌈height / cell rows⌉, ⌈width / cell columns⌉]."""
    down = np.diff(np.append(np.arange(0, height, cell[0]), height))
    across = np.diff(np.append(np.arange(0, width, cell[1]), width))
    return np.outer(down, across)


def rasterise(S: csr_matrix, rows: tuple[int, int], cols: tuple[int, int], pixels: int) -> Raster:
    """Count nonzeros per cell so that neither side has more than `pixels` cells.

    Cells are the smallest whole number of rows and of columns that fit; a window that fits as it is gets one
    cell an entry.
    """
    if pixels < 1:
        raise OptionError(f"{pixels} pixels were asked for; a picture needs at least 1")
    height, width = rows[1] - rows[0], cols[1] - cols[0]
    cell = max(1, -(-height // pixels)), max(1, -(-width // pixels))
    counts = count_cells(S, rows, cols, cell)
    density = (counts / np.maximum(cell_areas(height, width, cell), 1)).astype(np.float32)
    return Raster(rows, cols, cell, counts, density)


def colour_top(values: np.ndarray) -> float:
    """The value at the end of the colour scale: the largest, or less when few cells would hide the rest.

    Those few are the upper 0.5 % of the cells that hold nonzeros, when they reach beyond 1.5 times the
    others.
    """
    positive = values[values > 0]
    if positive.size == 0:
        return 1.0
    largest, usual = float(positive.max()), float(np.quantile(positive, 0.995))
    return usual if largest > 1.5 * usual else largest


def smallest_unsigned(counts: np.ndarray) -> np.ndarray:
    """The counts in the smallest unsigned integers that hold them: fewer bytes to send."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def round_ticks(top: float) -> list[float]:
    """0, then up to four round numbers to `top` (above 0)."""
    power = math.floor(math.log10(top)) - 1
    step = next(
        s for s in (nice * 10.0**p for p in (power, power + 1) for nice in (1, 2, 2.5, 5)) if top / s <= 4.5
    )
    return [i * step for i in range(int(top / step + 1e-9) + 1)]
