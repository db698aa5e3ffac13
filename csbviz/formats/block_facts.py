"""One block of a CSB matrix in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import OptionError

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["BlockFacts", "block_facts", "heaviest_block"]


@dataclass(frozen=True)
class BlockFacts:
    """Block (`block_row`, `block_col`) of a matrix.

    Attributes
    ----------
    rows, cols : (int, int)
        Half-open ranges of matrix rows and columns; cut at the matrix's edge.
    nnz : int
        Nonzeros in the block.
    density : float
        Nonzeros / positions, 0 to 1.
    bytes : int
        Values and indices of its entries; the table of block pointers is not counted.
    row_share, col_share, share : float
        Its part of the nonzeros of its block row, its block column and the whole matrix, 0 to 1.
    """

    block_row: int
    block_col: int
    rows: tuple[int, int]
    cols: tuple[int, int]
    nnz: int
    density: float
    bytes: int
    row_share: float
    col_share: float
    share: float


def block_facts(A: CSBMatrix, block_row: int, block_col: int) -> BlockFacts:
    """Describe one block of the matrix, or of the transposed view, that is handed in.

    Raises
    ------
    OptionError
        If there is no such block.
    """
    counts = A.block_nnz()
    if not (0 <= block_row < counts.shape[0] and 0 <= block_col < counts.shape[1]):
        raise OptionError(
            f"There is no block {block_row}, {block_col}: "
            f"the matrix has {counts.shape[0]} x {counts.shape[1]} blocks."
        )
    rows = _span(block_row, A.block_shape[0], A.shape[0])
    cols = _span(block_col, A.block_shape[1], A.shape[1])
    nnz = int(counts[block_row, block_col])
    positions = (rows[1] - rows[0]) * (cols[1] - cols[0])
    entry = _value_bytes(A) + A.index_bytes / A.nnz if A.nnz else 0
    return BlockFacts(
        block_row,
        block_col,
        rows,
        cols,
        nnz,
        nnz / positions,
        round(nnz * entry),
        _share(nnz, counts[block_row].sum()),
        _share(nnz, counts[:, block_col].sum()),
        _share(nnz, A.nnz),
    )


def heaviest_block(A: CSBMatrix) -> tuple[int, int]:
    """The block with the most nonzeros as (block row, block column); the first of equals."""
    counts = A.block_nnz()
    row, col = np.unravel_index(int(counts.argmax()), counts.shape)
    return int(row), int(col)


def _span(index: int, side: int, end: int) -> tuple[int, int]:
    return index * side, min((index + 1) * side, end)


def _share(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else 0.0


def _value_bytes(A: CSBMatrix) -> float:
    return {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[A.dtype]
