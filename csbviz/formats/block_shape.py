"""Which block shape suits a matrix: the rule of the CSB paper with constants measured for these kernels."""

from __future__ import annotations

import os

from ..errors import OptionError

__all__ = ["choose_block_shape"]

GPU_SHAPE = (64, 64)
"""Blocks for the CUDA kernels, whatever the matrix: a tile that the tensor-core kernels decompress is one
block or two, in both directions alike, and the place of an entry in a block takes a byte a side. How the work
of a block row is tiled and split is chosen for each product (`csbviz.ops.choice`), not stored. The CUDA-core
kernels take any blocks; measured on an H100, those of 32 and 128 make none of them faster on average."""

SMALLEST = 32
"""More workers make no side smaller than this, since the rows of a block would hold few entries; a plan can
still cut block rows. A matrix that is smaller itself gets sides down to 16."""

LARGEST = 32768
"""No side goes above this: a position inside a block fits 16 bits."""

CACHED_ROWS = 128
"""Rows of B whose tile (256 bytes a row, whatever N) just fits a first-level cache of 32 KiB. Measured on
Zen 4 with DLMC layers at 80-95 %: sides of 64 take 1.04-1.13 times as long; sides of 256 take 0.94-1.05 times
as long for A·B, and 1.02-1.20 times for Aᵀ·B."""

FEWEST_IN_A_ROW = 5
"""Entries that a row of a block should hold on average: each row costs two mispredicted branches. Measured at
density 0.02: sides of 128 take 1.1-1.2 times as long as 256; at 0.005 1024 is best, at 0.05 still 128."""

LARGEST_FOR_ROWS = 1024
"""Sparsity alone makes a side no larger: the slice of B should stay in the second-level cache."""

UNITS_PER_WORKER = 1
"""Block rows (and block columns) that each worker should have at least. The paper asks for 8. Measured: the
block rows of pruned layers are so even (heaviest worker at most 1.14 times the mean) that one suffices, and
the longer rows of larger blocks gain more than a better balance."""


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
        Columns of B. The paper shrinks the blocks as N grows so that slices of B and C stay in the cache; the
        kernels here cut B into tiles of a fixed width instead, so the choice does not depend on it.
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
    On a CPU, following the paper: a side is about the square root of the larger side of the matrix, so that
    the table of pointers stays as small as CSR's; it is at least so large that the slice of B just fits the
    first-level cache and that the rows of a block are not too short; then each side shrinks until there are
    enough block rows and block columns for the workers.

    References
    ----------
    Buluç, Fineman, Frigo, Gilbert, Leiserson: Parallel sparse matrix-vector and matrix-transpose-vector
    multiplication using compressed sparse blocks, SPAA 2009 (the choice of β).
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
    for_rows = FEWEST_IN_A_ROW * rows * cols / nnz if nnz else 0
    side = _power_of_two_up(max(CACHED_ROWS, min(for_rows, LARGEST_FOR_ROWS), max(rows, cols) ** 0.5))
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


def _enough_units(extent: int, side: int, workers: int) -> int:
    """The largest power of two, at most `side`, that cuts `extent` into enough pieces for the workers."""
    side = min(side, max(16, _power_of_two_up(extent)))
    while side > SMALLEST and extent < UNITS_PER_WORKER * workers * side:
        side //= 2
    return side
