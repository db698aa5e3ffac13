"""How many entries lie in each cell of a window: what pictures of large matrices are made of."""

from __future__ import annotations

import numpy as np

__all__ = ["count_cells"]


def count_cells(S, rows: tuple[int, int], cols: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """Count the stored entries in each cell of a window, in time linear in the entries of its rows.

    Parameters
    ----------
    S : csr_matrix
        Stored entries count, whatever their value; duplicates count each.
    rows, cols : (int, int)
        Half-open ranges within the shape.
    cell : (int, int)
        Rows and columns of a cell; the first cell begins where the window begins.

    Returns
    -------
    int64[⌈rows / cell rows⌉, ⌈columns / cell columns⌉]
    """
    from . import _loops

    down, across = np.arange(rows[1] - rows[0]) // cell[0], np.arange(cols[1] - cols[0]) // cell[1]
    counts = np.zeros([int(cells[-1]) + 1 if cells.size else 0 for cells in (down, across)], dtype=np.int64)
    if counts.size:
        _loops.count_cells(S.indptr, S.indices, rows[0], down, cols[0], across, counts)
    return counts
