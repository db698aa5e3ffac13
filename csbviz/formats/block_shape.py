"""Which block shape suits a matrix: the rule of the CSB paper with constants measured for these kernels."""

from __future__ import annotations

import os

from ..errors import OptionError

__all__ = ["choose_block_shape"]

GPU_SHAPE = (64, 64)
"""Blocks for the CUDA kernels."""

SMALLEST = 16
"""No side goes below this unless the matrix itself is smaller: rows of a block would hold single entries."""

LARGEST = 32768
"""Largest side; a position inside a block and the length of a row of a block fit 16 bits."""

TILE_COLUMNS = 64
"""Most columns of B that the CPU kernel multiplies at a time."""

SLICE_BYTES = 32 * 1024
"""A block's slice of B, ``side x min(N, TILE_COLUMNS)`` floats, may take this much: a first-level cache."""

UNITS_PER_WORKER = 2
"""Block rows (and block columns) that each worker should have.  The paper asks for 8; pruned layers load
their block rows so evenly (within a few percent) that two suffice, and longer rows of blocks gain more."""


def choose_block_shape(
    shape: tuple[int, int], nnz: int, n: int | None = None, device: str = "auto", workers: int | None = None
) -> tuple[int, int]:
    """Choose the block shape for a matrix; the same blocks serve ``A @ B`` and ``A.T @ B``.

    Parameters
    ----------
    shape : (int, int)
        Rows M and columns K of the matrix.
    nnz : int
        Its nonzeros.
    n : int, optional
        Columns of B; None stands for many.
    device : {"auto", "cpu", "cuda"}
        Where the product will run; "auto" means the CPU.
    workers : int, optional
        Threads of the CPU; all processors of this process by default.

    Returns
    -------
    (int, int)
        Rows and columns of a block, powers of two.

    Raises
    ------
    OptionError
        If the device is unknown, or a number is out of range.

    Notes
    -----
    On a CPU, following the paper: a block is about as wide as the square root of the larger side of the
    matrix, so that the pointer table stays as small as CSR's and indices stay short; at least so large
    that the block's slice of B just fits the first-level cache (fewer columns of B, that is a smaller slice,
    allow larger blocks); then each side shrinks until there are enough block rows and block columns for the
    workers.

    References
    ----------
    Buluç, Fineman, Frigo, Gilbert, Leiserson: Parallel sparse matrix-vector and matrix-transpose-vector
    multiplication using compressed sparse blocks, SPAA 2009, section 3 (choice of β).
    """
    rows, cols = (int(side) for side in shape)
    if rows < 0 or cols < 0 or nnz < 0:
        raise OptionError(f"The shape {rows} x {cols} with {nnz} nonzeros is negative; sizes are 0 or more.")
    if n is not None and n < 1:
        raise OptionError(f"N is {n}; B needs at least one column.")
    if device == "cuda":
        return GPU_SHAPE
    if device not in ("auto", "cpu"):
        raise OptionError(f"The device is {device!r}; it is one of auto, cpu, cuda.")
    workers = _processors() if workers is None else int(workers)
    if workers < 1:
        raise OptionError(f"The number of workers is {workers}; it is at least 1.")
    side = max(_cached_side(n), _power_of_two_up(max(rows, cols) ** 0.5))
    return _enough_units(rows, side, workers), _enough_units(cols, side, workers)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _power_of_two_up(number: float) -> int:
    side = 1
    while side < number and side < LARGEST:
        side *= 2
    return side


def _cached_side(n: int | None) -> int:
    """Rows of B whose slice just fits the first-level cache, at most 256 so that an index is one byte."""
    columns = TILE_COLUMNS if n is None else min(max(n, TILE_COLUMNS // 2), TILE_COLUMNS)
    side = SLICE_BYTES // (4 * columns)
    return min(256, 1 << (side.bit_length() - 1))


def _enough_units(extent: int, side: int, workers: int) -> int:
    """The largest power of two, at most `side`, that cuts `extent` into enough pieces for the workers."""
    while side > SMALLEST and extent < UNITS_PER_WORKER * workers * side:
        side //= 2
    return side
