"""`sddmm`, the dense-dense product sampled at the stored positions: what the gradient of stored values is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import MatrixError, OptionError
from csbviz.ops.csb_cpu import kernel_module
from csbviz.ops.operands import as_operand, current_stream_of
from csbviz.ops.threads import check_threads, use_threads

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["SDDMM_DTYPES", "sddmm"]

SDDMM_DTYPES = ("float32", "float64")
"""Types that the sampled product is written for."""

_TILE_BYTES = 1024
"""Of a row that is multiplied at a time: 256 rows, those of a block and its operand, take 256 KiB."""

_LEAST_WORK = 50_000
"""Multiplications below which a second thread costs more than it gains."""


def sddmm(A: CSBMatrix, U, V, out=None, threads: int | None = None):
    """Products of rows of U with rows of V, at the stored positions only.

    ``out[e] = Σ_c U[row(e), c] · V[col(e), c]``. Where G is the gradient of ``C = A @ B``, that of the
    stored values is ``sddmm(A, G, B)``.

    Parameters
    ----------
    A : CSBMatrix
        M x K; only its structure is read. A transposed view is accepted.
    U, V : numpy.ndarray, torch.Tensor or cupy.ndarray
        M x N and K x N, both float32 or both float64, whatever the matrix holds; of one kind and on one
        device; row-major, other layouts are copied.
    out : same kind as U, optional
        (nnz,), contiguous: where the result goes.
    threads : int, optional
        Threads of the CPU; all processors by default.

    Returns
    -------
    out : same kind as U
        (nnz,), one number for each entry, in stored order.

    Raises
    ------
    MatrixError
        If U and V do not fit the matrix and each other.
    OptionError
        If an option is out of range or `out` does not fit.
    UnavailableError
        If nothing can compute it here.
    """
    stored = A.stored
    if A.transposed:
        U, V = V, U
    dtype, other = (str(getattr(array, "dtype", "")).removeprefix("torch.") for array in (U, V))
    if other and other != dtype:
        raise MatrixError(f"U is {dtype} but V is {other}; both need the same type.")
    if dtype not in SDDMM_DTYPES:
        raise MatrixError(f"U is {dtype or type(U).__name__}; needed is {' or '.join(SDDMM_DTYPES)}.")
    with current_stream_of(U):
        u, v = (
            as_operand(U, stored.shape[0], dtype, "U"),
            as_operand(V, stored.shape[1], dtype, "V"),
        )
        if (u.kind, u.device) != (v.kind, v.device):
            raise MatrixError(
                f"U is a {u.kind} array on {u.device}, V a {v.kind} array on {v.device}; both must match."
            )
        if u.array.shape[1] != v.array.shape[1]:
            raise MatrixError(
                f"U has {u.array.shape[1]} columns and V {v.array.shape[1]}; both need the same number."
            )
        out = _result(stored, U, u.kind, dtype, out)
        if u.device == "cpu":
            _on_cpu(
                stored, u.array, v.array, out if u.kind == "numpy" else out.numpy(), check_threads(threads)
            )
        else:
            _on_cuda(stored, u.array, v.array, out)
    return out


def _result(A: CSBMatrix, U, kind: str, dtype: str, out):
    """A new array of one number an entry, or the caller's, checked."""
    if out is None:
        if kind == "torch":
            return U.new_empty(A.nnz)
        if kind == "cupy":
            import cupy

            return cupy.empty(A.nnz, dtype)
        return np.empty(A.nnz, dtype)
    if type(out).__module__.partition(".")[0] != kind:
        raise OptionError(f"out is a {type(out).__name__}; it must be of the same kind as U.")
    if tuple(out.shape) != (A.nnz,) or str(out.dtype).removeprefix("torch.") != dtype:
        raise OptionError(
            f"out is {out.dtype} of shape {tuple(out.shape)}; needed is {dtype} of shape ({A.nnz},)."
        )
    contiguous = out.is_contiguous() if kind == "torch" else out.flags.c_contiguous
    if not contiguous or getattr(out, "device", None) != getattr(U, "device", None):
        raise OptionError("out must be contiguous and on the device of U.")
    return out


def _on_cpu(A: CSBMatrix, U: np.ndarray, V: np.ndarray, out: np.ndarray, threads: int) -> None:
    if A.nnz == 0:
        return
    if not A.cache.get("csb_cpu_checked"):
        A.check_format()  # the kernel trusts every index
        A.cache["csb_cpu_checked"] = True
    if A.nnz * U.shape[1] < _LEAST_WORK:
        threads = 1
    index = tuple(np.ascontiguousarray(array) for array in (A.row_ind, A.col_ind, A.blk_ptr))
    names = (U.dtype.name, *(array.dtype.name for array in index))
    function = kernel_module("sddmm").sampled_product(*names, threads > 1)
    tile = _TILE_BYTES // U.itemsize
    with use_threads(threads), kernel_module("workers").LOCK:
        function(*index, *A.block_shape, A.grid[1], U, V, tile, out, threads)


def _on_cuda(A: CSBMatrix, U, V, out) -> None:
    from csbviz.ops.cuda.sddmm import sampled_product

    address = out.data_ptr() if hasattr(out, "data_ptr") else out.data.ptr
    sampled_product(A, U.shape[1], U.dtype.name)(U.data.ptr, V.data.ptr, address)
