"""The sampled dense-dense product on an NVIDIA GPU: entry by entry (csb_sddmm.cu), or by tiles."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.module import Function, current_device, get_kernel
from csbviz.ops.cuda.sddmm_tiles import TileShape, best_splits, best_tiles, tile_launches
from csbviz.ops.cuda.storage import device_arrays
from csbviz.ops.cuda.workspace import PerStream, new_array

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = [
    "SampledProduct",
    "best_version",
    "column_parts",
    "column_shares",
    "first_blocks",
    "instantiations",
    "sampled_product",
]

_SOURCE = "csb_sddmm.cu"
_DTYPES = ("float32", "float64")
_CHUNK, _TILE = 32, 128  # the same numbers as in the source
_NARROW = 16
"""Up to this many columns a thread takes an entry: a warp would leave most of its lanes idle."""

_FEW, _FEW_WARPS = 8, 8  # entries of a warp, and warps of a CTA, of version 3, as in the source
_MANY_ENTRIES = 500
"""Entries a multiprocessor from which version 2 pays, which reads a row once for its entries."""

_SPARSE = 0.06
"""Share of stored positions below which it does not, as too few entries of a block share a row."""

_WARPS = {"float32": 16, "float64": 8}
"""Warps of a CTA: many, because neighbouring entries share the rows that the L1 cache holds."""

_WAVES = 6
"""CTAs a multiprocessor at which it does not matter any more that the last ones end at different times."""


def instantiations() -> tuple[Function, ...]:
    """Every instantiation of the source that can be asked for."""
    indices, pointers = ("uint8", "uint16"), ("int32", "int64")
    structure = (_DTYPES, indices, indices, pointers)
    first = [Function(_SOURCE, "csb_sddmm_v1", a) for a in product(*structure)]
    second = [Function(_SOURCE, "csb_sddmm_v2", a) for a in product(*structure, (1, 4))]
    third = [Function(_SOURCE, "csb_sddmm_v3", a) for a in product(*structure, (1, 4))]
    return (*first, *second, *third, *(Function(_SOURCE, "csb_sddmm_add", (dtype,)) for dtype in _DTYPES))


def first_blocks(A: CSBMatrix) -> np.ndarray:
    """The block of every 32nd entry of a stored matrix, and that of the last one: int32[⌈nnz / 32⌉ + 1]."""
    if A.nnz == 0:
        return np.zeros(1, np.int32)
    entries = np.append(np.arange(0, A.nnz, _CHUNK), A.nnz - 1)
    return (np.searchsorted(A.blk_ptr, entries, side="right") - 1).astype(np.int32)


def column_parts(ctas: int, n: int, multiprocessors: int) -> int:
    """In how many parts to deal the columns: enough CTAs to keep all multiprocessors busy to the end."""
    wanted = -(-_WAVES * multiprocessors // max(1, ctas))
    return max(1, min(wanted, -(-n // (2 * _TILE))))


def column_shares(nnz: int, n: int, multiprocessors: int) -> int:
    """How many warps of version 3 should share the columns of an entry: 1, 2, 4 or 8."""
    shares = 1
    while shares < _FEW_WARPS and 2 * shares * _TILE <= n and 2 * shares * nnz <= 14 * _FEW * multiprocessors:
        shares *= 2
    return shares


def few_us(nnz: int, density: float, n: int, multiprocessors: int) -> float:
    """Microseconds that version 3 should take; from timings on an H100 with 132 multiprocessors."""
    entry = 4.4e-5 + n * (3.2e-7 + 5.5e-9 / density)  # the sparser, the less often a row is in the cache
    return 2.3 + entry * nnz * 132 / multiprocessors


def best_version(A: CSBMatrix, n: int, dtype: str, device) -> int | TileShape:
    """What should be the fastest: 1, 2, 3 or tiles on tensor cores.

    Of the versions for CUDA cores the third wins where there are few entries, or few of them share a row.
    """
    if n <= _NARROW:
        return 1
    density = max(A.nnz, 1) / max(A.shape[0] * A.shape[1], 1)
    tiles = best_tiles(A, n, dtype, device)
    few = few_us(A.nnz, density, n, device.multiprocessors)
    if tiles is not None and tiles[0] < few:
        return tiles[1]
    return 3 if A.nnz <= _MANY_ENTRIES * device.multiprocessors or density < _SPARSE else 2


class SampledProduct:
    """``out[e] = Σ_c U[row(e), c] · V[col(e), c]`` made ready for a matrix and a number of columns.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, M x K; its values are not read.
    n : int
        Columns of U and V.
    dtype : str
        Of U, V and the result: "float32" or "float64".
    version : int or TileShape, optional
        1, 2 or 3, the kernels of csb_sddmm.cu, or tiles on tensor cores; by default what should be the
        fastest.
    parts : int, optional
        In how many parts to deal the columns; chosen by default. Of version 3: 1, 2, 4 or 8.

    Attributes
    ----------
    parts : int
        Parts that the columns are dealt in.
    bytes : int
        Device bytes of what is kept beside the matrix' own arrays.
    workspace_bytes : int
        Bytes of the parts' sums; there is one workspace for each stream and captured graph.

    Raises
    ------
    UnavailableError
        If a launch would need more CTAs than a grid has.
    """

    def __init__(
        self,
        A: CSBMatrix,
        n: int,
        dtype: str,
        version: int | TileShape | None = None,
        parts: int | None = None,
    ):
        device = current_device()
        if version is None:
            version = best_version(A, n, dtype, device)
        self._nnz, self._dtype = A.nnz, dtype
        self.bytes = self.workspace_bytes = 0
        self._tiles = None
        if isinstance(version, TileShape):
            self.parts = parts or best_splits(A, version, n, device)
            self._aligned_rows = n % 4 == 0
            self._tiles = tile_launches(A, device_arrays(A, device.id), n, version, self.parts)
        else:
            self._set_up_entries(A, n, version, parts, device)

    def _set_up_entries(self, A: CSBMatrix, n: int, version: int, parts: int | None, device) -> None:
        import cupy

        arrays = device_arrays(A, device.id)
        key = ("csb_sddmm", device.id)
        if key not in A.cache:
            A.cache[key] = cupy.asarray(first_blocks(A))
        index = [arrays["row_ind"], arrays["col_ind"], arrays["blk_ptr"]]
        sizes = (np.int64(A.nnz), *map(np.int32, (A.grid[1], *A.block_shape, n)))
        self._structure = (*index, A.cache[key], *sizes)
        names = (self._dtype, *(str(array.dtype) for array in index))
        if version == 1:
            self._set_up_first(names)
        elif version == 3:
            self._set_up_third(names, n, parts, device.multiprocessors)
        else:
            self._set_up_second(names, n, parts, device.multiprocessors)
        if self._grid > 0x7FFFFFFF:
            raise UnavailableError(f"The launch needs {self._grid} CTAs; a grid has at most {0x7FFFFFFF}.")
        self.bytes = A.cache[key].nbytes
        self._adds = self.parts > 1 and version == 2
        if self._adds:
            self._add = get_kernel(Function(_SOURCE, "csb_sddmm_add", (self._dtype,)))
            self._partials = PerStream(self._new_partials())
            self.workspace_bytes = self.parts * A.nnz * np.dtype(self._dtype).itemsize

    def _set_up_first(self, names: tuple) -> None:
        self.parts, self._grid, self._threads, self._shared = 1, -(-self._nnz // 256), 256, 0
        self._kernels = {1: get_kernel(Function(_SOURCE, "csb_sddmm_v1", names))}

    def _set_up_second(self, names: tuple, n: int, parts: int | None, multiprocessors: int) -> None:
        warps = _WARPS[self._dtype]
        self._grid = -(-self._nnz // (_CHUNK * warps))
        self.parts = parts or column_parts(self._grid, n, multiprocessors)
        tiles = -(-n // _TILE)
        span = -(-tiles // self.parts) * _TILE
        self._structure += (np.int32(span),)
        self._threads, self._shared = 32 * warps, 8 * _CHUNK * warps
        # Four columns at a time only where rows are 16-byte aligned.
        self._kernels = {
            vector: get_kernel(Function(_SOURCE, "csb_sddmm_v2", (*names, vector)))
            for vector in ((1, 4) if n % 4 == 0 else (1,))
        }

    def _set_up_third(self, names: tuple, n: int, parts: int | None, multiprocessors: int) -> None:
        self.parts = parts or column_shares(self._nnz, n, multiprocessors)
        self._grid = -(-self._nnz * self.parts // (_FEW * _FEW_WARPS))
        self._structure += (np.int32(self.parts),)
        self._threads, self._shared = 32 * _FEW_WARPS, 0
        self._kernels = {
            vector: get_kernel(Function(_SOURCE, "csb_sddmm_v3", (*names, vector)))
            for vector in ((1, 4) if n % 4 == 0 else (1,))
        }

    def _new_partials(self):
        return new_array(self.parts * self._nnz, self._dtype)

    def __call__(self, u: int, v: int, out: int) -> None:
        """Launch on CuPy's current stream, with the addresses of U (M x n), V (K x n) and out (nnz)."""
        from cupy.cuda import get_current_stream

        if self._nnz == 0:
            return
        if self._tiles is not None:
            aligned = (u | v) % 16 == 0 and self._aligned_rows
            self._tiles[aligned](get_current_stream().ptr, u, out, v)
            return
        target = np.uintp(out)
        if self._adds:
            target = self._partials.get(get_current_stream().ptr, self._new_partials)
        kernel = self._kernels[4 if 4 in self._kernels and (u | v) % 16 == 0 else 1]
        arguments = (*self._structure, np.uintp(u), np.uintp(v), target)
        kernel((self._grid, self.parts if self._adds else 1), (self._threads,), arguments, self._shared)
        if self._adds:
            arguments = np.int64(self._nnz), np.int32(self.parts), target, np.uintp(out)
            self._add((-(-self._nnz // 256),), (256,), arguments)


def sampled_product(A: CSBMatrix, n: int, dtype: str) -> SampledProduct:
    """The product made ready on the current device, kept with the matrix."""
    import cupy

    kept = A.cache.setdefault("csb_sddmm_products", {})
    key = (current_device().id, n, dtype)
    if key not in kept:
        if len(kept) >= 16:
            kept.pop(next(iter(kept)))
        kept[key] = SampledProduct(A, n, dtype)
        # The uploads are ordered on this stream only; a later product may come on another one.
        cupy.cuda.get_current_stream().synchronize()
    return kept[key]
