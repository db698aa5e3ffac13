"""What the tensor-core kernels of csb_spmm_mma.cu read besides the stored arrays, computed on the host.

Nothing here needs CuPy or a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.formats import dtypes

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["LEAST_A", "TILE", "Range", "Steps", "build_steps", "entry_places", "list_tiny", "value_range"]

TILE = 64
"""Rows and columns of a tile of the stored matrix that becomes one image."""

LEAST_A = {"fp32": 2.0**-4, "tf32": 2.0**-14}
"""Least scaled magnitude that an image represents, by precision class; the numbers of the source."""

_LARGEST = 65504.0  # of fp16


class Steps(NamedTuple):
    """Which tiles of the inner dimension each tile row of the product visits.

    Attributes
    ----------
    step_ptr : numpy.ndarray
        int32[tile rows + 1]: where the list of each begins.
    steps : numpy.ndarray
        int32[steps]: tile of the inner dimension, ascending in each list; tiles without entries are left out.
    pieces : numpy.ndarray
        int32[steps, warps, 2]: first entry and one past the last that each warp decodes.
    by_rows : bool
        Whether these are the entries of as many rows of a block for each warp, so that no two warps write the
        same rows of an image.
    """

    step_ptr: np.ndarray
    steps: np.ndarray
    pieces: np.ndarray
    by_rows: bool


def build_steps(A: CSBMatrix, transpose: bool, tile_m: int, warps: int) -> Steps:
    """List the tiles that hold entries.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix; the sides of its blocks divide 64; fewer than 2**31 entries.
    transpose : bool
        Whether the product is with its transpose.
    tile_m : int
        Rows of a tile of the product: 64 or 128.
    warps : int
        Warps of a CTA, a power of two, at least 4 for each 64 rows.
    """
    units = tile_m // TILE
    by_rows = A.block_shape == (TILE, TILE) and _sorted_by_row(A)
    (rows, cols), (block_rows, block_cols) = A.grid, A.block_shape
    down, across = TILE // block_rows, TILE // block_cols  # blocks of a tile
    tile_rows, tile_cols = -(-rows // down), -(-cols // across)
    parts = warps // units // down  # of the entries of a row of blocks of a tile, which lie side by side
    bounds = np.zeros((tile_rows * down, tile_cols, parts, 2), np.int32)
    bounds[:rows] = _row_parts(A, parts) if by_rows else _equal_parts(A, across, parts)
    tiles = bounds.reshape(tile_rows, down, tile_cols, parts, 2).transpose(0, 2, 1, 3, 4)
    tiles = tiles.reshape(tile_rows, tile_cols, down * parts, 2)
    if transpose:
        tiles = tiles.transpose(1, 0, 2, 3)
    missing = -len(tiles) % units
    if missing:
        tiles = np.concatenate([tiles, np.zeros((missing, *tiles.shape[1:]), np.int32)])
    count, inner = len(tiles) // units, tiles.shape[1]
    tiles = tiles.reshape(count, units, inner, warps // units, 2).transpose(0, 2, 1, 3, 4)
    tiles = tiles.reshape(count, inner, warps, 2)
    filled = (tiles[..., 1] > tiles[..., 0]).any(axis=2)
    step_ptr = np.zeros(count + 1, np.int32)
    np.cumsum(filled.sum(axis=1), out=step_ptr[1:])
    steps = np.nonzero(filled)[1].astype(np.int32)
    return Steps(step_ptr, steps, np.ascontiguousarray(tiles[filled]), by_rows)


def _sorted_by_row(A: CSBMatrix) -> bool:
    """Whether the rows of the entries ascend in each block."""
    if "mma_sorted" not in A.cache:
        falls = np.flatnonzero(A.row_ind[1:] < A.row_ind[:-1]) + 1
        A.cache["mma_sorted"] = bool(np.isin(falls, A.blk_ptr).all())
    return A.cache["mma_sorted"]


def _row_parts(A: CSBMatrix, parts: int) -> np.ndarray:
    """First entry and one past the last of equally many rows of each block: int64[*grid, parts, 2]."""
    pointers = np.asarray(A.blk_ptr, dtype=np.int64)
    blocks = len(pointers) - 1
    block = np.repeat(np.arange(blocks), np.diff(pointers))
    part = block * parts + A.row_ind // (TILE // parts)
    counts = np.bincount(part, minlength=blocks * parts).reshape(blocks, parts)
    ends = pointers[:-1, None] + np.cumsum(counts, axis=1)
    begins = np.concatenate([pointers[:-1, None], ends[:, :-1]], axis=1)
    return np.stack([begins, ends], axis=-1).reshape(*A.grid, parts, 2)


def _equal_parts(A: CSBMatrix, across: int, parts: int) -> np.ndarray:
    """The same for equally many entries of each `across` blocks of a row of blocks."""
    rows, cols = A.grid
    edges = np.minimum(np.arange(0, cols + across, across), cols)
    pointers = np.asarray(A.blk_ptr, dtype=np.int64)[np.arange(rows)[:, None] * cols + edges]
    first, count = pointers[:, :-1, None], np.diff(pointers, axis=1)[..., None]
    cuts = first + count * np.arange(parts + 1) // parts
    return np.stack([cuts[..., :-1], cuts[..., 1:]], axis=-1)


def entry_places(A: CSBMatrix) -> np.ndarray:
    """Where each entry belongs in the image of its 64 x 64 tile: uint16[nnz], bytes from its beginning.

    Row r of a tile is 128 bytes of 16-bit numbers; its 16-byte chunks change places by the row's number, so
    that neither the rows nor the columns of chunks of an image share memory banks.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix; the sides of its blocks divide 64.
    """
    if A.block_shape == (TILE, TILE):
        row, column = A.row_ind.astype(np.uint16), A.col_ind.astype(np.uint16)
    else:
        row, column = ((index % TILE).astype(np.uint16) for index in A.coordinates())
    return 128 * row + 16 * (column // 8 ^ row % 8) + 2 * (column % 8)


class Range(NamedTuple):
    """The magnitudes of a matrix's values.

    Attributes
    ----------
    finite : bool
        Whether all are finite.
    largest : float
        The largest finite one.
    exponent : int
        s, such that the largest times 2**s is in [2**15, 65504]; 0 for a matrix of zeros.
    tiny : dict
        Precision class → entries, zeros aside, whose scaled magnitude is below `LEAST_A`.
    """

    finite: bool
    largest: float
    exponent: int
    tiny: dict[str, int]


def value_range(A: CSBMatrix) -> Range:
    """The range of the values of a float32 matrix, kept with it."""
    if "mma_range" not in A.cache:
        magnitudes = np.abs(dtypes.as_numpy(A.values))
        finite = bool(np.isfinite(magnitudes).all())
        if not finite:
            magnitudes = magnitudes[np.isfinite(magnitudes)]
        largest = float(magnitudes.max()) if magnitudes.size else 0.0
        exponent = _exponent(largest)
        filled = magnitudes[magnitudes > 0].astype(np.float64)
        tiny = {
            name: int(np.count_nonzero(filled < least * 2.0**-exponent)) for name, least in LEAST_A.items()
        }
        A.cache["mma_range"] = Range(finite, largest, exponent, tiny)
    return A.cache["mma_range"]


def _exponent(largest: float) -> int:
    if largest == 0.0:
        return 0
    exponent = 16 - int(np.frexp(largest)[1])
    return exponent if largest * 2.0**exponent <= _LARGEST else exponent - 1


def list_tiny(A: CSBMatrix, transpose: bool, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """The entries that the images leave out.

    Parameters
    ----------
    A : CSBMatrix
        A float32 matrix.
    transpose : bool
        Whether the product is with its transpose.
    precision : str
        "fp32" or "tf32".

    Returns
    -------
    tiny_ptr : int32[units of 64 rows + 1]
        Where the entries of each 64 rows of the product begin.
    tiny : int32[entries, 4]
        Row in the unit, inner index, bits of the value, 0; ascending inner index in each unit.
    """
    units = -(-A.shape[1 if transpose else 0] // TILE)
    bounds = value_range(A)
    if not bounds.tiny[precision]:
        return np.zeros(units + 1, np.int32), np.zeros((1, 4), np.int32)
    values = dtypes.as_numpy(A.values)
    scaled = np.abs(values.astype(np.float64)) * 2.0**bounds.exponent
    chosen = np.flatnonzero((scaled > 0) & (scaled < LEAST_A[precision]))
    out, inner = (index[chosen] for index in (A.T if transpose else A).coordinates())
    order = np.lexsort((out, inner, out // TILE))
    chosen, out, inner = chosen[order], out[order], inner[order]
    tiny = np.zeros((len(chosen), 4), np.int32)
    tiny[:, 0], tiny[:, 1] = out % TILE, inner
    tiny[:, 2] = values[chosen].view(np.int32)
    tiny_ptr = np.searchsorted(out // TILE, np.arange(units + 1)).astype(np.int32)
    return tiny_ptr, tiny
