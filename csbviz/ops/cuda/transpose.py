"""Transposition of activations on a GPU, with the bias of a layer: kernels/cuda/csb_transpose.cu."""

from __future__ import annotations

from itertools import product

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.module import Function, get_kernel

__all__ = ["DTYPES", "instantiations", "transpose"]

DTYPES = ("float32", "float64")
"""Types that the kernel is written for."""

_SOURCE, _TILE, _THREADS = "csb_transpose.cu", 32, 256


def instantiations() -> tuple[Function, ...]:
    """Every instantiation of the source that can be asked for."""
    return tuple(Function(_SOURCE, "csb_transpose", arguments) for arguments in product(DTYPES, (1, 4)))


def transpose(source: int, out: int, rows: int, columns: int, dtype: str, bias: int = 0) -> None:
    """``out[c, r] = source[r, c] + bias[r]`` on CuPy's current device and stream.

    Parameters
    ----------
    source, out : int
        Addresses of contiguous row-major arrays, rows x columns and columns x rows.
    rows, columns : int
        Of the source, below 2³¹.
    dtype : str
        One of `DTYPES`.
    bias : int
        Address of `rows` numbers, or 0.

    Raises
    ------
    UnavailableError
        If the launch would need more CTAs than a grid has.
    """
    if rows == 0 or columns == 0:
        return
    tiles = -(-columns // _TILE)
    ctas = -(-rows // _TILE) * tiles
    if ctas > 0x7FFFFFFF:
        raise UnavailableError(f"The launch needs {ctas} CTAs; a grid has at most {0x7FFFFFFF}.")
    vector = 4 if (rows | columns) % 4 == 0 and (source | out) % 16 == 0 else 1
    kernel = get_kernel(Function(_SOURCE, "csb_transpose", (dtype, vector)))
    addresses = map(np.uintp, (source, bias, out))
    kernel((ctas,), (_THREADS,), (*addresses, *map(np.int32, (rows, columns, tiles))))
