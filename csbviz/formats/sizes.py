"""How many bytes a matrix takes in each format: exact, and without building it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checks import blk_ptr_dtype, check_block_shape, grid_of, index_dtype

__all__ = ["FORMATS", "Size", "count_nonempty_blocks", "format_bytes", "index_bytes_per_nonzero"]

FORMATS = ("dense", "csr", "csr16", "csc", "coo", "bsr", "ell", "bitmap", "csb", "csb_packed")


@dataclass(frozen=True)
class Size:
    """Bytes of one format.

    Attributes
    ----------
    values, indices, pointers, total : int or None
        Bytes of the values (with padding), of the indices or masks, of the pointers, and of all; None when
        the format cannot hold this matrix.
    note : str
        What the count contains, or why there is none.
    padding : float
        Share of the stored values that are filled-in zeros, 0 to 1.
    """

    values: int | None
    indices: int | None
    pointers: int | None
    total: int | None
    note: str
    padding: float = 0.0


def format_bytes(S, block_shape, value_bytes: int = 4) -> dict[str, Size]:
    """Count the bytes of a matrix in every format.

    Parameters
    ----------
    S : SciPy sparse matrix, M x N
        Best CSR, which is read as it is; sorted or not, without duplicates. Explicit zeros count as entries.
    block_shape : (int, int) or int
        Of CSB and BSR.
    value_bytes : int
        Bytes of a value.

    Returns
    -------
    dict of Size, by the names in `FORMATS`
        Indices and pointers are int32 where the numbers fit, else int64. BSR pads the edges to whole blocks,
        ELL pads every row to the longest; a bitmap has one bit per cell, rows rounded up to bytes, and a
        pointer per row.
    """
    block_shape = check_block_shape(block_shape)
    S = S if S.format == "csr" else S.tocsr()
    (rows, cols), nnz, v = S.shape, int(S.nnz), value_bytes
    index = _int_bytes(max(rows, cols) - 1)
    pointer = _int_bytes(nnz)
    compressed = "one index per nonzero, one pointer per {}"
    sizes = {
        "dense": _size(rows * cols * v, 0, 0, "every cell", (rows * cols, nnz)),
        "csr": _size(nnz * v, nnz * index, (rows + 1) * pointer, compressed.format("row")),
        "csr16": _csr16(rows, cols, nnz, v, pointer),
        "csc": _size(nnz * v, nnz * index, (cols + 1) * pointer, compressed.format("column")),
        "coo": _size(nnz * v, 2 * nnz * index, 0, "a row and a column index per nonzero"),
        "bsr": _bsr(S, block_shape, v),
        "ell": _ell(S, index, v),
        "bitmap": _size(
            nnz * v, rows * -(-cols // 8), (rows + 1) * pointer, "one bit per cell, one pointer per row"
        ),
    }
    sizes["csb"], sizes["csb_packed"] = _csb(S.shape, nnz, block_shape, v)
    return sizes


def index_bytes_per_nonzero(S, betas, packed: bool = True) -> dict[int, float]:
    """Return the bytes of indices and block pointers per nonzero of CSB with square blocks.

    Parameters
    ----------
    S : sparse matrix
        Only its shape and nnz matter: CSB's table of pointers is dense.
    betas : iterable of int
        Block sides, powers of two.
    packed : bool
        Use one byte per nonzero where it suffices (sides up to 16).

    Returns
    -------
    dict
        By side; NaN for a matrix without nonzeros.
    """
    curve = {}
    for beta in betas:
        split, one_byte = _csb(S.shape, int(S.nnz), check_block_shape(beta), 0)
        size = one_byte if packed and one_byte.total is not None else split
        curve[beta] = size.total / S.nnz if S.nnz else float("nan")
    return curve


def count_nonempty_blocks(S, block_shape: tuple[int, int]) -> int:
    """Count the blocks that hold an entry, in time linear in nnz and in the blocks of one row of blocks."""
    from . import _loops

    row_shift, col_shift = (int(side).bit_length() - 1 for side in block_shape)
    return int(_loops.count_nonempty_blocks(S.indptr, S.indices, S.shape[1], row_shift, col_shift))


def _int_bytes(largest: int) -> int:
    """Return the bytes of signed integers that reach `largest`: 4 or 8, as SciPy and cuSPARSE have them."""
    return 4 if largest < 2**31 else 8


def _size(values: int, indices: int, pointers: int, note: str, padding: tuple[int, int] = (0, 0)) -> Size:
    stored, used = padding
    share = (stored - used) / stored if stored else 0.0
    return Size(values, indices, pointers, values + indices + pointers, note, share)


def _none(note: str) -> Size:
    return Size(None, None, None, None, note)


def _csr16(rows, cols, nnz, value_bytes, pointer) -> Size:
    if cols > 65536:
        return _none(f"16-bit column indices reach 65536 columns; the matrix has {cols}")
    return _size(nnz * value_bytes, nnz * 2, (rows + 1) * pointer, "CSR with 16-bit column indices")


def _bsr(S, block_shape, value_bytes) -> Size:
    blocks, cells = count_nonempty_blocks(S, block_shape), block_shape[0] * block_shape[1]
    block_rows, block_cols = grid_of(S.shape, block_shape)
    index, pointer = _int_bytes(block_cols - 1), _int_bytes(blocks)
    note = "{:,} blocks of {} x {} that hold a nonzero, stored whole".format(blocks, *block_shape)
    sizes = blocks * cells * value_bytes, blocks * index, (block_rows + 1) * pointer
    return _size(*sizes, note, (blocks * cells, S.nnz))


def _ell(S, index, value_bytes) -> Size:
    width = int(np.diff(S.indptr).max(initial=0))
    cells = S.shape[0] * width
    note = f"every row padded to the longest, {width} nonzeros"
    return _size(cells * value_bytes, cells * index, 0, note, (cells, S.nnz))


def _csb(shape, nnz, block_shape, value_bytes) -> tuple[Size, Size]:
    """Return the sizes with split and with packed indices."""
    block_rows, block_cols = grid_of(shape, block_shape)
    pointers = (block_rows * block_cols + 1) * blk_ptr_dtype(nnz).itemsize
    split = sum(index_dtype(side).itemsize for side in block_shape)
    size = _size(
        nnz * value_bytes, nnz * split, pointers, f"{split} index bytes per nonzero, one pointer per block"
    )
    if block_shape[0] * block_shape[1] > 256:
        return size, _none(
            "one-byte indices need blocks of at most 256 cells; found {} x {}".format(*block_shape)
        )
    return size, _size(nnz * value_bytes, nnz, pointers, "1 index byte per nonzero, one pointer per block")
