"""How many entries lie in each cell of a window: what pictures of large matrices are made of."""

from __future__ import annotations

import numpy as np

__all__ = ["count_cells"]


def count_cells(
    S, rows: tuple[int, int], cols: tuple[int, int], cell_of: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Count the stored entries of a window cell by cell, in time linear in the entries of its rows.

    Parameters
    ----------
    S : csr_matrix
        Stored entries count, whatever their value; duplicates count each.
    rows, cols : (int, int)
        Half-open ranges within the shape.
    cell_of : (int array, int array)
        The cell of each row and of each column of the window, rising from 0.

    Returns
    -------
    int64[cells down, cells across]
    """
    from . import _loops

    down, across = (np.asarray(cells, dtype=np.int64) for cells in cell_of)
    shape = tuple(int(cells[-1]) + 1 if cells.size else 0 for cells in (down, across))
    counts = np.zeros(shape, dtype=np.int64)
    if counts.size:
        _loops.count_cells(S.indptr, S.indices, rows[0], down, cols[0], across, counts)
    return counts
